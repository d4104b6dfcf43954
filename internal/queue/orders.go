package queue

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// Scope is what an order is about: the mail that all of its parts hold for. Empty parts
// hold for everything.
type Scope struct {
	ID       smtp.ID
	Site     string
	Provider string
	Pool     string
	Customer string
	Campaign string
	Domain   string
}

// Order is a standing order of an operator: "suspend" keeps mail back, what waits and
// what is still to come; "rebind" has moved the mail that waited at that time to another
// pool. Orders are made durable as events of the ledger, and are the sum of these.
type Order struct {
	Number int
	Action string
	Scope
	To    string    // pool, of a rebind
	From  time.Time // when it was given
	Until time.Time // zero: until it is lifted
	By    string
	Note  string

	domains []string // of a rebind's site at that time
}

// orders are those in force.
type orders struct {
	all   []Order // suspensions
	moves []Order
	fine  int // suspensions that lanes are too coarse for
	last  int
}

// ErrNoScope tells that an order would be about everything.
var ErrNoScope = errors.New("nothing is chosen")

// ErrNoOrder tells that no order is meant.
var ErrNoOrder = errors.New("no such order")

// fine reports whether a scope parts recipients of one lane.
func (s *Scope) fine() bool { return s.Domain != "" || !s.ID.IsZero() }

// String gives a scope as the ledger keeps it and as people read it.
func (s *Scope) String() string { return readable(s.values()) }

func (s *Scope) values() url.Values {
	v := url.Values{}
	for k, p := range s.parts() {
		if *p != "" {
			v.Set(k, *p)
		}
	}
	if !s.ID.IsZero() {
		v.Set("id", s.ID.String())
	}
	return v
}

func (s *Scope) parts() map[string]*string {
	return map[string]*string{"site": &s.Site, "provider": &s.Provider, "pool": &s.Pool, "customer": &s.Customer, "campaign": &s.Campaign, "domain": &s.Domain}
}

// readable joins values as words, sorted by their names.
func readable(v url.Values) string { return strings.ReplaceAll(v.Encode(), "&", " ") }

// admin makes the event of an order.
func (o *Order) admin() *ledger.Admin {
	v := o.values()
	v.Set("order", strconv.Itoa(o.Number))
	if o.To != "" {
		v.Set("to", o.To)
	}
	if !o.Until.IsZero() {
		v.Set("until", o.Until.UTC().Format(time.RFC3339))
	}
	if len(o.domains) > 0 {
		v.Set("domains", strings.Join(o.domains, ","))
	}
	return &ledger.Admin{Time: o.From, By: o.By, Action: o.Action, Object: readable(v), Note: o.Note}
}

// parse reads the event of an order.
func parse(e *ledger.Admin) (o Order, ok bool) {
	v, err := url.ParseQuery(strings.ReplaceAll(e.Object, " ", "&"))
	if err != nil {
		return o, false
	}
	o = Order{Action: e.Action, To: v.Get("to"), From: e.Time, By: e.By, Note: e.Note}
	for k, p := range o.parts() {
		*p = v.Get(k)
	}
	if id := v.Get("id"); id != "" {
		if o.ID, err = smtp.ParseID(id); err != nil {
			return o, false
		}
	}
	if d := v.Get("domains"); d != "" {
		o.domains = strings.Split(d, ",")
	}
	if u := v.Get("until"); u != "" {
		if o.Until, err = time.Parse(time.RFC3339, u); err != nil {
			return o, false
		}
	}
	o.Number, err = strconv.Atoi(v.Get("order"))
	return o, err == nil
}

// restore takes up the orders of the past.
func (q *Queue) restore() {
	if q.o.Orders == nil {
		return
	}
	// What a rebind moved is gone by the time at which everything is given up.
	over := q.o.Clock.Now().Add(-2 * q.o.Routing().Retry.Expire)
	for e := range q.o.Orders {
		o, ok := parse(&e)
		if !ok {
			continue
		}
		o.begun(q.o.Clock.Now())
		q.orders.last = max(q.orders.last, o.Number)
		switch {
		case e.Action == "suspend":
			q.orders.add(o)
		case e.Action == "resume":
			q.orders.lift(o.Number)
		case e.Action == "rebind" && o.From.After(over):
			q.orders.moves = append(q.orders.moves, o)
		}
	}
	q.orders.expire(q.o.Clock.Now())
}

func (s *orders) add(o Order) {
	s.all = append(s.all, o)
	if o.fine() {
		s.fine++
	}
}

func (s *orders) lift(number int) bool {
	i := slices.IndexFunc(s.all, func(o Order) bool { return o.Number == number })
	if i < 0 {
		return false
	}
	if s.all[i].fine() {
		s.fine--
	}
	s.all = slices.Delete(s.all, i, i+1)
	return true
}

// expire lifts the orders whose time is over and reports whether there was one.
func (s *orders) expire(now time.Time) (some bool) {
	for i := 0; i < len(s.all); {
		if o := &s.all[i]; !o.Until.IsZero() && !o.Until.After(now) {
			some = s.lift(o.Number)
			continue
		}
		i++
	}
	return some
}

// next is when the first order ends; the zero time where none does.
func (s *orders) next() (at time.Time) {
	for i := range s.all {
		if u := s.all[i].Until; !u.IsZero() && (at.IsZero() || u.Before(at)) {
			at = u
		}
	}
	return at
}

// binds reports whether an order holds for what is ready of a flow at a site.
func (s *Scope) binds(site *site, pool string, f *flow) bool {
	return (s.Site == "" || s.Site == site.key) && (s.Provider == "" || s.Provider == site.provider) && (s.Pool == "" || s.Pool == pool) &&
		(s.Customer == "" || s.Customer == f.customer) && (s.Campaign == "" || s.Campaign == f.campaign)
}

// suspends reports whether an order holds a lane back. The lock is held.
func (q *Queue) suspends(rq *ready, f *flow) bool {
	for i := range q.orders.all {
		if o := &q.orders.all[i]; !o.fine() && o.binds(rq.site, poolOf(q.o.Routing(), rq.pool), f) {
			return true
		}
	}
	return false
}

// parks reports whether an item that is ready is suspended by an order that is about
// less than its lane.
func (q *Queue) parks(rq *ready, it *item) bool {
	for i := range q.orders.all {
		o := &q.orders.all[i]
		if o.fine() && o.binds(rq.site, poolOf(q.o.Routing(), rq.pool), q.flows.byNumber[it.flow]) &&
			(o.Domain == "" || o.Domain == q.domains[it.domain].name) && (o.ID.IsZero() || o.ID == it.id) {
			return true
		}
	}
	return false
}

// reapply lets the orders that are in force now take effect on what is ready. The lock
// is held.
func (q *Queue) reapply() {
	for _, s := range q.sites {
		for _, rq := range s.queues {
			for _, ln := range rq.lanes {
				if suspended := q.suspends(rq, ln.flow); suspended || ln.until == 0 {
					rq.block(ln, suspended, 0)
				}
			}
			q.serve(rq)
		}
	}
	for n := q.parked.n; n > 0; n-- {
		r := q.parked.head
		q.items.remove(&q.parked, r)
		q.items.at(r).place = nowhere
		q.enqueue(r)
	}
}

// Reconsider looks again at what is blocked: the Shaper's answers may have changed. It
// returns at once.
func (q *Queue) Reconsider() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reconsider = true
	nudge(q.ring)
}

// reconsidered is Reconsider's work. The lock is held.
func (q *Queue) reconsidered() {
	q.reconsider = false
	for _, s := range q.sites {
		for _, rq := range s.queues {
			rq.notBefore, rq.rated, rq.staffAfter = 0, 0, 0
			for _, w := range rq.ways {
				w.checked, w.notBefore, w.rated = 0, 0, 0
			}
			for _, ln := range rq.lanes {
				if ln.blocked && ln.until != 0 {
					rq.block(ln, q.suspends(rq, ln.flow), 0)
				}
			}
			q.serve(rq)
		}
	}
}

// Orders gives the suspensions that are in force, oldest first.
func (q *Queue) Orders() []Order {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.orders.all)
}

// Suspend keeps the mail of a scope back until it is resumed, or until a time. What is
// being delivered at this moment goes on. It is durable when Suspend returns; with
// spool.ErrInDoubt it is in force, and a start may find it or not.
func (q *Queue) Suspend(ctx context.Context, s Scope, until time.Time, by, note string) (Order, error) {
	if s == (Scope{}) {
		return Order{}, fmt.Errorf("suspend: %w", ErrNoScope)
	}
	now := q.o.Clock.Now()
	if !until.IsZero() && !until.After(now) {
		return Order{}, fmt.Errorf("suspend until %s: that is past", until.Format(time.RFC3339))
	}
	q.ordering.Lock()
	defer q.ordering.Unlock()
	o := Order{Number: q.orders.last + 1, Action: "suspend", Scope: s, From: now, Until: until, By: by, Note: note}
	err := q.write(ctx, o.admin())
	if err != nil {
		err = fmt.Errorf("suspend %s: %w", s.String(), err)
		if !errors.Is(err, spool.ErrInDoubt) {
			return Order{}, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.orders.last = o.Number
	q.orders.add(o)
	q.reapply()
	nudge(q.ring)
	return o, err
}

// Resume lifts the suspensions that choose says yes to, and gives them.
func (q *Queue) Resume(ctx context.Context, choose func(*Order) bool, by, note string) ([]Order, error) {
	q.ordering.Lock()
	defer q.ordering.Unlock()
	var chosen []Order
	for _, o := range q.Orders() {
		if choose(&o) {
			chosen = append(chosen, o)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("resume: %w", ErrNoOrder)
	}
	var events []ledger.Event
	for i := range chosen {
		o := chosen[i]
		o.Action, o.From, o.Until, o.By, o.Note = "resume", q.o.Clock.Now(), time.Time{}, by, note
		events = append(events, o.admin())
	}
	if err := q.write(ctx, events...); err != nil {
		return nil, fmt.Errorf("resume: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range chosen {
		q.orders.lift(chosen[i].Number)
	}
	q.reapply()
	return chosen, nil
}

// Rebind moves the mail of a scope that waits or is held now to another pool, and gives
// the number of recipients. It is durable when Rebind returns.
func (q *Queue) Rebind(ctx context.Context, s Scope, pool, by, note string) (int, error) {
	if s == (Scope{}) {
		return 0, fmt.Errorf("rebind: %w", ErrNoScope)
	}
	if _, ok := q.o.Routing().Pools[pool]; !ok {
		return 0, fmt.Errorf("rebind: unknown pool %q", pool)
	}
	q.ordering.Lock()
	defer q.ordering.Unlock()
	o := Order{Number: q.orders.last + 1, Action: "rebind", Scope: s, To: pool, From: q.o.Clock.Now(), By: by, Note: note}
	q.mu.Lock()
	for _, d := range q.byDomain {
		if s.Site+s.Provider != "" && d.site != nil && (s.Site == "" || d.site.key == s.Site) && (s.Provider == "" || d.site.provider == s.Provider) {
			o.domains = append(o.domains, d.name)
		}
	}
	q.mu.Unlock()
	if s.Site+s.Provider != "" && len(o.domains) == 0 {
		return 0, nil
	}
	slices.Sort(o.domains)
	if err := q.write(ctx, o.admin()); err != nil {
		if errors.Is(err, spool.ErrInDoubt) {
			q.mu.Lock()
			q.orders.last = o.Number // a start may find it
			q.mu.Unlock()
		}
		return 0, fmt.Errorf("rebind %s: %w", s.String(), err)
	}
	q.mu.Lock()
	q.orders.last = o.Number
	q.orders.moves = append(q.orders.moves, o)
	q.mu.Unlock()
	return q.move(&o), nil
}

// moves reports whether an order moves mail of a flow and domain.
func (o *Order) moves(rt *Routing, id smtp.ID, k *flowKey, d *domain) bool {
	return d.inside == "" && poolOf(rt, k.pool) != o.To && !id.Time().After(o.From) && (o.ID.IsZero() || o.ID == id) &&
		(o.Domain == "" || o.Domain == d.name) && (o.Pool == "" || o.Pool == poolOf(rt, k.pool)) && (o.Customer == "" || o.Customer == k.customer) &&
		(o.Campaign == "" || o.Campaign == k.campaign) && (len(o.domains) == 0 || slices.Contains(o.domains, d.name))
}

// move carries a rebind out on everything that is there.
func (q *Queue) move(o *Order) (n int) {
	rt := q.o.Routing()
	q.each(func(r ref, it *item) {
		f, d := q.flows.byNumber[it.flow], q.domains[it.domain]
		if it.busy || !o.moves(rt, it.id, &f.flowKey, d) {
			return
		}
		n++
		k := f.flowKey
		k.pool = o.To
		was := it.place
		if was == inLane {
			q.unline(r)
		}
		q.flows.give(it.flow)
		it.flow = q.flows.take(k).number
		if was == inLane {
			q.enqueue(r)
		}
	})
	return n
}

// rebound gives the pool that the rebinds of the past have moved a recipient to.
func (q *Queue) rebound(m *spool.Message, k flowKey, d *domain) flowKey {
	rt := q.o.Routing()
	for i := range q.orders.moves {
		if o := &q.orders.moves[i]; o.moves(rt, m.ID, &k, d) {
			k.pool = o.To
		}
	}
	return k
}

// write makes events durable.
func (q *Queue) write(ctx context.Context, events ...ledger.Event) error {
	b := &spool.Batch{}
	for _, e := range events {
		b.Events = append(b.Events, ledger.Encode(e))
	}
	return q.commit(ctx, b)
}

// commit makes what an operator orders durable. Once it is begun its end is waited for,
// whoever gives up meanwhile: what may become durable must not be taken back.
func (q *Queue) commit(ctx context.Context, b *spool.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := q.o.Store.Commit(context.WithoutCancel(ctx), b)
	return err
}
