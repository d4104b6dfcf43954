package report_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// counted counts what a judge asks of the ledger.
type counted struct {
	*ledger.Ledger
	asked int
}

func (c *counted) Accepted(ctx context.Context, id smtp.ID) (*ledger.Accepted, error) {
	c.asked++
	return c.Ledger.Accepted(ctx, id)
}

func (c *counted) ByMessageID(ctx context.Context, id string) ([]smtp.ID, error) {
	c.asked++
	return c.Ledger.ByMessageID(ctx, id)
}

func (c *counted) ByDKIM(ctx context.Context, h uint64) ([]smtp.ID, error) {
	c.asked++
	return c.Ledger.ByDKIM(ctx, h)
}

func (c *counted) HandOffs(ctx context.Context, q ledger.HandOffQuery) ([]ledger.HandOff, error) {
	c.asked++
	return c.Ledger.HandOffs(ctx, q)
}

// hostile are originals made to cost much or to look like ours.
func hostile(ring *stamp.Ring, n int) []string {
	true1 := stamped(ring, 1, "acme")
	repeat := func(form string, times int) (out []string) {
		for i := range times {
			out = append(out, fmt.Sprintf(form, i))
		}
		return out
	}
	switch n % 6 {
	case 0: // one bit of a true stamp is another
		b := []byte(true1)
		b[n/6%len(b)] ^= 1 << (n / 6 / len(b) % 5)
		return []string{"X-Postern-Stamp: " + string(b)}
	case 1:
		return repeat("Received: from x by gw.esp.example with ESMTP id 04d47zwj0%011d; Sun, 1 Jun 2008 12:00:00 +0000", 1500)
	case 2:
		return repeat("DKIM-Signature: v=1; d=x.example; b=made%d", 1500)
	case 3:
		return repeat("X-S%[1]d: "+true1[:40]+"%010[1]d", 1500)
	case 4:
		return []string{"Message-ID: <everybodys@x.example>"}
	}
	return []string{"Subject: " + strings.Repeat("Fwd: ", 100_000), "List-Unsubscribe: " + strings.Repeat(true1[:49]+"z,", 5000)}
}

// TestFlood: forged complaints by the thousand from nobody we know, written by somebody
// who knows how we look things up. None pages, none is taken for a customer's, and what
// one costs is bounded: look-ups are counted, since time depends on the machine.
func TestFlood(t *testing.T) {
	_, ring, l := fixture(t)
	var log [][]byte
	for i := range 500 { // one Message-ID that very many messages have
		a := row(1, "stranger", "", false)[0].(*ledger.Accepted)
		a.ID, a.MessageID = smtp.NewID(day, [6]byte{200, byte(i >> 8), byte(i)}), "everybodys@x.example"
		log = append(log, ledger.Encode(a))
	}
	if err := l.Apply(2, log); err != nil {
		t.Fatal(err)
	}
	c := &counted{Ledger: l}
	j := report.New(report.Options{Rows: c, Index: c, Seen: c, Ring: func() *stamp.Ring { return ring }, Hostname: "gw.esp.example", Sources: func(a netip.Addr) bool { return a == source }, Since: day.Add(-time.Hour)})
	rounds := 1200
	if testing.Short() {
		rounds = 300
	}
	kinds := map[report.Kind]int{}
	var before, after runtime.MemStats
	for n := range rounds {
		if n == rounds/3 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		m := mail{profile: message.ProfileZoho, lines: hostile(ring, n), source: source, arrival: day.Add(10*time.Hour + time.Duration(n)*time.Second)}
		c.asked = 0
		v, err := j.Judge(ctx, report.Input{Raw: m.build(), Peer: stranger, Auth: mailauth.Results{SPF: "pass", SPFDomain: "liar.example"}})
		if err != nil {
			t.Fatal(err)
		}
		if v.Pages() || v.Kind == report.Sent || v.Grade == report.GradeA {
			t.Fatalf("report %d: %s, grade %s (%s)", n, v.Kind, v.Grade, v.Reason)
		}
		if c.asked > 100 || len(v.Keys) > 100 {
			t.Fatalf("report %d: %d look-ups, %d keys", n, c.asked, len(v.Keys))
		}
		kinds[v.Kind]++
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap has grown by %d octets", grown)
	}
	t.Logf("%v", kinds)
}

// TestEveryBit: no stamp with one bit changed is true.
func TestEveryBit(t *testing.T) {
	ring := newRing(t, 0)
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	good := stamped(ring, 1, "acme")
	for i := range len(good) {
		for bit := range 5 {
			b := []byte(good)
			b[i] = alphabet[strings.IndexByte(alphabet, b[i])^1<<bit]
			if _, err := ring.Verify(string(b)); err == nil {
				t.Errorf("bit %d of character %d does not matter", bit, i)
			}
		}
	}
}
