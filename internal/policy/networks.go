package policy

import (
	"net/netip"
	"slices"
)

// networkIndex tells how long the networks are that an address is looked up in: as
// many look-ups as there are lengths, and few lists have more than a handful.
type networkIndex struct {
	seed   uint64 // of the keys
	v4, v6 []int  // lengths, in bits
}

func (x *networkIndex) add(p netip.Prefix) {
	to := &x.v6
	if p.Addr().Is4() {
		to = &x.v4
	}
	if !slices.Contains(*to, p.Bits()) {
		*to = append(*to, p.Bits())
	}
}

// lengths gives those that the networks around an address can have.
func (x *networkIndex) lengths(a netip.Addr) []int {
	switch {
	case a.Is4():
		return x.v4
	case a.Is6():
		return x.v6
	}
	return nil
}
