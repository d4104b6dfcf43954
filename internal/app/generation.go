package app

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
	"postern.dev/postern/internal/watch"
)

// generation is everything that one configuration decides. It is built as a whole
// and swapped as one pointer; it never changes.
type generation struct {
	cfg     *config.Config
	proof   *proof.Outcome
	ring    *stamp.Ring
	gateway *gateway.Generation
	routing *queue.Routing
	judge   *report.Judge
	sink    func(recipient string) bool
	shaping *shaping.Program
	certs   map[string]*tls.Certificate // by listener
	watched map[string]*watch.Rows
}

// build makes a generation. Whatever can fail has failed before or fails here,
// before anything is swapped.
func (a *App) build(cfg *config.Config, proved *proof.Outcome) (*generation, error) {
	ring, err := loadKeys(cfg.Node.Keys, a.o.Now, a.o.Random)
	if err != nil {
		return nil, err
	}
	certs, err := certificates(cfg)
	if err != nil {
		return nil, err
	}
	signing, err := newSigning(&cfg.Signing)
	if err != nil {
		return nil, err
	}
	g := &generation{cfg: cfg, proof: proved, ring: ring, certs: certs, watched: map[string]*watch.Rows{}}
	for i := range cfg.Watches {
		g.watched[cfg.Watches[i].Name] = WatchRows(cfg, &cfg.Watches[i])
	}
	g.gateway = &gateway.Generation{
		Version: cfg.Version, Hostname: cfg.Node.Hostname, Program: cfg.Program, Signing: signing,
		CustomerOf:     func(user string) string { return cfg.Users[user].Customer },
		CampaignHeader: cfg.Node.CampaignHeader, PriorityHeader: cfg.Node.PriorityHeader, Priority: priorities(cfg),
	}
	g.routing = routing(cfg)
	g.routing.Sign = signing.self(cfg.Node.Postmaster.Domain)
	if g.shaping, err = shaping.Compile(cfg.Shaping); err != nil {
		return nil, err
	}
	o := report.Options{Rows: a.ledger, Index: a.ledger, Seen: a.ledger, Ring: func() *stamp.Ring { return ring }, Since: a.since, Watched: a.ledger, Now: a.o.Now}
	JudgeOptions(cfg, &o)
	if len(cfg.Watches) > 0 {
		o.Complete = func() time.Time { return a.watches.complete() }
	}
	g.judge, g.sink = report.New(o), o.Sink
	return g, nil
}

// JudgeOptions sets what a judge takes from a configuration.
func JudgeOptions(cfg *config.Config, o *report.Options) {
	for _, p := range cfg.Providers {
		o.Providers = append(o.Providers, report.Provider(p))
	}
	o.Hostname, o.Sources, o.Hosts, o.Sink = cfg.Node.Hostname, ownSources(cfg), watchedHosts(cfg), declaredSink(cfg.Topology())
}

// declaredSink reports recipients to whom a stranger's mail may go.
func declaredSink(t *policy.Topology) func(recipient string) bool {
	return func(recipient string) bool {
		p, err := smtp.ParseMailbox(recipient)
		if err != nil {
			return false
		}
		n, err := policy.Normalise(p)
		return err == nil && t.DeclaredSink(n)
	}
}

// ownSources reports the addresses of the pools: mail from them is ours.
func ownSources(cfg *config.Config) func(netip.Addr) bool {
	own := map[netip.Addr]bool{}
	for _, p := range cfg.Topology().Pools {
		for _, s := range p.Sources {
			own[s.Unmap()] = true
		}
	}
	return func(a netip.Addr) bool { return own[a.Unmap()] }
}

// watchedHosts names the watches by how their servers call themselves.
func watchedHosts(cfg *config.Config) map[string]string {
	out := map[string]string{}
	for i := range cfg.Watches {
		if h := cfg.Watches[i].Hostname; h != "" {
			out[h] = cfg.Watches[i].Name
		}
	}
	return out
}

func routing(cfg *config.Config) *queue.Routing {
	p := cfg.Program
	r := &queue.Routing{
		Hostname: cfg.Node.Hostname, ReturnPath: cfg.Node.ReturnPath, Postmaster: cfg.Node.Postmaster,
		Pools: map[string][]queue.Source{}, DefaultPool: cfg.Node.DefaultPool, Inside: map[string]netip.AddrPort{}, InsideFor: p.InsideFor,
		Retry:   queue.Retry(cfg.Retry),
		TLS:     securities(cfg),
		Limits:  queue.Limits{Connections: cfg.Egress.Connections, PerSite: cfg.Egress.PerSite, Messages: cfg.Egress.Messages, Idle: cfg.Egress.Idle},
		Observe: cfg.Guard == config.GuardObserve,
		Relays: func(o policy.Origin, rcpt policy.Address, inside string) bool {
			return p.Relays(o, rcpt, inside) && !p.Topology.DeclaredSink(rcpt)
		},
	}
	for _, pool := range p.Topology.Pools {
		r.Pools[pool.Name] = weighted(pool.Sources, cfg.Weights[pool.Name])
	}
	for _, h := range p.Topology.Inside {
		r.Inside[h.Name] = h.Address
	}
	return r
}

// weighted gives a pool's sources their weights.
func weighted(sources []netip.Addr, weights map[netip.Addr]int) (out []queue.Source) {
	for _, a := range sources {
		s := queue.Source{Addr: a, Weight: 1}
		if w, said := weights[a]; said {
			if s.Weight = w; w == 0 {
				s.Weight = -1
			}
		}
		out = append(out, s)
	}
	return out
}

// priorities says how urgent mail is whose header does not: the listener's word goes
// before the customer's.
func priorities(cfg *config.Config) func(listener, customer string) spool.Priority {
	listeners, customers := map[string]spool.Priority{}, map[string]spool.Priority{}
	for i := range cfg.Listeners {
		if p, ok := spool.ParsePriority(cfg.Listeners[i].Priority); ok {
			listeners[cfg.Listeners[i].Name] = p
		}
	}
	for name, s := range cfg.Urgency {
		if p, ok := spool.ParsePriority(s); ok {
			customers[name] = p
		}
	}
	return func(listener, customer string) spool.Priority {
		if p, said := listeners[listener]; said {
			return p
		}
		return customers[customer]
	}
}

// credentials answers for AUTH from the generation in force.
type credentials struct{ app *App }

// Secret implements smtp.Credentials.
func (c credentials) Secret(user string) (smtp.Verifier, bool) { return c.app.now().cfg.Secret(user) }

// certificates reads every listener's, so that a renewed one comes into force with a
// reload, and a broken one keeps the reload out.
func certificates(cfg *config.Config) (map[string]*tls.Certificate, error) {
	out := map[string]*tls.Certificate{}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if l.TLS == nil {
			continue
		}
		cert, err := tls.LoadX509KeyPair(l.TLS.Certificate, l.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("listener %q: certificate: %w", l.Name, err)
		}
		out[l.Name] = &cert
	}
	return out, nil
}

// sameNode reports whether two configurations mean the same node, else what differs.
func sameNode(a, b *config.Node) (string, bool) {
	for _, p := range []struct{ name, was, is string }{
		{"hostname", a.Hostname, b.Hostname}, {"state", a.State, b.State}, {"socket", a.Socket, b.Socket}, {"admin", a.Admin, b.Admin},
		{"resolver", list(a.Resolver), list(b.Resolver)}, {"smtp_port", fmt.Sprint(a.SMTPPort), fmt.Sprint(b.SMTPPort)},
		{"log", a.LogFormat + " " + a.LogLevel, b.LogFormat + " " + b.LogLevel},
	} {
		if p.was != p.is {
			return fmt.Sprintf("%s of the node changes from %q to %q", p.name, p.was, p.is), false
		}
	}
	return "", true
}

// sameListeners reports whether two configurations listen alike, else what differs. A
// listener's addresses, AUTH, TLS and limits belong to its sockets and need a restart;
// its certificate does not.
func sameListeners(a, b *config.Config) (string, bool) {
	was, is := sockets(a), sockets(b)
	for name := range was {
		if _, there := is[name]; !there {
			return fmt.Sprintf("listener %q is gone", name), false
		}
	}
	for name, s := range is {
		old, there := was[name]
		switch {
		case !there:
			return fmt.Sprintf("listener %q is new", name), false
		case old.addresses != s.addresses:
			return fmt.Sprintf("listener %q moves from %s to %s", name, old.addresses, s.addresses), false
		case old != s:
			return fmt.Sprintf("listener %q changes its AUTH, TLS, PROXY or limits", name), false
		}
	}
	return "", true
}

// socket is what of a listener cannot change while it listens.
type socket struct {
	addresses, proxy, min string
	auth, tls, implicit   bool
	limits                smtp.Limits
}

func sockets(cfg *config.Config) map[string]socket {
	out := map[string]socket{}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		s := socket{addresses: list(l.Addresses), proxy: list(l.ProxyFrom), auth: l.Auth, limits: l.Limits}
		if l.TLS != nil {
			s.tls, s.implicit, s.min = true, l.TLS.Implicit, l.TLS.Min
		}
		out[l.Name] = s
	}
	return out
}

func list[T fmt.Stringer](xs []T) string {
	var parts []string
	for _, x := range xs {
		parts = append(parts, x.String())
	}
	return strings.Join(parts, ", ")
}
