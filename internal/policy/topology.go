package policy

import "net/netip"

// Trust says whom a listener is for.
type Trust string

// The kinds of listener.
const (
	FromStrangers Trust = "strangers" // anybody; AUTH makes a customer
	FromCustomers Trust = "customers" // AUTH, a customer's network, or an inside host; nobody else
)

// Topology is what the filters' names refer to and how mail can travel: the part of
// a configuration, beside the filters, that proofs are about.
type Topology struct {
	Hostname    string // of the node, in A-labels
	Listeners   []Listener
	Accept      []Pattern // recipients that strangers may name
	Reports     []Address // read as complaints and bounces; never delivered onward
	Customers   []CustomerDef
	Inside      []InsideHost
	Pools       []Pool
	DefaultPool string
	Sinks       []Address // constant outside addresses that the operator declared
	SinkPos     []Pos     // where each stands; shorter than Sinks where that is not known
	// Postmasters are the addresses of the postmaster here (RFC 5321, section 4.5.1),
	// Postmaster where what comes for them goes.
	Postmasters   []Address
	Postmaster    Address
	PostmasterPos Pos // where it stands; zero for the default
}

// Listener is a place where SMTP sessions begin.
type Listener struct {
	Pos       Pos
	Name      string
	From      Trust
	Addresses []netip.AddrPort
	Auth      bool           // AUTH is offered
	ProxyFrom []netip.Prefix // peers whose PROXY header is believed
}

// CustomerDef is a customer that stands in the file.
type CustomerDef struct {
	Pos      Pos
	Name     string
	Networks []netip.Prefix
	Senders  []Pattern // domains that the customer may send from; empty: any
	Users    []string
	Pool     string // default pool of this customer, "" for the node's
}

// InsideHost is a machine of ours behind the gateway: the only next hop of its
// domains.
type InsideHost struct {
	Pos     Pos
	Name    string
	Address netip.AddrPort
	Domains []Pattern
	Resends bool // it may send on, to anyone, what it is given
}

// Pool is a named set of source addresses.
type Pool struct {
	Pos     Pos
	Name    string
	Sources []netip.Addr
}

// PatternKind tells how a Pattern compares.
type PatternKind uint8

// The kinds of pattern.
const (
	MatchDomain  PatternKind = iota // "esp.example": that domain exactly
	MatchSuffix                     // ".esp.example": every subdomain, not the apex
	MatchAddress                    // "fbl@esp.example"
	MatchAll                        // "*"
)

// Pattern is an entry of accept, domains and senders.
type Pattern struct {
	Pos     Pos
	Kind    PatternKind
	Domain  string  // of MatchDomain; of MatchSuffix with its leading dot
	Address Address // of MatchAddress
}
