package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/incident"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// version is set by the build.
var version = "development"

// Version names the build.
func Version() string {
	if version == "development" {
		if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			return bi.Main.Version
		}
	}
	return version
}

// Options are what an App is made of.
type Options struct {
	Path   string // of the configuration
	Config *config.Config
	Log    *slog.Logger
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time // time.After where nil: until a report is judged again
	Disk   spool.FS                             // of the spool; the state folder's where nil
	Stores ledger.FS                            // of the ledger's index and the suppression list; the disk where nil
	Random io.Reader
	By     string // who started it, for the ledger
	// Budget is how long a reload may take to read and prove a policy; 0 sets no limit.
	// Late tells when the start has taken too long; nil is never.
	Budget time.Duration
	Late   func() bool
	NoMail bool // opens no listener: logs are watched and reports read
	// Elsewhere sends every outgoing connection to another address, for rehearsals on
	// loopback; nil sends mail where it belongs.
	Elsewhere func(netip.AddrPort) netip.AddrPort
}

// closer is one thing that Stop takes down.
type closer struct {
	name string
	do   func(context.Context) error
}

// App is a node.
type App struct {
	o       Options
	log     *slog.Logger
	started time.Time
	since   time.Time // the ledger's first day
	current atomic.Pointer[generation]

	spool       *spool.Spool
	ledger      *ledger.Ledger
	journals    *journals
	resolver    *egress.Resolver
	book        *incident.Book
	queue       *queue.Queue
	shaping     *shaping.Shaping
	gateway     *gateway.Gateway
	intake      *intake
	suppression *suppression
	watches     *watches
	inboxes     *inboxes
	webhooks    *webhooks
	metrics     *metrics
	rates       *rates

	reload  sync.Mutex
	stack   []closer
	bound   []string
	failed  chan error // something that must not end has ended
	stopped sync.Once
}

// systemClock is the real time.
type systemClock struct {
	now   func() time.Time
	began time.Time // with a monotonic reading, whatever now is
}

func (c systemClock) Now() time.Time                       { return c.now() }
func (c systemClock) Elapsed() time.Duration               { return time.Since(c.began) }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// New opens the stores and wires everything; it serves nothing yet.
func New(ctx context.Context, o Options) (*App, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &App{o: o, log: o.Log, started: o.Now(), failed: make(chan error, 4), metrics: newMetrics()}
	a.rates = newRates(a)
	if err := a.wire(ctx); err != nil {
		return nil, errors.Join(err, a.Stop(ctx))
	}
	return a, nil
}

// now gives the generation in force.
func (a *App) now() *generation { return a.current.Load() }

func (a *App) push(name string, do func(context.Context) error) {
	a.stack = append(a.stack, closer{name, do})
}

func (a *App) wire(ctx context.Context) error {
	cfg := a.o.Config
	state := cfg.Node.State
	proved, err := prove(cfg, a.o.Now(), a.o.Late)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	if err := a.openStores(ctx, state); err != nil {
		return err
	}
	if err := a.firstDay(ctx); err != nil {
		return err
	}
	if a.resolver, err = egress.NewResolver(cfg.Node.Resolver, a.o.Now); err != nil {
		return err
	}
	g, err := a.build(cfg, proved)
	if err != nil {
		return err
	}
	a.current.Store(g)
	if err := a.openShaping(ctx, g.shaping); err != nil {
		return err
	}
	a.book, err = incident.Load(ctx, incident.Options{Records: a.ledger, Commit: a.commitEvents, Now: a.o.Now})
	if err != nil {
		return err
	}
	acts, err := a.ledger.Acts(ctx, time.Time{})
	if err != nil {
		return err
	}
	a.wireMail(cfg, acts)
	a.watches, a.inboxes = newWatches(a), newInboxes(a)
	a.push("webhooks", func(context.Context) error { a.webhooks.stop(); return nil })
	if err := a.webhooks.apply(cfg.Webhooks); err != nil {
		return err
	}
	if err := a.missedTrips(ctx); err != nil {
		return err
	}
	a.metrics.registry.MustRegister(newProofMetrics(a), newNeighbourMetrics(a), newJournalMetrics(a.journals), newWatchMetrics(a.watches), newWebhookMetrics(a.webhooks))
	a.metrics.stores(a)
	a.rates.start()
	a.push("rates", func(context.Context) error { a.rates.stop(); return nil })
	a.logProof(cfg, proved)
	return a.commitEvents(ctx, &ledger.PolicyLoaded{Time: a.o.Now(), Policy: cfg.Version, By: a.o.By, Files: cfg.Files, Filters: len(cfg.Program.Filters), Guard: string(cfg.Guard), Reason: "start"})
}

// openStores opens spool and ledger and sets the one to follow the other.
func (a *App) openStores(ctx context.Context, state string) error {
	sp, rec, err := spool.Open(ctx, spool.Options{Dir: filepath.Join(state, "spool"), FS: a.o.Disk, Log: a.log, Now: a.o.Now, Failed: a.spoolFailed,
		Synced: func(took time.Duration) { a.metrics.sync.Observe(took.Seconds()) }})
	if err != nil {
		return err
	}
	a.spool = sp
	a.push("spool", func(context.Context) error { return sp.Close() })
	a.log.Info("spool open", "records", rec.Records, "messages", rec.Messages, "torn", rec.Torn, "corrupt", len(rec.Corrupt))
	l, err := ledger.Open(filepath.Join(state, "ledger"), ledger.Options{FS: a.o.Stores, Log: a.log, Now: a.o.Now, Failed: a.fail})
	if err != nil {
		return err
	}
	a.ledger = l
	a.push("ledger", func(context.Context) error { return l.Close() })
	if err := a.openSuppression(state); err != nil {
		return err
	}
	a.webhooks = newWebhooks(a)
	a.journals = newJournals(a, sp)
	a.push("log files that did not start", func(context.Context) error { a.journals.close(); return nil })
	for _, f := range a.o.Config.LogFiles {
		if _, err := a.journals.open(f); err != nil {
			return err
		}
	}
	follow, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := l.Follow(follow, suppressing{source{sp, a.journals, a.metrics, a.rates}, a.suppression})
		done <- err
		if follow.Err() == nil {
			a.fail(fmt.Errorf("ledger no longer follows the spool: %w", err))
		}
	}()
	a.push("ledger follower", func(ctx context.Context) error {
		err := l.CaughtUp(ctx, sp.Durable())
		cancel()
		<-done
		return err
	})
	if err := l.CaughtUp(ctx, sp.Durable()); err != nil {
		return err
	}
	// What a former run has left behind is in the ledger now: let its segments go at
	// once, so that a node that restarts often does not gather them.
	pos, err := l.Flush()
	if err != nil {
		return err
	}
	a.journals.indexed(pos)
	for _, r := range a.journals.all() {
		r.start()
	}
	a.push("log files", func(ctx context.Context) error {
		// What was promised before it is durable then, so that ledger and log files have
		// it. On a full disk that has to wait for the next start.
		_, _ = sp.Commit(ctx, &spool.Batch{})
		a.journals.close()
		return nil
	})
	return nil
}

// source counts events on their way into the ledger.
type source struct {
	*spool.Spool
	journals *journals
	metrics  *metrics
	rates    *rates
}

// Forget implements ledger.Source: the log files have a say.
func (s source) Forget(upto uint64) { s.journals.indexed(upto) }

// Read implements ledger.Source.
func (s source) Read(ctx context.Context, from uint64, most int) ([][]byte, uint64, error) {
	events, next, err := s.Spool.Read(ctx, from, most)
	for _, e := range events {
		if len(e) > 0 {
			s.metrics.event(e[0])
			s.rates.event(e)
		}
	}
	return events, next, err
}

// firstDay finds since when the ledger knows what went out: its first policy.
func (a *App) firstDay(ctx context.Context) error {
	ps, err := a.ledger.Policies(ctx)
	if err != nil {
		return err
	}
	a.since = a.o.Now()
	if len(ps) > 0 {
		a.since = ps[0].Time
	}
	return nil
}

// wireMail makes the rooms that mail passes through.
func (a *App) wireMail(cfg *config.Config, acts []ledger.Admin) {
	own := map[netip.AddrPort]bool{}
	for _, l := range cfg.Listeners {
		for _, ap := range l.Addresses {
			own[ap] = true
		}
	}
	transport := &egress.Transport{Resolver: a.resolver, Port: cfg.Node.SMTPPort, Hostname: cfg.Node.Hostname,
		TLS: &tls.Config{MinVersion: tls.VersionTLS10, InsecureSkipVerify: true}, // opportunistic: any TLS is better than none (RFC 7435)
		Now: a.o.Now, Own: func(ap netip.AddrPort) bool { return own[ap] }, Elsewhere: a.o.Elsewhere}
	ring := func() *stamp.Ring { return a.now().ring }
	a.intake = newIntake(a)
	a.queue = queue.New(queue.Options{Store: a.spool, Transport: transport, Gate: a.book, Routing: func() *queue.Routing { return a.now().routing },
		Ring: ring, OnGuard: a.onGuard, Clock: systemClock{a.o.Now, time.Now()}, Random: a.o.Random, Log: a.log, Orders: slices.Values(acts), Shaper: a.shaping,
		Suppressed: a.suppression.withholds, Suppress: a.suppression.byRule, Classify: a.suppression.classify})
	a.gateway = gateway.New(gateway.Options{Meter: a.metrics, Sound: a.broken, Generation: func() *gateway.Generation { return a.now().gateway }, Store: a.spool, Outbound: a.queue, Gate: a.book,
		Memory: caughtUp{a}, Ring: ring, Consume: a.intake.add, Bounce: a.queue.Bounce, Suppressed: a.suppression.refuses, Authentication: authentication{a}, Namer: a.reverseName, Now: a.o.Now, Random: a.o.Random, Log: a.log})
}

// caughtUp looks up only after the ledger has seen everything committed so far: what
// an inside host sends on may have come in a moment ago.
type caughtUp struct{ a *App }

// Accepted implements gateway.Memory.
func (c caughtUp) Accepted(ctx context.Context, id smtp.ID) (*ledger.Accepted, error) {
	if err := c.a.ledger.CaughtUp(ctx, c.a.spool.Durable()); err != nil {
		return nil, err
	}
	return c.a.ledger.Accepted(ctx, id)
}

// ByMessageID implements gateway.Memory.
func (c caughtUp) ByMessageID(ctx context.Context, mid string) ([]smtp.ID, error) {
	if err := c.a.ledger.CaughtUp(ctx, c.a.spool.Durable()); err != nil {
		return nil, err
	}
	return c.a.ledger.ByMessageID(ctx, mid)
}

// commitEvents makes events durable and waits until the ledger has them.
func (a *App) commitEvents(ctx context.Context, events ...ledger.Event) error {
	b := &spool.Batch{}
	for _, e := range events {
		b.Events = append(b.Events, ledger.Encode(e))
	}
	pos, err := a.spool.Commit(ctx, b)
	if err != nil {
		return err
	}
	return a.ledger.CaughtUp(ctx, uint64(pos))
}

// onGuard tells people, and opens an incident where mail was held.
func (a *App) onGuard(g ledger.GuardTripped) {
	a.metrics.guard.Inc()
	if g.Observed {
		a.log.Warn("relay guard would hold", "id", g.ID.String(), "listener", g.Path.Listener, "filter", g.Path.Filter, "peer", g.Peer.String())
		return
	}
	s, opened, err := a.book.Guard(context.Background(), &g)
	if err != nil {
		a.log.Error("incident not opened", "err", err)
		return
	}
	if opened {
		a.log.Error("incident opened", "incident", s.ID, "trigger", "guard", "listener", g.Path.Listener, "filter", g.Path.Filter, "peer", g.Peer.String(), "policy", g.Policy)
	}
}

// Start begins to serve.
func (a *App) Start(ctx context.Context) error {
	if err := a.start(ctx); err != nil {
		return errors.Join(err, a.Stop(ctx))
	}
	return nil
}

func (a *App) start(ctx context.Context) error {
	a.intake.start()
	a.push("report intake", func(context.Context) error { a.intake.stop(); return nil })
	a.queue.Start()
	a.push("queue", func(ctx context.Context) error { a.queue.Stop(ctx); return nil })
	a.push("watches", func(context.Context) error { a.watches.stop(func(string) bool { return true }); return nil })
	if err := a.watches.apply(ctx, a.now().cfg.Watches); err != nil {
		return err
	}
	a.push("intakes", func(context.Context) error { a.inboxes.stop(); return nil })
	if err := a.inboxes.apply(a.now().cfg.Intakes); err != nil {
		return err
	}
	if err := a.serveAdmin(); err != nil {
		return err
	}
	cfg := a.now().cfg
	for i := range cfg.Listeners {
		if a.o.NoMail {
			break
		}
		if err := a.listen(&cfg.Listeners[i]); err != nil {
			return err
		}
	}
	return nil
}

// listen opens the sockets of one listener.
func (a *App) listen(l *config.Listener) error {
	s := &smtp.Server{Hostname: a.now().cfg.Node.Hostname, Backend: a.gateway.Listener(l.Name, l.Auth), Limits: l.Limits, ProxyFrom: l.ProxyFrom,
		Log: a.log.With("listener", l.Name)} // its clock is the sockets': deadlines are in real time
	if l.TLS != nil {
		name := l.Name
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.now().certs[name], nil }}
		if l.TLS.Min == "1.3" {
			s.TLS.MinVersion = tls.VersionTLS13
		}
		s.ImplicitTLS = l.TLS.Implicit
	}
	if l.Auth {
		s.Credentials = credentials{a}
	}
	for _, addr := range l.Addresses {
		nl, err := net.Listen("tcp", addr.String())
		if err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
		a.bound = append(a.bound, l.Name+" "+nl.Addr().String())
		a.serve(l.Name, s, nl)
	}
	a.push("listener "+l.Name, s.Shutdown)
	return nil
}

func (a *App) serve(name string, s *smtp.Server, nl net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(context.Background(), nl); !errors.Is(err, smtp.ErrServerClosed) {
			a.fail(fmt.Errorf("listener %q: %w", name, err))
		}
	}()
	a.push("socket "+name, func(context.Context) error { <-done; return nil })
}

// fail tells of something that must not have ended. The first is enough to stop for.
func (a *App) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// Failed gives what must not have ended; a node that it happens to should stop.
func (a *App) Failed() <-chan error { return a.failed }

// Stop takes everything down in the reverse order of its making. It may be called
// again. What still runs when ctx ends is broken off.
func (a *App) Stop(ctx context.Context) error {
	var errs []error
	a.stopped.Do(func() {
		for i := len(a.stack) - 1; i >= 0; i-- {
			if err := a.stack[i].do(ctx); err != nil && !errors.Is(err, context.Canceled) {
				errs = append(errs, fmt.Errorf("stop %s: %w", a.stack[i].name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// Reload reads the configuration again, checks and builds everything, and only then
// swaps it in. Running sessions finish on the policy that they began with. On an
// error everything stays as it was.
func (a *App) Reload(ctx context.Context, req ReloadRequest) (*Reloaded, error) {
	a.reload.Lock()
	defer a.reload.Unlock()
	path := a.o.Path
	if req.File != "" && !sameFile(req.File, path) {
		return nil, fmt.Errorf("reload %s: this node was started with %s", req.File, path)
	}
	late := Late(a.o.Budget)
	cfg, diags := config.Load(path, config.Options{Now: a.o.Now, Late: late})
	if diags.HasErrors() {
		var b strings.Builder
		diags.Write(&b, false)
		return nil, fmt.Errorf("reload %s: %s; the running policy stays\n%s", path, diags.Count(), b.String())
	}
	old := a.now()
	what, same := sameNode(&old.cfg.Node, &cfg.Node)
	if same {
		what, same = sameListeners(old.cfg, cfg)
	}
	if !same {
		return nil, fmt.Errorf("reload %s: %s, which needs a restart; the running policy stays", path, what)
	}
	proved, err := prove(cfg, a.o.Now(), late)
	if err != nil {
		return nil, fmt.Errorf("reload %s: the running policy stays: %w", path, err)
	}
	g, err := a.build(cfg, proved)
	if err != nil {
		return nil, fmt.Errorf("reload %s: %w; the running policy stays", path, err)
	}
	if err := a.journals.apply(cfg.LogFiles); err != nil {
		return nil, fmt.Errorf("reload %s: %w; the running policy stays", path, err)
	}
	e := &ledger.PolicyLoaded{Time: a.o.Now(), Policy: cfg.Version, By: req.By, Files: cfg.Files, Filters: len(cfg.Program.Filters), Guard: string(cfg.Guard), Reason: req.Reason}
	if err := a.commitEvents(ctx, e); err != nil {
		return nil, fmt.Errorf("reload %s: %w; the running policy stays", path, err)
	}
	a.current.Store(g)
	a.shaping.Load(g.shaping)
	a.queue.Reconsider()
	if err := a.watches.apply(ctx, cfg.Watches); err != nil {
		a.log.Error("watch does not follow", "err", err)
	}
	if err := a.webhooks.apply(cfg.Webhooks); err != nil {
		a.log.Error("webhook does not follow", "err", err)
	}
	if err := a.inboxes.apply(cfg.Intakes); err != nil {
		a.log.Error("intake does not follow", "err", err)
	}
	a.suppression.list.KeepHashesOnly(cfg.Suppression.Hashed)
	a.logProof(cfg, proved)
	a.log.Info("policy loaded", "policy", cfg.Version, "filters", len(cfg.Program.Filters), "by", req.By, "reason", req.Reason)
	out := &Reloaded{Policy: cfg.Version, Filters: len(cfg.Program.Filters)}
	for i := range diags {
		out.Diagnostics = append(out.Diagnostics, "warning: "+diags[i].Error())
	}
	return out, nil
}

// sameFile reports whether two names mean one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// Bound lists the listeners' names and addresses.
func (a *App) Bound() []string { return a.bound }
