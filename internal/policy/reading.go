package policy

import (
	"math/bits"
	"slices"
)

// reading is what facts mean to one Program whoever the recipient is.
type reading struct {
	index    *index
	content  *Content
	part     int
	sign     uint32
	buckets  []int32 // whose atoms are true, and those of filters that no atom excludes
	customer *CustomerDef
	fields   []fieldMark // of each header field; nil where they were not hashed
	known    uint32      // bit d: marks[d] is there
	marks    [sources]uint32
}

// fieldMark is the hashes of a header field, by which tests tell most fields apart.
type fieldMark struct{ name, value uint32 }

// Read prepares facts for Eval, which is asked for each recipient: what the filters
// look for in the session, the envelope and the header fields is looked up once. Copies
// of f that differ in Rcpt alone are prepared too. Nothing else of them may be changed
// afterwards, nor may the Content. It changes no decision.
func (p *Program) Read(f *Facts) {
	r := &reading{content: f.Content, customer: p.customers[f.Customer]}
	if c := f.Content; c != nil && len(c.Headers) > 0 {
		r.fields = make([]fieldMark, len(c.Headers))
		for i := range c.Headers {
			h := &c.Headers[i]
			r.fields[i] = fieldMark{name: uint32(p.index.hash(h.Name)), value: uint32(p.index.hash(h.Value))}
		}
	}
	e := env{facts: f}
	for left := p.code.uses &^ ofRcpt; left != 0; left &= left - 1 {
		if d := dim(bits.TrailingZeros32(left)); f.Content != nil || d.lacks() != lackContent {
			r.note(d, p.index.hash(e.text(d)))
		}
	}
	p.index.read(r, f)
	f.read = r
}

func (r *reading) note(d dim, hash uint64) {
	r.marks[d] = uint32(hash)
	r.known |= 1 << d
}

// read looks up all but the recipient and the tags.
func (x *index) read(r *reading, f *Facts) {
	r.index, r.part, r.sign, r.buckets = x, x.partitions.of(f), 0, r.buckets[:0]
	e := env{facts: f}
	for left := x.dims & early &^ ofRcpt; left != 0; left &= left - 1 {
		d := dim(bits.TrailingZeros32(left))
		text := e.text(d)
		r.note(d, x.hash(text))
		r.buckets = x.get(textKey(d, x.hash(text)), r.buckets)
		if d < domainDims && x.dots[d] != 0 {
			r.buckets = x.suffixes(d, text, r.buckets)
		}
	}
	if x.has(dimSender) {
		r.buckets = x.get(mailboxKey(dimSender, x.hash(f.Sender.Local), x.hash(f.Sender.Domain)), r.buckets)
	}
	if x.has(dimNet) {
		a := f.Client.Address.Unmap()
		for _, n := range x.networks.lengths(a) {
			r.buckets = x.get(networkKey(x.networks.seed, a, n), r.buckets)
		}
	}
	if f.Content != nil {
		r.buckets = x.readContent(f.Content, r.buckets)
	}
	if x.grid == nil {
		x.settle(r, f.Content == nil)
	}
}

// settle adds what no atom excludes, and leaves out what the partition excludes.
func (x *index) settle(r *reading, early bool) {
	kept := r.buckets[:0]
	for _, b := range r.buckets {
		head := &x.filed[b]
		r.sign |= head.sign
		if head.mask>>r.part&1 != 0 {
			kept = append(kept, b)
		}
	}
	r.buckets = append(kept, x.always[r.part])
	if early {
		r.sign |= x.lateSign
		r.buckets = append(r.buckets, x.late)
	}
}

// readContent appends the buckets that the content makes true, each once.
func (x *index) readContent(c *Content, out []int32) []int32 {
	from := len(out)
	out = x.lookUp(dimSPF, c.SPF, out)
	out = x.lookUp(dimDKIM, c.DKIM, out)
	out = x.lookUp(dimDMARC, c.DMARC, out)
	if len(x.headers) == 0 {
		return out
	}
	for i := range c.Headers {
		out = x.readHeader(&c.Headers[i], out)
	}
	slices.Sort(out[from:])
	return out[:from+len(slices.Compact(out[from:]))]
}

func (x *index) readHeader(f *HeaderField, out []int32) []int32 {
	n := x.table.get(textKey(dimHeader, x.hash(f.Name)))
	if n < 0 {
		return out
	}
	h := &x.headers[n]
	if h.present >= 0 {
		out = append(out, h.present)
	}
	if h.is {
		out = x.get(valueKey(n, x.hash(f.Value)), out)
	}
	if h.contains != nil {
		out = h.contains.scan(f.Value, out)
	}
	return out
}
