package policy

import "slices"

// reading is what a message's content means to one Program: it is the same for every
// recipient.
type reading struct {
	index   *index
	buckets []int32
	fields  []fieldMark // of each header field
}

// fieldMark is the hashes of a header field, by which tests tell most fields apart.
type fieldMark struct{ name, value uint32 }

// Read prepares a message for Eval, which is asked for each recipient: what the
// filters look for in its header fields is looked up once. It changes no decision.
// The Content must not be changed afterwards, and Read must not run beside an Eval of
// the same Content.
func (p *Program) Read(c *Content) {
	r := &reading{index: p.index, fields: make([]fieldMark, len(c.Headers))}
	for i := range c.Headers {
		h := &c.Headers[i]
		r.fields[i] = fieldMark{name: uint32(p.index.hash(h.Name)), value: uint32(p.index.hash(h.Value))}
	}
	r.buckets = p.index.readContent(c, nil)
	c.read = r
}

// content gives the buckets whose atoms the content makes true.
func (w *walk) content() []int32 {
	if w.env.reading != nil {
		return w.env.reading.buckets
	}
	w.seen = w.index.readContent(w.env.facts.Content, w.seen[:0])
	return w.seen
}

// readContent appends the buckets that the content makes true, each once.
func (x *index) readContent(c *Content, out []int32) []int32 {
	out = x.readText(dimSPF, c.SPF, out)
	out = x.readText(dimDKIM, c.DKIM, out)
	out = x.readText(dimDMARC, c.DMARC, out)
	if len(x.headers) == 0 {
		return out
	}
	for i := range c.Headers {
		out = x.readHeader(&c.Headers[i], out)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (x *index) readText(d dim, s string, out []int32) []int32 {
	if x.has(d) {
		if b := x.table.get(textKey(d, x.hash(s))); b >= 0 {
			out = append(out, b)
		}
	}
	return out
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
		if b := x.table.get(valueKey(n, x.hash(f.Value))); b >= 0 {
			out = append(out, b)
		}
	}
	if h.contains != nil {
		out = h.contains.scan(f.Value, out)
	}
	return out
}
