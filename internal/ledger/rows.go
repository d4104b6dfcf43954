package ledger

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// rows are the keys and values of some events. They go into the store in the order of
// their keys: most continue where the last of their key space ended, which the store
// finds at once then.
type rows struct {
	keys []byte // on end
	all  []row
}

type row struct {
	start, end int // of the key
	value      []byte
	gone       bool // the key is deleted
}

// put adds a row; its key is the letter of its space and the parts behind it.
func (r *rows) put(value []byte, space byte, parts ...[]byte) {
	start := len(r.keys)
	r.keys = append(r.keys, space)
	for _, p := range parts {
		r.keys = append(r.keys, p...)
	}
	r.all = append(r.all, row{start: start, end: len(r.keys), value: value})
}

// drop adds the deletion of a key.
func (r *rows) drop(space byte, parts ...[]byte) {
	r.put(nil, space, parts...)
	r.all[len(r.all)-1].gone = true
}

func (r *rows) key(i int) []byte { return r.keys[r.all[i].start:r.all[i].end] }

// into puts the rows into a batch; of those with one key the last one counts.
func (r *rows) into(b *pebble.Batch) error {
	slices.SortFunc(r.all, func(x, y row) int {
		if c := bytes.Compare(r.keys[x.start:x.end], r.keys[y.start:y.end]); c != 0 {
			return c
		}
		return cmp.Compare(x.start, y.start)
	})
	for i := range r.all {
		var err error
		if k := r.key(i); r.all[i].gone {
			err = b.Delete(k, nil)
		} else {
			err = b.Set(k, r.all[i].value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clear forgets the rows and keeps their memory, but for that of an uncommon lot.
func (r *rows) clear() {
	clear(r.all)
	r.keys, r.all = r.keys[:0], r.all[:0]
	if cap(r.keys) > 4<<20 {
		*r = rows{}
	}
}

// index puts one event under all its keys. What cannot be decoded is kept apart.
func (l *Ledger) index(r *rows, ev []byte) {
	e, err := Decode(ev)
	if err != nil {
		l.log.Error("event not understood", "err", err)
		sfx := suffix(l.now(), ev)
		r.put(ev, keyBad, sfx[:])
		return
	}
	r.event(e, ev)
}

// event adds the rows of an event.
func (r *rows) event(e Event, ev []byte) {
	room := suffix(e.When(), ev)
	sfx := room[:]
	switch e := e.(type) {
	case *Accepted:
		r.accepted(e, ev)
	case *HandedOff:
		r.put(ev, keyEvent, e.ID[:], sfx)
		k := handOffKey(e)
		r.put([]byte{originCode(e.Path.Origin)}, k[0], k[1:])
		r.path(&e.Path, Encode(e.counted()), sfx)
	case *Attempted:
		r.put(ev, keyEvent, e.ID[:], sfx)
	case *Bounced:
		r.put(ev, keyEvent, e.ID[:], sfx)
		r.path(&e.Path, ev, sfx)
	case *Held:
		r.put(ev, keyEvent, e.ID[:], sfx)
		r.path(&e.Path, ev, sfx)
	case *Released:
		r.put(ev, keyEvent, e.ID[:], sfx)
	case *Dropped:
		r.put(ev, keyEvent, e.ID[:], sfx)
	case *GuardTripped:
		r.put(ev, keyEvent, e.ID[:], sfx)
		r.path(&e.Path, ev, sfx)
	default:
		r.other(e, ev, sfx)
	}
}

func (r *rows) accepted(e *Accepted, ev []byte) {
	r.put(ev, keyEvent, e.ID[:])
	if e.MessageID != "" {
		h := hashed(e.MessageID)
		r.put(nil, keyMID, h[:], e.ID[:])
	}
	if e.Queue != "" {
		r.put(nil, keyQueue, hash8(e.Watch+"\x00"+e.Queue), e.ID[:])
	}
	for _, d := range e.DKIM {
		r.put(nil, keyDKIM, u64(d), e.ID[:])
	}
	for i := range e.Decisions {
		h := hashed(RecipientKey(e.Decisions[i].Recipient))
		r.put(nil, keyRcpt, h[:], e.ID[:])
	}
}

func (r *rows) path(p *Path, ev, sfx []byte) {
	h := p.hash()
	r.put(ev, keyPath, h[:], sfx)
}

// other adds the rows of what is not about one message, or comes seldom.
func (r *rows) other(e Event, ev, sfx []byte) {
	switch e := e.(type) {
	case *Reported:
		r.put(ev, keyReport, sfx)
		r.put(nil, keySeen, hash8(e.Identity))
		if !e.Subject.IsZero() {
			r.put(ev, keyAbout, e.Subject[:], sfx)
		}
		if !e.ID.IsZero() {
			r.put(ev, keyEvent, e.ID[:], sfx)
		}
	case *Watched:
		e.index(r)
	case *IncidentChanged:
		r.put(ev, keyIncident, []byte(e.Incident), []byte{0}, sfx)
	case *PolicyLoaded:
		r.put(ev, keyPolicy, sfx)
		r.put(ev, keyTime, sfx)
	case *Admin:
		r.put(ev, keyAdmin, sfx)
		r.put(ev, keyTime, sfx)
	case *ShapingChanged:
		r.put(ev, keyShaping, sfx)
		switch k := e.inForce(); e.State {
		case ShapingBegan:
			r.put(ev, k[0], k[1:])
		case ShapingUndone:
			r.drop(k[0], k[1:])
		}
	default:
		r.put(ev, keyTime, sfx)
	}
}

// hashed is hash8 without memory of its own.
func hashed(s string) (b [8]byte) { return order(xxhash.Sum64String(s)) }

// hash stands for a path in keys.
func (p Path) hash() [8]byte {
	var d xxhash.Digest
	d.Reset()
	for i, s := range [3]string{p.Listener, p.Filter, p.Origin} {
		if i > 0 {
			_, _ = d.WriteString("\x00")
		}
		_, _ = d.WriteString(s)
	}
	return order(d.Sum64())
}

func order(v uint64) (b [8]byte) {
	binary.BigEndian.PutUint64(b[:], v)
	return b
}
