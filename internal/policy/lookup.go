package policy

import "hash/maphash"

// lookUp finds the buckets whose atoms are true.
func (w *walk) lookUp() {
	x, e := w.index, &w.env
	f := e.facts
	w.domain(dimRcptDomain, e.rcpt.Domain)
	w.domain(dimSenderDomain, f.Sender.Domain)
	w.domain(dimClientName, f.Client.Name)
	w.text(dimHelo, f.Client.Helo)
	w.text(dimRcptLocal, e.rcpt.Local)
	w.text(dimSenderLocal, f.Sender.Local)
	w.text(dimCustomer, f.Customer)
	w.text(dimAuth, f.AuthUser)
	w.mailbox(dimRcpt, e.rcpt)
	w.mailbox(dimSender, f.Sender)
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
		w.hit(textKey(d, maphash.String(x.table.seed, s)))
	}
}

func (w *walk) mailbox(d dim, a Address) {
	if x := w.index; x.has(d) {
		w.hit(mailboxKey(d, maphash.String(x.table.seed, a.Local), maphash.String(x.table.seed, a.Domain)))
	}
}

// domain looks up a domain, and those suffixes of it that begin with a dot and have
// as many dots as some suffix of the policy.
func (w *walk) domain(d dim, s string) {
	w.text(d, s)
	wanted := w.index.dots[d]
	if wanted == 0 {
		return
	}
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
