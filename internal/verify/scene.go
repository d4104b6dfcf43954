package verify

import (
	"net/netip"
	"slices"

	"postern.dev/postern/internal/policy"
)

// scene is a sort of session: an origin, with what is settled by it before any
// filter runs.
type scene struct {
	origin    policy.Origin
	listeners []string // where such a session can begin, sorted
	host      *policy.InsideHost
	pre       *form // what holds of every message of the scene past the door
}

// stranger is the scene of everybody for whom nobody vouches. A listener for
// customers refuses him before any filter.
func (v *prover) stranger() *scene {
	sc := &scene{origin: policy.Stranger}
	for _, l := range v.top.Listeners {
		if l.From == policy.FromStrangers {
			sc.listeners = append(sc.listeners, l.Name)
		}
	}
	slices.Sort(sc.listeners)
	pre := []*form{v.inListeners(sc), not(v.matchAny(v.reports(), rcptTerm))}
	pre = append(pre, v.matchAny(v.top.Accept, rcptTerm))
	var hosts []netip.Prefix
	for i := range v.top.Inside {
		if a := v.top.Inside[i].Address.Addr(); a.IsValid() {
			hosts = append(hosts, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	pre = append(pre, not(v.nets(hosts)))
	sc.pre = and(pre...)
	return sc
}

// insider is the scene of what an inside host sends, on whatever listener it
// reaches.
func (v *prover) insider(h *policy.InsideHost) *scene {
	sc := &scene{origin: policy.Inside, host: h, listeners: v.allListeners()}
	var here []netip.Prefix
	if a := h.Address.Addr(); a.IsValid() {
		here = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	sc.pre = and(v.inListeners(sc), not(v.matchAny(v.reports(), rcptTerm)), v.nets(here))
	return sc
}

// customer is the scene of every customer, those of the file and those of the
// node's store.
func (v *prover) customer() *scene {
	sc := &scene{origin: policy.Customer}
	for _, l := range v.top.Listeners {
		if l.From == policy.FromCustomers || l.Auth {
			sc.listeners = append(sc.listeners, l.Name)
		}
	}
	slices.Sort(sc.listeners)
	pre := []*form{v.inListeners(sc), not(v.matchAny(v.reports(), rcptTerm))}
	who := v.u.termNamed("customer", sortText, false)
	pre = append(pre, not(v.u.setOf(who, "")))
	null := v.u.setOf(v.part(senderTerm, "domain"), "")
	for i := range v.top.Customers {
		if c := &v.top.Customers[i]; len(c.Senders) > 0 {
			pre = append(pre, or(not(v.u.setOf(who, c.Name)), null, v.matchAny(c.Senders, senderTerm)))
		}
	}
	sc.pre = and(append(pre, v.ways(who)...)...)
	return sc
}

// ways says how a customer of the file comes: signed in where AUTH is offered, else
// from one of its networks. Of those in the node's store nothing is known.
func (v *prover) ways(who int32) []*form {
	var auth []string
	for _, l := range v.top.Listeners {
		if l.Auth {
			auth = append(auth, l.Name)
		}
	}
	signedIn := v.u.setOf(v.u.termNamed("listener", sortText, false), auth...)
	var out []*form
	for i := range v.top.Customers {
		c := &v.top.Customers[i]
		out = append(out, or(not(v.u.setOf(who, c.Name)), signedIn, v.nets(c.Networks)))
	}
	return out
}

func (v *prover) allListeners() []string {
	var names []string
	for _, l := range v.top.Listeners {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

// inListeners keeps a scene's sessions to its listeners.
func (v *prover) inListeners(sc *scene) *form {
	return v.u.setOf(v.u.termNamed("listener", sortText, false), sc.listeners...)
}

func (v *prover) nets(ns []netip.Prefix) *form {
	if len(ns) == 0 {
		return falsity()
	}
	return v.u.of(atom{term: v.u.termNamed("client.address", sortIP, false), kind: testNets, nets: ns})
}

// reports lists the recipients that no filter is asked about: what comes for them is
// read here, or goes to the operator.
func (v *prover) reports() []policy.Pattern {
	var ps []policy.Pattern
	for _, a := range v.top.Reports {
		ps = append(ps, policy.Pattern{Kind: policy.MatchAddress, Address: a})
	}
	for _, a := range v.top.Postmasters {
		ps = append(ps, policy.Pattern{Kind: policy.MatchAddress, Address: a})
	}
	return ps
}

// The two addresses of an envelope.
const (
	senderTerm = "sender"
	rcptTerm   = "rcpt"
)

// part gives the term of an address's domain or local part.
func (v *prover) part(of, part string) int32 {
	return v.u.termNamed(of+"."+part, sortText, part == "domain")
}

// matchAny asks whether an address falls under one of the patterns.
func (v *prover) matchAny(ps []policy.Pattern, of string) *form {
	domain := v.part(of, "domain")
	var exact []string
	var fs []*form
	locals := map[string][]string{} // by local part: one atom for many domains
	for i := range ps {
		switch p := &ps[i]; p.Kind {
		case policy.MatchAll:
			return truth()
		case policy.MatchDomain:
			exact = append(exact, p.Domain)
		case policy.MatchSuffix:
			fs = append(fs, v.u.suffixOf(domain, p.Domain))
		case policy.MatchAddress:
			locals[p.Address.Local] = append(locals[p.Address.Local], p.Address.Domain)
		}
	}
	for _, l := range sortedKeys(locals) {
		fs = append(fs, and(v.u.setOf(v.part(of, "local"), l), v.u.setOf(domain, locals[l]...)))
	}
	return or(append(fs, v.u.setOf(domain, exact...))...)
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
