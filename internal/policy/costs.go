package policy

import (
	"math"
	"slices"
)

// late reports what is known at the end of DATA only.
func (d dim) late() bool {
	switch d {
	case dimSPF, dimDKIM, dimDMARC, dimHeader, dimHeaderIs, dimHeaderIn:
		return true
	}
	return false
}

// costs estimates how often each atom is true: one in as many as its kind has
// values. A field that every message has tells nothing by its presence.
func (n *needs) costs() []float64 {
	var values [dims]int
	for i := range n.atoms {
		values[n.atoms[i].dim]++
	}
	out := make([]float64, len(n.atoms))
	for i := range n.atoms {
		a := &n.atoms[i]
		c := 1 / float64(max(values[a.dim], 2))
		switch {
		case a.suffix:
			c *= 2
		case a.dim == dimHeader && usual(a.name):
			c = 1
		case a.dim == dimHeader:
			c = 0.05
		case a.dim == dimHeaderIn:
			c = 0.02 / float64(len(a.text))
		case a.dim == dimHeaderIs:
			c = 0.002
		case a.dim == dimRcpt, a.dim == dimSender:
			c = min(c, 0.001)
		case a.dim == dimNet:
			c *= math.Exp2(float64(max(0, 24-a.net.Bits())) / 8)
		}
		out[i] = min(c, 1)
	}
	return out
}

// usual names the fields that are in every message (RFC 5322, section 3.6).
func usual(name string) bool {
	switch name {
	case "from", "to", "date", "subject", "message-id", "received", "mime-version", "content-type":
		return true
	}
	return false
}

// cheapest gives the atoms to file under that are true least often, and how often.
func (n *need) cheapest(cost []float64) (float64, []int32) {
	switch n.kind {
	case needNever:
		return 0, nil
	case needOne:
		c := 0.0
		for _, a := range n.atoms {
			c += cost[a]
		}
		return min(c, 1), n.atoms
	case needBoth:
		cl, l := n.l.cheapest(cost)
		cr, r := n.r.cheapest(cost)
		if cr < cl {
			return cr, r
		}
		return cl, l
	case needEither:
		cl, l := n.l.cheapest(cost)
		cr, r := n.r.cheapest(cost)
		if cl+cr >= 1 {
			return 1, nil
		}
		return cl + cr, slices.Concat(l, r)
	}
	return 1, nil
}
