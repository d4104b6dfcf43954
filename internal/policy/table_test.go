package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestTable holds the table to its one promise: what was put in is found. Keys that
// could hide each other must be refused, since a filter would be missed.
func TestTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 20_000 {
		keys := make([]uint64, 1+r.IntN(12))
		values := make([]int32, len(keys))
		for i := range keys {
			// few marks and few places: clashes of every sort
			keys[i], values[i] = uint64(r.IntN(6))<<61|uint64(r.IntN(8)), int32(i)
		}
		var x table
		if !x.fill(values, func(i int) uint64 { return keys[i] }) {
			refused++
			continue
		}
		for i, k := range keys {
			if got := x.get(k); got != int32(i) {
				t.Fatalf("keys %x: %x gives %d, want %d", keys, k, got, i)
			}
		}
	}
	if refused == 0 || refused == 20_000 {
		t.Errorf("%d of 20000 refused: the test shows nothing", refused)
	}
	var none table
	if got := none.get(7); got != -1 {
		t.Errorf("an empty table gives %d", got)
	}
}

// TestNetworkKey compares the keys of an address's networks with Contains.
func TestNetworkKey(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		a, b := randomAddr(r), randomAddr(r)
		if r.IntN(2) == 0 {
			b = a
		}
		n, err := b.Prefix(r.IntN(b.BitLen() + 1))
		if err != nil || a.Is4() != b.Is4() {
			continue
		}
		same := networkKey(9, a, n.Bits()) == networkKey(9, n.Addr(), n.Bits())
		if same != n.Contains(a) {
			t.Fatalf("%s in %s: %v, by the key %v", a, n, n.Contains(a), same)
		}
	}
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))})
	}
	b := [16]byte{0x20, 1}
	for i := 6; i < 16; i++ {
		b[i] = byte(r.IntN(256))
	}
	return netip.AddrFrom16(b)
}

// TestSets asks for members and others of short and long sets, and of one whose
// members all have the same hash.
func TestSets(t *testing.T) {
	for _, n := range []int{0, 1, linear, linear + 1, 500} {
		var texts []string
		for i := range n {
			texts = append(texts, fmt.Sprintf("d%d.example", i))
		}
		l := newLayout(testSeed)
		at := l.add(&test{op: opText, of: dimSenderDomain, texts: texts, want: true})
		c := l.done()
		equal := c
		equal.consts = slices.Clone(c.consts)
		for i := range equal.consts {
			equal.consts[i].mark = 5
		}
		for i := range n + 3 {
			s := fmt.Sprintf("d%d.example", i)
			e := env{facts: &Facts{Sender: Address{Domain: s}}, seed: testSeed}
			if got := c.holds(&e, at); (got == Yes) != (i < n) {
				t.Errorf("set of %d: %s gives %s", n, s, got)
			}
			if got := equal.among(c.steps[at].at, uint32(n), 5, s); got != (i < n) {
				t.Errorf("set of %d with one hash: %s gives %v", n, s, got)
			}
		}
	}
}
