package policy

import (
	"slices"

	"postern.dev/postern/internal/ahocorasick"
)

// reading is what a message's content means to one Program: it is the same for every
// recipient.
type reading struct {
	index   *index
	buckets []int32
}

// Read prepares a message for Eval, which is asked for each recipient: what the
// filters look for in its header fields is looked up once. It changes no decision.
// The Content must not be changed afterwards, and Read must not run beside an Eval of
// the same Content.
func (p *Program) Read(c *Content) {
	c.read = &reading{index: p.index, buckets: p.index.readContent(c, nil)}
}

// content gives the buckets whose atoms the content makes true.
func (w *walk) content() []int32 {
	c := w.env.facts.Content
	if c.read != nil && c.read.index == w.index {
		return c.read.buckets
	}
	w.seen = w.index.readContent(c, w.seen[:0])
	return w.seen
}

func (x *index) readContent(c *Content, out []int32) []int32 {
	for _, t := range [...]struct {
		d dim
		s string
	}{{dimSPF, c.SPF}, {dimDKIM, c.DKIM}, {dimDMARC, c.DMARC}} {
		if b, ok := x.exact[t.d][t.s]; ok {
			out = append(out, b)
		}
	}
	if len(x.headers) == 0 {
		return out
	}
	for i := range c.Headers {
		h := x.headers[c.Headers[i].Name]
		if h == nil {
			continue
		}
		if h.present >= 0 {
			out = append(out, h.present)
		}
		if b, ok := h.is[c.Headers[i].Value]; ok {
			out = append(out, b)
		}
		if h.contains != nil {
			out = ahocorasick.Scan(h.contains, c.Headers[i].Value, out)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
