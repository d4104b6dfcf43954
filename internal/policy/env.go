package policy

import "hash/maphash"

// env is what a condition may look at: the facts, with what the filters above have
// changed, and for an assert the decision.
type env struct {
	facts     *Facts
	rcpt      Address
	lacks     lack
	tags      []string
	maybeTags []string // set by filters of which it is not known yet whether they apply
	decision  *Decision
	reading   *reading // nil in a walk without the index

	seed   maphash.Seed
	hashed uint32 // bit d: hashes[d] is there
	hashes [sources]uint64
}

// lack is what is not known: a set.
type lack uint8

const (
	lackContent lack = 1 << iota // until the end of DATA
	lackRcpt                     // a filter that may or may not apply rewrites the recipient
)

// reset makes e ready for a transaction; it keeps the space of maybeTags.
func (e *env) reset(f *Facts, p *Program) {
	e.facts, e.rcpt, e.tags, e.maybeTags, e.decision = f, f.Rcpt, nil, e.maybeTags[:0], nil
	e.seed, e.hashed, e.lacks, e.reading = p.code.seed, 0, 0, nil
	if f.Content == nil {
		e.lacks = lackContent
	}
}

// setRcpt changes the recipient for what is asked from now on.
func (e *env) setRcpt(a Address) {
	e.rcpt = a
	e.hashed &^= 1<<dimRcptDomain | 1<<dimRcptLocal
}

// text gives a text of the facts.
func (e *env) text(d dim) string {
	f := e.facts
	switch d {
	case dimRcptDomain:
		return e.rcpt.Domain
	case dimSenderDomain:
		return f.Sender.Domain
	case dimClientName:
		return f.Client.Name
	case dimHelo:
		return f.Client.Helo
	case dimRcptLocal:
		return e.rcpt.Local
	case dimSenderLocal:
		return f.Sender.Local
	case dimCustomer:
		return f.Customer
	case dimAuth:
		return f.AuthUser
	case dimSPF:
		return f.Content.SPF
	case dimDKIM:
		return f.Content.DKIM
	case dimDMARC:
		return f.Content.DMARC
	case dimListener:
		return f.Listener
	case dimOrigin:
		return string(f.Origin)
	}
	return ""
}

// hash gives the hash of a text of the facts, which is made once.
func (e *env) hash(d dim) uint64 {
	if e.hashed>>d&1 == 0 {
		e.hashes[d] = maphash.String(e.seed, e.text(d))
		e.hashed |= 1 << d
	}
	return e.hashes[d]
}

// mark gives the part of a text's hash that sets of constants are told by.
func (e *env) mark(d dim) uint32 {
	if r := e.reading; r != nil && r.known>>d&1 != 0 {
		return r.marks[d]
	}
	return uint32(e.hash(d))
}

// lacks tells what a text cannot be read without.
func (d dim) lacks() lack {
	switch d {
	case dimRcptDomain, dimRcptLocal:
		return lackRcpt
	case dimSPF, dimDKIM, dimDMARC:
		return lackContent
	}
	return 0
}
