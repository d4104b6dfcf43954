package ledger

import (
	"context"
	"fmt"
	"time"

	"postern.dev/postern/internal/smtp"
)

type (
	// Watched: lines of another server's log were read. It is committed in one record with
	// the events that they made, so that the place in the file and the rows stand or fall
	// together.
	Watched struct {
		Time    time.Time     `json:"time"`
		Watch   string        `json:"watch"`
		File    string        `json:"file,omitzero"`   // its path when it was read
		Device  uint64        `json:"device,omitzero"` // with Inode, what tells the file from others
		Inode   uint64        `json:"inode,omitzero"`
		Offset  int64         `json:"offset"`           // everything before has been read
		Print   uint64        `json:"print,omitzero"`   // of the file's first Printed octets
		Printed int64         `json:"printed,omitzero"` // how many those are
		Head    string        `json:"head,omitzero"`    // the header line that goes for what follows
		Lines   int64         `json:"lines"`
		Rows    int64         `json:"rows"`
		Bad     int64         `json:"unreadable,omitzero"`
		Open    []WatchedOpen `json:"-"` // messages under way that have changed
		Closed  []string      `json:"-"` // those that are over
	}
	// WatchedOpen is what is known of a message that is under way at another server.
	WatchedOpen struct {
		Queue string
		State []byte
	}
)

// Kind implements Event.
func (*Watched) Kind() Kind { return KindWatched }

// When implements Event.
func (e *Watched) When() time.Time { return e.Time }

func (e *Watched) walk(c *codec) {
	c.time(1, &e.Time)
	c.str(2, &e.Watch)
	c.str(3, &e.File)
	c.u64(4, &e.Device)
	c.u64(5, &e.Inode)
	c.int64(6, &e.Offset)
	c.u64(7, &e.Print)
	c.int64(8, &e.Printed)
	c.str(9, &e.Head)
	c.int64(10, &e.Lines)
	c.int64(11, &e.Rows)
	c.int64(12, &e.Bad)
	list(c, 13, &e.Open, func(c *codec, o *WatchedOpen) {
		c.str(1, &o.Queue)
		s := string(o.State)
		c.str(2, &s)
		o.State = []byte(s)
	})
	c.strs(14, &e.Closed)
}

// index keeps the latest place of each file, and the messages under way.
func (e *Watched) index(r *rows) {
	w := hash8(e.Watch)
	for i := range e.Open {
		r.put(e.Open[i].State, keyWatch, w, []byte{'o'}, []byte(e.Open[i].Queue))
	}
	for _, q := range e.Closed {
		r.drop(keyWatch, w, []byte{'o'}, []byte(q))
	}
	place := *e
	place.Open, place.Closed = nil, nil
	r.put(Encode(&place), keyWatch, w, []byte{'f'}, u64(e.Device), u64(e.Inode))
}

// WatchState gives where a watch has got to in each file, and its messages under way.
func (l *Ledger) WatchState(ctx context.Context, watch string) (files []Watched, open map[string][]byte, err error) {
	prefix := key(keyWatch, hash8(watch))
	open = map[string][]byte{}
	err = l.scan(ctx, append(prefix, 'f'), nil, nil, func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if w, ok := e.(*Watched); ok {
			files = append(files, *w)
		}
		return true, err
	})
	if err == nil {
		err = l.scan(ctx, append(key(keyWatch, hash8(watch)), 'o'), nil, nil, func(k, v []byte) (bool, error) {
			open[string(k[len(prefix)+1:])] = append([]byte(nil), v...)
			return true, nil
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look up watch %q: %w", watch, err)
	}
	return files, open, nil
}

// ByQueue gives the messages that a watched server had under an id of its own: one for
// each recipient.
func (l *Ledger) ByQueue(ctx context.Context, watch, queue string) ([]smtp.ID, error) {
	ids, err := l.ids(ctx, key(keyQueue, hash8(watch+"\x00"+queue)))
	if err != nil {
		return nil, fmt.Errorf("look up queue id: %w", err)
	}
	return ids, nil
}
