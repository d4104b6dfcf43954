package policy

import (
	"net/netip"
	"slices"
)

// networkIndex finds the networks that an address is in: they are sorted by where
// they begin, and each knows the next wider one around it.
type networkIndex struct {
	nets []indexedNet
}

type indexedNet struct {
	prefix netip.Prefix
	bucket int32
	outer  int32 // in nets, -1 for none
}

func (x *networkIndex) add(p netip.Prefix, bucket int32) {
	x.nets = append(x.nets, indexedNet{prefix: p, bucket: bucket})
}

// sort is called once all are there.
func (x *networkIndex) sort() {
	slices.SortFunc(x.nets, func(a, b indexedNet) int {
		if c := a.prefix.Addr().Compare(b.prefix.Addr()); c != 0 {
			return c
		}
		return a.prefix.Bits() - b.prefix.Bits()
	})
	for i := range x.nets {
		outer := int32(i) - 1
		for outer >= 0 && !x.nets[outer].prefix.Contains(x.nets[i].prefix.Addr()) {
			outer = x.nets[outer].outer
		}
		x.nets[i].outer = outer
	}
}

// innermost gives the narrowest network around an address, -1 for none; the others
// around it follow by outer.
func (x *networkIndex) innermost(a netip.Addr) int32 {
	lo, hi := 0, len(x.nets)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if x.nets[mid].prefix.Addr().Compare(a) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	i := int32(lo) - 1
	for i >= 0 && !x.nets[i].prefix.Contains(a) {
		i = x.nets[i].outer
	}
	return i
}
