package policy

import "net/netip"

// Arrival is what a session shows of whose it is.
type Arrival struct {
	Listener string
	Peer     netip.Addr
	AuthUser string // the customer's name is AuthCustomer
	// AuthCustomer is the customer that AuthUser belongs to, "" without AUTH.
	AuthCustomer string
}

// OriginOf settles on whose behalf a session sends, before any filter. ok is false
// where the listener is not for that client at all: it is refused then (a customers'
// listener reached by somebody who is neither customer nor inside). AUTH makes a
// customer on whatever listener offers it; an inside host is one wherever it
// connects; a customer's network counts on a customers' listener only, since on a
// strangers' listener any source address may be seen.
func (t *Topology) OriginOf(a Arrival) (origin Origin, customer string, ok bool) {
	if a.AuthCustomer != "" {
		return Customer, a.AuthCustomer, true
	}
	peer := a.Peer.Unmap()
	for i := range t.Inside {
		if t.Inside[i].Address.Addr() == peer {
			return Inside, "", true
		}
	}
	if t.trust(a.Listener) != FromCustomers {
		return Stranger, "", true
	}
	for i := range t.Customers {
		if anyContains(t.Customers[i].Networks, peer) {
			return Customer, t.Customers[i].Name, true
		}
	}
	return Stranger, "", false
}

func (t *Topology) trust(listener string) Trust {
	for i := range t.Listeners {
		if t.Listeners[i].Name == listener {
			return t.Listeners[i].From
		}
	}
	return FromStrangers
}

// Relays reports whether handing a message off is relaying for a stranger: its
// origin is a stranger and the host is anything but the inside host declared for the
// recipient's domain. inside names the host it goes to, "" for the recipient's MX. It is the
// definition that the prover proves about and the relay guard enforces.
func (p *Program) Relays(origin Origin, rcpt Address, inside string) bool {
	if origin != Stranger {
		return false
	}
	return inside == "" || p.InsideFor(rcpt) != inside
}

// DeclaredSink reports a constant outside address that the operator declared.
func (t *Topology) DeclaredSink(a Address) bool {
	for i := range t.Sinks {
		if t.Sinks[i] == a {
			return true
		}
	}
	return false
}

// Strictest gives the decision for a recipient whose path has several readings: the
// first that refuses, else the first that does not deliver, else the first. A
// recipient is acceptable only if every reading of it is.
func Strictest(ds []Decision) Decision {
	for _, d := range ds {
		if d.Disposition == Refused {
			return d
		}
	}
	for _, d := range ds {
		if d.Disposition != Deliver {
			return d
		}
	}
	return ds[0]
}
