package policy

// walk is one way down the list of filters: all of them, or those that the index
// yields. It holds the scratch space of an evaluation, which is used again.
type walk struct {
	index   *index
	program *Program
	env     env
	plain   bool // every filter; no index
	part    int
	last    int32
	heap    []run
	seen    []int32 // buckets of the content, where it was not read before
	grid    gridWalk
}

// run is what is left of a bucket.
type run struct {
	head int32
	rest []int32
	mask uint64
}

// begin starts at the top of the list.
func (p *Program) begin(f *Facts, plain bool) *walk {
	w := p.index.walks.Get().(*walk)
	w.env = env{facts: f, rcpt: f.Rcpt, maybeTags: w.env.maybeTags[:0]}
	w.plain, w.last = plain, -1
	w.gather()
	return w
}

func (w *walk) end() {
	w.env = env{maybeTags: w.env.maybeTags[:0]}
	w.index.walks.Put(w)
}

// next gives the next filter to ask, past the last one; len(rules) is the end.
func (w *walk) next() int {
	switch {
	case w.plain:
		w.last++
		return int(w.last)
	case w.index.grid != nil:
		return w.nextInGrid()
	}
	for len(w.heap) > 0 {
		top := &w.heap[0]
		i := top.head
		w.advance(top)
		if i > w.last {
			w.last = i
			return int(i)
		}
	}
	return len(w.program.rules)
}

// changed is called where a filter has changed a fact that others read.
func (w *walk) changed() {
	if w.env.rcptUnknown {
		w.plain = true // any recipient is possible: the index has no say
	}
	w.gather()
}

// gather collects the buckets that can matter below the last filter.
func (w *walk) gather() {
	if w.plain {
		return
	}
	x := w.index
	w.part = x.partitions.of(w.env.facts)
	if x.grid != nil {
		w.grid.found = w.grid.found[:0]
		w.lookUp()
		w.startGrid(w.part)
		return
	}
	w.heap = w.heap[:0]
	w.push(x.always[w.part], ^uint64(0))
	if w.env.facts.Content == nil {
		w.push(x.late, 1<<w.part)
	}
	w.lookUp()
	for i := len(w.heap)/2 - 1; i >= 0; i-- {
		w.down(i)
	}
}

// lookUp pushes the buckets whose atoms are true.
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
	for i := x.networks.innermost(f.Client.Address.Unmap()); i >= 0; i = x.networks.nets[i].outer {
		w.hit(x.networks.nets[i].bucket)
	}
	for _, t := range e.tags {
		w.text(dimTag, t)
	}
	for _, t := range e.maybeTags {
		w.text(dimTag, t)
	}
	if f.Content == nil {
		return
	}
	for _, b := range w.content() {
		w.hit(b)
	}
}

func (w *walk) text(d dim, s string) {
	if m := w.index.exact[d]; m != nil {
		if b, ok := m[s]; ok {
			w.hit(b)
		}
	}
}

func (w *walk) mailbox(d dim, a Address) {
	if m := w.index.address[d]; m != nil {
		if b, ok := m[a]; ok {
			w.hit(b)
		}
	}
}

// domain looks up a domain, and those suffixes of it that begin with a dot and have
// as many dots as some suffix of the policy.
func (w *walk) domain(d dim, s string) {
	w.text(d, s)
	x := w.index
	if x.suffixes[d] == nil {
		return
	}
	dots := 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '.' {
			continue
		}
		if dots++; x.dots[d]>>min(dots, 63)&1 == 0 {
			continue
		}
		if b, ok := x.suffixes[d][s[i:]]; ok {
			w.hit(b)
		}
	}
}

// hit takes a bucket whose atom is true.
func (w *walk) hit(bucket int32) {
	if w.index.grid != nil {
		w.grid.found = append(w.grid.found, bucket)
		return
	}
	w.push(w.index.buckets[bucket], 1<<w.part)
}

// push adds a bucket, from the first filter below the last that is in the partition.
func (w *walk) push(bucket []int32, mask uint64) {
	r := run{rest: bucket, mask: mask}
	if w.step(&r) {
		w.heap = append(w.heap, r)
	}
}

// step moves a run to its next filter.
func (w *walk) step(r *run) bool {
	for k, i := range r.rest {
		if i > w.last && w.index.masks[i]&r.mask != 0 {
			r.head, r.rest = i, r.rest[k+1:]
			return true
		}
	}
	return false
}

// advance moves the first run on and restores the heap.
func (w *walk) advance(top *run) {
	if !w.step(top) {
		n := len(w.heap) - 1
		w.heap[0] = w.heap[n]
		w.heap = w.heap[:n]
	}
	w.down(0)
}

func (w *walk) down(i int) {
	h := w.heap
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].head < h[c].head {
			c++
		}
		if h[i].head <= h[c].head {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
