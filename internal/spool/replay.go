package spool

import (
	"runtime"
	"sync"
)

// What takes time at a start is the taking apart of records, and the index. The first
// is done by portions of a segment, by as many goroutines as there are processors; the
// second by one that takes the portions in their order, so that the outcome is the same
// as that of reading one record after the other. Where a record is not as it should be
// nothing behind it is taken: whoever looks for the next whole one goes on from there.

// portionSize is how many octets of records are taken apart at once.
const portionSize = 256 << 10

// portion is some records that follow on one another.
type portion struct {
	from, to int64 // in the segment
	records  []replayed
	bad      int64 // where a record is not as it should be, -1 where all are
	done     chan struct{}
}

// replayed is a record as the index needs it. Its memory is used again.
type replayed struct {
	decoded
	offset  int64
	length  int
	message Message // that decoded points to
}

// replayer is the memory of a recovery.
type replayer struct {
	workers int
	free    chan *portion
	texts   []texts // one for each worker
}

func newReplayer() *replayer {
	r := &replayer{workers: runtime.GOMAXPROCS(0)}
	r.texts = make([]texts, r.workers)
	r.free = make(chan *portion, 2*r.workers+1)
	for range cap(r.free) {
		r.free <- &portion{done: make(chan struct{}, 1)}
	}
	return r
}

// replay takes the records from the beginning of a segment on into the index, and gives
// the offset of the first that is not as it should be.
func (r *replayer) replay(s *Spool, b []byte, n uint32, rec *Recovery) int64 {
	jobs, order := make(chan *portion, cap(r.free)), make(chan *portion, cap(r.free))
	var wg sync.WaitGroup
	wg.Add(1 + r.workers)
	go func() { defer wg.Done(); r.part(b, n, jobs, order) }()
	now := s.o.Now().Unix()
	for i := range r.workers {
		go func() {
			defer wg.Done()
			for p := range jobs {
				p.decode(b, n, now, &r.texts[i])
				p.done <- struct{}{}
			}
		}()
	}
	end, sound := int64(0), true
	for p := range order {
		<-p.done
		if sound {
			end, sound = s.takeIn(p, n, rec), p.bad < 0
		}
		r.free <- p
	}
	wg.Wait()
	return end
}

// part gives out the portions of a segment, as the headers of the records say.
func (r *replayer) part(b []byte, n uint32, jobs, order chan<- *portion) {
	defer close(jobs)
	defer close(order)
	for from, offset, more := int64(0), int64(0), true; more; {
		h, ok := header{}, false
		if offset+headerSize <= int64(len(b)) {
			h, ok = readHeader(b[offset:])
		}
		more = ok && h.at == at(n, offset) && offset+headerSize+int64(h.length) <= int64(len(b))
		if more {
			offset += space(h.length)
		}
		if offset > from && (!more || offset-from >= portionSize) {
			p := <-r.free
			p.from, p.to = from, offset
			order <- p
			jobs <- p
			from = offset
		}
	}
}

// decode takes the records of a portion apart.
func (p *portion) decode(b []byte, n uint32, now int64, t *texts) {
	p.bad = -1
	count := 0
	for offset := p.from; offset < p.to; count++ {
		payload, ok := wholeRecord(b, n, offset)
		if count == len(p.records) {
			p.records = append(p.records, replayed{})
		}
		x := &p.records[count]
		if ok {
			x.offset, x.length = offset, len(payload)
			ok = (&dec{b: payload, skim: true, texts: t}).skimmed(x)
		}
		if !ok {
			p.bad = offset
			break
		}
		h, _ := readHeader(b[offset:])
		x.notBefore(int64(h.written) - now)
		offset += space(len(payload))
	}
	p.records = p.records[:count]
}

// takeIn takes a portion into the index and gives the offset behind it.
func (s *Spool) takeIn(p *portion, n uint32, rec *Recovery) int64 {
	for i := range p.records {
		x := &p.records[i]
		s.index(at(n, x.offset), x.length, x.kind, &x.Batch)
	}
	rec.Records += len(p.records)
	if p.bad >= 0 {
		return p.bad
	}
	return p.to
}

// skimmed reads what the index needs into x, in whose memory it was before; false where
// the payload is malformed.
func (d *dec) skimmed(x *replayed) bool {
	for range d.count() {
		d.blob()
	}
	x.Changes, x.Message, x.kind = x.Changes[:0], nil, bodyNone
	for range d.count() {
		x.Changes = append(x.Changes, decodeChange(d))
	}
	if d.bool() {
		x.Message = &x.message
		decodeMessage(d, x.Message)
		x.kind, x.crc, x.body = int(d.uint()), uint32(d.uint()), d.blob()
	}
	return !d.bad && len(d.b) == 0
}

// texts keeps one copy of what is read again and again: the texts of many messages are
// the same. Those that come seldom push each other out.
type texts [1024]string

// of gives a text.
func (t *texts) of(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	h := uint32(len(b))
	for _, c := range b[max(0, len(b)-24):] {
		h = h*31 + uint32(c)
	}
	p := &t[(h^h>>10)%uint32(len(t))]
	if *p != string(b) {
		*p = string(b)
	}
	return *p
}
