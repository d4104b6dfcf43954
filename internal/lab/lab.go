package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Options are what a Lab is made of.
type Options struct {
	Now  func() time.Time
	Seed uint64
}

// Lab is the outside world. Close ends it.
type Lab struct {
	Port int // of all its SMTP hosts
	now  func() time.Time
	seed uint64

	mu        sync.Mutex
	zones     map[string][]dns.RR // by lower-case name with its dot
	broken    map[string]bool     // domains whose DNS fails
	servers   []*dns.Server
	dnsDone   sync.WaitGroup
	dnsAddr   netip.AddrPort
	providers []*Provider
	count     int // of messages made, for their marks
}

// New starts the DNS and chooses a port.
func New(o Options) (*Lab, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Lab{now: o.Now, seed: o.Seed, zones: map[string][]dns.RR{}, broken: map[string]bool{}}
	var err error
	if l.Port, err = freePort(); err != nil {
		return nil, err
	}
	if err := l.startDNS(); err != nil {
		return nil, err
	}
	return l, nil
}

// freePort finds a port that is free on the addresses that lab hosts use.
func freePort() (int, error) {
	for range 200 {
		first, err := net.Listen("tcp", "127.25.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("lab: %w", err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		free := true
		for i := 2; i < 16 && free; i++ {
			var other net.Listener
			if other, err = net.Listen("tcp", fmt.Sprintf("127.25.0.%d:%d", i, port)); err != nil {
				free = false
			} else {
				other.Close()
			}
		}
		first.Close()
		if free {
			return port, nil
		}
	}
	return 0, errors.New("lab: no port is free on all of 127.25.0.x")
}

// startDNS serves UDP and TCP on one port.
func (l *Lab) startDNS() error {
	for range 50 {
		pc, err := net.ListenPacket("udp", "127.53.0.1:0")
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		tl, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		l.dnsAddr = netip.MustParseAddrPort(pc.LocalAddr().String())
		l.servers = []*dns.Server{{PacketConn: pc, Handler: dns.HandlerFunc(l.answer)}, {Listener: tl, Handler: dns.HandlerFunc(l.answer)}}
		for _, s := range l.servers {
			started := make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			l.dnsDone.Add(1)
			go func() { defer l.dnsDone.Done(); _ = s.ActivateAndServe() }()
			<-started
		}
		return nil
	}
	return errors.New("lab: no port for the DNS")
}

// Resolver is the address of the lab's DNS.
func (l *Lab) Resolver() netip.AddrPort { return l.dnsAddr }

// Record adds a record in zone-file form: `example. 60 IN MX 10 mx.example.`
func (l *Lab) Record(text string) error {
	rr, err := dns.NewRR(text)
	if err != nil {
		return fmt.Errorf("lab record %q: %w", text, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	name := strings.ToLower(rr.Header().Name)
	l.zones[name] = append(l.zones[name], rr)
	return nil
}

// Break makes the DNS of a domain answer SERVFAIL, or mends it.
func (l *Lab) Break(domain string, broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken[strings.ToLower(dns.Fqdn(domain))] = broken
}

func (l *Lab) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	if len(q.Question) == 1 {
		name := strings.ToLower(q.Question[0].Name)
		l.mu.Lock()
		rrs, known := l.zones[name]
		for d := range l.broken {
			if l.broken[d] && (name == d || strings.HasSuffix(name, "."+d)) {
				m.Rcode = dns.RcodeServerFailure
			}
		}
		l.mu.Unlock()
		if !known && m.Rcode == dns.RcodeSuccess {
			m.Rcode = dns.RcodeNameError
		}
		for _, rr := range rrs {
			if m.Rcode == dns.RcodeSuccess && rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	_ = w.WriteMsg(m)
}

// Close ends everything and waits.
func (l *Lab) Close() {
	for _, p := range l.providers {
		p.close()
	}
	for _, s := range l.servers {
		_ = s.Shutdown()
	}
	l.dnsDone.Wait()
}

// mark numbers a message that somebody in the lab makes.
func (l *Lab) mark(who string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	return who + "-" + strconv.Itoa(l.count)
}

// dial connects from one loopback address to another.
func dial(ctx context.Context, from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.DialContext(ctx, "tcp", to)
}
