package gateway

import (
	"net/netip"
	"sort"
	"sync"

	"postern.dev/postern/internal/policy"
)

// sharedRun is how many strangers' sessions in a row from one address behind a NAT
// raise the alarm.
const sharedRun = 50

// SharedAddress tells that the strangers of a listener all come from one address
// that nobody on the Internet has.
type SharedAddress struct {
	Listener string
	Address  netip.Addr
}

// neighbours watches what the proof takes for granted: that a session's peer address
// is the client's own. Where a NAT, a forwarder or a proxy stands in front, all
// strangers have its address, and whatever trusts that address trusts them all.
type neighbours struct {
	mu   sync.Mutex
	runs map[string]*run // by listener
}

// run is how often in a row a listener saw one address.
type run struct {
	from  netip.Addr
	count int
}

func newNeighbours() *neighbours { return &neighbours{runs: map[string]*run{}} }

// saw counts a stranger's session. It reports true once for each run that gets long
// enough to be told of.
func (n *neighbours) saw(listener string, from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.runs[listener]
	if r == nil {
		r = &run{}
		n.runs[listener] = r
	}
	if r.from != from {
		r.from, r.count = from, 0
	}
	if r.count < sharedRun {
		r.count++
		return r.count == sharedRun && behindNAT(from)
	}
	return false
}

// shared lists the alarms that last.
func (n *neighbours) shared() []SharedAddress {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []SharedAddress
	for listener, r := range n.runs {
		if r.count == sharedRun && behindNAT(r.from) {
			out = append(out, SharedAddress{Listener: listener, Address: r.from})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Listener < out[j].Listener })
	return out
}

// behindNAT reports an address that no client on the Internet has: private (RFC 1918,
// RFC 4193), loopback, link-local, or of a carrier's NAT (RFC 6598).
func behindNAT(a netip.Addr) bool {
	carrier := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10)
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || carrier.Contains(a)
}

// watch counts a new session where a stranger's is expected.
func (g *Gateway) watch(gen *Generation, listener string, origin policy.Origin, peer netip.Addr) {
	if origin != policy.Stranger || !forStrangers(gen, listener) || !g.neighbours.saw(listener, peer) {
		return
	}
	g.o.Log.Warn("strangers share one address: a NAT or a proxy without PROXY stands in front, and the proof of the policy takes for granted that none does",
		"listener", listener, "address", peer.Unmap().String(), "sessions", sharedRun)
}

func forStrangers(gen *Generation, listener string) bool {
	for i := range gen.Program.Topology.Listeners {
		if l := &gen.Program.Topology.Listeners[i]; l.Name == listener {
			return l.From == policy.FromStrangers
		}
	}
	return false
}

// SharedAddresses gives the listeners of the running policy whose last strangers all
// came from one private or loopback address, in the order of their names.
func (g *Gateway) SharedAddresses() []SharedAddress {
	gen := g.o.Generation()
	var out []SharedAddress
	for _, s := range g.neighbours.shared() {
		if forStrangers(gen, s.Listener) {
			out = append(out, s)
		}
	}
	return out
}
