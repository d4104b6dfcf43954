package policy

import "math/bits"

// early is the texts that are known from the envelope.
const early = 1<<dimRcptDomain | 1<<dimSenderDomain | 1<<dimClientName | 1<<dimHelo |
	1<<dimRcptLocal | 1<<dimSenderLocal | 1<<dimCustomer | 1<<dimAuth

// lookUp finds the buckets whose atoms are true.
func (w *walk) lookUp() {
	x, e := w.index, &w.env
	f := e.facts
	for left := x.dims & early; left != 0; left &= left - 1 {
		d := dim(bits.TrailingZeros32(left))
		w.hit(textKey(d, e.hash(d)))
		if d < domainDims && x.dots[d] != 0 {
			w.suffixes(d, e.text(d))
		}
	}
	if x.has(dimRcpt) {
		w.hit(mailboxKey(dimRcpt, e.hash(dimRcptLocal), e.hash(dimRcptDomain)))
	}
	if x.has(dimSender) {
		w.hit(mailboxKey(dimSender, e.hash(dimSenderLocal), e.hash(dimSenderDomain)))
	}
	if x.has(dimNet) {
		a := f.Client.Address.Unmap()
		for _, n := range x.networks.lengths(a) {
			w.hit(networkKey(x.networks.seed, a, n))
		}
	}
	for _, t := range e.tags {
		w.text(dimTag, t)
	}
	for _, t := range e.maybeTags {
		w.text(dimTag, t)
	}
	if f.Content != nil {
		w.found = append(w.found, w.content()...)
	}
}

// hit takes the bucket of an atom that is true.
func (w *walk) hit(key uint64) {
	if b := w.index.table.get(key); b >= 0 {
		w.found = append(w.found, b)
	}
}

func (w *walk) text(d dim, s string) {
	if x := w.index; x.has(d) {
		w.hit(textKey(d, x.hash(s)))
	}
}

// suffixes looks up those suffixes of a domain that begin with a dot and have as many
// dots as some suffix of the policy.
func (w *walk) suffixes(d dim, s string) {
	wanted := w.index.dots[d]
	dots := 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '.' {
			continue
		}
		if dots++; wanted>>min(dots, 63)&1 != 0 {
			w.text(d, s[i:])
		}
	}
}
