package spool

import (
	"math/rand/v2"
	"testing"

	"postern.dev/postern/internal/smtp"
)

// TestTable compares the index's table with a map, with identities that differ in few
// bits.
func TestTable(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	x := newIndex()
	want := map[smtp.ID]uint32{}
	for range 200_000 {
		var id smtp.ID
		id[11], id[10], id[6] = byte(r.IntN(256)), byte(r.IntN(40)), 1
		n, e := x.of(id)
		switch have := want[id]; {
		case n != have || (e == nil) != (have == 0):
			t.Fatalf("%v is found at %d, not %d", id, n, have)
		case have == 0:
			want[id], _ = x.enter(id)
		default:
			x.leave(have)
			delete(want, id)
		}
	}
	for id, n := range want {
		if got, _ := x.of(id); got != n {
			t.Fatalf("%v is lost", id)
		}
	}
	if x.find.n != len(want) {
		t.Errorf("%d live, want %d", x.find.n, len(want))
	}
}
