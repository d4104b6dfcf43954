package ledger_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

var (
	ctx   = context.Background()
	epoch = time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC)
)

func id(n int) smtp.ID { return smtp.NewID(epoch, [6]byte{byte(n >> 8), byte(n)}) }

func openOn(t testing.TB, fs vfs.FS) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open("ledger", ledger.Options{FS: fs, Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func accepted(n int, origin string) *ledger.Accepted {
	return &ledger.Accepted{Time: epoch.Add(time.Duration(n) * time.Second), ID: id(n), Listener: "internet", Peer: netip.MustParseAddrPort("198.51.100.7:4000"), Helo: "h", TLS: "TLS1.3 x",
		AuthUser: "u", Origin: origin, Customer: "acme", Sender: "a@b.example", MessageID: fmt.Sprintf("m%d@x", n%50), Subject: 7, DKIM: []uint64{uint64(n % 40), 99}, Size: 1234, Policy: "p1", Parent: id(9999), Campaign: "spring", Priority: "bulk", Watch: "w", Queue: fmt.Sprintf("Q%d", n),
		Decisions: []ledger.Decided{{Recipient: fmt.Sprintf("R%d@aol.com", n%30), Disposition: "deliver", Filter: "aol", Line: "f:1", Pool: "aol", Inside: "i", Logs: []string{"l"}, Tags: []string{"t", "u"}}}}
}

func handedOff(n, rcpt int, path ledger.Path) *ledger.HandedOff {
	return &ledger.HandedOff{Time: epoch.Add(time.Duration(n)*time.Second + time.Minute), ID: id(n), Recipient: rcpt, Address: fmt.Sprintf("r%d@aol.com", n%30), Domain: []string{"aol.com", "aim.com"}[n%2],
		Path: path, Policy: "p1", Customer: "acme", Pool: "aol", Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(n % 5)}), Peer: netip.MustParseAddrPort("192.0.2.1:25"), Host: "mx", TLS: "t", Reply: "250 ok", Attempt: 2, Seconds: 1.5, Site: "s", Provider: "v", Campaign: "c", Subject: 7}
}

// every is one event of each kind with every field set.
func every() []ledger.Event {
	p := ledger.Path{Listener: "internet", Filter: "aol", Origin: "stranger"}
	a := netip.MustParseAddr("2001:db8::1")
	ap := netip.AddrPortFrom(a, 25)
	return []ledger.Event{
		accepted(1, "stranger"), handedOff(1, 0, p),
		&ledger.Refused{Time: epoch, Listener: "l", Peer: ap, Helo: "h", Origin: "o", Customer: "c", Sender: "s", Recipient: "r", Filter: "f", Policy: "p", Reply: "550"},
		&ledger.Attempted{Time: epoch, ID: id(1), Recipient: 3, Attempt: 1, Pool: "p", Source: a, Peer: ap, Host: "h", Reply: "r", Next: epoch.Add(time.Hour), Category: "g", Site: "s", Provider: "v", Campaign: "c"},
		&ledger.Bounced{Time: epoch, ID: id(1), Recipient: 0, Path: p, Source: a, Peer: ap, Host: "h", Reply: "r", DSN: id(2), Category: "g", Site: "s", Provider: "v", Campaign: "c", Customer: "u"},
		&ledger.Held{Time: epoch, ID: id(1), Recipient: 1, Path: p, Reason: "r", Incident: "i"},
		&ledger.Released{Time: epoch, ID: id(1), Recipient: 1, By: "b"},
		&ledger.Dropped{Time: epoch, ID: id(1), Recipient: 1, By: "b", Reason: "r"},
		&ledger.Reported{Time: epoch, ID: id(3), Identity: "x", Provider: "p", Format: "arf", Verdict: "leaked", Grade: "A", Keys: []string{"k", "l"}, Subject: id(1), Rcpt: -1, Customer: "c", Path: p, SourceIP: a, Arrived: epoch, Complainer: 8, Domain: "d", Campaign: "k", Pool: "q"},
		&ledger.GuardTripped{Time: epoch, ID: id(1), Recipient: 0, Address: "x@y", Path: p, Peer: a, Policy: "p", Observed: true, Host: "h"},
		&ledger.IncidentChanged{Time: epoch, Incident: "INC-2008-0001", State: "open", By: "b", Note: "n", Trigger: "leaked", Path: p, Peer: a, Policy: "p", Pool: "q", Source: a, Message: id(1), Report: "r",
			Contain: []ledger.Containment{{Path: &p}, {Source: netip.MustParsePrefix("10.0.0.0/8")}, {Pool: "aol"}}},
		&ledger.PolicyLoaded{Time: epoch, Policy: "p", By: "b", Files: []string{"f", "g"}, Filters: 0, Guard: "hold", Reason: "r"},
		&ledger.Admin{Time: epoch, By: "b", Action: "a", Object: "o", Note: "n"},
		&ledger.ShapingChanged{Time: epoch, Action: "S1", State: "began", Does: "throttle", Rule: "r", Where: "f:1:1", By: "b", Scope: "source", Within: "site", Site: "s", Provider: "p", Domain: "d", MX: "m",
			Pool: "q", Source: a, Customer: "c", Campaign: "k", From: epoch, Until: epoch, Rate: "60/1m", Connections: 2, Reply: "421 x", Count: 3, Note: "n"},
		&ledger.Watched{Time: epoch, Watch: "w", File: "f", Device: 1, Inode: 2, Offset: 3, Print: 4, Printed: 5, Head: "h", Lines: 6, Rows: 7, Bad: 8,
			Open: []ledger.WatchedOpen{{Queue: "q", State: []byte("{}")}}, Closed: []string{"r"}},
	}
}

func TestEncodingRoundTrip(t *testing.T) {
	for _, e := range every() {
		t.Run(e.Kind().String(), func(t *testing.T) {
			v := reflect.ValueOf(e).Elem()
			for i := range v.NumField() {
				if f := v.Field(i); f.IsZero() && f.Kind() != reflect.Int {
					t.Errorf("field %s is not tried", v.Type().Field(i).Name)
				}
			}
			got, err := ledger.Decode(ledger.Encode(e))
			if err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, e)
			}
		})
	}
}

// TestGoldenEncoding keeps the stored form: ledgers are kept for years.
func TestGoldenEncoding(t *testing.T) {
	b := ledger.Encode(&ledger.Dropped{Time: epoch, ID: id(1), Recipient: 1, By: "b", Reason: "r"})
	const golden = "08010880a0c9f299d39302020c011a43ff9200000100000000030102040162050172"
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("stored as %s, was %s", got, golden)
	}
}

// TestUnknownFieldsAreSkipped: a newer Postern may have written more.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	e := &ledger.Admin{Time: epoch, By: "b", Action: "a", Object: "o", Note: "n"}
	b := append(ledger.Encode(e), 99, 3, 'x', 'y', 'z')
	if got, err := ledger.Decode(b); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range every() {
		f.Add(ledger.Encode(e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ledger.Decode(b)
		if err != nil {
			return
		}
		again, err := ledger.Decode(ledger.Encode(e))
		if err != nil || !bytes.Equal(ledger.Encode(again), ledger.Encode(e)) {
			t.Fatalf("%+v does not read back: %v", e, err)
		}
	})
}

// naive is the ledger as a list.
type naive []ledger.Event

func (n naive) impact(p ledger.Path) (count int, domains map[string]int) {
	domains = map[string]int{}
	for _, e := range n {
		if h, ok := e.(*ledger.HandedOff); ok && h.Path == p {
			count++
			domains[h.Domain]++
		}
	}
	return count, domains
}

// TestAgainstNaive applies random events, with crashes and repeated application, and
// compares every look-up with a plain list.
func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewCrashableMem()
		l := openOn(t, fs)
		var all naive
		var log [][]byte
		paths := []ledger.Path{{Listener: "internet", Filter: "aol", Origin: "stranger"}, {Listener: "injection", Filter: "aol", Origin: "customer"}, {Listener: "injection", Origin: "customer"}}
		for n := range 300 {
			events := []ledger.Event{accepted(n, "stranger")}
			for k := range r.IntN(3) {
				events = append(events, handedOff(n, k, paths[r.IntN(3)]))
			}
			for _, e := range events {
				all = append(all, e)
				log = append(log, ledger.Encode(e))
			}
			if err := l.Apply(uint64(len(log)), log[len(log)-len(events):]); err != nil {
				t.Fatal(err)
			}
			switch r.IntN(40) {
			case 0: // a power cut: what was not flushed may be gone and is applied again
				crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r})
				_ = l.Close()
				fs, l = crashed, openOn(t, crashed)
				if err := l.Apply(uint64(len(log)), log[l.Position():]); err != nil {
					t.Fatal(err)
				}
			case 1:
				if _, err := l.Flush(); err != nil {
					t.Fatal(err)
				}
			case 2: // the same again
				if err := l.Apply(uint64(len(log)), log[max(0, len(log)-7):]); err != nil {
					t.Fatal(err)
				}
			}
		}
		compare(t, seed, l, all, paths)
		_ = l.Close()
	}
}

func compare(t *testing.T, seed uint64, l *ledger.Ledger, all naive, paths []ledger.Path) {
	t.Helper()
	for _, p := range paths {
		want, domains := all.impact(p)
		im, err := l.Impact(ctx, p, time.Time{}, time.Time{})
		if err != nil || im.HandedOff != want {
			t.Fatalf("seed %d: impact of %v is %d, want %d, %v", seed, p, im.HandedOff, want, err)
		}
		for _, c := range im.Domains {
			if domains[c.Name] != c.Count {
				t.Errorf("seed %d: %s %d, want %d", seed, c.Name, c.Count, domains[c.Name])
			}
		}
	}
	perID, perMID, perRcpt, perDKIM := map[smtp.ID]int{}, map[string]int{}, map[string]int{}, map[uint64]int{}
	for _, e := range all {
		switch e := e.(type) {
		case *ledger.Accepted:
			perID[e.ID]++
			perMID[e.MessageID]++
			perRcpt[strings.ToLower(e.Decisions[0].Recipient)]++
			for _, d := range e.DKIM {
				perDKIM[d]++
			}
		case *ledger.HandedOff:
			perID[e.ID]++
		}
	}
	for i, n := range perID {
		if es, err := l.History(ctx, i); err != nil || len(es) != n {
			t.Fatalf("seed %d: history of %s has %d events, want %d, %v", seed, i, len(es), n, err)
		}
	}
	for m, n := range perMID {
		if ids, err := l.ByMessageID(ctx, "<"+m+">"); err != nil || len(ids) != n {
			t.Fatalf("seed %d: %d messages with %s, want %d, %v", seed, len(ids), m, n, err)
		}
	}
	for d, n := range perDKIM {
		if ids, err := l.ByDKIM(ctx, d); err != nil || len(ids) != n {
			t.Fatalf("seed %d: %d messages with signature %d, want %d, %v", seed, len(ids), d, n, err)
		}
	}
	for a, n := range perRcpt {
		if ids, err := l.ByRecipient(ctx, strings.ToUpper(a), time.Time{}, time.Time{}, 1000); err != nil || len(ids) != n {
			t.Fatalf("seed %d: %d messages to %s, want %d, %v", seed, len(ids), a, n, err)
		}
	}
	for s := range 5 {
		q := ledger.HandOffQuery{Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(s)}), Domain: "AOL.com", From: epoch.Add(2 * time.Minute), To: epoch.Add(4 * time.Minute), Limit: 1000}
		want := 0
		for _, e := range all {
			if h, ok := e.(*ledger.HandedOff); ok && h.Source == q.Source && h.Domain == "aol.com" && !h.Time.Before(q.From) && h.Time.Before(q.To) {
				want++
			}
		}
		if hs, err := l.HandOffs(ctx, q); err != nil || len(hs) != want {
			t.Fatalf("seed %d: %d hand-offs from %s, want %d, %v", seed, len(hs), q.Source, want, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	l := openOn(t, vfs.NewMem())
	defer l.Close()
	if _, err := l.Accepted(ctx, id(1)); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := l.History(ctx, id(1)); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestRubbishIsKeptApart: an event that cannot be read stops nothing.
func TestRubbishIsKeptApart(t *testing.T) {
	l := openOn(t, vfs.NewMem())
	defer l.Close()
	if err := l.Apply(1, [][]byte{{0xff, 1, 2}, ledger.Encode(accepted(1, "stranger")), nil}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accepted(ctx, id(1)); err != nil {
		t.Error(err)
	}
}

func TestIncidentsFold(t *testing.T) {
	l := openOn(t, vfs.NewMem())
	defer l.Close()
	var log [][]byte
	step := func(n int, inc, state string, c ...ledger.Containment) {
		log = append(log, ledger.Encode(&ledger.IncidentChanged{Time: epoch.Add(time.Duration(n) * time.Second), Incident: inc, State: state, By: "x", Contain: c}))
	}
	step(1, "INC-2008-0001", "open")
	step(2, "INC-2008-0002", "open")
	step(3, "INC-2008-0001", "contained", ledger.Containment{Pool: "aol"})
	step(4, "INC-2008-0002", "closed")
	if err := l.Apply(1, log); err != nil {
		t.Fatal(err)
	}
	open, err := l.Incidents(ctx, false)
	if err != nil || len(open) != 1 || open[0].ID != "INC-2008-0001" || open[0].State != "contained" || len(open[0].Contain) != 1 || len(open[0].Timeline) != 2 {
		t.Errorf("open: %+v, %v", open, err)
	}
	if all, err := l.Incidents(ctx, true); err != nil || len(all) != 2 {
		t.Errorf("all: %d, %v", len(all), err)
	}
}

func TestCaughtUp(t *testing.T) {
	l := openOn(t, vfs.NewMem())
	defer l.Close()
	done := make(chan error, 1)
	go func() { done <- l.CaughtUp(ctx, 5) }()
	for pos := range uint64(6) {
		if err := l.Apply(pos, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	expired, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.CaughtUp(expired, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	l, err := ledger.Open(b.TempDir(), ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	p := ledger.Path{Listener: "injection", Origin: "customer"}
	n := 0
	for b.Loop() {
		var events [][]byte
		for range 100 {
			n++
			events = append(events, ledger.Encode(accepted(n, "customer")), ledger.Encode(handedOff(n, 0, p)))
		}
		if err := l.Apply(uint64(n), events); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}
