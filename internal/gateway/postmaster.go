package gateway

import (
	"net/netip"
	"sync"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
)

// Bounds of the mail for the postmaster that is held in a day of UTC. Anybody may write
// to him, no filter is asked, and what is held stays until somebody looks: without a bound
// a stranger could fill the disk. One network may take a share, so that it cannot keep
// everybody else out.
const (
	postmasterMessages = 1000
	postmasterOctets   = 64 << 20
	postmasterShare    = 10 // of each bound, one part in so many for one network
)

// postmaster counts the mail that is held for him. Customers' mail is not counted: they
// are known, and a bound that strangers have used up is not to stop it.
type postmaster struct {
	mu       sync.Mutex
	day      time.Time
	all      heldMail
	networks map[netip.Prefix]heldMail
}

type heldMail struct {
	messages int
	octets   int64
}

func (h heldMail) fits(size int64, part int) bool {
	return h.messages < postmasterMessages/part && h.octets+size <= int64(postmasterOctets/part)
}

func (h heldMail) and(size int64) heldMail { return heldMail{h.messages + 1, h.octets + size} }

// network is what counts as one sender: whoever has an address has its /24, or its /48.
func network(a netip.Addr) netip.Prefix {
	bits := 48
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// fits reports whether a message of a size has room on the day of now.
func (p *postmaster) fits(from netip.Addr, size int64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room(network(from), size, now)
}

// take counts a message in, if it has room.
func (p *postmaster) take(from netip.Addr, size int64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := network(from)
	if !p.room(n, size, now) {
		return false
	}
	p.all, p.networks[n] = p.all.and(size), p.networks[n].and(size)
	return true
}

// room begins a new day where there is one. The lock is held.
func (p *postmaster) room(n netip.Prefix, size int64, now time.Time) bool {
	if day := now.UTC().Truncate(24 * time.Hour); !day.Equal(p.day) {
		p.day, p.all, p.networks = day, heldMail{}, map[netip.Prefix]heldMail{}
	}
	return p.all.fits(size, 1) && p.networks[n].fits(size, postmasterShare)
}

// PostmasterHeld tells how much mail for the postmaster was held today, and whether it is
// so much that no more is taken before tomorrow.
func (g *Gateway) PostmasterHeld() (messages int, octets int64, full bool) {
	p := &g.postmaster
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room(netip.Prefix{}, 0, g.o.Now())
	return p.all.messages, p.all.octets, !p.all.fits(0, 1)
}

// postmasterFull refuses a recipient who would be held for the postmaster where there is
// no room for more: it is full as a mailbox is (RFC 3463, section 3.3).
func (s *session) postmasterFull(origin policy.Origin, readings []policy.Address) *smtp.Reply {
	if origin == policy.Customer {
		return nil
	}
	for _, r := range readings {
		if s.generation.Program.HoldsForPostmaster(r) {
			if s.gateway.postmaster.fits(s.peer.Addr.Addr(), 1, s.gateway.o.Now()) {
				return nil
			}
			return s.noRoom()
		}
	}
	return nil
}

func (s *session) noRoom() *smtp.Reply {
	s.gateway.o.Meter.Refused(PostmasterFull)
	return smtp.NewReply(452, smtp.EnhancedCode{4, 2, 2}, "the postmaster's mailbox is full today, try again later")
}

// forPostmaster counts a message in that is held for the postmaster.
func (m *incoming) forPostmaster() *smtp.Reply {
	if m.origin == policy.Customer {
		return nil
	}
	for i := range m.plan {
		if d := &m.plan[i].decision; d.Disposition != policy.Hold || d.Filter != "" {
			continue // a filter's hold is the operator's own
		}
		if !m.s.gateway.postmaster.take(m.s.peer.Addr.Addr(), m.size, m.s.gateway.o.Now()) {
			return m.s.noRoom()
		}
		return nil
	}
	return nil
}
