package report_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	stamps "postern.dev/postern/internal/stamp"
)

// TestEvasion: what somebody could write into his mail, or mail to the report address,
// to hide a leak, to blame a customer, or to page us for nothing.
func TestEvasion(t *testing.T) {
	j, ring, _ := fixture(t)
	elsewhere := netip.MustParseAddr("192.0.2.200")
	foreignStamp := stamped(newRing(t, 100), 1, "acme")
	yahoo := message.ProfileYahoo // redacts nothing
	for _, c := range []struct {
		name  string
		m     mail
		want  report.Kind
		pages bool
	}{
		{"a made-up stamp does not hide a leak", mail{profile: yahoo, lines: []string{received(2), "X-Postern-Stamp: " + foreignStamp}, source: source, arrival: day.Add(2 * time.Hour)}, report.Leaked, true},
		{"nor one in the Message-ID", mail{profile: yahoo, lines: []string{received(2), "Message-ID: <" + foreignStamp + "@z>"}, source: source, arrival: day.Add(2 * time.Hour)}, report.Leaked, true},
		{"nor a bypass", mail{profile: yahoo, lines: []string{"X-Postern-Stamp: " + foreignStamp}, source: source, arrival: day.Add(30 * time.Hour)}, report.Bypassed, true},
		{"nor does it make a customer's mail forged", mail{profile: yahoo, lines: []string{received(1), "X-Seen: " + foreignStamp}, source: source, arrival: day.Add(time.Hour)}, report.Sent, false},
		{"a copied trace field on other mail blames nobody", mail{lines: []string{received(1), "Subject: cheap pills"}, source: elsewhere, arrival: day.Add(time.Hour)}, report.Foreign, false},
		{"a list's prefix is no other mail", mail{profile: yahoo, lines: []string{"X-Postern-Stamp: " + stamped(ring, 1, "acme"), "Subject: [alumni] Fwd: hello"}, source: elsewhere, arrival: day.Add(time.Hour)}, report.Sent, false},
		{"a true stamp on other mail is replayed", mail{profile: yahoo, lines: []string{"X-Postern-Stamp: " + stamped(ring, 1, "acme"), "Subject: cheap pills"}, source: elsewhere, arrival: day.Add(time.Hour)}, report.Replayed, false},
		{"a copied Message-ID on other mail neither", mail{lines: []string{"Message-ID: <m1@x.example>", "Subject: cheap pills"}, source: elsewhere, arrival: day.Add(time.Hour)}, report.Foreign, false},
		{"a copied trace field on mail from before", mail{lines: []string{received(1)}, source: elsewhere, arrival: day.Add(-2 * time.Hour)}, report.Foreign, false},
		{"an address of ours in a trace field that anybody can write pages nobody",
			mail{lines: []string{"Received: from gw ([" + source.String() + "]) by mx.aol.com; " + day.Add(30*time.Hour).Format(time.RFC1123Z)}}, report.Bypassed, false},
		{"what we took from a stranger and dropped, but it came from our address",
			mail{lines: []string{received(3)}, source: source, arrival: day.Add(30 * time.Hour)}, report.Bypassed, true},
		{"a stamp that a pseudonym may have gone through is none",
			mail{profile: yahoo, lines: []string{"X-Postern-Stamp: " + foreignStamp, "Delivered-To: 0123456789abcdef0123456789abcdef@aol.com"}, source: elsewhere, arrival: day}, report.Foreign, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := j.Judge(ctx, report.Input{Raw: c.m.build(), Peer: peer})
			if err != nil {
				t.Fatal(err)
			}
			if v.Kind != c.want || v.Pages() != c.pages {
				t.Errorf("%s, grade %s, pages %v (%s), want %s, pages %v\nkeys %+v", v.Kind, v.Grade, v.Pages(), v.Reason, c.want, c.pages, v.Keys)
			}
		})
	}
}

// TestForgedReportDoesNotSilenceTheTrueOne: the same report from somebody else first,
// then from the provider.
func TestForgedReportDoesNotSilenceTheTrueOne(t *testing.T) {
	j, _, l := fixture(t)
	raw := mail{lines: []string{received(2)}, source: source, arrival: day.Add(2 * time.Hour)}.build()
	for i, c := range []struct {
		from netip.Addr
		want report.Kind
		page bool
	}{{stranger, report.Leaked, false}, {stranger, report.Duplicate, false}, {peer, report.Leaked, true}, {peer, report.Duplicate, false}} {
		v, err := j.Judge(ctx, report.Input{Raw: raw, Peer: c.from})
		if err != nil || v.Kind != c.want || v.Pages() != c.page {
			t.Fatalf("report %d: %s, pages %v, %v; want %s, pages %v", i, v.Kind, v.Pages(), err, c.want, c.page)
		}
		if err := l.Apply(uint64(2+i), [][]byte{ledger.Encode(v.Event(smtp.ID{}, day))}); err != nil {
			t.Fatal(err)
		}
	}
}

var stranger = netip.MustParseAddr("198.51.100.66")

// TestSeveralHandOffsBlameNobody: two customers' mail went from one address to one
// provider at the same time, and the report has nothing else.
func TestSeveralHandOffsBlameNobody(t *testing.T) {
	j, _, l := fixture(t)
	var log [][]byte
	for _, c := range []struct {
		n        byte
		customer string
	}{{40, "acme"}, {41, "beta"}} {
		for _, e := range row(c.n, "customer", c.customer, true) {
			if h, ok := e.(*ledger.HandedOff); ok {
				h.Customer, h.Time = c.customer, day.Add(40*time.Hour)
			}
			log = append(log, ledger.Encode(e))
		}
	}
	if err := l.Apply(2, log); err != nil {
		t.Fatal(err)
	}
	v, err := j.Judge(ctx, report.Input{Raw: mail{source: source, arrival: day.Add(40 * time.Hour)}.build(), Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	if v.Kind != report.Sent || v.Grade != report.GradeC || v.Customer != "" || !v.Message.IsZero() || v.Path.Origin != "customer" || !strings.Contains(v.Reason, "one of 2 hand-offs") {
		t.Errorf("got %+v", v)
	}
}

// TestBackscatter: a bounce to an address that we never sent from.
func TestBackscatter(t *testing.T) {
	j, ring, _ := fixture(t)
	raw := []byte(strings.ReplaceAll(`From: mailer-daemon@mx.example
To: sales@esp.example
Message-ID: <b1@mx.example>
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x
Content-Type: text/plain

no
--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; nobody@mx.example
Action: failed
Status: 5.1.1
--x--
`, "\n", "\r\n"))
	bare, err := smtp.ParseMailbox("sales@bounce.esp.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		to   smtp.Path
		want report.Kind
	}{
		{"untagged", bare, report.Foreign},
		{"tagged", returnPath(stamped(ring, 1, "acme")), report.Sent},
		{"wrongly tagged", returnPath(stamped(newRing(t, 100), 1, "acme")), report.Forged},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := j.Judge(ctx, report.Input{Raw: raw, Peer: stranger, To: c.to})
			if err != nil || v.Kind != c.want || v.Pages() {
				t.Errorf("%v, %v, want %s", fmt.Sprintf("%+v", v), err, c.want)
			}
		})
	}
}

func returnPath(stamp string) smtp.Path { return stamps.ReturnPath(stamp, "bounce.esp.example") }
