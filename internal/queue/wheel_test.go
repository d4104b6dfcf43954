package queue

import (
	"math/rand/v2"
	"slices"
	"testing"

	"postern.dev/postern/internal/smtp"
)

// TestWheel compares the wheel with a sorted list, under random additions, removals and
// turns, over times from a millisecond to years, and with the work cut into pieces.
func TestWheel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		a := &arena{}
		w := &wheel{a: a, now: 1_767_000_000_000}
		want := map[ref]int64{}
		now := w.now
		for step := range 3000 {
			switch r.IntN(4) {
			case 0, 1:
				x := a.add(smtp.ID{byte(step), byte(step >> 8), 9}, step)
				a.at(x).at = now + 1 + r.Int64N(int64(1)<<r.IntN(40))
				w.add(x)
				want[x] = a.at(x).at
			case 2:
				for x := range want {
					w.remove(x)
					a.drop(x)
					delete(want, x)
					break
				}
			case 3:
				now += r.Int64N(int64(1) << r.IntN(36))
				check(t, seed, w, a, want, now, 1+r.IntN(50))
			}
			if next, ok := w.next(); ok != (len(want) > 0) || (ok && next > least(want)) {
				t.Fatalf("seed %d: next is %d %v, the least of %d is %d", seed, next, ok, len(want), least(want))
			}
		}
		check(t, seed, w, a, want, now+1<<41, 1000)
		if w.n != 0 || len(want) != 0 || a.live != 0 {
			t.Errorf("seed %d: %d in the wheel, %d wanted, %d live", seed, w.n, len(want), a.live)
		}
	}
}

func least(want map[ref]int64) int64 {
	at := int64(1) << 62
	for _, x := range want {
		at = min(at, x)
	}
	return at
}

// check turns the wheel and compares what comes out with what had to.
func check(t *testing.T, seed uint64, w *wheel, a *arena, want map[ref]int64, now int64, steps int) {
	t.Helper()
	var got []int64
	for !w.turn(now, steps, func(x ref) {
		at, there := want[x]
		if !there || at != a.at(x).at || at > now {
			t.Fatalf("seed %d: %d comes out at %d, wanted at %d %v", seed, x, now, at, there)
		}
		got = append(got, at)
		delete(want, x)
		a.drop(x)
	}) {
		continue
	}
	if !slices.IsSorted(got) {
		t.Fatalf("seed %d: not in order of time: %v", seed, got)
	}
	if len(want) > 0 && least(want) <= now {
		t.Fatalf("seed %d: something of %d has not come out at %d", seed, least(want), now)
	}
}

// TestIndex compares the arena's index with a map.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	a := &arena{}
	type key struct {
		id   smtp.ID
		rcpt int
	}
	want := map[key]ref{}
	for range 200_000 {
		k := key{rcpt: r.IntN(3)}
		k.id[11], k.id[10], k.id[6] = byte(r.IntN(256)), byte(r.IntN(40)), 1
		switch have := want[k]; {
		case a.find(k.id, k.rcpt) != have:
			t.Fatalf("%v is found at %d, not %d", k, a.find(k.id, k.rcpt), have)
		case have == 0:
			want[k] = a.add(k.id, k.rcpt)
		default:
			a.drop(have)
			delete(want, k)
		}
	}
	for k, x := range want {
		if a.find(k.id, k.rcpt) != x {
			t.Fatalf("%v is lost", k)
		}
	}
	if a.live != len(want) {
		t.Errorf("%d live, want %d", a.live, len(want))
	}
}
