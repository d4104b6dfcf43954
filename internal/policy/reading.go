package policy

import (
	"math/bits"
	"slices"

	"postern.dev/postern/internal/ahocorasick"
)

// reading is what facts mean to one Program whoever the recipient is. What every Eval
// reads of it stands first.
type reading struct {
	index   *index
	content *Content
	pool    string  // of the customer
	ready   []entry // of short buckets: the filters that can still apply, in order
	sign    uint32
	part    uint8
	barred  bool     // the sender is not the customer's
	few     [4]entry // where ready begins
	buckets []int32  // the long ones; all of them in a grid
	fields  []fieldMark
	marks   [sources]uint32
	known   uint32 // bit d: marks[d] is there
}

// fieldMark is the hashes of a header field that some test reads.
type fieldMark struct {
	name, value uint32
	at          int32 // in Content.Headers
}

// Read prepares facts for Eval, which is asked for each recipient: what the filters
// look for in the session, the envelope and the header fields is looked up once. Copies
// of f that differ in Rcpt alone are prepared too. Nothing else of them may be changed
// afterwards, nor may the Content. It changes no decision.
func (p *Program) Read(f *Facts) {
	r := &reading{content: f.Content}
	r.pool, r.barred = p.customer(f)
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
	r.index, r.part, r.sign, r.buckets, r.fields = x, uint8(x.partitions.of(f)), 0, r.buckets[:0], r.fields[:0]
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
		x.readContent(r, f.Content)
	}
	if x.grid == nil {
		x.settle(r, f.Content == nil)
	}
}

// A bucket is short with so many filters, if not more than so many are ready.
const (
	shortBucket = 16
	mostReady   = 64
)

// settle adds what no atom excludes, leaves out what partition and sign exclude, and
// makes one list of the short buckets.
func (x *index) settle(r *reading, early bool) {
	r.buckets = append(r.buckets, x.always[r.part])
	if early {
		r.sign |= x.lateSign
		r.buckets = append(r.buckets, x.late)
	}
	for _, b := range r.buckets {
		r.sign |= x.filed[b].sign
	}
	long, lacking := r.buckets[:0], ^(r.sign | x.openSign)
	r.ready = r.few[:0]
	for _, b := range r.buckets {
		switch head := &x.filed[b]; {
		case head.mask>>r.part&1 == 0:
		case head.filter > shortBucket || len(r.ready) > mostReady:
			long = append(long, b)
		default:
			for _, e := range x.bucket(b) {
				if e.mask>>r.part&1 != 0 && e.sign&lacking == 0 {
					r.ready = append(r.ready, e)
				}
			}
		}
	}
	r.buckets = long
	slices.SortFunc(r.ready, func(a, b entry) int { return int(a.filter) - int(b.filter) })
}

// bucket gives the filters of a bucket.
func (x *index) bucket(b int32) []entry { return x.filed[b+1 : b+1+x.filed[b].filter] }

// readContent looks up what depends on the content. A bucket that is found twice
// counts once.
func (x *index) readContent(r *reading, c *Content) {
	from := len(r.buckets)
	r.buckets = x.lookUp(dimSPF, c.SPF, r.buckets)
	r.buckets = x.lookUp(dimDKIM, c.DKIM, r.buckets)
	r.buckets = x.lookUp(dimDMARC, c.DMARC, r.buckets)
	if len(x.headers) == 0 {
		return
	}
	for i := range c.Headers {
		x.readHeader(r, &c.Headers[i], int32(i))
	}
	found := r.buckets[from:]
	slices.Sort(found)
	r.buckets = r.buckets[:from+len(slices.Compact(found))]
}

// readHeader looks up one header field, if any filter asks for its like.
func (x *index) readHeader(r *reading, f *HeaderField, at int32) {
	name := x.hash(f.Name)
	n := x.byName.get(name)
	if n < 0 {
		return
	}
	h := &x.headers[n]
	if h.present >= 0 {
		r.buckets = append(r.buckets, h.present)
	}
	if h.tested {
		value := x.hash(f.Value)
		r.fields = append(r.fields, fieldMark{name: uint32(name), value: uint32(value), at: at})
		r.buckets = x.get(valueKey(n, value), r.buckets)
	}
	if h.contains != nil {
		r.buckets = ahocorasick.Scan(h.contains, f.Value, r.buckets)
	}
}
