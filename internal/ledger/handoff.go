package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

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
	var out []HandOff
	first, _ := slotOf(q.From)
	last, _ := slotOf(q.To)
	start := handOffStart(q.Source, q.Domain)
	for slot := first; slot <= last && slot-first < maxSlots && len(out) < q.Limit; slot++ {
		prefixes := [][]byte{binary.BigEndian.AppendUint32(start[:handOffPrefix:handOffPrefix], slot)}
		if len(q.Subjects) > 0 {
			prefixes = bySubject(prefixes[0], q.Subjects)
		}
		for _, p := range prefixes {
			if err := l.handOffs(ctx, p, &q, &out); err != nil {
				return nil, fmt.Errorf("look up hand-offs of %s: %w", q.Source, err)
			}
		}
	}
	return out, nil
}

func bySubject(slot []byte, subjects []uint64) (out [][]byte) {
	for _, s := range subjects {
		out = append(out, binary.BigEndian.AppendUint32(slot[:len(slot):len(slot)], uint32(s>>32)))
	}
	return out
}

func (l *Ledger) handOffs(ctx context.Context, prefix []byte, q *HandOffQuery, out *[]HandOff) error {
	return l.scan(ctx, prefix, nil, nil, func(k, v []byte) (bool, error) {
		if h := readHandOff(k, v); len(*out) < q.Limit && !h.Time.Before(q.From) && h.Time.Before(q.To) {
			*out = append(*out, h)
		}
		return len(*out) < q.Limit, nil
	})
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
