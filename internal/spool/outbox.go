package spool

import (
	"cmp"
	"slices"
)

// maxOutbox bounds the events in memory. A follower that is further behind reads them
// from the log.
const maxOutbox = 4 << 20

// outbox keeps the newest events in memory, so that a follower who keeps up need not
// read them back. Its records follow on one another without a gap.
type outbox struct {
	records []posted
	size    int
}

// posted is the events of one record, where it stands, and where the next one does.
type posted struct {
	at, next Position
	events   [][]byte
}

// add puts the events of a new record behind the others.
func (o *outbox) add(p, next Position, events [][]byte) {
	o.records = append(o.records, posted{p, next, events})
	for _, e := range events {
		o.size += len(e)
	}
	if o.size > maxOutbox {
		o.drop(len(o.records) / 2)
	}
}

// drop forgets the n oldest records.
func (o *outbox) drop(n int) {
	for i := range o.records[:n] {
		for _, e := range o.records[i].events {
			o.size -= len(e)
		}
	}
	o.records = slices.Delete(o.records, 0, n)
}

// from gives the events of whole records from position p on, about most of them, and
// the position behind them. Records stay for other followers until newer ones push
// them out.
func (o *outbox) from(p Position, most int) (events [][]byte, next Position) {
	i, _ := slices.BinarySearchFunc(o.records, p, func(r posted, p Position) int { return cmp.Compare(r.at, p) })
	known := i < len(o.records) && (o.records[i].at == p || (i > 0 && o.records[i-1].next == p))
	if !known {
		return nil, p
	}
	for ; i < len(o.records) && len(events) < most; i++ {
		events = append(events, o.records[i].events...)
		p = o.records[i].next
	}
	return events, p
}
