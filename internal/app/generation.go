package app

import (
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
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
}

// build makes a generation. Whatever can fail has failed before or fails here,
// before anything is swapped.
func (a *App) build(cfg *config.Config, proved *proof.Outcome) (*generation, error) {
	ring, err := loadKeys(cfg.Node.Keys, a.o.Now, a.o.Random)
	if err != nil {
		return nil, err
	}
	g := &generation{cfg: cfg, proof: proved, ring: ring}
	g.gateway = &gateway.Generation{
		Version: cfg.Version, Hostname: cfg.Node.Hostname, Program: cfg.Program,
		CustomerOf: func(user string) string { return cfg.Users[user].Customer },
	}
	g.routing = routing(cfg)
	var providers []report.Provider
	for _, p := range cfg.Providers {
		providers = append(providers, report.Provider(p))
	}
	g.judge = report.New(report.Options{
		Rows: a.ledger, Index: a.ledger, Seen: a.ledger, Ring: func() *stamp.Ring { return ring },
		Hostname: cfg.Node.Hostname, Sources: ownSources(cfg), Providers: providers, Since: a.since,
	})
	return g, nil
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

func routing(cfg *config.Config) *queue.Routing {
	p := cfg.Program
	r := &queue.Routing{
		Hostname: cfg.Node.Hostname, ReturnPath: cfg.Node.ReturnPath, Postmaster: cfg.Node.Postmaster,
		Pools: map[string][]netip.Addr{}, DefaultPool: cfg.Node.DefaultPool, Inside: map[string]netip.AddrPort{}, InsideFor: p.InsideFor,
		Retry:   queue.Retry(cfg.Retry),
		Limits:  queue.Limits{Connections: cfg.Egress.Connections, PerSite: cfg.Egress.PerSite, Messages: cfg.Egress.Messages, Idle: 2 * time.Second},
		Observe: cfg.Guard == config.GuardObserve,
		Relays: func(o policy.Origin, rcpt policy.Address, inside string) bool {
			return p.Relays(o, rcpt, inside) && !p.Topology.DeclaredSink(rcpt)
		},
	}
	for _, pool := range p.Topology.Pools {
		r.Pools[pool.Name] = pool.Sources
	}
	for _, h := range p.Topology.Inside {
		r.Inside[h.Name] = h.Address
	}
	return r
}

// credentials answers for AUTH from the generation in force.
type credentials struct{ app *App }

// Secret implements smtp.Credentials.
func (c credentials) Secret(user string) (smtp.Verifier, bool) { return c.app.now().cfg.Secret(user) }

// sameListeners reports whether two configurations listen alike: a listener's address,
// TLS and limits belong to the socket and need a restart.
func sameListeners(a, b *config.Config) (string, bool) {
	var was, is []string
	for _, p := range []struct {
		out *[]string
		cfg *config.Config
	}{{&was, a}, {&is, b}} {
		for i := range p.cfg.Listeners {
			l := &p.cfg.Listeners[i]
			for _, addr := range l.Addresses {
				*p.out = append(*p.out, l.Name+" "+addr.String())
			}
		}
	}
	return "listeners were [" + strings.Join(was, ", ") + "] and would be [" + strings.Join(is, ", ") + "]", strings.Join(was, ",") == strings.Join(is, ",")
}
