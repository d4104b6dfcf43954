package egress

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Errors of the DNS that callers tell apart. Anything else is temporary.
var (
	// ErrNoDomain tells that the name does not exist (NXDOMAIN), or has no address.
	ErrNoDomain = errors.New("no such domain")
	// ErrNullMX tells that the domain takes no mail (RFC 7505).
	ErrNullMX = errors.New("domain accepts no mail")
)

// Resolver asks DNS servers. Answers are kept for their TTL, at most an hour.
type Resolver struct {
	servers []string
	udp     dns.Client
	tcp     dns.Client
	now     func() time.Time

	mu    sync.Mutex
	cache map[question]answer
}

type question struct {
	name string
	kind uint16
}

type answer struct {
	rrs     []dns.RR
	err     error
	expires time.Time
}

const (
	maxCache  = 100_000
	maxTTL    = time.Hour
	negTTL    = time.Minute
	dnsWait   = 5 * time.Second
	dnsRounds = 2
)

// NewResolver asks the given servers, or those of /etc/resolv.conf where there are
// none.
func NewResolver(servers []netip.AddrPort, now func() time.Time) (*Resolver, error) {
	r := &Resolver{udp: dns.Client{Timeout: dnsWait, UDPSize: 1232}, tcp: dns.Client{Net: "tcp", Timeout: dnsWait}, now: now, cache: map[question]answer{}}
	for _, s := range servers {
		r.servers = append(r.servers, s.String())
	}
	if len(servers) == 0 {
		cfg, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("read resolv.conf: %w", err)
		}
		for _, s := range cfg.Servers {
			r.servers = append(r.servers, net.JoinHostPort(s, cfg.Port))
		}
	}
	return r, nil
}

// lookup gives the records of a type, following what the server answered of CNAMEs.
func (r *Resolver) lookup(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	q := question{dns.Fqdn(strings.ToLower(name)), kind}
	r.mu.Lock()
	a, ok := r.cache[q]
	r.mu.Unlock()
	if ok && r.now().Before(a.expires) {
		return a.rrs, a.err
	}
	rrs, ttl, err := r.ask(ctx, q)
	if err == nil || errors.Is(err, ErrNoDomain) {
		r.mu.Lock()
		if len(r.cache) >= maxCache {
			clear(r.cache) // simple, rare, and bounded
		}
		r.cache[q] = answer{rrs, err, r.now().Add(ttl)}
		r.mu.Unlock()
	}
	return rrs, err
}

func (r *Resolver) ask(ctx context.Context, q question) ([]dns.RR, time.Duration, error) {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(1232, false)
	last := errors.New("no DNS server is configured")
	for range dnsRounds {
		for _, s := range r.servers {
			in, _, err := r.udp.ExchangeContext(ctx, m, s)
			if err == nil && in.Truncated {
				in, _, err = r.tcp.ExchangeContext(ctx, m, s)
			}
			if err != nil {
				last = err
				continue
			}
			switch in.Rcode {
			case dns.RcodeSuccess:
				rrs, ttl := collect(in, q.kind)
				return rrs, ttl, nil
			case dns.RcodeNameError:
				return nil, negTTL, ErrNoDomain
			}
			last = fmt.Errorf("server answers %s", dns.RcodeToString[in.Rcode])
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, 0, fmt.Errorf("look up %s %s: %w", q.name, dns.TypeToString[q.kind], last)
}

func collect(in *dns.Msg, kind uint16) (out []dns.RR, ttl time.Duration) {
	ttl = maxTTL
	for _, rr := range in.Answer {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		if rr.Header().Rrtype == kind {
			out = append(out, rr)
		}
	}
	if len(out) == 0 {
		ttl = negTTL
	}
	return out, ttl
}

// MX gives the hosts of a domain in the order in which to try them, those of one
// preference in random order. A domain without MX is its own host (RFC 5321, section
// 5.1).
func (r *Resolver) MX(ctx context.Context, domain string) ([]string, error) {
	rrs, err := r.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	if len(rrs) == 0 {
		return []string{domain}, nil
	}
	if mx, ok := rrs[0].(*dns.MX); ok && len(rrs) == 1 && mx.Mx == "." {
		return nil, ErrNullMX
	}
	type host struct {
		name string
		pref uint32
	}
	var hosts []host
	for _, rr := range rrs {
		mx := rr.(*dns.MX)
		// The random part breaks ties within a preference.
		hosts = append(hosts, host{strings.ToLower(strings.TrimSuffix(mx.Mx, ".")), uint32(mx.Preference)<<16 | uint32(rand.IntN(1<<16))})
	}
	for i := range hosts {
		for j := i; j > 0 && hosts[j].pref < hosts[j-1].pref; j-- {
			hosts[j], hosts[j-1] = hosts[j-1], hosts[j]
		}
	}
	var out []string
	for _, h := range hosts {
		out = append(out, h.name)
	}
	return out, nil
}

// Addresses gives a host's addresses, IPv6 first where v6 is wanted.
func (r *Resolver) Addresses(ctx context.Context, host string, v4, v6 bool) (out []netip.Addr, err error) {
	if v6 {
		rrs, e := r.lookup(ctx, host, dns.TypeAAAA)
		err = e
		for _, rr := range rrs {
			if a, ok := netip.AddrFromSlice(rr.(*dns.AAAA).AAAA); ok {
				out = append(out, a)
			}
		}
	}
	if v4 {
		rrs, e := r.lookup(ctx, host, dns.TypeA)
		if e != nil {
			err = e
		}
		for _, rr := range rrs {
			if a, ok := netip.AddrFromSlice(rr.(*dns.A).A); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if err == nil {
		err = fmt.Errorf("host %s has no address: %w", host, ErrNoDomain)
	}
	return nil, err
}

// LookupTXT gives the TXT records of a name, each as one string.
func (r *Resolver) LookupTXT(ctx context.Context, name string) (out []string, err error) {
	rrs, err := r.lookup(ctx, name, dns.TypeTXT)
	for _, rr := range rrs {
		out = append(out, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	return out, netError(name, err)
}

// LookupMX gives MX records in the standard library's form.
func (r *Resolver) LookupMX(ctx context.Context, name string) (out []*net.MX, err error) {
	rrs, err := r.lookup(ctx, name, dns.TypeMX)
	for _, rr := range rrs {
		mx := rr.(*dns.MX)
		out = append(out, &net.MX{Host: mx.Mx, Pref: mx.Preference})
	}
	return out, netError(name, err)
}

// LookupIPAddr gives a host's addresses in the standard library's form.
func (r *Resolver) LookupIPAddr(ctx context.Context, host string) (out []net.IPAddr, err error) {
	as, err := r.Addresses(ctx, host, true, true)
	for _, a := range as {
		out = append(out, net.IPAddr{IP: a.AsSlice()})
	}
	return out, netError(host, err)
}

// LookupAddr gives the names of an address.
func (r *Resolver) LookupAddr(ctx context.Context, addr string) (out []string, err error) {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		return nil, err
	}
	rrs, err := r.lookup(ctx, name, dns.TypePTR)
	for _, rr := range rrs {
		out = append(out, rr.(*dns.PTR).Ptr)
	}
	return out, netError(addr, err)
}

// netError puts an error into the form by which SPF tells "no" from "not now".
func netError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoDomain):
		return &net.DNSError{Err: err.Error(), Name: name, IsNotFound: true}
	}
	return &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
}
