package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"postern.dev/postern/internal/smtp"
)

// handOffSlot is the piece of time in which the hand-offs of a source to a domain stand
// together by subject, so that one subject among very many takes one seek.
const handOffSlot = 15 * time.Minute

// Lengths of a hand-off's key: what stands before the slot, and the whole.
const (
	handOffPrefix = 1 + 16 + 8
	handOffSize   = handOffPrefix + 4 + 4 + 4 + smtp.IDSize + 2
)

// handOffKey is the source address, the hash of the domain, the slot, the upper half of
// the subject's hash (0 where the subject is not known), the microseconds within the
// slot, the message and the recipient's index.
func handOffKey(e *HandedOff) []byte {
	slot, rest := slotOf(e.Time)
	k := handOffStart(e.Source, e.Domain)
	k = binary.BigEndian.AppendUint32(k, slot)
	k = binary.BigEndian.AppendUint32(k, uint32(e.Subject>>32))
	k = binary.BigEndian.AppendUint32(k, rest)
	k = append(k, e.ID[:]...)
	return binary.BigEndian.AppendUint16(k, uint16(e.Recipient))
}

func handOffStart(source netip.Addr, domain string) []byte {
	src := source.As16()
	k := append(make([]byte, 0, handOffSize), keyHandOff)
	k = append(k, src[:]...)
	return append(k, hash8(strings.ToLower(domain))...)
}

func slotOf(t time.Time) (slot, rest uint32) {
	us := t.UnixMicro()
	return uint32(us / handOffSlot.Microseconds()), uint32(us % handOffSlot.Microseconds())
}

// counted is what an impact needs of a hand-off; the address as a hash.
func (e *HandedOff) counted() *HandedOff {
	return &HandedOff{Time: e.Time, ID: e.ID, Recipient: e.Recipient, Address: string(hash8(RecipientKey(e.Address))), Domain: e.Domain, Path: e.Path, Source: e.Source}
}

// origins are policy's origins by their number in the index. Append only.
var origins = [...]string{"", "customer", "inside", "stranger", "self"}

func originCode(origin string) byte {
	for i, o := range origins {
		if o == origin {
			return byte(i)
		}
	}
	return 0
}

// HandOff is a hand-off as the index has it.
type HandOff struct {
	ID        smtp.ID
	Recipient int
	Time      time.Time
	Origin    string // "" where it is none that the index knows
	Subject   uint32 // upper half of SubjectHash; 0 where the subject was not known
}

// HandOffQuery chooses hand-offs by what a report shows of them.
type HandOffQuery struct {
	Source   netip.Addr
	Domain   string
	From, To time.Time // a day apart at most
	Subjects []uint64  // SubjectHash of any of these; 0 is an unknown one. All where empty
	Limit    int       // 100 where zero
}

// maxSlots bounds the time that one query covers.
const maxSlots = 100

// HandOffs gives the hand-offs from a source address to a recipient domain in a time,
// those of one subject in order.
func (l *Ledger) HandOffs(ctx context.Context, q HandOffQuery) ([]HandOff, error) {
	if q.Limit == 0 {
		q.Limit = 100
	}
	start := handOffStart(q.Source, q.Domain)
	it, err := l.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: start, UpperBound: after(start)})
	if err != nil {
		return nil, fmt.Errorf("look up hand-offs of %s: %w", q.Source, err)
	}
	out := q.walk(it, start)
	if err := errors.Join(ctx.Err(), it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("look up hand-offs of %s: %w", q.Source, err)
	}
	return out, nil
}

// walk goes over the places where wanted hand-offs may stand, in the order of their keys.
// What a seek finds tells which of the next places are empty.
func (q *HandOffQuery) walk(it *pebble.Iterator, start []byte) (out []HandOff) {
	places := q.places(start)
	for n := 0; n < len(places) && len(out) < q.Limit; {
		ok := it.SeekGE(places[n])
		for ; ok && bytes.HasPrefix(it.Key(), places[n]) && len(out) < q.Limit; ok = it.Next() {
			if h := readHandOff(it.Key(), it.Value()); !h.Time.Before(q.From) && h.Time.Before(q.To) {
				out = append(out, h)
			}
		}
		if !ok {
			break
		}
		here := it.Key()
		for n++; n < len(places) && bytes.Compare(places[n], here[:min(len(here), len(places[n]))]) < 0; n++ {
		}
	}
	return out
}

// places lists the beginnings of the keys that are wanted, in order.
func (q *HandOffQuery) places(start []byte) (out [][]byte) {
	halves := make([]uint32, 0, len(q.Subjects))
	for _, s := range q.Subjects {
		halves = append(halves, uint32(s>>32))
	}
	slices.Sort(halves)
	halves = slices.Compact(halves)
	first, _ := slotOf(q.From)
	last, _ := slotOf(q.To)
	for slot := first; slot <= last && slot-first < maxSlots; slot++ {
		p := binary.BigEndian.AppendUint32(start[:handOffPrefix:handOffPrefix], slot)
		if len(halves) == 0 {
			out = append(out, p)
		}
		for _, h := range halves {
			out = append(out, binary.BigEndian.AppendUint32(p[:len(p):len(p)], h))
		}
	}
	return out
}

func readHandOff(k, v []byte) (h HandOff) {
	if len(k) != handOffSize {
		return h
	}
	k = k[handOffPrefix:]
	us := int64(binary.BigEndian.Uint32(k))*handOffSlot.Microseconds() + int64(binary.BigEndian.Uint32(k[8:]))
	h.Time, h.Subject, h.ID = time.UnixMicro(us).UTC(), binary.BigEndian.Uint32(k[4:]), idAt(k, 12)
	h.Recipient = int(binary.BigEndian.Uint16(k[12+smtp.IDSize:]))
	if len(v) == 1 && int(v[0]) < len(origins) {
		h.Origin = origins[v[0]]
	}
	return h
}
