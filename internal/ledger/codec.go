package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"postern.dev/postern/internal/smtp"
)

// The stored form of an event: a kind, then fields in rising order of their numbers,
// each as number, length, octets; fields of zero value are left out. A reader skips
// numbers that it does not know, so fields can be added.

// codec writes or reads fields. One list of fields in an event's walk method serves
// both directions.
type codec struct {
	writing bool
	b       []byte // what was written, or what is left to read
	text    string // all that is read: texts are parts of it
	sub     []byte // memory for what is written within a field
	bad     bool
}

// begin writes the number and the length of a field.
func (c *codec) begin(n, length int) {
	c.b = binary.AppendUvarint(c.b, uint64(n))
	c.b = binary.AppendUvarint(c.b, uint64(length))
}

// put writes one field.
func (c *codec) put(n int, p []byte) {
	c.begin(n, len(p))
	c.b = append(c.b, p...)
}

// puts writes a field of text.
func (c *codec) puts(n int, s string) {
	c.begin(n, len(s))
	c.b = append(c.b, s...)
}

// string gives a field that take gave as text. It stands right before what is left.
func (c *codec) string(p []byte) string {
	end := len(c.text) - len(c.b)
	return c.text[end-len(p) : end]
}

// take reads field n if it is the next one, passing over numbers below it.
func (c *codec) take(n int) ([]byte, bool) {
	for len(c.b) > 0 && !c.bad {
		num, used := binary.Uvarint(c.b)
		if used <= 0 {
			c.bad = true
			return nil, false
		}
		if num > uint64(n) {
			return nil, false
		}
		length, used2 := binary.Uvarint(c.b[used:])
		start := used + used2
		if used2 <= 0 || length > uint64(len(c.b)-start) {
			c.bad = true
			return nil, false
		}
		p := c.b[start : start+int(length)]
		c.b = c.b[start+int(length):]
		if num == uint64(n) {
			return p, true
		}
	}
	return nil, false
}

func (c *codec) str(n int, s *string) {
	if c.writing {
		if *s != "" {
			c.puts(n, *s)
		}
		return
	}
	if p, ok := c.take(n); ok {
		*s = c.string(p)
	}
}

func (c *codec) strs(n int, list *[]string) {
	if c.writing {
		for i := range *list {
			c.puts(n, (*list)[i])
		}
		return
	}
	for p, ok := c.take(n); ok; p, ok = c.take(n) {
		*list = append(*list, c.string(p))
	}
}

func (c *codec) u64(n int, v *uint64) {
	if c.writing {
		if *v != 0 {
			var room [binary.MaxVarintLen64]byte
			c.put(n, binary.AppendUvarint(room[:0], *v))
		}
		return
	}
	if p, ok := c.take(n); ok {
		var used int
		if *v, used = binary.Uvarint(p); used <= 0 {
			c.bad = true
		}
	}
}

func (c *codec) u64s(n int, list *[]uint64) {
	if c.writing {
		for i := range *list {
			var room [8]byte
			c.put(n, binary.BigEndian.AppendUint64(room[:0], (*list)[i]))
		}
		return
	}
	for p, ok := c.take(n); ok; p, ok = c.take(n) {
		if len(p) != 8 {
			c.bad = true
			return
		}
		*list = append(*list, binary.BigEndian.Uint64(p))
	}
}

func (c *codec) int(n int, v *int) {
	var u uint64 // of -1, which means none and is left out
	if c.writing {
		u = uint64(*v + 1)
	}
	c.u64(n, &u)
	if !c.writing {
		*v = int(u) - 1
	}
}

func (c *codec) int64(n int, v *int64) {
	u := uint64(*v)
	c.u64(n, &u)
	*v = int64(u)
}

func (c *codec) bool(n int, v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	c.u64(n, &u)
	*v = u == 1
}

func (c *codec) float(n int, v *float64) {
	u := math.Float64bits(*v)
	c.u64(n, &u)
	*v = math.Float64frombits(u)
}

// time keeps microseconds, in UTC; the zero time is left out.
func (c *codec) time(n int, t *time.Time) {
	var u uint64
	if !t.IsZero() {
		u = uint64(t.UnixMicro())
	}
	c.u64(n, &u)
	if !c.writing {
		*t = time.Time{}
		if u != 0 {
			*t = time.UnixMicro(int64(u)).UTC()
		}
	}
}

func (c *codec) id(n int, id *smtp.ID) {
	if c.writing {
		if !id.IsZero() {
			c.put(n, id[:])
		}
		return
	}
	if p, ok := c.take(n); ok {
		c.bad = c.bad || len(p) != len(id)
		copy(id[:], p)
	}
}

// appendAddr puts the octets of an address behind b: 4 or 16.
func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(b, v[:]...)
}

func (c *codec) addr(n int, a *netip.Addr) {
	if c.writing {
		if a.IsValid() {
			var room [16]byte
			c.put(n, appendAddr(room[:0], *a))
		}
		return
	}
	if p, ok := c.take(n); ok {
		if *a, ok = netip.AddrFromSlice(p); !ok {
			c.bad = true
		}
	}
}

func (c *codec) addrPort(n int, a *netip.AddrPort) {
	if c.writing {
		if a.IsValid() {
			var room [18]byte
			c.put(n, binary.BigEndian.AppendUint16(appendAddr(room[:0], a.Addr()), a.Port()))
		}
		return
	}
	p, ok := c.take(n)
	if !ok {
		return
	}
	if len(p) < 2 {
		c.bad = true
		return
	}
	ip, ok := netip.AddrFromSlice(p[:len(p)-2])
	c.bad = c.bad || !ok
	*a = netip.AddrPortFrom(ip, binary.BigEndian.Uint16(p[len(p)-2:]))
}

func (c *codec) path(n int, p *Path) {
	c.str(n, &p.Listener)
	c.str(n+1, &p.Filter)
	c.str(n+2, &p.Origin)
}

// list writes or reads repeated groups of fields.
func list[T any](c *codec, n int, items *[]T, walk func(*codec, *T)) {
	if c.writing {
		for i := range *items {
			sub := codec{writing: true, b: c.sub[:0]}
			walk(&sub, &(*items)[i])
			c.put(n, sub.b)
			c.sub = sub.b
		}
		return
	}
	for p, ok := c.take(n); ok; p, ok = c.take(n) {
		sub := codec{b: p, text: c.string(p)}
		var item T
		walk(&sub, &item)
		c.bad = c.bad || sub.bad
		*items = append(*items, item)
	}
}

// walker is what every event implements to be stored.
type walker interface {
	Event
	walk(*codec)
}

// writers lends memory to events that are being written.
var writers = sync.Pool{New: func() any { return &codec{writing: true} }}

// Encode gives the stored form of an event.
func Encode(e Event) []byte {
	c := writers.Get().(*codec)
	defer writers.Put(c)
	c.b = append(c.b[:0], byte(e.Kind()))
	e.(walker).walk(c)
	return append(make([]byte, 0, len(c.b)), c.b...)
}

var errMalformed = errors.New("malformed event")

// Decode reads what Encode wrote.
func Decode(b []byte) (Event, error) {
	if len(b) == 0 {
		return nil, errMalformed
	}
	e := newEvent(Kind(b[0]))
	if e == nil {
		return nil, fmt.Errorf("event of unknown kind %d", b[0])
	}
	c := codec{b: b[1:], text: string(b[1:])}
	e.walk(&c)
	if c.bad {
		return nil, errMalformed
	}
	return e, nil
}
