package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/smtp"
)

// history makes events of n messages, some of them twice and out of order.
func history(seed uint64, n int) (out []Event) {
	rng := rand.New(rand.NewPCG(seed, 1))
	at := time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC)
	for i := range n {
		at = at.Add(time.Duration(rng.IntN(3)) * time.Second)
		id := smtp.NewID(at, [6]byte{byte(i >> 8), byte(i)})
		to := fmt.Sprintf("r%d@d%d.example", rng.IntN(50), rng.IntN(5))
		a := &Accepted{Time: at, ID: id, Origin: "customer", MessageID: fmt.Sprintf("m%d@x", rng.IntN(100)), DKIM: []uint64{rng.Uint64()}, Subject: rng.Uint64(), Decisions: []Decided{{Recipient: to}}}
		h := &HandedOff{Time: at.Add(time.Second), ID: id, Address: to, Domain: to[len(to)-10:], Path: Path{Listener: "l", Origin: "customer"}, Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(rng.IntN(4))}), Subject: a.Subject}
		out = append(out, a, h)
		if rng.IntN(10) == 0 {
			out = append(out, a, &Reported{Time: at.Add(time.Hour), Identity: fmt.Sprint(i), Subject: id, Verdict: "sent"})
		}
	}
	return out
}

func sequence(events []Event) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func dump(t *testing.T, l *Ledger) (out [][2][]byte) {
	t.Helper()
	it, err := l.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if it.Key()[0] != keyMeta {
			out = append(out, [2][]byte{bytes.Clone(it.Key()), bytes.Clone(it.Value())})
		}
	}
	return out
}

// TestLoadIsApply: a ledger that was loaded is the one that the same events applied to.
func TestLoadIsApply(t *testing.T) {
	for seed := range uint64(5) {
		events := history(seed, 300)
		applied, err := Open("a", Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := Open("b", Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range events {
			if err := applied.Apply(uint64(i+1), [][]byte{Encode(e)}); err != nil {
				t.Fatal(err)
			}
		}
		// In two goes, the second with some of the first again.
		for _, part := range [][]Event{events[:len(events)/2], events[len(events)/3:]} {
			if err := loaded.Load(t.Context(), sequence(part)); err != nil {
				t.Fatal(err)
			}
		}
		want, got := dump(t, applied), dump(t, loaded)
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d keys, want %d", seed, len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(want[i][0], got[i][0]) || !bytes.Equal(want[i][1], got[i][1]) {
				t.Fatalf("seed %d: key %d is %x, want %x", seed, i, got[i][0], want[i][0])
			}
		}
		for _, l := range []*Ledger{applied, loaded} {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLoadBreaksOff(t *testing.T) {
	l, err := Open("a", Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	broken := errors.New("broken")
	if err := l.Load(t.Context(), func(yield func(Event, error) bool) { yield(nil, broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := l.Load(t.Context(), sequence([]Event{&ShapingChanged{Action: "x"}})); err == nil {
		t.Error("an event that undoes others is loaded")
	}
}
