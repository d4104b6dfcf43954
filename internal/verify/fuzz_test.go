package verify_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// tape is a source of randomness that a fuzzer steers: it gives the input's octets,
// two to a word, and then goes on from their sum.
type tape struct {
	left []byte
	then *rand.PCG
}

func newTape(in []byte) *tape {
	var sum uint64
	for _, c := range in {
		sum = sum*1099511628211 + uint64(c)
	}
	return &tape{left: in, then: rand.NewPCG(sum, 1)}
}

// Uint64 spreads two octets over the word, since small choices read its upper bits.
func (t *tape) Uint64() uint64 {
	if len(t.left) < 2 {
		return t.then.Uint64()
	}
	n := uint64(binary.BigEndian.Uint16(t.left))
	t.left = t.left[2:]
	return n<<48 | n<<32 | n<<16 | n
}

// maxWork is how many questions a small policy may take, far above what any does.
const maxWork = 20_000

// FuzzCheck steers the choices of the generator: the proof does not panic, keeps
// within its bounds, shows what it finds, and no message contradicts it.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("relay for strangers"), uint8(7))
	f.Add([]byte("\xff\x00\x80\x10\xff\xff\x40\x00\x01\x02\xf0\x00\x99\x99"), uint8(12))
	f.Fuzz(func(t *testing.T, in []byte, s uint8) {
		r := rand.New(newTape(in))
		p := policytest.Random(r, shape(uint64(s))).Program
		res := verify.Check(p, verify.Options{NoRepairs: s%2 == 0})
		if res.Stats.Queries > maxWork {
			t.Errorf("%d questions\n%s", res.Stats.Queries, show(p))
		}
		if d := disagreement(p, res, byForce(p, messages(cornersOf(p), r, 200))); d != "" {
			t.Errorf("%s\n%s", d, show(p))
		}
	})
}
