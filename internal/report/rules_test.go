package report_test

import (
	"fmt"
	"net/netip"
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

// rules is a judge over a ledger of the given events, with its options open to change.
func rules(t *testing.T, change func(*report.Options), events ...ledger.Event) (*report.Judge, *ledger.Ledger) {
	t.Helper()
	l, err := ledger.Open("l", ledger.Options{FS: vfs.NewMem(), Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for i, e := range events {
		if err := l.Apply(uint64(i+1), [][]byte{ledger.Encode(e)}); err != nil {
			t.Fatal(err)
		}
	}
	ring := newRing(t, 0)
	o := report.Options{Rows: l, Index: l, Seen: l, Ring: func() *stamp.Ring { return ring }, Hostname: "gw.esp.example", Sources: func(a netip.Addr) bool { return a == source },
		Providers: []report.Provider{{Name: "aol", Networks: []netip.Prefix{netip.PrefixFrom(peer, 32)}}}, Since: day.Add(-24 * time.Hour)}
	if change != nil {
		change(&o)
	}
	return report.New(o), l
}

func dkim(result string, domains ...string) mailauth.Results {
	r := mailauth.Results{SPF: "none", DMARC: "none"}
	for _, d := range domains {
		r.DKIM = append(r.DKIM, mailauth.Signature{Domain: d, Result: result})
	}
	return r
}

// TestImpostors: who always signs is believed when he has signed, and is nobody when he
// has not.
func TestImpostors(t *testing.T) {
	fbl := smtp.Path{Local: "fbl", Domain: "esp.example"}
	yahoo := mail{profile: message.ProfileYahoo, lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}
	cfbl := yahoo
	cfbl.profile, cfbl.lines = message.ProfileAOL, []string{received(2), "CFBL-Address: fbl@esp.example; report=arf"}
	cfbl.mailFrom = "x@y.example"
	for _, c := range []struct {
		name  string
		m     mail
		auth  mailauth.Results
		peer  netip.Addr
		want  report.Kind
		pages bool
	}{
		{"signed by Yahoo", yahoo, dkim("pass", "arf.mail.yahoo.com"), stranger, report.Leaked, true},
		{"signed by anybody with a mailbox there", yahoo, dkim("pass", "yahoo.com"), stranger, report.Malformed, false},
		{"signed by a name below it", yahoo, dkim("pass", "x.arf.mail.yahoo.com"), stranger, report.Malformed, false},
		{"not signed", yahoo, dkim("none"), stranger, report.Malformed, false},
		{"signed wrongly", yahoo, dkim("fail", "arf.mail.yahoo.com"), stranger, report.Malformed, false},
		{"not signed, and brought by a provider's host", yahoo, dkim("none"), peer, report.Leaked, true},
		{"a file, of which nobody has asked", yahoo, mailauth.Results{}, netip.Addr{}, report.Leaked, false},
		{"to a CFBL-Address, not signed", cfbl, dkim("none"), stranger, report.Malformed, false},
		{"to a CFBL-Address, signed by another", cfbl, dkim("pass", "evil.example"), stranger, report.Malformed, false},
		{"to a CFBL-Address, signed by its author", cfbl, dkim("pass", "fbl.aol.net"), stranger, report.Leaked, false}, // he is who he says, and nobody knows him
	} {
		t.Run(c.name, func(t *testing.T) {
			j, _ := rules(t, nil, row(2, "stranger", "", true)...)
			v, err := j.Judge(ctx, report.Input{Raw: c.m.build(), Auth: c.auth, Peer: c.peer, To: fbl, Received: day.Add(24 * time.Hour)})
			if err != nil || v.Kind != c.want || v.Pages() != c.pages {
				t.Errorf("%+v, %v, want %s, pages %v", v, err, c.want, c.pages)
			}
		})
	}
}

// TestWaitsForRows: a verdict that rests on a missing row is put off while the report is
// young, for as long as the logs lag, and not for ever.
func TestWaitsForRows(t *testing.T) {
	var now, complete time.Time
	events := row(2, "stranger", "", true)
	j, l := rules(t, func(o *report.Options) { o.Now = func() time.Time { return now } }, events[0])
	came := day.Add(2 * time.Hour)
	in := report.Input{Raw: mail{lines: []string{received(2)}, source: source, arrival: came}.build(), Peer: peer, Received: came.Add(time.Second)}
	judge := func(j *report.Judge, wantKind report.Kind, again bool) {
		t.Helper()
		v, err := j.Judge(ctx, in)
		if err != nil || v.Kind != wantKind || v.Again.IsZero() == again || again && v.Pages() {
			t.Fatalf("%+v, %v, want %s, again %v", v, err, wantKind, again)
		}
	}
	now = came.Add(time.Second)
	judge(j, report.Bypassed, true) // what we took in explains nothing, and no hand-off is there
	now = came.Add(3 * time.Minute)
	judge(j, report.Bypassed, false)
	lagging, _ := rules(t, func(o *report.Options) {
		o.Now, o.Complete = func() time.Time { return now }, func() time.Time { return complete }
	}, events[0])
	complete = came.Add(-time.Minute)
	judge(lagging, report.Bypassed, true)
	now = came.Add(2 * time.Hour)
	judge(lagging, report.Bypassed, false) // patience has an end
	now, complete = came.Add(3*time.Minute), came.Add(3*time.Minute)
	judge(lagging, report.Bypassed, false)
	ours := in
	in.Raw = mail{lines: []string{"Message-ID: <not-yet@x>"}, source: stranger, arrival: came}.build()
	complete = came.Add(-time.Minute)
	judge(lagging, report.Foreign, true) // its row may be among what the logs still bring
	complete = came.Add(3 * time.Minute)
	judge(lagging, report.Foreign, false)
	in = ours
	if err := l.Apply(9, [][]byte{ledger.Encode(events[1])}); err != nil {
		t.Fatal(err)
	}
	now = came.Add(time.Second)
	judge(j, report.Leaked, false)
}

// TestManyComplainers: the fourth who complains of mail that went to one recipient makes
// it replayed; people at the same address, strangers' words and lists do not.
func TestManyComplainers(t *testing.T) {
	lines := func(list bool) []string {
		out := []string{"Received: from out.alumni.example ([192.0.2.77]) by mx.x.example; " + day.Add(2*time.Hour).Format(time.RFC1123Z),
			"Received: from gw.esp.example ([" + source.String() + "]) by mx.alumni.example; " + day.Add(time.Hour).Format(time.RFC1123Z),
			"X-Postern-Stamp: " + stamped(newRing(t, 0), 1, "acme")}
		if list {
			out = append([]string{"List-Id: <x.example>"}, strings.Replace(out[0], "alumni", "lists", 1), out[2])
		}
		return out
	}
	for _, c := range []struct {
		name  string
		peer  netip.Addr
		list  bool
		who   func(n int) string
		first int // that is replayed; 0 where none is
	}{
		{"others each time", peer, false, func(n int) string { return fmt.Sprintf("user%d@aol.com", n) }, 4},
		{"one man", peer, false, func(int) string { return "user@aol.com" }, 0},
		{"told by strangers", stranger, false, func(n int) string { return fmt.Sprintf("user%d@aol.com", n) }, 0},
		{"readers of a list", peer, true, func(n int) string { return fmt.Sprintf("user%d@aol.com", n) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, l := rules(t, nil, row(1, "customer", "acme", true)...)
			for n := 1; n <= 8; n++ {
				original := strings.Join(append(lines(c.list), "Subject: hello", "Delivered-To: "+c.who(n), "", "body", ""), "\r\n")
				raw := message.BuildARF(&message.Complaint{Profile: message.ProfileZoho, From: "a@zoho.example", To: "fbl@esp.example", MessageID: fmt.Sprintf("r%d@x", n), Boundary: "b",
					SourceIP: netip.MustParseAddr("192.0.2.77"), Arrival: day.Add(2 * time.Hour), MailFrom: "a@b", Rcpt: c.who(n), Original: []byte(original)})
				v, err := j.Judge(ctx, report.Input{Raw: raw, Peer: c.peer})
				if err != nil {
					t.Fatal(err)
				}
				want := report.Sent
				if c.first > 0 && n >= c.first {
					want = report.Replayed
				}
				if v.Kind != want {
					t.Errorf("complaint %d: %s (%s), want %s", n, v.Kind, v.Reason, want)
				}
				if err := l.Apply(uint64(10+n), [][]byte{ledger.Encode(v.Event(smtp.ID{}, day))}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestWays: where a message with a true stamp went decides between sent and replayed.
func TestWays(t *testing.T) {
	ring := newRing(t, 0)
	at := day.Add(2 * time.Hour).Format(time.RFC1123Z)
	fromUs := "Received: from gw.esp.example ([" + source.String() + "]) by mx.aol.com; " + at
	behindNAT := "Received: from gw.esp.example ([198.51.100.200]) by mx.aol.com; " + at
	evil := "Received: from dsl ([192.0.2.200]) by mx.aol.com; " + at
	within := "Received: from inner ([10.0.0.1]) by store.aol.com; " + at
	elsewhere := netip.MustParseAddr("192.0.2.200")
	for _, c := range []struct {
		name  string
		lines []string
		src   netip.Addr
		when  time.Time
		want  report.Kind
		way   string
	}{
		{"from us", []string{within, fromUs, received(1)}, source, day.Add(2 * time.Hour), report.Sent, "direct"},
		{"behind a NAT that we do not know, by our name", []string{behindNAT, received(1)}, netip.MustParseAddr("198.51.100.200"), day.Add(2 * time.Hour), report.Sent, "direct"},
		{"forwarded", []string{evil, fromUs, received(1)}, elsewhere, day.Add(2 * time.Hour), report.Sent, "forwarded"},
		{"by a list that begins a new trace", []string{evil, "List-Id: <x>"}, elsewhere, day.Add(2 * time.Hour), report.Sent, "by a list"},
		{"from elsewhere, and nobody had it from us", []string{evil, received(1)}, elsewhere, day.Add(2 * time.Hour), report.Replayed, "astray"},
		{"no trace at all", nil, elsewhere, day.Add(2 * time.Hour), report.Sent, ""},
		{"no trace at all, a month after its hand-off", nil, elsewhere, day.Add(30 * 24 * time.Hour), report.Replayed, ""},
		{"from our address, a month after its hand-off", nil, source, day.Add(30 * 24 * time.Hour), report.Replayed, "direct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, _ := rules(t, nil, row(1, "customer", "acme", true)...)
			v, err := j.Judge(ctx, report.Input{Raw: mail{lines: append(c.lines, "X-Postern-Stamp: "+stamped(ring, 1, "acme")), source: c.src, arrival: c.when}.build(), Peer: peer})
			if err != nil || v.Kind != c.want || v.Way != c.way {
				t.Errorf("%s, way %q (%s), %v, want %s, %q", v.Kind, v.Way, v.Reason, err, c.want, c.way)
			}
		})
	}
}

// TestHandOffsBySubject: while other mail goes from the same address to the same domain,
// the subject tells.
func TestHandOffsBySubject(t *testing.T) {
	trace := "Received: from host ([" + source.String() + "]) by mx.aol.com; " + day.Format(time.RFC1123Z)
	for _, c := range []struct {
		name   string
		change func(*report.Options)
		lines  []string
		at     time.Duration // of arrival, after the hand-off
		stored string        // subject that was handed over
		want   report.Kind
	}{
		{"its subject", nil, nil, 0, "hello", report.Sent},
		{"its subject with a filter's words before it", nil, nil, 0, "hello", report.Sent},
		{"another subject", nil, []string{trace}, 0, "other", report.Bypassed},
		{"another subject, and whoever reports has taken the trace out", nil, nil, 0, "other", report.Undecidable},
		{"nothing handed over then", nil, nil, 9 * time.Hour, "hello", report.Bypassed},
		{"its subject, and a clock that is wrong", nil, []string{trace}, 2 * time.Hour, "hello", report.Undecidable},
		{"an address that others use too", func(o *report.Options) { o.Shared = func(netip.Addr) bool { return true } }, []string{trace}, 0, "other", report.Undecidable},
		{"a subject that is not known", nil, []string{trace}, 0, "", report.Sent},
	} {
		t.Run(c.name, func(t *testing.T) {
			events := row(1, "customer", "acme", true)
			a, h := events[0].(*ledger.Accepted), events[1].(*ledger.HandedOff)
			a.Subject, h.Subject = 0, 0
			if c.stored != "" {
				a.Subject, h.Subject = ledger.SubjectHash(c.stored), ledger.SubjectHash(c.stored)
			}
			j, _ := rules(t, c.change, events...)
			m := mail{lines: c.lines, source: source, arrival: h.Time.Add(c.at)}
			raw := m.build()
			if strings.Contains(c.name, "words before") {
				raw = []byte(strings.Replace(string(raw), "Subject: hello", "Subject: ***SPAM*** hello", 1))
			}
			v, err := j.Judge(ctx, report.Input{Raw: raw, Peer: peer})
			if err != nil || v.Kind != c.want {
				t.Errorf("%s (%s), %v, want %s; keys %+v", v.Kind, v.Reason, err, c.want, v.Keys)
			}
		})
	}
}

// TestChain: what an inside host has sent on is whose its first message was.
func TestChain(t *testing.T) {
	for _, c := range []struct {
		name     string
		parent   string // origin of what the inside host was given
		linked   bool   // by the gateway; else the Message-ID tells
		want     report.Kind
		customer string
	}{
		{"a stranger's, linked", "stranger", true, report.Leaked, ""},
		{"a stranger's, by its Message-ID", "stranger", false, report.Leaked, ""},
		{"a customer's, linked", "customer", true, report.Sent, "acme"},
		{"a customer's, by its Message-ID", "customer", false, report.Sent, "acme"},
	} {
		t.Run(c.name, func(t *testing.T) {
			customer := ""
			if c.parent == "customer" {
				customer = "acme"
			}
			first, second := row(1, c.parent, customer, false), row(2, "inside", "", true)
			a := second[0].(*ledger.Accepted)
			a.MessageID = "m1@x.example"
			if c.linked {
				a.MessageID, a.Parent = "other@x", id(1)
			}
			j, _ := rules(t, nil, append(first, second...)...)
			v, err := j.Judge(ctx, report.Input{Raw: mail{lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}.build(), Peer: peer})
			if err != nil || v.Kind != c.want || v.Customer != c.customer || len(v.Chain) != 1 || v.Chain[0] != id(1) {
				t.Errorf("%s, customer %q, chain %v (%s), %v", v.Kind, v.Customer, v.Chain, v.Reason, err)
			}
		})
	}
}

// TestSinks: mail of strangers that the operator lets go to an address is no leak.
func TestSinks(t *testing.T) {
	j, _ := rules(t, func(o *report.Options) { o.Sink = func(r string) bool { return r == "victim@aol.com" } }, row(2, "stranger", "", true)...)
	v, err := j.Judge(ctx, report.Input{Raw: mail{lines: []string{received(2)}, source: netip.MustParseAddr("192.0.2.9"), arrival: day.Add(2 * time.Hour)}.build(), Peer: peer})
	if err != nil || v.Kind != report.Foreign {
		t.Errorf("%+v, %v", v, err)
	}
}
