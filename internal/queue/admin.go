package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// guardReason is why the relay guard holds a recipient.
const guardReason = "relay guard"

// Select chooses recipients; zero parts choose everything.
type Select struct {
	ID       smtp.ID
	Site     string
	Provider string
	Pool     string
	Customer string
	Campaign string
	Domain   string
	Incident string
	State    string // "pending", "held"
	Limit    int
	Guard    *ledger.Path // held by the relay guard on this path
	Held     string       // why: the beginning of the reason
}

// scope is the part of a selection that orders know too.
func (s *Select) scope() *Scope {
	return &Scope{ID: s.ID, Site: s.Site, Provider: s.Provider, Pool: s.Pool, Customer: s.Customer, Campaign: s.Campaign, Domain: s.Domain}
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
	Pool      string // that it leaves by
	Site      string // "" while it is not known
}

// each goes through all items, with the lock held, and lets go of it now and then: an
// item that comes meanwhile may be left out.
func (q *Queue) each(visit func(r ref, it *item)) {
	for r, more := ref(1), true; more; {
		q.mu.Lock()
		for n := 0; n < steps && r <= q.items.used; n++ {
			if it := q.items.at(r); it.state != spool.Settled {
				visit(r, it)
			}
			r++
		}
		more = r <= q.items.used
		q.mu.Unlock()
	}
}

// match decides by what is known of an item in memory. The lock is held.
func (q *Queue) match(s *Select, it *item) bool {
	f, d := q.flows.byNumber[it.flow], q.domains[it.domain]
	reason := q.reasons.text(it.reason)
	switch {
	case !s.ID.IsZero() && s.ID != it.id,
		s.Domain != "" && s.Domain != d.name,
		s.Site != "" && (d.site == nil || s.Site != d.site.key),
		s.Provider != "" && (d.site == nil || s.Provider != d.site.provider),
		s.Pool != "" && s.Pool != f.pool,
		s.Customer != "" && s.Customer != f.customer,
		s.Campaign != "" && s.Campaign != f.campaign && (f.campaign != "" || q.flows.shared == 0),
		s.Incident != "" && reason != "incident "+s.Incident,
		s.Held != "" && (len(reason) < len(s.Held) || reason[:len(s.Held)] != s.Held),
		s.Guard != nil && reason != guardReason,
		s.State == "pending" && it.state != spool.Pending,
		s.State == "held" && it.state != spool.Held:
		return false
	}
	return true
}

// picked is an item as it was when it was chosen.
type picked struct {
	id   smtp.ID
	rcpt int
	ref  ref
}

// chosen gives the items that match, oldest first.
func (q *Queue) chosen(s Select) (out []picked) {
	if d, err := policy.NormaliseDomain(s.Domain); err == nil && s.Domain != "" {
		s.Domain = d
	}
	order := func(a, b picked) int {
		if c := slices.Compare(a.id[:], b.id[:]); c != 0 {
			return c
		}
		return cmp.Compare(a.rcpt, b.rcpt)
	}
	// A limit bounds the memory too, but for what only the message can tell.
	limit := s.Limit
	if s.Guard != nil || s.Campaign != "" {
		limit = 0
	}
	q.each(func(r ref, it *item) {
		if !q.match(&s, it) {
			return
		}
		out = append(out, picked{it.id, int(it.rcpt), r})
		if limit > 0 && len(out) >= 4*limit+1024 {
			slices.SortFunc(out, order)
			out = out[:limit]
		}
	})
	slices.SortFunc(out, order)
	return out
}

// rows reads the messages of what was chosen, and gives them to yield while it says yes.
func (q *Queue) rows(s Select, yield func(picked, *Row) bool) {
	n := 0
	for _, p := range q.chosen(s) {
		m, err := q.o.Store.Message(p.id)
		if err != nil {
			continue // done meanwhile
		}
		rc := &m.Recipients[p.rcpt]
		if (s.Campaign != "" && s.Campaign != m.Campaign) || (s.Guard != nil && *s.Guard != ledger.Path{Listener: m.Listener, Filter: rc.Filter, Origin: m.Origin}) {
			continue
		}
		row, ok := q.row(p, m)
		if !ok {
			continue
		}
		if !yield(p, row) {
			return
		}
		if n++; s.Limit > 0 && n == s.Limit {
			return
		}
	}
}

// row describes an item, unless it is another one by now.
func (q *Queue) row(p picked, m *spool.Message) (*Row, bool) {
	q.mu.Lock()
	it := q.items.at(p.ref)
	if it.state == spool.Settled || it.id != p.id || int(it.rcpt) != p.rcpt {
		q.mu.Unlock()
		return nil, false
	}
	row := &Row{ID: p.id, Recipient: p.rcpt, Message: m, State: it.state, Attempts: int(it.attempts), Next: q.time.day(it.at), Reason: q.reasons.text(it.reason), Pool: q.flows.byNumber[it.flow].pool}
	if s := q.domains[it.domain].site; s != nil {
		row.Site = s.key
	}
	q.mu.Unlock()
	if row.State == spool.Pending && row.Attempts > 0 {
		// The last reply is only kept on the disk.
		if st, err := q.o.Store.State(p.id); err == nil && p.rcpt < len(st) {
			row.Reason = st[p.rcpt].Reason
		}
	}
	return row, true
}

// List gives what waits or is held.
func (q *Queue) List(s Select) (out []Row) {
	q.rows(s, func(_ picked, r *Row) bool { out = append(out, *r); return true })
	return out
}

// Counts tells how many recipients wait and how many are held.
func (q *Queue) Counts() (waiting, held int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.held
}

// together is how many recipients one commit changes.
const together = 256

// Act carries out an operator's action on what s chooses and gives the number of
// recipients that changed: hold, release, retry, bounce, drop. It is durable when Act
// returns. A recipient that is being delivered at this moment is left alone.
func (q *Queue) Act(ctx context.Context, action string, s Select, by, note string) (n int, err error) {
	if !slices.Contains([]string{"hold", "release", "retry", "bounce", "drop"}, action) {
		return 0, fmt.Errorf("queue: unknown action %q", action)
	}
	a := &act{q: q, action: action, by: by, note: note, scope: s.scope().String()}
	q.rows(s, func(p picked, row *Row) bool {
		if q.claim(p, func(it *item) bool { return a.applies(it.state) }) {
			a.take(p, row)
		}
		if len(a.items) == together {
			err = a.carryOut(ctx)
		}
		return err == nil
	})
	if err == nil {
		err = a.carryOut(ctx)
	}
	return a.n, err
}

// act is an operator's action under way.
type act struct {
	q                       *Queue
	action, by, note, scope string
	n                       int

	items []picked
	rows  []*Row
	batch *spool.Batch
	ended map[*site]bool // whose rest a retry has ended: once for all that it is about
}

// applies reports whether the action changes anything in a state.
func (a *act) applies(s spool.State) bool {
	switch a.action {
	case "hold", "retry":
		return s == spool.Pending
	case "release":
		return s == spool.Held
	}
	return true
}

// take adds a claimed item to the commit.
func (a *act) take(p picked, row *Row) {
	now := a.q.o.Clock.Now()
	if a.batch == nil {
		a.batch = &spool.Batch{}
	}
	c := spool.Change{ID: p.id, Recipient: p.rcpt, Attempts: row.Attempts}
	var e ledger.Event
	m := row.Message
	switch a.action {
	case "hold":
		c.State, c.Reason = spool.Held, "held by "+a.by+": "+a.note
		e = &ledger.Held{Time: now, ID: p.id, Recipient: p.rcpt, Path: ledger.Path{Listener: m.Listener, Filter: m.Recipients[p.rcpt].Filter, Origin: m.Origin}, Reason: c.Reason}
	case "release":
		e = &ledger.Released{Time: now, ID: p.id, Recipient: p.rcpt, By: a.by}
	case "drop":
		c.State = spool.Settled
		e = &ledger.Dropped{Time: now, ID: p.id, Recipient: p.rcpt, By: a.by, Reason: a.note}
	}
	a.items, a.rows = append(a.items, p), append(a.rows, row)
	a.batch.Changes = append(a.batch.Changes, c)
	if e != nil {
		a.batch.Events = append(a.batch.Events, ledger.Encode(e))
	}
}

// carryOut makes what was taken durable and moves the items. Together with them goes one
// event of who did what to what, and why.
func (a *act) carryOut(ctx context.Context) error {
	if len(a.items) == 0 {
		return nil
	}
	items, rows, b := a.items, a.rows, a.batch
	a.items, a.rows, a.batch = nil, nil, nil
	e := &ledger.Admin{Time: a.q.o.Clock.Now(), By: a.by, Action: a.action, Object: fmt.Sprintf("%s recipients=%d", a.scope, len(items)), Note: a.note}
	if len(items) == 1 {
		e.Object = items[0].id.String()
	}
	b.Events = append(b.Events, ledger.Encode(e))
	if a.action == "bounce" {
		b.Changes = nil
	}
	if err := a.q.commit(ctx, b); err != nil {
		for _, p := range items {
			a.takeBack(p.ref, err)
		}
		return fmt.Errorf("%s %s: %w", a.action, items[0].id, err)
	}
	for i, p := range items {
		if a.action == "bounce" {
			a.q.bounce(p.ref, rows[i].Message, p.rcpt, rows[i].Attempts, "given up by the operator: "+a.note)
		} else {
			a.endRest(a.q.moved(p.ref, rows[i].Message, b.Changes[i]))
		}
		a.n++
	}
	return nil
}

// takeBack puts an item back where it was, after a commit that failed. Where it may have
// become durable all the same, the item is on hold: a recipient that was dropped or held
// must not be tried any more, and a start will tell whether it was.
func (a *act) takeBack(r ref, err error) {
	if !errors.Is(err, spool.ErrInDoubt) || a.action != "hold" && a.action != "drop" {
		a.q.unclaim(r)
		return
	}
	a.q.holdInDoubt(r, a.action+" by "+a.by)
}

// holdInDoubt puts an item on hold of which nobody knows what the log says.
func (q *Queue) holdInDoubt(r ref, what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(r)
	it.busy = false
	q.keep(it, spool.Held, what+": "+spool.ErrInDoubt.Error())
}

// endRest ends the rest of a site that somebody wants tried, nil is none. It is still
// tried with one connection first where the last one failed.
func (a *act) endRest(s *site) {
	if s == nil || a.action != "retry" || a.ended[s] {
		return
	}
	if a.ended == nil {
		a.ended = map[*site]bool{}
	}
	a.ended[s] = true
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	s.fails = min(s.fails, 1)
	a.q.endRest(s)
}

// claim keeps the workers off an item; false where one has it, or where it is not what
// was chosen any more.
func (q *Queue) claim(p picked, ok func(*item) bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(p.ref)
	if it.busy || it.state == spool.Settled || it.id != p.id || int(it.rcpt) != p.rcpt || !ok(it) {
		return false
	}
	q.unlink(p.ref)
	it.busy = true
	return true
}

// unclaim puts an item back where it was.
func (q *Queue) unclaim(r ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(r)
	it.busy = false
	if it.state == spool.Pending {
		q.place(r, q.time.now())
	}
}

// moved puts an item where its change leads, and gives the site that it waits for, nil
// where there is none.
func (q *Queue) moved(r ref, m *spool.Message, c spool.Change) *site {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(r)
	it.busy, it.at = false, 0
	if c.State == spool.Settled {
		q.drop(r)
		return nil
	}
	q.keep(it, c.State, c.Reason)
	if c.State != spool.Pending {
		return nil
	}
	q.redirect(it, m)
	q.enqueue(r)
	return q.domains[it.domain].site
}

// Bounce gives a recipient up that the policy bounces, and tells its sender.
func (q *Queue) Bounce(id smtp.ID, rcpt int, reason string) {
	m, err := q.o.Store.Message(id)
	if err != nil {
		q.o.Log.Error("bounce", "id", id.String(), "err", err)
		return
	}
	q.mu.Lock()
	r := q.admit(m, rcpt, spool.RecipientState{State: spool.Held, Reason: spool.ReasonBounce}, q.moment())
	if r != 0 {
		q.items.at(r).busy = true
	}
	q.mu.Unlock()
	if r != 0 {
		q.bounce(r, m, rcpt, 0, reason)
	}
}

func (q *Queue) bounce(r ref, m *spool.Message, rcpt, attempts int, reason string) {
	d := delivery{q: q, ref: r, rcpt: rcpt, attempts: attempts, m: m, r: &m.Recipients[rcpt], rt: q.o.Routing()}
	q.mu.Lock()
	if s := q.domains[q.items.at(r).domain].site; s != nil {
		d.to = shaping.Destination{Site: s.key, Provider: s.provider}
	}
	q.mu.Unlock()
	d.fail(egress.Outcome{Status: egress.Failed, Reply: "550 5.7.1 " + reason, Code: "5.7.1"}, "")
}

// SiteRow is what there is for one site by one pool.
type SiteRow struct {
	Site        string
	Provider    string
	Pool        string
	Ready       int
	Suspended   int // ready, but suspended or backing off
	Connections int
	Idle        int
	Until       time.Time // nothing is tried before
	Last        string    // why not: the last failure to connect
}

// Sites gives the sites that have something ready, or connections, the most of it first.
func (q *Queue) Sites() (out []SiteRow) {
	q.mu.Lock()
	now := q.time.now().UnixMilli()
	for _, s := range q.sites {
		for _, rq := range s.queues {
			if rq.n+rq.kept+len(rq.workers) == 0 {
				continue
			}
			row := SiteRow{Site: s.key, Provider: s.provider, Pool: poolOf(q.o.Routing(), rq.pool), Ready: rq.n, Suspended: rq.kept, Connections: len(rq.workers), Idle: len(rq.idle)}
			if at := max(rq.notBefore, rq.rated, s.rest); at > now {
				row.Until = q.time.day(at)
			}
			if s.fails > 0 {
				row.Last = s.last
			}
			out = append(out, row)
		}
	}
	q.mu.Unlock()
	slices.SortFunc(out, func(a, b SiteRow) int {
		return cmp.Or(cmp.Compare(b.Ready+b.Suspended, a.Ready+a.Suspended), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Pool, b.Pool))
	})
	return out
}
