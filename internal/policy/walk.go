package policy

// walk is one way down the list of filters: all of them, or those that the index
// yields. It holds the scratch space of an evaluation, which is used again.
type walk struct {
	index   *index
	program *Program
	env     env
	plain   bool // every filter; no index
	last    int32
	part    uint8
	sign    uint32  // of the message: the bits of its atoms
	found   []int32 // buckets
	heap    []run
	own     reading // of facts that were not read before
	grid    gridWalk
	pool    string // of the customer
	barred  bool   // the sender is not the customer's
}

// run is what is left of a bucket.
type run struct {
	head int32 // filter
	rest []entry
}

// begin makes ready for a transaction. The walk itself starts with gather.
func (p *Program) begin(f *Facts, plain bool) *walk {
	w := p.index.walks.Get().(*walk)
	w.env.reset(f, p)
	w.plain, w.last = plain, -1
	if !plain && f.read != nil && f.read.index == p.index && f.read.content == f.Content {
		w.env.reading, w.pool, w.barred = f.read, f.read.pool, f.read.barred
	} else {
		w.pool, w.barred = p.customer(f)
	}
	return w
}

func (w *walk) end() {
	w.env.facts, w.env.rcpt, w.env.tags, w.env.reading = nil, Address{}, nil, nil // let go
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
		i := w.heap[0].head
		w.advance()
		if i > w.last {
			w.last = i
			return int(i)
		}
	}
	return len(w.program.rules)
}

// changed is called where a filter has changed a fact that others read.
func (w *walk) changed() {
	if w.env.lacks&lackRcpt != 0 {
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
	if w.env.reading == nil {
		w.own.known = 0
		x.read(&w.own, w.env.facts)
		w.env.reading = &w.own
	}
	r := w.env.reading
	w.part, w.sign = r.part, r.sign
	w.lookUp()
	if x.grid != nil {
		w.startGrid()
		return
	}
	for _, b := range w.found {
		w.sign |= x.filed[b].sign
	}
	w.heap = w.heap[:0]
	w.push(r.ready)
	for _, b := range r.buckets {
		w.push(x.bucket(b))
	}
	for _, b := range w.found {
		w.push(x.bucket(b))
	}
	for i := len(w.heap)/2 - 1; i >= 0; i-- {
		w.down(i)
	}
}

// push adds a run, from the first filter below the last that can apply.
func (w *walk) push(filters []entry) {
	if i := w.first(filters); i < len(filters) {
		w.heap = append(w.heap, run{head: filters[i].filter, rest: filters[i+1:]})
	}
}

// first tells where the first filter is that can apply.
func (w *walk) first(filters []entry) int {
	for i := range filters {
		if e := &filters[i]; e.sign&^w.sign == 0 && e.mask>>w.part&1 != 0 && e.filter > w.last {
			return i
		}
	}
	return len(filters)
}

// advance moves the first run on and restores the heap.
func (w *walk) advance() {
	top := &w.heap[0]
	if i := w.first(top.rest); i < len(top.rest) {
		top.head, top.rest = top.rest[i].filter, top.rest[i+1:]
	} else {
		n := len(w.heap) - 1
		*top = w.heap[n]
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
