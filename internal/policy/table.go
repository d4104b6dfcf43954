package policy

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
)

// table is a flat hash table from atoms to numbers. It holds hashes alone and never
// compares a text: where two hashes agree it gives a number too many, for which a
// filter is asked in vain. The seed is random, as a map's is, so that nobody can aim
// at that; no decision depends on it.
type table struct {
	seed  maphash.Seed
	shift uint8
	slots []slot // a power of two, at most half of them taken; none where there are no atoms
}

type slot struct {
	mark  uint32 // part of the hash
	value int32  // one more than the number; 0 is an empty slot
}

// fill puts in values by their keys. It is false where two of them could not be told
// apart: another seed is wanted.
func (t *table) fill(values []int32, key func(i int) uint64) bool {
	if len(values) == 0 {
		return true
	}
	size := bits.Len(uint(2*len(values) - 1))
	t.shift, t.slots = uint8(64-size), make([]slot, 1<<size)
	for i, v := range values {
		k := key(i)
		at := k >> t.shift
		for ; t.slots[at].value != 0; at = (at + 1) & uint64(len(t.slots)-1) {
			if t.slots[at].mark == uint32(k) {
				return false
			}
		}
		t.slots[at] = slot{mark: uint32(k), value: v + 1}
	}
	return true
}

// get gives the number of a key, -1 for none.
func (t *table) get(k uint64) int32 {
	if len(t.slots) == 0 {
		return -1
	}
	last := uint64(len(t.slots) - 1)
	for at := k >> t.shift & last; ; at = (at + 1) & last {
		s := t.slots[at]
		if s.value == 0 || s.mark == uint32(k) {
			return s.value - 1
		}
	}
}

// Odd constants that spread keys: the fractions of the golden ratio and of pi.
const (
	spread    = 0x9e3779b97f4a7c15
	spreadToo = 0x243f6a8885a308d3
)

func mixed(h uint64) uint64 {
	h ^= h >> 32
	h *= spread
	h ^= h >> 29
	h *= spreadToo
	return h ^ h>>32
}

// textKey is the key of a text in a dim, by the hash of the text.
func textKey(d dim, h uint64) uint64 { return h ^ uint64(d+1)*spread }

// mailboxKey is the key of an address, by the hashes of its parts.
func mailboxKey(d dim, local, domain uint64) uint64 {
	return textKey(d, domain+bits.RotateLeft64(local, 21)*spreadToo)
}

// valueKey is the key of a value of a header field that the index knows by number.
func valueKey(header int32, h uint64) uint64 {
	return textKey(dimHeaderIs, h+uint64(header+1)*spreadToo)
}

// networkKey is the key of a network of so many bits around an address.
func networkKey(seed uint64, a netip.Addr, length int) uint64 {
	if a.Is4() {
		b := a.As4()
		n := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
		return mixed(n&(1<<32-1<<(32-length))<<8 | uint64(length) ^ seed)
	}
	b := a.As16()
	var hi, lo uint64
	for i := range 8 {
		hi, lo = hi<<8|uint64(b[i]), lo<<8|uint64(b[8+i])
	}
	hi &= ^uint64(0) << max(0, 64-length)
	lo &= ^uint64(0) << min(64, 128-length)
	return mixed(mixed(hi^seed) + lo ^ uint64(128+length))
}
