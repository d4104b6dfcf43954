package report_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

var (
	ctx    = context.Background()
	day    = time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC)
	source = netip.MustParseAddr("203.0.113.5")
	peer   = netip.MustParseAddr("192.0.2.80") // the provider's report host
)

type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

func newRing(t testing.TB, first byte) *stamp.Ring {
	t.Helper()
	c := counter(first)
	k, err := stamp.NewKey(1, day.Add(-time.Hour), &c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := stamp.NewRing([]stamp.Key{k})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func id(n byte) smtp.ID { return smtp.NewID(day, [6]byte{n}) }

// row puts a message of an origin into the ledger, handed off unless it is not.
func row(n byte, origin, customer string, handed bool) []ledger.Event {
	a := &ledger.Accepted{Time: day, ID: id(n), Listener: "internet", Peer: netip.MustParseAddrPort("198.51.100.66:1"), Origin: origin, Customer: customer, MessageID: fmt.Sprintf("m%d@x.example", n),
		Subject: ledger.SubjectHash("hello"), DKIM: []uint64{ledger.DKIMHash(fmt.Sprintf("sig%d", n))}, Policy: "p1", Decisions: []ledger.Decided{{Recipient: "victim@aol.com", Disposition: "deliver", Filter: "aol-range", Pool: "aol"}}}
	if !handed {
		return []ledger.Event{a}
	}
	return []ledger.Event{a, &ledger.HandedOff{Time: day.Add(time.Duration(n) * time.Hour), ID: id(n), Address: "victim@aol.com", Domain: "aol.com", Path: ledger.Path{Listener: "internet", Filter: "aol-range", Origin: origin}, Source: source}}
}

// fixture is a judge over a ledger with a customer's message 1, a stranger's that
// leaked 2, a stranger's that did not 3, and a customer's 4 that shares its
// Message-ID with a stranger's 5.
func fixture(t testing.TB) (*report.Judge, *stamp.Ring, *ledger.Ledger) {
	t.Helper()
	l, err := ledger.Open("l", ledger.Options{FS: vfs.NewMem(), Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var log [][]byte
	add := func(es []ledger.Event) {
		for _, e := range es {
			log = append(log, ledger.Encode(e))
		}
	}
	add(row(1, "customer", "acme", true))
	add(row(2, "stranger", "", true))
	add(row(3, "stranger", "", false))
	shared := row(4, "customer", "acme", true)
	shared[0].(*ledger.Accepted).MessageID = "shared@x.example"
	add(shared)
	forged := row(5, "stranger", "", false)
	forged[0].(*ledger.Accepted).MessageID = "shared@x.example"
	add(forged)
	if err := l.Apply(1, log); err != nil {
		t.Fatal(err)
	}
	ring := newRing(t, 0)
	return report.New(report.Options{Rows: l, Index: l, Seen: l, Ring: func() *stamp.Ring { return ring }, Hostname: "gw.esp.example", Sources: func(a netip.Addr) bool { return a == source },
		Providers: []report.Provider{{Name: "aol", Domains: []string{"aol.net"}, Networks: []netip.Prefix{netip.PrefixFrom(peer, 32)}}}, Since: day.Add(-24 * time.Hour)}), ring, l
}

// mail is what came back: header lines of the original.
type mail struct {
	profile  message.Profile
	lines    []string
	source   netip.Addr
	arrival  time.Time
	mailFrom string
	date     time.Time // of the report; a day later where zero
}

func (m mail) build() []byte {
	if m.profile == "" {
		m.profile = message.ProfileAOL
	}
	original := strings.Join(append(m.lines, "Subject: hello", "To: <victim@aol.com>", "", "body", ""), "\r\n")
	if m.date.IsZero() {
		m.date = day.Add(24 * time.Hour)
	}
	from := "scomp@aol.net"
	if m.profile == message.ProfileYahoo {
		from = "feedback@arf.mail.yahoo.com"
	}
	return message.BuildARF(&message.Complaint{Profile: m.profile, From: from, To: "fbl@esp.example", Date: m.date, MessageID: "r@aol.net", Boundary: "bb",
		SourceIP: m.source, Arrival: m.arrival, MailFrom: m.mailFrom, Rcpt: "victim@aol.com", Original: []byte(original)})
}

func stamped(r *stamp.Ring, n byte, customer string) string {
	return r.Mint(stamp.Token{Message: id(n), Customer: stamp.CustomerTag(customer), Recipient: 0})
}

func received(n byte) string {
	return fmt.Sprintf("Received: from x by gw.esp.example (Postern) with ESMTP id %s; Sun, 1 Jun 2008 12:00:00 +0000", id(n))
}

func TestVerdicts(t *testing.T) {
	j, ring, _ := fixture(t)
	elsewhere := netip.MustParseAddr("192.0.2.200")
	good := stamped(ring, 1, "acme")
	flipped := []byte(good)
	flipped[40] = "0123456789abcdefghjkmnpqrstvwxyz"[(strings.IndexByte("0123456789abcdefghjkmnpqrstvwxyz", flipped[40])+1)%32]
	for _, c := range []struct {
		name  string
		m     mail
		peer  netip.Addr
		to    smtp.Path
		want  report.Kind
		grade report.Grade
		key   string
	}{
		{"a customer's, by its stamp", mail{lines: []string{"X-Postern-Stamp: " + good}, source: source, arrival: day.Add(time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeA, "stamp"},
		{"by the return path alone", mail{profile: message.ProfileYahoo, mailFrom: stamp.ReturnPath(good, "bounce.esp.example").String(), source: elsewhere, arrival: day.Add(time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeB, "stamp"},
		{"by the bounce's own recipient", mail{source: elsewhere, arrival: day.Add(time.Hour)}, peer, stamp.ReturnPath(good, "bounce.esp.example"), report.Sent, report.GradeB, "stamp"},
		{"forwarded: another source, a true stamp", mail{lines: []string{"Message-ID: <" + good + "@gw.esp.example>"}, source: elsewhere, arrival: day.Add(48 * time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeB, "stamp"},
		{"late by 200 days", mail{lines: []string{"X-Postern-Stamp: " + good}, source: source, arrival: day.Add(time.Hour), date: day.Add(200 * 24 * time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeA, "stamp"},
		{"by its Message-ID", mail{lines: []string{"Message-ID: <m1@x.example>"}, source: source, arrival: day.Add(time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeB, "message-id"},
		{"by its signature", mail{lines: []string{"DKIM-Signature: v=1; d=x.example; b=si g1; bh=x"}, source: elsewhere, arrival: day.Add(time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeB, "dkim"},
		{"by the hand-off", mail{source: source, arrival: day.Add(time.Hour)}, peer, smtp.Path{}, report.Sent, report.GradeB, "hand-off"},
		{"leaked, by our trace and our source", mail{lines: []string{received(2), "Message-ID: <spam@z>"}, source: source, arrival: day.Add(2 * time.Hour)}, peer, smtp.Path{}, report.Leaked, report.GradeA, "received-id"},
		{"leaked, by our trace alone", mail{lines: []string{received(2)}, source: elsewhere, arrival: day.Add(2 * time.Hour)}, peer, smtp.Path{}, report.Leaked, report.GradeB, "received-id"},
		{"leaked, by the hand-off", mail{source: source, arrival: day.Add(2 * time.Hour)}, peer, smtp.Path{}, report.Leaked, report.GradeB, "hand-off"},
		{"leaked, but anybody may say so", mail{lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}, elsewhere, smtp.Path{}, report.Leaked, report.GradeC, "received-id"},
		{"a stranger's that went nowhere", mail{lines: []string{received(3)}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Foreign, report.GradeB, "received-id"},
		{"an id of ours that never was", mail{lines: []string{received(77)}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Foreign, report.GradeB, "received-id"},
		{"a Message-ID that a stranger has copied", mail{lines: []string{"Message-ID: <shared@x.example>"}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Foreign, report.GradeB, "message-id"},
		{"bypassed: from our address, and not through us", mail{source: source, arrival: day.Add(30 * time.Hour)}, peer, smtp.Path{}, report.Bypassed, report.GradeB, "hand-off"},
		{"from our address before the ledger began", mail{source: source, arrival: day.Add(-30 * 24 * time.Hour)}, peer, smtp.Path{}, report.Undecidable, report.GradeC, ""},
		{"forged: one character of a stamp is another", mail{profile: message.ProfileYahoo, lines: []string{"X-Postern-Stamp: " + string(flipped)}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Forged, report.GradeB, "stamp"},
		{"forged: another's key", mail{profile: message.ProfileYahoo, lines: []string{"X-Postern-Stamp: " + stamped(newRing(t, 100), 1, "acme")}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Forged, report.GradeB, "stamp"},
		{"a stamp that redaction may have touched is none", mail{lines: []string{"X-Postern-Stamp: " + string(flipped)}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Foreign, report.GradeB, "source-ip"},
		{"replayed: it names another customer", mail{lines: []string{"X-Postern-Stamp: " + stamped(ring, 1, "beta")}, source: source, arrival: day.Add(time.Hour)}, peer, smtp.Path{}, report.Replayed, report.GradeB, "stamp"},
		{"replayed: before it was sent", mail{lines: []string{"X-Postern-Stamp: " + good}, source: source, arrival: day.Add(-3 * time.Hour)}, peer, smtp.Path{}, report.Replayed, report.GradeB, "stamp"},
		{"expired", mail{lines: []string{"X-Postern-Stamp: " + stamped(ring, 88, "acme")}, source: source, arrival: day}, peer, smtp.Path{}, report.Expired, report.GradeA, "stamp"},
		{"foreign", mail{lines: []string{"Message-ID: <else@where>"}, source: elsewhere, arrival: day}, peer, smtp.Path{}, report.Foreign, report.GradeB, "source-ip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := j.Judge(ctx, report.Input{Raw: c.m.build(), Peer: c.peer, To: c.to})
			if err != nil {
				t.Fatal(err)
			}
			if v.Kind != c.want || v.Grade != c.grade {
				t.Errorf("got %s, grade %s (%s), want %s, grade %s\nkeys %+v", v.Kind, v.Grade, v.Reason, c.want, c.grade, v.Keys)
			}
			if c.key != "" && (len(v.Keys) == 0 || v.Keys[len(v.Keys)-1].Name != c.key && v.Keys[0].Name != c.key) {
				t.Errorf("keys %+v, want %s", v.Keys, c.key)
			}
			if v.Pages() != ((c.want == report.Leaked || c.want == report.Bypassed) && c.grade != report.GradeC) {
				t.Errorf("pages %v", v.Pages())
			}
		})
	}
}

func TestLeakedNamesItsCause(t *testing.T) {
	j, _, _ := fixture(t)
	v, err := j.Judge(ctx, report.Input{Raw: mail{lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}.build(), Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	if v.Path != (ledger.Path{Listener: "internet", Filter: "aol-range", Origin: "stranger"}) || v.Pool != "aol" || v.Policy != "p1" || v.Source != source || v.Peer.String() != "198.51.100.66" || v.Message != id(2) {
		t.Errorf("got %+v", v)
	}
}

func TestDuplicate(t *testing.T) {
	j, _, l := fixture(t)
	raw := mail{lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}.build()
	v, err := j.Judge(ctx, report.Input{Raw: raw, Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(2, [][]byte{ledger.Encode(v.Event(smtp.ID{}, day))}); err != nil {
		t.Fatal(err)
	}
	if v, err = j.Judge(ctx, report.Input{Raw: raw, Peer: peer}); err != nil || v.Kind != report.Duplicate {
		t.Errorf("the second time: %+v, %v", v, err)
	}
}

func TestAuthenticationByDomain(t *testing.T) {
	j, _, _ := fixture(t)
	raw := mail{lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}.build()
	for _, c := range []struct {
		name string
		auth mailauth.Results
		want bool
	}{
		{"SPF", mailauth.Results{SPF: "pass", SPFDomain: "aol.net"}, true},
		{"DKIM of a subdomain", mailauth.Results{DKIM: []mailauth.Signature{{Domain: "fbl.aol.net", Result: "pass"}}}, true},
		{"failed SPF", mailauth.Results{SPF: "fail", SPFDomain: "aol.net"}, false},
		{"failed DKIM", mailauth.Results{DKIM: []mailauth.Signature{{Domain: "aol.net", Result: "fail"}}}, false},
		{"somebody else's", mailauth.Results{SPF: "pass", SPFDomain: "evil.example"}, false},
		{"a longer name", mailauth.Results{SPF: "pass", SPFDomain: "evilaol.net"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := j.Judge(ctx, report.Input{Raw: raw, Auth: c.auth})
			if err != nil || v.Authenticated != c.want || v.Pages() != c.want {
				t.Errorf("authenticated %v, pages %v, %v", v.Authenticated, v.Pages(), err)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	j, _, _ := fixture(t)
	for _, raw := range []string{"", "Subject: hi\r\n\r\nhello\r\n", "Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n--x--\r\n", strings.Repeat("x", 1<<20)} {
		v, err := j.Judge(ctx, report.Input{Raw: []byte(raw), Peer: peer})
		if err != nil || v.Kind != report.Malformed {
			t.Errorf("%.30q: %+v, %v", raw, v, err)
		}
	}
}

// TestAnswersReportNothing: what a machine answers to mail that arrived is no bounce, and
// is told apart from what cannot be read.
func TestAnswersReportNothing(t *testing.T) {
	j, _, _ := fixture(t)
	for format, head := range map[string]string{
		"auto-reply": "Subject: Automatic reply: The news\r\nAuto-Submitted: auto-replied\r\n",
		"challenge":  "Subject: Please confirm your message\r\nAuto-Submitted: auto-replied\r\n",
	} {
		raw := "Return-Path: <>\r\nFrom: r@there.example\r\n" + head + "\r\n550 5.1.1 is no longer my number; write to <s@there.example>.\r\n"
		if format == "challenge" {
			raw = strings.Replace(raw, "550 5.1.1 is no longer my number; w", "W", 1)
		}
		v, err := j.Judge(ctx, report.Input{Raw: []byte(raw), Peer: peer})
		if err != nil || v.Kind != report.Malformed || v.Format != format || len(v.Refusals) > 0 || v.Pages() {
			t.Errorf("%s: %+v, %v", format, v, err)
		}
	}
}

// TestRealReports judges the real reports of the corpus against a ledger that never
// sent any of it: none may come out as sent, leaked or bypassed.
func TestRealReports(t *testing.T) {
	dir := os.Getenv("POSTERN_CORPUS")
	if dir == "" {
		dir = "../../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no corpus of real mail at %s (POSTERN_CORPUS names it)", dir)
	}
	j, _, _ := fixture(t)
	kinds := map[report.Kind]int{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".tsv") {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		v, err := j.Judge(ctx, report.Input{Raw: raw, Peer: peer})
		if err != nil {
			return err
		}
		kinds[v.Kind]++
		switch v.Kind {
		case report.Foreign, report.Undecidable, report.Malformed:
		default:
			t.Errorf("%s: %s: %s", filepath.Base(name), v.Kind, v.Reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v", kinds)
	if kinds[report.Foreign] < 10 || kinds[report.Foreign]+kinds[report.Undecidable] < 100 {
		t.Errorf("too few reports were understood: %v", kinds)
	}
}
