package report_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// year is what a node has sent in 400 days: n messages to one recipient each, by 5,000
// customers from 256 sources to 2,000 domains, of which the largest have most, in
// campaigns of up to 20,000.
type year struct {
	n     int
	start time.Time
}

const days = 400 * 24 * time.Hour

// mix is a random number that depends on two alone (splitmix64).
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b*0xbf58476d1ce4e5b9 + 0x94d049bb133111eb
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

type parcelOfYear struct {
	id                                 smtp.ID
	at                                 time.Time
	customer, subject, to, domain, mid string
	source                             netip.Addr
}

func (y *year) at(i int) time.Time {
	return y.start.Add(time.Duration(float64(days) * float64(i) / float64(y.n))).Truncate(time.Microsecond)
}

func (y *year) parcel(i int) parcelOfYear {
	r := mix(uint64(i), 7)
	p := parcelOfYear{at: y.at(i)}
	p.id = smtp.NewID(p.at, [6]byte{byte(r), byte(r >> 8), byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
	campaign := uint64(i) / (100 + mix(uint64(i)/20000, 3)%19900)
	c := mix(campaign, 11) % 5000
	p.customer = fmt.Sprintf("customer%04d", c)
	p.subject = fmt.Sprintf("%s, number %d", [...]string{"News of the week", "Your order", "A reminder", "What is new in spring"}[c%4], campaign)
	u := float64(mix(r, 5)%1e6) / 1e6
	p.domain = fmt.Sprintf("domain%d.example", int(2000*u*u*u*u))
	p.to = fmt.Sprintf("reader%d@%s", mix(r, 9)%20_000_000, p.domain)
	p.source = netip.AddrFrom4([4]byte{203, 0, 113, byte(c%16*16 + mix(r, 13)%16)})
	p.mid = fmt.Sprintf("%016x%08x@%s.example", r, i, p.customer)
	return p
}

func (y *year) events(i int) (a *ledger.Accepted, h *ledger.HandedOff) {
	p := y.parcel(i)
	subject := ledger.SubjectHash(p.subject)
	a = &ledger.Accepted{Time: p.at, ID: p.id, Listener: "injection", Peer: netip.MustParseAddrPort("10.1.0.5:40000"), Helo: "app.esp.example", TLS: "TLS1.3 TLS_AES_128_GCM_SHA256", AuthUser: p.customer,
		Origin: "customer", Customer: p.customer, Sender: "bounce@" + p.customer + ".example", MessageID: p.mid, Subject: subject, DKIM: []uint64{mix(uint64(i), 17)}, Size: 20_000 + int64(i%5000),
		Policy: "2026-01-01T00:00:00Z-0a1b2c3d", Campaign: p.subject, Decisions: []ledger.Decided{{Recipient: p.to, Disposition: "deliver", Filter: "general", Line: "postern.hcl:120", Pool: "general"}}}
	h = &ledger.HandedOff{Time: p.at.Add(time.Duration(mix(uint64(i), 19)%30000) * time.Millisecond), ID: p.id, Address: p.to, Domain: p.domain, Path: ledger.Path{Listener: "injection", Filter: "general", Origin: "customer"},
		Policy: a.Policy, Customer: p.customer, Pool: "general", Source: p.source, Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 25), Host: "mx1." + p.domain, TLS: "TLS1.3 TLS_AES_256_GCM_SHA384",
		Reply: fmt.Sprintf("250 2.0.0 OK %d %012x - gsmtp", p.at.Unix(), mix(uint64(i), 23)&0xffffffffffff), Attempt: 1, Seconds: 1.25, Site: "mx." + p.domain, Campaign: p.subject, Subject: subject}
	return a, h
}

// fill loads the year into a ledger; one that holds it already is left alone.
func (y *year) fill(t testing.TB, l *ledger.Ledger) {
	if _, err := l.Accepted(ctx, y.parcel(y.n-1).id); err == nil {
		return
	}
	begun := time.Now()
	err := l.Load(ctx, func(yield func(ledger.Event, error) bool) {
		for i := range y.n {
			a, h := y.events(i)
			if !yield(a, nil) || !yield(h, nil) {
				return
			}
			if i%5_000_000 == 4_999_999 {
				t.Logf("%d messages after %s", i+1, time.Since(begun).Round(time.Second))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLargeLedger measures verdicts against a ledger on the disk. POSTERN_LEDGER_ROWS
// says of how many hand-offs (100,000 where it is not set), POSTERN_LEDGER_DIR where it is
// kept; one that is there is used again. Each verdict is about another message, drawn from
// the whole time, and includes reading the report. Times are for people: a busy machine
// says little.
func TestLargeLedger(t *testing.T) {
	y := &year{n: 100_000, start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	if s := os.Getenv("POSTERN_LEDGER_ROWS"); s != "" {
		if _, err := fmt.Sscan(s, &y.n); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("POSTERN_LEDGER_DIR"); s != "" {
		dir = s
	}
	dir = filepath.Join(dir, fmt.Sprintf("ledger-%d", y.n))
	l, err := ledger.Open(dir, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	y.fill(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = ledger.Open(dir, ledger.Options{}); err != nil { // with nothing in its cache
		t.Fatal(err)
	}
	defer l.Close()
	t.Logf("%d hand-offs, %d octets for each", y.n, l.Size()/uint64(y.n))
	ring := newRing(t, 0)
	j := report.New(report.Options{Rows: l, Index: l, Seen: l, Ring: func() *stamp.Ring { return ring }, Hostname: gateway, Sources: func(a netip.Addr) bool { return a.As4()[0] == 203 }, Since: y.start})
	for _, c := range []struct {
		name  string
		lines func(p *parcelOfYear) []string
		want  report.Kind
		exact bool // the message is named
	}{
		{"stamp", func(p *parcelOfYear) []string {
			return []string{"X-Postern-Stamp: " + ring.Mint(stamp.Token{Message: p.id, Customer: stamp.CustomerTag(p.customer)})}
		}, report.Sent, true},
		{"Message-ID", func(p *parcelOfYear) []string { return []string{"Message-ID: <" + p.mid + ">"} }, report.Sent, true},
		{"address, time, domain and subject", func(*parcelOfYear) []string { return nil }, report.Sent, false},
		{"address, time and domain, of mail that went past us", func(p *parcelOfYear) []string {
			p.subject += "x"
			return []string{"Received: from h ([203.0.113.1]) by mx.example"}
		}, report.Bypassed, false},
		{"nothing that is ours", func(p *parcelOfYear) []string {
			p.source = netip.MustParseAddr("192.0.2.99")
			return []string{"Message-ID: <" + p.to + "@else.example>"}
		}, report.Foreign, false},
	} {
		t.Run(c.name, func(t *testing.T) { y.measure(t, j, c.lines, c.want, c.exact) })
	}
}

func (y *year) measure(t *testing.T, j *report.Judge, lines func(*parcelOfYear) []string, want report.Kind, exact bool) {
	rounds := min(2000, y.n/50)
	rng := rand.New(rand.NewPCG(uint64(len(want)), 3))
	var took []time.Duration
	for range rounds {
		i := rng.IntN(y.n-200) + 100
		p := y.parcel(i)
		_, h := y.events(i)
		id := p.id
		header := append(lines(&p), "Subject: "+p.subject, "To: <"+p.to+">", "", "body", "")
		raw := message.BuildARF(&message.Complaint{Profile: message.ProfileZoho, From: "a@zoho.example", To: "f@esp.example", MessageID: fmt.Sprintf("r%d@x", i), Boundary: "b",
			SourceIP: p.source, Arrival: h.Time, MailFrom: "a@b.example", Rcpt: p.to, Original: []byte(strings.Join(header, "\r\n"))})
		begun := time.Now()
		v, err := j.Judge(ctx, report.Input{Raw: raw})
		took = append(took, time.Since(begun))
		if err != nil || v.Kind != want || exact && v.Message != id {
			t.Fatalf("message %d: %+v, %v, want %s", i, v, err, want)
		}
	}
	slices.Sort(took)
	t.Logf("%d verdicts: median %s, 99 %% within %s, the longest %s", rounds, took[rounds/2], took[rounds*99/100], took[rounds-1])
}
