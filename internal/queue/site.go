package queue

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/spool"
)

// domain is a recipient domain on its way to one next hop.
type domain struct {
	domainKey
	number  uint32
	refs    int   // items
	site    *site // nil until it has been found
	until   int64 // when to look for it again, Unix milliseconds
	asking  bool
	waiting list // items, while there is no site
}

type domainKey struct {
	name   string // normal form
	inside string // the inside host that takes its mail, "" for its MX
}

// site is the destinations that share a set of mail exchangers: what limits hold for.
type site struct {
	key      string
	provider string
	inside   string
	refs     int // domains
	queues   map[string]*ready
	outlets  map[netip.Addr]*outlet
	conns    int
	dialing  int
	messages meter
	rcpts    meter
	line     waitingLine // ready queues that wait for a connection to end
	thirsty  *ready      // the most urgent one that waits for the rates
	thirst   int64       // until then, Unix milliseconds

	bad   map[netip.AddrPort]badHost
	fails int   // connections in a row that did not come about
	rest  int64 // until then nothing is tried, Unix milliseconds
	last  string
}

// badHost is a mail exchanger that did not answer.
type badHost struct {
	until time.Time
	fails int
}

// outlet is one source address on its way to one site.
type outlet struct {
	source  netip.Addr
	conns   int
	sent    meter
	opened  meter
	users   int // ways
	resting int64
}

// way is one source of a pool on its way to one site: what a ready queue chooses among.
type way struct {
	*outlet
	weight    int
	messages  int // in proportion to the weights of all ways
	limits    shaping.Limits
	checked   int64 // when limits were asked for, Unix milliseconds
	notBefore int64 // blocked until then
	rated     int64 // over its rate until then
	out       bool  // it was, when it was last looked at
}

// freshness is how long a domain's site is believed, and an answer of the shaper's.
const (
	siteFresh   = 5 * time.Minute
	limitsFresh = time.Second
)

// domainOf gives the domain of a recipient and counts one more item of it. The lock is
// held.
func (q *Queue) domainOf(m *spool.Message, r *spool.Recipient) *domain {
	k := domainKey{name: strings.ToLower(strings.TrimSuffix(r.To.Domain, ".")), inside: q.insideOf(m, r)}
	if a, err := policy.NormaliseDomain(r.To.Domain); err == nil {
		k.name = a
	}
	d := q.byDomain[k]
	if d == nil {
		d = &domain{domainKey: k}
		if n := len(q.freeDomains); n > 0 {
			d.number, q.freeDomains = q.freeDomains[n-1], q.freeDomains[:n-1]
			q.domains[d.number] = d
		} else {
			d.number = uint32(len(q.domains))
			q.domains = append(q.domains, d)
		}
		q.byDomain[k] = d
		if k.inside != "" {
			q.settle(d, &site{key: "inside:" + k.inside, inside: k.inside})
		}
	}
	d.refs++
	return d
}

// insideOf gives the inside host that a recipient's mail goes to, "" where that is the
// MX. What a stranger sent to a domain that had no inside host at that time goes to the
// one that it has now: a repaired policy lets it be released.
func (q *Queue) insideOf(m *spool.Message, r *spool.Recipient) string {
	if r.Inside != "" || policy.Origin(m.Origin) != policy.Stranger {
		return r.Inside
	}
	a, err := policy.Normalise(r.To)
	if err != nil {
		return ""
	}
	return q.o.Routing().InsideFor(a)
}

// redirect puts an item that stands in no list under the domain that the configuration
// in force gives it. The lock is held.
func (q *Queue) redirect(it *item, m *spool.Message) {
	d := q.domainOf(m, &m.Recipients[it.rcpt])
	q.domains[it.domain].refs--
	it.domain = d.number
}

// settle gives a domain its site, or the one that is known by the same key. The lock is
// held.
func (q *Queue) settle(d *domain, s *site) {
	if have := q.sites[s.key]; have != nil {
		s = have
	} else {
		s.queues, s.outlets, s.bad = map[string]*ready{}, map[netip.Addr]*outlet{}, map[netip.AddrPort]badHost{}
		s.line.which = 1
		q.sites[s.key] = s
	}
	if d.site == s {
		return
	}
	s.refs++
	if d.site != nil {
		d.site.refs--
	}
	d.site = s
}

// look asks for a domain's site, and soon. The lock is held.
func (q *Queue) look(d *domain) {
	if d.asking || d.inside != "" || q.stopping {
		return
	}
	d.asking = true
	q.asked = append(q.asked, d)
	if q.askers < maxAskers {
		q.askers++
		q.wg.Add(1)
		go func() { defer q.wg.Done(); q.ask() }()
	}
}

// maxAskers bounds the questions to the DNS at one time.
const maxAskers = 64

// ask finds the sites of the domains that are asked for, until there is none.
func (q *Queue) ask() {
	for {
		q.mu.Lock()
		if len(q.asked) == 0 || q.stopping {
			q.askers--
			q.mu.Unlock()
			return
		}
		d := q.asked[0]
		q.asked = q.asked[1:]
		q.mu.Unlock()
		mx, err := q.o.Transport.MX(q.ctx, d.name)
		if lacking(err) {
			q.askLater(d, err)
			continue
		}
		if err != nil {
			q.notFound(d, err)
			continue
		}
		dest := q.o.Shaper.Resolve(d.name, mx)
		q.mu.Lock()
		q.settle(d, &site{key: dest.Site, provider: dest.Provider})
		d.site.provider = dest.Provider
		d.asking, d.until = false, millis(q.time.now().Add(siteFresh))
		for d.waiting.n > 0 {
			r := d.waiting.head
			q.items.remove(&d.waiting, r)
			q.items.at(r).place = nowhere
			q.enqueue(r)
		}
		q.mu.Unlock()
	}
}

// askLater puts off what waits for a domain's site: the node itself could not ask.
func (q *Queue) askLater(d *domain, err error) {
	q.o.Log.Error("nothing can be opened", "domain", d.name, "err", err)
	for more := true; more; {
		q.mu.Lock()
		now := q.time.now()
		if d.site != nil {
			d.until = millis(now.Add(lackWait))
		}
		for n := 0; d.waiting.n > 0 && n < steps; n++ {
			r := d.waiting.head
			q.items.remove(&d.waiting, r)
			it := q.items.at(r)
			it.place, it.at = nowhere, millis(now.Add(lackWait))
			q.place(r, now)
		}
		more = d.waiting.n > 0
		d.asking = more
		q.mu.Unlock()
	}
}

// notFound ends the search for a site in vain: what waits for it shares that fate.
func (q *Queue) notFound(d *domain, err error) {
	if q.ctx.Err() != nil {
		return
	}
	o := egress.FromError(err)
	for more := true; more; {
		q.mu.Lock()
		if d.site != nil {
			// It had one, and goes on with that for now.
			d.asking, d.until = false, millis(q.time.now().Add(siteFresh/5))
			q.mu.Unlock()
			return
		}
		var mine []item
		for d.waiting.n > 0 && len(mine) < sharing {
			r := d.waiting.head
			q.items.remove(&d.waiting, r)
			it := q.items.at(r)
			it.place, it.busy = nowhere, true
			mine = append(mine, *it)
			mine[len(mine)-1].next = r
		}
		more = d.waiting.n > 0
		d.asking = more
		q.mu.Unlock()
		q.share(nil, q.o.Shaper.Resolve(d.name, nil), mine, o)
	}
}

// queueOf gives the ready queue of a site for a flow. The lock is held.
func (q *Queue) queueOf(s *site, f *flow) *ready {
	pool := f.pool
	if s.inside != "" {
		pool = "" // no pool's source is used
	}
	rq := s.queues[pool]
	if rq == nil {
		rq = &ready{site: s, pool: pool, lanes: map[*flow]*lane{}, heap: -1}
		s.queues[pool] = rq
	}
	return rq
}

// poolOf is the pool that mail really leaves by.
func poolOf(rt *Routing, pool string) string {
	if pool == "" {
		return rt.DefaultPool
	}
	return pool
}

// prepare makes the ways of a ready queue anew where the configuration has changed. The
// lock is held.
func (q *Queue) prepare(rq *ready, rt *Routing) {
	if rq.routing == rt {
		return
	}
	rq.routing = rt
	old := rq.ways
	rq.ways = nil
	sources := rt.Pools[poolOf(rt, rq.pool)]
	if rq.site.inside != "" || (len(sources) == 0 && rq.pool == "") {
		sources = []Source{{}}
	}
	for _, src := range sources {
		if src.Weight < 0 {
			continue
		}
		o := rq.site.outlets[src.Addr]
		if o == nil {
			o = &outlet{source: src.Addr}
			rq.site.outlets[src.Addr] = o
		}
		w := &way{outlet: o, weight: max(src.Weight, 1)}
		if i := slices.IndexFunc(old, func(w *way) bool { return w.outlet == o }); i >= 0 {
			w.messages, w.notBefore = old[i].messages, old[i].notBefore
		}
		o.users++
		rq.ways = append(rq.ways, w)
	}
	for _, w := range old {
		w.users--
	}
}

// traffic is what a way carries, as the shaper sees it.
func (rq *ready) traffic(rt *Routing, w *way) shaping.Traffic {
	return shaping.Traffic{Destination: shaping.Destination{Site: rq.site.key, Provider: rq.site.provider}, Pool: poolOf(rt, rq.pool), Source: w.source}
}

// limitsOf gives what binds a way, with the configuration's where the shaper says
// nothing. The lock is held.
func (q *Queue) limitsOf(rq *ready, w *way, now time.Time) *shaping.Limits {
	ms := now.UnixMilli()
	if w.checked != 0 && ms-w.checked < limitsFresh.Milliseconds() && ms >= w.checked {
		return &w.limits
	}
	rt := q.o.Routing()
	l := q.o.Shaper.Limits(rq.traffic(rt, w), q.time.agreed())
	for _, p := range []struct {
		v   *int
		def int
	}{{&l.Connections, rt.Limits.PerSite}, {&l.MessagesPerConnection, rt.Limits.Messages}} {
		if *p.v == 0 {
			*p.v = p.def
		}
	}
	if l.Idle == 0 {
		l.Idle = rt.Limits.Idle
	}
	w.limits, w.checked = l, ms
	w.opened.set(l.ConnectionRate)
	w.sent.set(l.SourceRate)
	rq.site.messages.set(l.MessageRate)
	rq.site.rcpts.set(l.RecipientRate)
	return &w.limits
}

// choose gives the way that is furthest behind its share of the messages among those
// that may be used now; else when to look again, 0 where a connection has to end first.
// The lock is held.
func (q *Queue) choose(rq *ready, now time.Time) (best *way, at int64) {
	ms, rt := now.UnixMilli(), q.o.Routing()
	later := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	seen := 0
	for i := range rq.ways {
		w := rq.ways[(rq.cursor+i)%len(rq.ways)]
		if until := max(w.notBefore, w.resting); until > ms {
			w.out = true
			later(until)
			continue
		}
		l := q.limitsOf(rq, w, now)
		if l.ConnectionsPerSource > 0 && w.conns >= l.ConnectionsPerSource {
			continue
		}
		if wait := max(w.opened.wait(now), w.sent.wait(now)); wait > 0 {
			later(ceil(now, wait))
			continue
		}
		if b, yes := q.o.Shaper.Blocked(rq.traffic(rt, w), q.time.agreed()); yes {
			w.notBefore, w.out = q.until(b), true
			later(w.notBefore)
			continue
		}
		if w.out {
			w.out = false
			rq.caughtUp(w)
		}
		if best == nil || w.messages*best.weight < best.messages*w.weight {
			best = w
		}
		if seen++; seen == maxCompared {
			rq.cursor = (rq.cursor + i + 1) % len(rq.ways)
			break
		}
	}
	return best, at
}

// maxCompared bounds the ways that are compared for one connection: a pool may have
// tens of thousands of addresses.
const maxCompared = 64

// ceil gives a time that is not before now and wait, in whole milliseconds.
func ceil(now time.Time, wait time.Duration) int64 {
	return (now.UnixNano() + int64(wait) + 999_999) / 1_000_000
}

// use counts messages on a way.
func (rq *ready) use(w *way, n int) {
	w.messages += n
	if w.messages < 1<<20 {
		return
	}
	for _, o := range rq.ways {
		o.messages /= 2
	}
}

// caughtUp brings a way that was blocked to the level of the others: it does not make up
// for what it could not send, all at once.
func (rq *ready) caughtUp(w *way) {
	least := -1
	for _, o := range rq.ways {
		if o != w && !o.out {
			if level := o.messages / o.weight; least < 0 || level < least {
				least = level
			}
		}
	}
	if least > 0 {
		w.messages = max(w.messages, least*w.weight)
	}
}

// hosts puts the addresses of a site in the order in which to try them: as the MX
// records say, but those last that did not answer of late. Only those count that the
// source can reach.
func (q *Queue) order(s *site, hosts []egress.Host, source netip.Addr) []egress.Host {
	now := q.time.now()
	var good, bad []egress.Host
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, h := range hosts {
		switch {
		case source.IsValid() && source.Unmap().Is4() != h.Addr.Addr().Unmap().Is4():
		case s.bad[h.Addr].until.After(now):
			bad = append(bad, h)
		default:
			good = append(good, h)
		}
	}
	good = append(good, bad...)
	return good[:min(len(good), maxHosts)]
}

// maxHosts bounds the addresses that one attempt tries (RFC 5321, section 5.1, lets
// there be a limit).
const maxHosts = 8

// answered remembers whether a host answered.
func (q *Queue) answered(s *site, h egress.Host, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ok {
		if len(s.bad) > 0 {
			delete(s.bad, h.Addr)
		}
		return
	}
	b := s.bad[h.Addr]
	b.fails++
	b.until = q.time.now().Add(min(time.Minute<<min(b.fails-1, 10), time.Hour))
	s.bad[h.Addr] = b
}

// sweep forgets what nothing needs any more: empty lanes, ready queues and sites, and
// domains that nobody has written to for a while.
func (q *Queue) sweep() {
	for from, more := 0, true; more; from += sweeping {
		q.mu.Lock()
		now := q.time.now()
		more = from+sweeping < len(q.domains)
		for _, d := range q.domains[min(from, len(q.domains)):min(from+sweeping, len(q.domains))] {
			if d != nil && d.refs == 0 && !d.asking && d.until < now.UnixMilli() {
				q.forgetDomain(d)
			}
		}
		q.mu.Unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.time.now()
	for k, s := range q.sites {
		for pool, rq := range s.queues {
			if q.empty(rq) {
				delete(s.queues, pool)
			}
		}
		for a, o := range s.outlets {
			if o.users == 0 && o.conns == 0 && !o.sent.busy(now) && !o.opened.busy(now) {
				delete(s.outlets, a)
			}
		}
		if s.refs == 0 && len(s.queues)+len(s.outlets) == 0 && s.rest < now.UnixMilli() && !s.messages.busy(now) && !s.rcpts.busy(now) {
			delete(q.sites, k)
		}
	}
}

// sweeping is how many domains are looked at while the lock is held.
const sweeping = 4096

// forgetDomain and empty are parts of sweep. The lock is held.
func (q *Queue) forgetDomain(d *domain) {
	delete(q.byDomain, d.domainKey)
	q.domains[d.number] = nil
	q.freeDomains = append(q.freeDomains, d.number)
	if d.site != nil {
		d.site.refs--
	}
}

// empty drops the empty lanes of a ready queue and reports whether nothing is left.
func (q *Queue) empty(rq *ready) bool {
	for f, ln := range rq.lanes {
		if ln.n == 0 {
			delete(rq.lanes, f)
			q.lanes[ln.number] = nil
			q.freeLanes = append(q.freeLanes, ln.number)
		}
	}
	if len(rq.lanes) > 0 || len(rq.workers) > 0 {
		return false
	}
	q.alarms.remove(rq)
	for _, w := range rq.ways {
		w.users--
	}
	rq.ways, rq.routing = nil, nil
	return true
}

// hostsOf asks for the addresses of a site by one of its domains, of the kinds that the
// sources of the ready queue can reach, and puts them in order for one source.
func (q *Queue) hostsOf(ctx context.Context, rq *ready, domain string, source netip.Addr) ([]egress.Host, error) {
	v4, v6 := !source.IsValid(), !source.IsValid()
	q.mu.Lock()
	for _, w := range rq.ways {
		v4 = v4 || w.source.Unmap().Is4()
		v6 = v6 || !w.source.Unmap().Is4()
	}
	q.mu.Unlock()
	hosts, err := q.o.Transport.Hosts(ctx, domain, v4, v6)
	if err != nil {
		return nil, err
	}
	if hosts = q.order(rq.site, hosts, source); len(hosts) == 0 {
		return nil, errFamily
	}
	return hosts, nil
}

// errFamily tells that a site has no address of the kind of the source.
var errFamily = errors.New("the destination has no address of the source's kind (IPv4 or IPv6)")
