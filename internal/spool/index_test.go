package spool_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
)

// waiting is the plain model of the index: messages in the order of acceptance, each
// with its recipients' states.
type waiting struct {
	message *spool.Message
	states  []spool.RecipientState
}

// TestIndexAgainstModel runs random operations on messages of several recipients and
// holds State, List and Stock against a model that keeps everything as it is, over
// restarts, and while the writer moves messages.
func TestIndexAgainstModel(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		fs := faultfs.New()
		var model []*waiting
		n := 0
		for range 4 {
			s, _ := openOn(t, fs)
			checkIndex(t, seed, s, model)
			for range 150 {
				if len(model) == 0 || r.IntN(3) == 0 {
					w := arrival(t, s, r, n)
					n++
					if w != nil {
						model = append(model, w)
					}
					continue
				}
				i := r.IntN(len(model))
				if step(t, s, r, model[i]) {
					model = slices.Delete(model, i, i+1)
				}
				if r.IntN(20) == 0 {
					s.Forget(s.Durable())
				}
			}
			checkIndex(t, seed, s, model)
			_ = s.Close()
		}
	}
}

// arrival commits a message with up to five recipients, some settled or held at once;
// nil where none of them is left.
func arrival(t *testing.T, s *spool.Spool, r *rand.Rand, n int) *waiting {
	t.Helper()
	b := batch(t, s, n, r.IntN(300))
	w := &waiting{message: b.Message}
	one := b.Message.Recipients[0]
	b.Message.Recipients = nil
	live := false
	for i := range 1 + r.IntN(5)*r.IntN(2) {
		rcpt := one
		rcpt.To.Local = fmt.Sprintf("user%d.%d", n, i)
		if rcpt.State = spool.State(r.IntN(3)); rcpt.State == spool.Held {
			rcpt.Reason = fmt.Sprintf("held for %d", r.IntN(4))
		}
		live = live || rcpt.State != spool.Settled
		b.Message.Recipients = append(b.Message.Recipients, rcpt)
		w.states = append(w.states, spool.RecipientState{State: rcpt.State, Reason: rcpt.Reason})
	}
	mustCommit(t, s, b)
	if !live {
		return nil
	}
	return w
}

// step moves a recipient on; it tells whether its message is done with.
func step(t *testing.T, s *spool.Spool, r *rand.Rand, w *waiting) (done bool) {
	t.Helper()
	i := r.IntN(len(w.states))
	c := spool.Change{ID: w.message.ID, Recipient: i, State: spool.State(r.IntN(3)), Attempts: r.IntN(9), Reason: fmt.Sprintf("451 try %d", r.IntN(6))}
	if r.IntN(2) == 0 {
		c.NotBefore = time.UnixMilli(1.8e12 + r.Int64N(1e9)).UTC()
	}
	mustCommit(t, s, &spool.Batch{Changes: []spool.Change{c}})
	if w.states[i].State != spool.Settled { // what is settled stays settled
		w.states[i] = spool.RecipientState{State: c.State, Attempts: c.Attempts, NotBefore: c.NotBefore, Reason: c.Reason}
	}
	return !slices.ContainsFunc(w.states, func(st spool.RecipientState) bool { return st.State != spool.Settled })
}

func checkIndex(t *testing.T, seed uint64, s *spool.Spool, model []*waiting) {
	t.Helper()
	for name, list := range map[string]func(func(spool.Entry) bool){"list": s.List, "stock": s.Stock} {
		i := 0
		list(func(e spool.Entry) bool {
			k := slices.IndexFunc(model, func(w *waiting) bool { return w.message.ID == e.ID })
			if k < 0 || i >= len(model) {
				t.Fatalf("seed %d: %s gives %s as number %d of %d", seed, name, e.ID, i, len(model))
			}
			w := model[k]
			checkStates(t, seed, e.States, w)
			m := e.Message
			if m == nil && name == "stock" { // the writer has moved it meanwhile
				var err error
				if m, err = s.Message(e.ID); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if m != nil && m.Recipients[len(m.Recipients)-1].To != w.message.Recipients[len(m.Recipients)-1].To {
				t.Fatalf("seed %d: %s gives %+v", seed, e.ID, m)
			}
			i++
			return true
		})
		if i != len(model) {
			t.Fatalf("seed %d: %s gives %d of %d", seed, name, i, len(model))
		}
	}
	for _, w := range model {
		st, err := s.State(w.message.ID)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkStates(t, seed, st, w)
	}
}

// checkStates compares; of what is settled nothing but that is kept.
func checkStates(t *testing.T, seed uint64, got []spool.RecipientState, w *waiting) {
	t.Helper()
	ok := len(got) == len(w.states)
	for i := 0; ok && i < len(got); i++ {
		want := w.states[i]
		if want.State == spool.Settled {
			ok = got[i].State == spool.Settled
			continue
		}
		ok = reflect.DeepEqual(got[i], want)
	}
	if !ok {
		t.Fatalf("seed %d: message %s has\n%+v, want\n%+v", seed, w.message.ID, got, w.states)
	}
}

// TestReasonsBeyondMemory gives each recipient a reason of its own, more than the spool
// keeps in memory: all can be read, also after their message has moved and after a
// restart, and memory is found again once they are gone.
func TestReasonsBeyondMemory(t *testing.T) {
	fs := faultfs.New()
	o := spool.Options{FS: fs, SegmentSize: 1 << 20, Reserve: 1}
	s, _, err := spool.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	const count = 200
	reason := func(n, try int) string { return fmt.Sprintf("451 %d.%d %s", n, try, strings.Repeat("x", 100<<10)) }
	check := func(from, try int) {
		t.Helper()
		for n := from; n < count; n++ {
			if st, err := s.State(id(n)); err != nil || st[0].Reason != reason(n, try) || st[0].Attempts != try {
				t.Fatalf("message %d: %.40q, %v", n, st[0].Reason, err)
			}
		}
	}
	defer func() { _ = s.Close() }()
	for n := range count {
		mustCommit(t, s, batch(t, s, n, 10))
		mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(n), Attempts: 1, Reason: reason(n, 1)}}})
	}
	check(0, 1)
	for n := range count {
		mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(n), Attempts: 2, Reason: reason(n, 2)}}})
		s.Forget(s.Durable())
	}
	check(0, 2)
	_ = s.Close()
	if s, _, err = spool.Open(ctx, o); err != nil {
		t.Fatal(err)
	}
	check(0, 2)
	for n := range count - 1 {
		mustCommit(t, s, settled(n))
	}
	check(count-1, 2)
}

// TestReasonsOfWhatIsMoved: the writer moves messages, and their segments go, between the
// moment at which List looks at them and the one at which it reads their reasons.
func TestReasonsOfWhatIsMoved(t *testing.T) {
	s, _, err := spool.Open(ctx, spool.Options{FS: faultfs.New(), SegmentSize: 4 << 20, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const full, count = 170, 20 // the first ones leave the index no room for the others
	reason := func(n int) string { return fmt.Sprintf("451 %d %s", n, strings.Repeat("x", 100<<10)) }
	for n := range full + count {
		mustCommit(t, s, batch(t, s, n, 10))
		mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(n), Attempts: 1, Reason: reason(n)}}})
	}
	for n := range full {
		mustCommit(t, s, settled(n))
	}
	n, end := full, s.Durable()
	s.List(func(e spool.Entry) bool {
		for range 100 {
			if s.Oldest() > end {
				break
			}
			mustCommit(t, s, &spool.Batch{Events: [][]byte{make([]byte, 1<<20)}})
			s.Forget(s.Durable())
		}
		if s.Oldest() <= end {
			t.Fatal("the messages have not been moved")
		}
		if e.ID != id(n) || e.States[0].Attempts != 1 || e.States[0].Reason != reason(n) {
			t.Fatalf("message %d is %s: %d attempts, %.40q", n, e.ID, e.States[0].Attempts, e.States[0].Reason)
		}
		n++
		return true
	})
	if n != full+count {
		t.Errorf("%d messages of %d", n-full, count)
	}
}

// TestStockKeepsOut: a message that comes in while the stock is read is not in it, be it
// in the place of one that has gone meanwhile.
func TestStockKeepsOut(t *testing.T) {
	s, _ := openOn(t, faultfs.New())
	for n := range 2000 {
		mustCommit(t, s, batch(t, s, n, 10))
	}
	var got []smtp.ID
	s.Stock(func(e spool.Entry) bool {
		if len(got) == 0 {
			for n := 1000; n < 2000; n++ {
				mustCommit(t, s, settled(n))
				mustCommit(t, s, batch(t, s, n+10_000, 10))
			}
		}
		if e.Message == nil || e.Message.ID != e.ID {
			t.Fatalf("stock gives %+v for %s", e.Message, e.ID)
		}
		got = append(got, e.ID)
		return true
	})
	if len(got) < 1000 || slices.ContainsFunc(got, func(i smtp.ID) bool { return slices.Compare(i[:], idBytes(9999)) > 0 }) {
		t.Errorf("%d messages, the last one %s", len(got), got[len(got)-1])
	}
}

func idBytes(n int) []byte { i := id(n); return i[:] }
