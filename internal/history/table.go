package history

import (
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strings"
)

// under is a message under way: what is known of it and whom of its recipients has had
// a record.
type under struct {
	Message
	Done []uint64 `json:"d,omitempty"` // hashes of recipients

	shared *Message // what records point to; nil after a change
	saved  bool     // a checkpoint has it
	dirty  bool
}

// table holds the messages under way, by queue id. It has two halves: when the newer
// one is full, what nobody asked for since stands in the older one and is forgotten.
// So its size is bounded however many messages never end.
type table struct {
	most       int
	newer      map[string]*under
	older      map[string]*under
	byID       map[string]*under // by Message-ID, for what comes back from a filter
	dirty      map[string]*under // changed since the last checkpoint; nil: ended
	forgotten  int64
	persistent bool // somebody takes checkpoints
}

func newTable(most int) table {
	return table{most: most, newer: map[string]*under{}, older: map[string]*under{}, byID: map[string]*under{}, dirty: map[string]*under{}}
}

// get finds a message.
func (t *table) get(queue []byte) *under {
	if u := t.newer[string(queue)]; u != nil {
		return u
	}
	u := t.older[string(queue)]
	if u != nil {
		delete(t.older, u.Queue)
		t.put(u)
	}
	return u
}

// begin finds a message, or makes one.
func (t *table) begin(queue []byte) *under {
	u := t.get(queue)
	if u == nil {
		u = &under{}
		u.Queue = string(queue)
		t.put(u)
	}
	return u
}

func (t *table) put(u *under) {
	if len(t.newer) >= t.most/2+1 {
		for q, old := range t.older {
			t.forgotten++
			t.drop(q, old)
		}
		t.older, t.newer = t.newer, map[string]*under{}
	}
	t.newer[u.Queue] = u
}

// changed notes that a checkpoint must have a message anew, and that records to come
// need a copy of their own.
func (t *table) changed(u *under) {
	u.shared = nil
	t.note(u)
}

func (t *table) note(u *under) {
	if t.persistent && !u.dirty {
		u.dirty = true
		t.dirty[u.Queue] = u
	}
}

// end forgets a message that is done with.
func (t *table) end(u *under) {
	if u == nil {
		return
	}
	delete(t.newer, u.Queue)
	delete(t.older, u.Queue)
	t.drop(u.Queue, u)
}

func (t *table) drop(queue string, u *under) {
	if u.MessageID != "" && t.byID[u.MessageID] == u {
		delete(t.byID, u.MessageID)
	}
	if !t.persistent {
		return
	}
	if u.saved {
		t.dirty[queue] = nil
	} else {
		delete(t.dirty, queue)
	}
	u.dirty = false
}

// named notes the Message-ID of a message.
func (t *table) named(u *under, id string) {
	if u.MessageID == id || id == "" {
		return
	}
	u.MessageID = id
	t.changed(u)
	if len(t.byID) > t.most {
		t.byID = map[string]*under{}
	}
	if first := t.byID[id]; first == nil || first.Loopback {
		t.byID[id] = u
	}
}

// message gives what records point to.
func (u *under) message() *Message {
	if u.shared == nil {
		m := u.Message
		u.shared = &m
	}
	return u.shared
}

// first tells whether a recipient has had no record before, and notes that it has one
// now.
func (t *table) first(u *under, recipient string) bool {
	h := hash(strings.ToLower(recipient))
	if slices.Contains(u.Done, h) {
		return false
	}
	u.Done = append(u.Done, h)
	t.note(u)
	return true
}

// hash is FNV-1a: it stands in checkpoints, so it must never change.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// Change is one message under way as a checkpoint keeps it; an empty State tells that
// it is over.
type Change struct {
	Queue string
	State []byte
}

// Checkpoint gives what has changed of the messages under way since the last call, in
// the order of their ids: the first call gives all. Who never calls it pays nothing.
func (p *Parser) Checkpoint() []Change {
	t := &p.open
	if !t.persistent {
		t.persistent = true
		for _, half := range []map[string]*under{t.older, t.newer} {
			for _, u := range half {
				t.note(u)
			}
		}
	}
	var out []Change
	for q, u := range t.dirty {
		c := Change{Queue: q}
		if u != nil {
			c.State, _ = json.Marshal(u) // strings, numbers, times: it cannot fail
			u.saved, u.dirty = true, false
		}
		out = append(out, c)
	}
	clear(t.dirty)
	sort.Slice(out, func(i, j int) bool { return out[i].Queue < out[j].Queue })
	return out
}

// Restore takes up messages under way from a checkpoint. What is no state of this
// version is passed over: its message becomes an orphan.
func (p *Parser) Restore(states map[string][]byte) {
	p.open.persistent = true
	for _, q := range slices.Sorted(maps.Keys(states)) {
		var u under
		if json.Unmarshal(states[q], &u) != nil {
			continue
		}
		u.Queue, u.saved = q, true
		p.open.put(&u)
		if u.MessageID != "" && !u.Loopback {
			p.open.byID[u.MessageID] = &u
		}
	}
}

// Open is how many messages are under way.
func (p *Parser) Open() int { return len(p.open.newer) + len(p.open.older) }

// record puts a record out for a recipient of a message under way.
func (p *Parser) record(u *under, r Record) {
	r.First = p.open.first(u, r.Recipient)
	r.Message = u.message()
	p.out = append(p.out, r)
}

// extra puts the value of a wanted field into a message, unless it has one.
func (p *Parser) extra(u *under, name string, value []byte) {
	for i, f := range p.o.Fields {
		if f != name || len(value) == 0 {
			continue
		}
		if u.Extra == nil {
			u.Extra = make([]string, len(p.o.Fields))
		}
		if u.Extra[i] == "" {
			u.Extra[i] = string(value)
			p.open.changed(u)
		}
	}
}
