package queue_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
	"postern.dev/postern/internal/stamp"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// patience bounds every wait of these tests; nothing waits for it but a failure.
const patience = 20 * time.Second

// clock is turned by hand.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	timers  []timer
	changed chan struct{}
}

type timer struct {
	at time.Time
	c  chan time.Time
}

func newClock() *clock { return &clock{now: epoch, changed: make(chan struct{})} }

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) Elapsed() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.now.Sub(epoch) }

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := timer{c.now.Add(d), make(chan time.Time, 1)}
	c.timers = append(c.timers, t)
	close(c.changed)
	c.changed = make(chan struct{})
	return t.c
}

// await waits until somebody waits for exactly that time.
func (c *clock) await(tb testing.TB, at time.Time) {
	tb.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		there, changed := slices.ContainsFunc(c.timers, func(t timer) bool { return t.at.Equal(at) }), c.changed
		c.mu.Unlock()
		if there {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			tb.Fatalf("nobody waits for %s", at)
		}
	}
}

// turn moves the clock to a time, once somebody waits for exactly that.
func (c *clock) turn(tb testing.TB, to time.Time) {
	tb.Helper()
	c.await(tb, to)
	c.advance(to.Sub(c.Now()))
}

// advance moves the clock without waiting for anybody.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.timers = slices.DeleteFunc(c.timers, func(t timer) bool {
		if !t.at.After(c.now) {
			t.c <- c.now
		}
		return !t.at.After(c.now)
	})
}

// store is a spool that also keeps the ledger's events for the test.
type store struct {
	*spool.Spool
	onList func() // called after the first list was made and before it is gone through

	mu     sync.Mutex
	events []ledger.Event
	more   chan struct{}
}

func (s *store) note(b *spool.Batch, err error) {
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, raw := range b.Events {
		e, err := ledger.Decode(raw)
		if err != nil {
			panic(err)
		}
		s.events = append(s.events, e)
	}
	close(s.more)
	s.more = make(chan struct{})
}

func (s *store) Commit(ctx context.Context, b *spool.Batch) (spool.Position, error) {
	p, err := s.Spool.Commit(ctx, b)
	s.note(b, err)
	return p, err
}

func (s *store) Submit(b *spool.Batch) error {
	err := s.Spool.Submit(b)
	s.note(b, err)
	return err
}

func (s *store) Stock(yield func(spool.Entry) bool) {
	var all []spool.Entry
	s.Spool.List(func(e spool.Entry) bool { all = append(all, e); return true })
	if s.onList != nil {
		s.onList()
	}
	for _, e := range all {
		if !yield(e) {
			return
		}
	}
}

func (s *store) seen() []ledger.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// gate holds a pool while it is shut.
type gate struct {
	mu   sync.Mutex
	pool string
}

func (g *gate) shut(pool string) { g.mu.Lock(); defer g.mu.Unlock(); g.pool = pool }

func (g *gate) Holds(_, _, _ string, _ netip.Addr, pool string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return "inc-1", g.pool != "" && g.pool == pool
}

// locked makes a random source that many may read.
type locked struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *locked) Read(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.r.Read(p) }

// delivery is a message as a peer took it.
type delivery struct {
	source   netip.Addr
	from, to string
	text     string
	all      []string // recipients of the transaction
}

// peer is an SMTP server at the other end of a pipe. Its hooks give the reply to a
// command; "" ends the connection instead, and no hook means yes.
type peer struct {
	ehlo string // extensions, each on a line of its own
	mail func(nth int) string
	from func(source netip.Addr) string // to MAIL
	rcpt func(to string) string
	data func(to string) string
	end  func(to string) string // to the end of data; the message counts where it is positive
	took func(delivery) string  // the same, with all of it
	told func(delivery, bool)   // whether the reply to the end of data has arrived

	mu        sync.Mutex
	open, top int
	each      []int // transactions of each connection
	got       []delivery
	heard     []string // MAIL and RCPT commands as they came
	behind    int      // messages with whose end more came
}

// internet is where the queue's transport goes.
type internet struct {
	mu      sync.Mutex
	mx      map[string]string // domain -> the one whose hosts take its mail
	hosts   map[string][]egress.Host
	faults  map[string]error
	peers   map[netip.AddrPort]*peer
	sources []netip.Addr                             // of each connection, in order
	dialing func(context.Context, egress.Host) error // comes before each connection
	live    map[net.Conn]bool
	dials   int
	open    int
	top     int // connections at once
	wg      sync.WaitGroup
}

// add makes a host of a domain, behind those it has; a nil peer refuses connections.
func (n *internet) add(domain string, p *peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(len(n.peers) + 1)}), 25)
	n.hosts[domain] = append(n.hosts[domain], egress.Host{Name: fmt.Sprintf("mx%d.%s", len(n.hosts[domain])+1, domain), Addr: a})
	n.peers[a] = p
}

func (n *internet) MX(_ context.Context, domain string) (names []string, err error) {
	hosts, err := n.Hosts(context.Background(), domain, true, true)
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	return names, err
}

func (n *internet) Hosts(_ context.Context, domain string, _, _ bool) ([]egress.Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if other := n.mx[domain]; other != "" {
		domain = other
	}
	if err := n.faults[domain]; err != nil {
		return nil, err
	}
	if n.hosts[domain] == nil {
		return nil, egress.ErrNoDomain
	}
	return n.hosts[domain], nil
}

func (n *internet) Dial(ctx context.Context, source netip.Addr, h egress.Host) (*egress.Conn, error) {
	n.mu.Lock()
	n.dials++
	n.sources = append(n.sources, source)
	p, dialing := n.peers[h.Addr], n.dialing
	if dialing != nil {
		n.mu.Unlock()
		if err := dialing(ctx, h); err != nil {
			return nil, err
		}
		n.mu.Lock()
	}
	if p == nil {
		n.mu.Unlock()
		return nil, fmt.Errorf("connect to %s: %w", h.Name, syscall.ECONNREFUSED)
	}
	n.open++
	n.top = max(n.top, n.open)
	n.mu.Unlock()
	ours, theirs := net.Pipe()
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		n.mu.Lock()
		n.live[theirs] = true
		n.mu.Unlock()
		p.serve(theirs, source, func() { n.mu.Lock(); n.open--; delete(n.live, theirs); n.mu.Unlock() })
	}()
	c, err := smtp.NewClient(ctx, ours, smtp.Timeouts{})
	if err == nil {
		err = c.Hello(ctx, "gw.esp.example")
	}
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &egress.Conn{Client: c, Host: h, Source: source}, nil
}

// reset ends all connections at once, whatever is going on in them.
func (n *internet) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.live {
		c.Close()
	}
}

// serve talks to one client; it calls left right before the connection ends, so that
// whoever reads our last reply counts it no more.
func (p *peer) serve(nc net.Conn, source netip.Addr, left func()) {
	defer nc.Close()
	p.mu.Lock()
	p.open++
	p.top = max(p.top, p.open)
	p.each = append(p.each, 0)
	number := len(p.each) - 1
	p.mu.Unlock()
	s := &talk{p: p, number: number, source: source, r: bufio.NewReader(nc), w: nc}
	s.leave = sync.OnceFunc(func() { p.mu.Lock(); p.open--; p.mu.Unlock(); left() })
	defer s.leave()
	s.say("220 peer")
	for s.command() {
	}
}

// talk is one connection of a peer.
type talk struct {
	p        *peer
	number   int
	source   netip.Addr
	r        *bufio.Reader
	w        io.Writer
	leave    func()
	from, to string
	all      []string
}

func (s *talk) say(line string) bool {
	if line == "" {
		return false
	}
	_, err := io.WriteString(s.w, line+"\r\n")
	return err == nil && !strings.HasPrefix(line, "421")
}

func ask(hook func(string) string, arg string) string {
	if hook == nil {
		return "250 2.0.0 yes"
	}
	return hook(arg)
}

func (s *talk) command() bool {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return false
	}
	verb, arg, _ := strings.Cut(strings.TrimSpace(line), ":")
	if verb == "MAIL FROM" || verb == "RCPT TO" {
		s.p.mu.Lock()
		s.p.heard = append(s.p.heard, strings.TrimSpace(line))
		s.p.mu.Unlock()
	}
	switch arg = strings.TrimPrefix(arg, "<"); {
	case strings.HasPrefix(verb, "EHLO"):
		s.say("250-peer")
		for ext := range strings.Lines(s.p.ehlo) {
			if !s.say("250-" + strings.TrimSpace(ext)) {
				return false
			}
		}
		return s.say("250 8BITMIME")
	case verb == "MAIL FROM":
		s.from, _, _ = strings.Cut(arg, ">")
		s.to, s.all = "", nil
		s.p.mu.Lock()
		s.p.each[s.number]++
		n := s.p.each[s.number]
		s.p.mu.Unlock()
		if s.p.from != nil {
			return s.say(s.p.from(s.source))
		}
		if s.p.mail != nil {
			return s.say(s.p.mail(n))
		}
		return s.say("250 2.0.0 yes")
	case verb == "RCPT TO":
		to, _, _ := strings.Cut(arg, ">")
		reply := ask(s.p.rcpt, to)
		if strings.HasPrefix(reply, "2") {
			s.to = to
			s.all = append(s.all, to)
		}
		return s.say(reply)
	case verb == "DATA":
		return s.data()
	case verb == "QUIT":
		s.leave()
		s.say("221 bye")
		return false
	}
	return s.say("250 2.0.0 " + verb)
}

func (s *talk) data() bool {
	if s.to == "" {
		return s.say("503 5.5.1 no recipients")
	}
	if s.p.data != nil {
		if r := s.p.data(s.to); !strings.HasPrefix(r, "354") {
			return s.say(r)
		}
	}
	s.say("354 go ahead")
	var text strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			if s.r.Buffered() > 0 {
				s.p.mu.Lock()
				s.p.behind++
				s.p.mu.Unlock()
			}
			break
		}
		text.WriteString(strings.TrimPrefix(line, "."))
	}
	d := delivery{s.source, s.from, s.to, text.String(), s.all}
	if s.p.took != nil {
		reply := s.p.took(d)
		ok := s.say(reply)
		s.p.told(d, ok && strings.HasPrefix(reply, "2"))
		return ok
	}
	reply := ask(s.p.end, s.to)
	if strings.HasPrefix(reply, "2") {
		s.p.mu.Lock()
		s.p.got = append(s.p.got, d)
		s.p.mu.Unlock()
	}
	return s.say(reply)
}

func (p *peer) commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

func (p *peer) received() []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// world is a queue with everything around it.
type world struct {
	t       *testing.T
	fs      *faultfs.FS
	store   *store
	clock   *clock
	net     *internet
	gate    *gate
	routing *queue.Routing // taken over by open
	loaded  atomic.Pointer[queue.Routing]
	q       *queue.Queue
	random  io.Reader
	options queue.Options                               // of what may be left out
	listed  []string                                    // on suppression lists
	acts    []ledger.Admin                              // of all runs
	around  func(*store) (queue.Store, queue.Transport) // what stands between these and the queue
	trips   chan ledger.GuardTripped
	next    int
}

// newWorld makes a queue that is not started yet; seed is for its jitter.
func newWorld(t *testing.T, seed byte) *world {
	t.Helper()
	w := &world{t: t, fs: faultfs.New(), clock: newClock(), gate: &gate{}, random: &locked{r: rand.NewChaCha8([32]byte{seed})}, trips: make(chan ledger.GuardTripped, 100),
		net: &internet{hosts: map[string][]egress.Host{}, faults: map[string]error{}, peers: map[netip.AddrPort]*peer{}, live: map[net.Conn]bool{}}}
	w.routing = &queue.Routing{
		Hostname: "gw.esp.example", ReturnPath: "bounce.esp.example", Postmaster: smtp.Path{Local: "postmaster", Domain: "esp.example"},
		Pools:       map[string][]queue.Source{"general": {{Addr: netip.MustParseAddr("198.51.100.1")}, {Addr: netip.MustParseAddr("198.51.100.2")}}, "other": {{Addr: netip.MustParseAddr("198.51.100.9")}}},
		DefaultPool: "general", Inside: map[string]netip.AddrPort{}, InsideFor: func(policy.Address) string { return "" },
		Retry:  queue.Retry{First: time.Minute, Factor: 2, Max: 10 * time.Minute, Jitter: 0.2, Expire: time.Hour},
		Limits: queue.Limits{Connections: 100, PerSite: 10, Messages: 100, Idle: 2 * time.Second},
		Relays: func(policy.Origin, policy.Address, string) bool { return false },
	}
	w.open()
	t.Cleanup(func() { w.stop(); _ = w.store.Close(); w.net.wg.Wait() })
	return w
}

// open opens the spool and makes a queue over it.
func (w *world) open() {
	w.t.Helper()
	s, _, err := spool.Open(w.t.Context(), spool.Options{FS: w.fs, SegmentSize: 24 << 10, InlineBody: 64 << 10, Reserve: 1, Now: w.now, Elapsed: w.elapsed})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = &store{Spool: s, more: make(chan struct{})}
	ring, err := stamp.NewRing([]stamp.Key{{ID: 1, Secret: make([]byte, 32), Created: epoch}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.loaded.Store(w.routing)
	o := w.options
	o.Gate, o.Random, o.Orders = w.gate, w.random, slices.Values(w.acts)
	o.Store, o.Transport = w.store, w.net
	if w.around != nil {
		o.Store, o.Transport = w.around(w.store)
	}
	if o.Clock == nil {
		o.Clock = w.clock
	}
	o.Routing, o.Ring, o.OnGuard = w.loaded.Load, func() *stamp.Ring { return ring }, func(g ledger.GuardTripped) { w.trips <- g }
	w.q = queue.New(o)
}

// now is the time of day.
func (w *world) now() time.Time {
	if w.options.Clock != nil {
		return w.options.Clock.Now()
	}
	return w.clock.Now()
}

func (w *world) elapsed() time.Duration {
	if w.options.Clock != nil {
		return w.options.Clock.Elapsed()
	}
	return w.clock.Elapsed()
}

func (w *world) suppress(s string) {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.listed = append(w.listed, s)
}

func (w *world) suppressed() []string {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return slices.Clone(w.listed)
}

// reopen makes the queue anew, which has not been started, with other options.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// setRouting loads another configuration.
func (w *world) setRouting(r *queue.Routing) { w.routing = r; w.loaded.Store(r) }

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.q.Stop(ctx)
	if ctx.Err() != nil {
		w.t.Error("the queue did not stop by itself")
	}
}

// restart stops the queue, opens the spool again and starts a new queue.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range w.store.seen() {
		if a, ok := e.(*ledger.Admin); ok {
			w.acts = append(w.acts, *a)
		}
	}
	w.open()
	w.q.Start()
}

// message makes a customer's message to the given recipients; change alters it.
func (w *world) message(change func(*spool.Message), to ...string) *spool.Message {
	w.next++
	m := &spool.Message{ID: smtp.NewID(w.clock.Now(), [6]byte{1, byte(w.next >> 16), byte(w.next >> 8), byte(w.next)}), Accepted: w.clock.Now(),
		From: smtp.Path{Local: "news", Domain: "acme.example"}, Origin: string(policy.Customer), Customer: "acme", Listener: "injection", Peer: "10.1.0.1", Policy: "p1"}
	for _, a := range to {
		local, domain, _ := strings.Cut(a, "@")
		m.Recipients = append(m.Recipients, spool.Recipient{To: smtp.Path{Local: local, Domain: domain}, Pool: "general"})
	}
	if change != nil {
		change(m)
	}
	return m
}

// commit makes a message durable without telling the queue.
func (w *world) commit(m *spool.Message) {
	w.t.Helper()
	b := w.store.NewBody()
	if _, err := io.WriteString(b, "Subject: "+m.ID.String()+"\r\n\r\nhello\r\n"); err != nil {
		w.t.Fatal(err)
	}
	m.Size = b.Size()
	if _, err := w.store.Commit(w.t.Context(), &spool.Batch{Message: m, Body: b}); err != nil {
		w.t.Fatal(err)
	}
}

// send commits a message and gives it to the queue, as the gateway does.
func (w *world) send(change func(*spool.Message), to ...string) *spool.Message {
	w.t.Helper()
	m := w.message(change, to...)
	w.commit(m)
	w.q.Add(m)
	return m
}

// await waits until the events since the last opening satisfy ok.
func (w *world) await(what string, ok func([]ledger.Event) bool) {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		w.store.mu.Lock()
		more, done := w.store.more, ok(w.store.events)
		w.store.mu.Unlock()
		if done {
			return
		}
		select {
		case <-more:
		case <-timeout:
			w.t.Fatalf("there was no %s; the events are\n%s", what, describe(w.store.seen()))
		}
	}
}

// awaitKind waits for the n-th event of a kind and gives it.
func awaitKind[E ledger.Event](w *world, n int) (e E) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d. %T", n, e), func(all []ledger.Event) bool {
		k := 0
		for _, x := range all {
			if y, ok := x.(E); ok {
				if k++; k == n {
					e = y
					return true
				}
			}
		}
		return false
	})
	return e
}

func count[E ledger.Event](w *world) (n int) {
	for _, e := range w.store.seen() {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

func describe(events []ledger.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "  %s %+v\n", e.Kind(), e)
	}
	return b.String()
}

// states gives what the spool says of a message, once everything submitted is durable;
// nil where the message is gone.
func (w *world) states(id smtp.ID) []spool.RecipientState {
	w.t.Helper()
	if _, err := w.store.Spool.Commit(w.t.Context(), &spool.Batch{Events: [][]byte{ledger.Encode(&ledger.Admin{Time: epoch})}}); err != nil {
		w.t.Fatal(err)
	}
	st, err := w.store.State(id)
	if err != nil {
		return nil
	}
	return st
}
