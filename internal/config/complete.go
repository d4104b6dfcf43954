package config

import (
	"fmt"
	"slices"

	"postern.dev/postern/internal/policy"
)

// complete settles defaults and checks what only the whole configuration shows.
func (l *loader) complete() {
	if _, ok := l.single["node"]; !ok && len(l.files) > 0 && !l.diags.HasErrors() {
		l.add(l.beginning(), "no node block", "node { hostname = ... state = ... } (one attribute a line); postern init writes a whole file")
	}
	if l.cfg.Guard == "" {
		l.cfg.Guard = GuardHold
	}
	if l.cfg.Retry == (Retry{}) {
		l.cfg.Retry = defaultRetry()
	}
	if l.cfg.Suppression.Mode == "" {
		l.cfg.Suppression.Mode = SuppressionRefuse
	}
	l.pools()
	l.networks()
	l.doors()
	l.postmasters()
	l.providers()
	l.waivedFilters()
	l.signing()
}

func (l *loader) poolNames() (names []string) {
	for _, p := range l.topology.Pools {
		names = append(names, p.Name)
	}
	return names
}

// pools settles the default pool and checks the customers' ones.
func (l *loader) pools() {
	names := l.poolNames()
	n := &l.cfg.Node
	if n.DefaultPool == "" && len(names) == 1 {
		n.DefaultPool = names[0]
	}
	where := l.single["node"]
	switch {
	case n.DefaultPool != "" && !has(names, n.DefaultPool):
		l.add(where, fmt.Sprintf("default_pool: unknown pool %q", n.DefaultPool), didYouMean(n.DefaultPool, names))
	case n.DefaultPool == "" && len(names) > 1:
		l.add(where, "which pool is the default one?", "default_pool = \""+names[0]+"\"")
	}
	l.topology.DefaultPool, l.topology.Hostname = n.DefaultPool, n.Hostname
	for _, r := range l.poolRefs {
		if l.late(r.where) {
			return
		}
		if r.text != "" && !has(names, r.text) {
			l.add(r.where, fmt.Sprintf("unknown pool %q", r.text), didYouMean(r.text, names))
		}
	}
}

// networks checks that an address belongs to one party.
func (l *loader) networks() {
	cs := l.topology.Customers
	for i := range cs {
		where := l.names["customer "+cs[i].Name]
		if l.late(where) {
			return
		}
		for _, n := range cs[i].Networks {
			for j := range cs[:i] {
				for _, o := range cs[j].Networks {
					if n.Overlaps(o) {
						l.add(where, fmt.Sprintf("customer %q: network %s overlaps %s of customer %q", cs[i].Name, n, o, cs[j].Name), "whose mail would it be?")
					}
				}
			}
			for _, h := range l.topology.Inside {
				if h.Address.IsValid() && n.Contains(h.Address.Addr()) {
					l.add(where, fmt.Sprintf("customer %q: network %s holds inside host %q (%s)", cs[i].Name, n, h.Name, h.Address.Addr()), "an inside host is not a customer: narrow the network")
				}
			}
		}
	}
}

// doors warns of what cannot work.
func (l *loader) doors() {
	reach := len(l.cfg.Users) > 0
	for _, c := range l.topology.Customers {
		reach = reach || len(c.Networks) > 0
	}
	for i := range l.cfg.Listeners {
		if ln := &l.cfg.Listeners[i]; ln.From == policy.FromCustomers && !reach && len(l.topology.Inside) == 0 {
			l.warn(l.names["listener "+ln.Name], fmt.Sprintf("listener %q is for customers and there are none", ln.Name), `customer "NAME" { networks = [...] }`)
		}
	}
	if rp := l.cfg.Node.ReturnPath; rp != "" {
		covered := false
		for _, p := range l.topology.Accept {
			covered = covered || p.Match(policy.Address{Local: "x", Domain: rp})
		}
		if !covered {
			l.warn(l.single["node"], fmt.Sprintf("return_path %q is not accepted: no bounce can come back", rp), fmt.Sprintf("accept = [%q]", rp))
		}
	}
}

// postmasters lists the addresses at which strangers reach the postmaster: at the
// node's own name, and at each accepted domain that has no inside host to answer for it.
func (l *loader) postmasters() {
	t, n := &l.topology, &l.cfg.Node
	if n.Hostname == "" {
		return
	}
	to, err := policy.Normalise(n.Postmaster)
	if err != nil {
		l.add(l.single["node"], fmt.Sprintf("postmaster: %q is not an address", n.Postmaster), "local@domain")
		return
	}
	t.Postmaster = to
	domains := []string{n.Hostname}
	for _, p := range t.Accept {
		if p.Kind == policy.MatchDomain {
			domains = append(domains, p.Domain)
		}
	}
	for _, d := range domains {
		if a := (policy.Address{Local: "postmaster", Domain: d}); l.insideOf(a) == nil && !slices.Contains(t.Postmasters, a) {
			t.Postmasters = append(t.Postmasters, a)
		}
	}
	h := l.insideOf(to)
	switch {
	case slices.Contains(t.Postmasters, to), h == nil && slices.Contains(t.Sinks, to):
	case h == nil:
		l.warn(l.single["node"], fmt.Sprintf("postmaster %s is at no inside host: what strangers write to it is held in the queue", to), fmt.Sprintf("inside \"NAME\" { domains = [%q] ... }, or sinks = [%q]", to.Domain, to))
	case h.Resends:
		l.warn(l.single["node"], fmt.Sprintf("postmaster %s is at inside host %q, which sends on: what strangers write to it is held in the queue", to, h.Name), "let a host with resends = false take it")
	}
}

// insideOf gives the inside host for an address, nil where there is none.
func (l *loader) insideOf(a policy.Address) *policy.InsideHost {
	for i := range l.topology.Inside {
		for _, p := range l.topology.Inside[i].Domains {
			if p.Match(a) {
				return &l.topology.Inside[i]
			}
		}
	}
	return nil
}

// build makes the program. Its problems come last, for they rest on the rest.
func (l *loader) build() {
	p, problems := policy.NewUntil(l.filters, l.asserts, &l.topology, l.isLate)
	l.addProblems(problems)
	l.cfg.Program = p
}
