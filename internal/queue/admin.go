package queue

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// guardReason is why the relay guard holds a recipient.
const guardReason = "relay guard"

// Select chooses recipients; zero parts choose everything.
type Select struct {
	ID       smtp.ID
	Domain   string
	Pool     string
	Customer string
	Incident string
	State    string // "pending", "held"
	Limit    int
	Guard    *ledger.Path // held by the relay guard on this path
}

// Row is one recipient that is not done with.
type Row struct {
	ID        smtp.ID
	Recipient int
	Message   *spool.Message
	State     spool.State
	Attempts  int
	Next      time.Time
	Reason    string
}

func (s *Select) match(it *item, m *spool.Message) bool {
	r := &m.Recipients[it.rcpt]
	switch {
	case !s.ID.IsZero() && s.ID != it.id,
		s.Domain != "" && !strings.EqualFold(s.Domain, r.To.Domain),
		s.Pool != "" && s.Pool != r.Pool,
		s.Customer != "" && s.Customer != m.Customer,
		s.Incident != "" && it.reason != "incident "+s.Incident,
		s.Guard != nil && (it.reason != guardReason || *s.Guard != ledger.Path{Listener: m.Listener, Filter: r.Filter, Origin: m.Origin}),
		s.State == "pending" && it.state != spool.Pending,
		s.State == "held" && it.state != spool.Held:
		return false
	}
	return true
}

// chosen gives the items that match, oldest first, with their messages.
func (q *Queue) chosen(s Select) (items []*item, rows []Row) {
	q.mu.Lock()
	all := make([]*item, 0, len(q.items))
	for _, it := range q.items {
		if s.ID.IsZero() || s.ID == it.id {
			all = append(all, it)
		}
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b *item) int {
		if c := slices.Compare(a.id[:], b.id[:]); c != 0 {
			return c
		}
		return cmp.Compare(a.rcpt, b.rcpt)
	})
	for _, it := range all {
		m, err := q.o.Store.Message(it.id)
		if err != nil {
			continue // done meanwhile
		}
		q.mu.Lock()
		ok := s.match(it, m) && it.state != spool.Settled
		row := Row{ID: it.id, Recipient: it.rcpt, Message: m, State: it.state, Attempts: it.attempts, Next: it.at, Reason: it.reason}
		q.mu.Unlock()
		if !ok {
			continue
		}
		items, rows = append(items, it), append(rows, row)
		if s.Limit > 0 && len(rows) == s.Limit {
			break
		}
	}
	return items, rows
}

// List gives what waits or is held.
func (q *Queue) List(s Select) []Row {
	_, rows := q.chosen(s)
	return rows
}

// Counts tells how many recipients wait and how many are held.
func (q *Queue) Counts() (waiting, held int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		switch it.state {
		case spool.Held:
			held++
		case spool.Pending:
			waiting++
		}
	}
	return waiting, held
}

// Act carries out an operator's action on what s chooses and gives the number of
// recipients that changed: hold, release, retry, bounce, drop. It is durable when Act
// returns. A recipient that is being delivered at this moment is left alone.
func (q *Queue) Act(ctx context.Context, action string, s Select, by, note string) (n int, err error) {
	items, rows := q.chosen(s)
	for i, it := range items {
		done, err := q.act(ctx, action, it, &rows[i], by, note)
		if err != nil {
			return n, err
		}
		if done {
			n++
		}
	}
	return n, nil
}

func (q *Queue) act(ctx context.Context, action string, it *item, row *Row, by, note string) (bool, error) {
	now := q.o.Clock.Now()
	c := spool.Change{ID: it.id, Recipient: it.rcpt}
	var e ledger.Event
	path := ledger.Path{Listener: row.Message.Listener, Filter: row.Message.Recipients[it.rcpt].Filter, Origin: row.Message.Origin}
	switch action {
	case "hold":
		c.State, c.Reason = spool.Held, "held by "+by+": "+note
		e = &ledger.Held{Time: now, ID: it.id, Recipient: it.rcpt, Path: path, Reason: c.Reason}
	case "release":
		e = &ledger.Released{Time: now, ID: it.id, Recipient: it.rcpt, By: by}
	case "retry":
		e = &ledger.Admin{Time: now, By: by, Action: "retry", Object: it.id.String(), Note: note}
	case "drop":
		c.State = spool.Settled
		e = &ledger.Dropped{Time: now, ID: it.id, Recipient: it.rcpt, By: by, Reason: note}
	case "bounce":
		return q.claim(it) && q.bounce(it, "given up by the operator: "+note), nil
	default:
		return false, fmt.Errorf("queue: unknown action %q", action)
	}
	if !q.claim(it) {
		return false, nil
	}
	if held := it.state == spool.Held; (action == "hold" && held) || (action == "release" && !held) || (action == "retry" && held) {
		q.unclaim(it)
		return false, nil
	}
	c.Attempts = it.attempts
	if _, err := q.o.Store.Commit(ctx, &spool.Batch{Changes: []spool.Change{c}, Events: [][]byte{ledger.Encode(e)}}); err != nil {
		q.unclaim(it)
		return false, fmt.Errorf("%s %s: %w", action, it.id, err)
	}
	q.moved(it, c)
	return true, nil
}

// claim keeps the workers off an item; false where one has it.
func (q *Queue) claim(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it.busy || it.state == spool.Settled {
		return false
	}
	it.busy = true
	if it.index >= 0 {
		heap.Remove(&q.waiting, it.index)
	}
	return true
}

// unclaim puts an item back where it was.
func (q *Queue) unclaim(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.busy = false
	switch {
	case it.state != spool.Pending || it.queued:
	case it.at.After(q.o.Clock.Now()):
		q.later(it)
	default:
		q.enqueue(it)
	}
}

// moved puts an item where its change leads.
func (q *Queue) moved(it *item, c spool.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.busy, it.state, it.reason, it.at = false, c.State, c.Reason, time.Time{}
	switch {
	case c.State == spool.Settled:
		q.drop(it)
	case c.State == spool.Pending && !it.queued:
		q.enqueue(it)
	}
}

// Bounce gives a recipient up and tells its sender.
func (q *Queue) Bounce(id smtp.ID, rcpt int, reason string) {
	q.mu.Lock()
	it := q.items[itemKey{id, rcpt}]
	q.mu.Unlock()
	if it == nil {
		m, err := q.o.Store.Message(id)
		if err != nil {
			q.o.Log.Error("bounce", "id", id.String(), "err", err)
			return
		}
		q.add(m, rcpt, spool.RecipientState{State: spool.Held, Reason: spool.ReasonBounce})
		q.Bounce(id, rcpt, reason)
		return
	}
	if q.claim(it) {
		q.bounce(it, reason)
	}
}

func (q *Queue) bounce(it *item, reason string) bool {
	m, err := q.o.Store.Message(it.id)
	if err != nil {
		q.unreadable(it, err)
		return false
	}
	d := &delivery{q: q, it: it, m: m, r: &m.Recipients[it.rcpt], rt: q.o.Routing()}
	d.conclude(egress.Outcome{Status: egress.Failed, Reply: "550 5.7.1 " + reason, Code: "5.7.1"})
	return true
}
