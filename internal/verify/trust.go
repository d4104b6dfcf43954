package verify

import (
	"fmt"
	"net/netip"

	"postern.dev/postern/internal/policy"
)

// shared is a range of addresses that many parties send from, or that hides who
// does.
type shared struct {
	net      string
	owner    string
	severity Severity
}

// sharedRanges are well-known ranges from which anybody can send: the published
// outbound ranges of large providers (Microsoft's, Google's and Amazon's SPF records,
// as of 2025), and ranges that stand for somebody else on the way. A list can never
// be complete; PV004 says so among its assumptions.
func sharedRanges() []shared {
	const local = Warning
	return []shared{
		{"40.92.0.0/15", "Microsoft 365 (any tenant)", Fault},
		{"40.107.0.0/16", "Microsoft 365 (any tenant)", Fault},
		{"52.100.0.0/14", "Microsoft 365 (any tenant)", Fault},
		{"104.47.0.0/17", "Microsoft 365 (any tenant)", Fault},
		{"2a01:111:f400::/48", "Microsoft 365 (any tenant)", Fault},
		{"2a01:111:f403::/48", "Microsoft 365 (any tenant)", Fault},
		{"35.190.247.0/24", "Google (any account)", Fault},
		{"64.233.160.0/19", "Google (any account)", Fault},
		{"66.102.0.0/20", "Google (any account)", Fault},
		{"66.249.80.0/20", "Google (any account)", Fault},
		{"72.14.192.0/18", "Google (any account)", Fault},
		{"74.125.0.0/16", "Google (any account)", Fault},
		{"108.177.8.0/21", "Google (any account)", Fault},
		{"173.194.0.0/16", "Google (any account)", Fault},
		{"209.85.128.0/17", "Google (any account)", Fault},
		{"216.58.192.0/19", "Google (any account)", Fault},
		{"216.239.32.0/19", "Google (any account)", Fault},
		{"2607:f8b0:4000::/36", "Google (any account)", Fault},
		{"199.255.192.0/22", "Amazon SES (any account)", Fault},
		{"199.127.232.0/22", "Amazon SES (any account)", Fault},
		{"54.240.0.0/18", "Amazon SES (any account)", Fault},
		{"69.169.224.0/20", "Amazon SES (any account)", Fault},
		{"23.249.208.0/20", "Amazon SES (any account)", Fault},
		{"127.0.0.0/8", "this machine: every process on it, and what a local proxy passes on", local},
		{"::1/128", "this machine: every process on it, and what a local proxy passes on", local},
		{"169.254.0.0/16", "link-local addresses, which are given to nobody in particular", local},
		{"fe80::/10", "link-local addresses, which are given to nobody in particular", local},
		{"100.64.0.0/10", "carrier-grade NAT: many parties behind one address (RFC 6598)", local},
		{"172.17.0.0/16", "Docker's default bridge: a published port can make strangers look like it", local},
		{"10.88.0.0/16", "Podman's default bridge: a published port can make strangers look like it", local},
	}
}

// trust checks that no network is trusted that others can send from. It looks at
// the topology alone: what an address range stands for is not in the filters.
func (v *prover) trust(r *report) {
	r.assume(SharedTrust, "each network that a customer or proxy is known by is one party's alone; of those that many share, only some large providers' are known here")
	for i := range v.top.Customers {
		c := &v.top.Customers[i]
		if v.late() {
			return
		}
		for _, n := range c.Networks {
			v.trustNetwork(r, c, n)
		}
	}
	for i := range v.top.Listeners {
		l := &v.top.Listeners[i]
		for _, n := range l.ProxyFrom {
			v.trustProxy(r, l, n)
		}
	}
}

// widest is the widest network that one customer may be known by, in prefix bits: a
// /8 is the widest that anybody was ever given.
const (
	widest4 = 8
	widest6 = 16
)

func (v *prover) trustNetwork(r *report, c *policy.CustomerDef, n netip.Prefix) {
	if n.Bits() < widest4 || (n.Addr().Is6() && n.Bits() < widest6) {
		r.add(Finding{Code: SharedTrust, Severity: Fault, Status: Open, Pos: c.Pos,
			Message: fmt.Sprintf("customer %q is known by network %s, which is nearly everybody", c.Name, n), Hint: "name the customer's own addresses, or give it users"})
		return
	}
	for _, s := range sharedRanges() {
		if p := netip.MustParsePrefix(s.net); p.Overlaps(n) {
			how := "which holds"
			if p.Bits() < n.Bits() {
				how = "which is in"
			}
			r.add(Finding{Code: SharedTrust, Severity: s.severity, Status: Open, Pos: c.Pos,
				Message: fmt.Sprintf("customer %q is known by network %s, %s %s: %s", c.Name, n, how, p, s.owner),
				Hint:    "whoever can send from there is this customer: give it users (AUTH) instead"})
			return
		}
	}
	for _, own := range v.ownAddresses() {
		if n.Contains(own) {
			r.add(Finding{Code: SharedTrust, Severity: Warning, Status: Open, Pos: c.Pos,
				Message: fmt.Sprintf("customer %q is known by network %s, which holds this node's own address %s", c.Name, n, own),
				Hint:    "a NAT, a forwarder or a container on this node makes strangers look like it: leave it out"})
			return
		}
	}
}

// ownAddresses are those that listeners and pools name.
func (v *prover) ownAddresses() []netip.Addr {
	var out []netip.Addr
	for _, l := range v.top.Listeners {
		for _, a := range l.Addresses {
			if ip := a.Addr().Unmap(); !ip.IsUnspecified() && !ip.IsLoopback() {
				out = append(out, ip)
			}
		}
	}
	for _, p := range v.top.Pools {
		for _, ip := range p.Sources {
			if !ip.IsLoopback() {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}

func (v *prover) trustProxy(r *report, l *policy.Listener, n netip.Prefix) {
	width := n.Addr().BitLen() - n.Bits()
	if width == 0 {
		return
	}
	severity := Warning
	if !n.Addr().IsPrivate() && !n.Addr().IsLoopback() && width > 8 || width > 16 {
		severity = Fault
	}
	r.add(Finding{Code: SharedTrust, Severity: severity, Status: Open, Pos: l.Pos,
		Message: fmt.Sprintf("listener %q believes a PROXY header from all of %s", l.Name, n),
		Hint:    "whoever sends from there can be any client, inside hosts and customers included: name the proxies' own addresses"})
}

// binding proves that a customer's envelope sender is of its own domains.
func (v *prover) binding(r *report) {
	r.assume(SenderBinding, "what is bound is the envelope's sender; the null reverse-path is anybody's, and header From is for DKIM and DMARC to bind")
	for i := range v.top.Customers {
		c := &v.top.Customers[i]
		if len(c.Senders) == 0 {
			r.add(Finding{Code: SenderBinding, Severity: Fault, Status: Open, Pos: c.Pos,
				Message: fmt.Sprintf("customer %q may send from any domain, those of other customers included", c.Name),
				Hint:    `senders = ["its.domain"], or senders = ["*"] if that is meant`})
			continue
		}
		for _, p := range c.Senders {
			if p.Kind == policy.MatchAll {
				r.assume(SenderBinding, fmt.Sprintf("customer %q may send from any domain: its senders say so", c.Name))
			}
		}
	}
	v.sharedSenders(r)
}

// sharedSenders warns of a sender domain that two customers have.
func (v *prover) sharedSenders(r *report) {
	owner := map[string]*policy.CustomerDef{}
	for i := range v.top.Customers {
		c := &v.top.Customers[i]
		for _, p := range c.Senders {
			if p.Kind == policy.MatchAll {
				continue
			}
			if o, taken := owner[p.String()]; taken && o.Name != c.Name {
				r.add(Finding{Code: SenderBinding, Severity: Warning, Status: Open, Pos: p.Pos,
					Message: fmt.Sprintf("customers %q and %q both send from %s", o.Name, c.Name, p), Hint: "whose is it?"})
				continue
			}
			owner[p.String()] = c
		}
	}
}

// readings checks the constants that mail of strangers is let in for or sent to:
// every reading of such an address must be as acceptable as the address. Addresses
// that strangers write are read in every way by the session itself, which refuses
// one unless every reading of it is acceptable.
func (v *prover) readings(r *report) {
	r.assume(AddressReadings, "a session takes an address only if every way to read it is acceptable (percent, bang, source route, quoted and double-@ forms)")
	check := func(a policy.Address, pos policy.Pos, filter, what string) {
		for _, other := range policy.ReadingsOf(a)[1:] {
			if v.p.InsideFor(other) != "" || v.top.DeclaredSink(other) {
				continue
			}
			r.add(Finding{Code: AddressReadings, Severity: Fault, Status: Open, Filter: filter, Pos: pos,
				Message: fmt.Sprintf("%s %s can be read as %s by the next host, which sends it on", what, a, other),
				Hint:    "name an address without %, ! and @ in its local part"})
			return
		}
	}
	for i := range v.top.Accept {
		if p := &v.top.Accept[i]; p.Kind == policy.MatchAddress {
			check(p.Address, p.Pos, "", "accepted address")
		}
	}
	for i := range v.p.Filters {
		f := &v.p.Filters[i]
		for k := range f.Do {
			if a := &f.Do[k]; a.Kind == policy.DoCopy || a.Kind == policy.DoSetRcpt {
				check(a.Rcpt, a.Pos, f.Name, string(a.Kind))
			}
		}
	}
	for i, s := range v.top.Sinks {
		at := policy.Pos{}
		if i < len(v.top.SinkPos) {
			at = v.top.SinkPos[i]
		}
		check(s, at, "", "sink")
	}
	if h := v.postmasterHost(); h != "" && !v.resends(h) {
		check(v.top.Postmaster, v.top.PostmasterPos, "", "postmaster")
	}
}
