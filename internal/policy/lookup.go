package policy

import "strings"

// Texts that are known from the envelope, and those of the recipient.
const (
	ofRcpt = 1<<dimRcptDomain | 1<<dimRcptLocal
	early  = ofRcpt | 1<<dimSenderDomain | 1<<dimClientName | 1<<dimHelo | 1<<dimSenderLocal | 1<<dimCustomer | 1<<dimAuth
)

// get appends the bucket of a key that is in the table.
func (x *index) get(key uint64, out []int32) []int32 {
	if b := x.table.get(key); b >= 0 {
		out = append(out, b)
	}
	return out
}

// lookUp appends the bucket of a text.
func (x *index) lookUp(d dim, s string, out []int32) []int32 {
	if x.has(d) {
		out = x.get(textKey(d, x.hash(s)), out)
	}
	return out
}

// suffixes looks up those suffixes of a domain that begin with a dot and have as many
// dots as some suffix of the policy.
func (x *index) suffixes(d dim, s string, out []int32) []int32 {
	wanted := x.dots[d]
	for left := strings.Count(s, "."); left > 0; left-- {
		s = s[strings.IndexByte(s, '.'):]
		if wanted>>min(left, 63)&1 != 0 {
			out = x.get(textKey(d, x.hash(s)), out)
		}
		s = s[1:]
	}
	return out
}

// lookUp finds the buckets whose atoms are true of the recipient and the tags.
func (w *walk) lookUp() {
	x, e := w.index, &w.env
	out := w.found[:0]
	if x.has(dimRcptDomain) {
		out = x.get(textKey(dimRcptDomain, e.hash(dimRcptDomain)), out)
		if x.dots[dimRcptDomain] != 0 {
			out = x.suffixes(dimRcptDomain, e.rcpt.Domain, out)
		}
	}
	if x.has(dimRcptLocal) {
		out = x.get(textKey(dimRcptLocal, e.hash(dimRcptLocal)), out)
	}
	if x.has(dimRcpt) {
		out = x.get(mailboxKey(dimRcpt, e.hash(dimRcptLocal), e.hash(dimRcptDomain)), out)
	}
	for _, t := range e.tags {
		out = x.lookUp(dimTag, t, out)
	}
	for _, t := range e.maybeTags {
		out = x.lookUp(dimTag, t, out)
	}
	w.found = out
}
