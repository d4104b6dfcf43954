package egress_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/smtp"
)

// patience bounds every wait of these tests; nothing waits for it but a failure.
const patience = 20 * time.Second

// zone is a DNS server on loopback that gives what the test puts in.
type zone struct {
	mu    sync.Mutex
	rrs   map[string][]dns.RR
	rcode map[string]int
	asked map[string]int
	big   bool // answers over UDP are truncated
	addr  netip.AddrPort
}

func newZone(t testing.TB, records ...string) *zone {
	t.Helper()
	z := &zone{rrs: map[string][]dns.RR{}, rcode: map[string]int{}, asked: map[string]int{}}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		z.rrs[rr.Header().Name] = append(z.rrs[rr.Header().Name], rr)
	}
	pc, tl := listenBoth(t)
	z.addr = netip.MustParseAddrPort(pc.LocalAddr().String())
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: dns.HandlerFunc(z.answer)}, {Listener: tl, Handler: dns.HandlerFunc(z.answer)}} {
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return z
}

// listenBoth finds a port that is free for UDP and for TCP.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tl, err := net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, tl
		}
		pc.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// fail makes the server answer a name with a code.
func (z *zone) fail(name string, rcode int) { z.mu.Lock(); defer z.mu.Unlock(); z.rcode[name] = rcode }

func (z *zone) answer(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	z.asked[name+dns.TypeToString[q.Question[0].Qtype]]++
	rrs, known := z.rrs[name]
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	if rc, ok := z.rcode[name]; ok {
		m.Rcode = rc
	}
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	if z.big && udp {
		m.Truncated = true
		_ = w.WriteMsg(m)
		return
	}
	for _, rr := range rrs {
		switch {
		case rr.Header().Rrtype == q.Question[0].Qtype:
			m.Answer = append(m.Answer, rr)
		case rr.Header().Rrtype == dns.TypeCNAME:
			m.Answer = append(m.Answer, rr)
			for _, target := range z.rrs[rr.(*dns.CNAME).Target] {
				if target.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, target)
				}
			}
		}
	}
	_ = w.WriteMsg(m)
}

// resolver asks the zone, at a time that the test may turn.
func (z *zone) resolver(t testing.TB, now func() time.Time) *egress.Resolver {
	t.Helper()
	r, err := egress.NewResolver([]netip.AddrPort{z.addr}, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// step is one exchange of a scripted peer: it waits for a command with this beginning
// and answers. A reply of "" says nothing; "hang up" ends the connection, "handshake"
// speaks TLS from here on, "message" reads up to the dot before it answers with rest.
type step struct{ want, reply string }

// scripted is an SMTP server that plays one script for each connection, in order.
type scripted struct {
	addr    netip.AddrPort
	mu      sync.Mutex
	scripts [][]step
	peers   []netip.Addr // of each connection
	texts   []string     // messages
	faults  []string     // what came in place of what the script wants
	cut     bool         // the client is to break off, so the scripts do not come to their ends
	tls     *tls.Config
}

// play starts a scripted server.
func play(t testing.TB, cfg *tls.Config, scripts ...[]step) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.51:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: netip.MustParseAddrPort(l.Addr().String()), scripts: scripts, tls: cfg}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.peers = append(s.peers, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
			var script []step
			if n < len(s.scripts) {
				script = s.scripts[n]
			}
			s.mu.Unlock()
			wg.Add(1)
			go func() { defer wg.Done(); defer c.Close(); s.talk(c, script) }()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		for _, f := range s.faults {
			if !s.cut {
				t.Error(f)
			}
		}
	})
	return s
}

func (s *scripted) talk(c net.Conn, script []step) {
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for _, st := range script {
		if st.want != "" {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, st.want) {
				s.mu.Lock()
				s.faults = append(s.faults, "the peer waits for "+st.want+" and gets "+strings.TrimSpace(line))
				s.mu.Unlock()
				return
			}
		}
		switch reply, rest, _ := strings.Cut(st.reply, ": "); reply {
		case "hang up":
			return
		case "handshake":
			t := tls.Server(c, s.tls)
			if t.Handshake() != nil {
				return
			}
			c = t
			r = bufio.NewReader(t)
		case "garbage":
			_, _ = c.Write([]byte("this is no TLS at all\r\n"))
		case "message":
			if !s.message(r) || (rest != "" && !say(c, rest)) {
				return
			}
		default:
			if st.reply != "" && !say(c, st.reply) {
				return
			}
		}
	}
	_, _ = r.ReadString('\n') // the client's QUIT, or its end
}

func say(c net.Conn, lines string) bool {
	_, err := c.Write([]byte(strings.ReplaceAll(lines, "\n", "\r\n") + "\r\n"))
	return err == nil
}

func (s *scripted) message(r *bufio.Reader) bool {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, b.String())
	return true
}

// certificate makes a self-signed certificate for mx.there.example.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.there.example"}, DNSNames: []string{"mx.there.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
}

func mail(text string) *smtp.Mail {
	return &smtp.Mail{From: smtp.Path{Local: "n", Domain: "acme.example"}, To: []smtp.Recipient{{Path: smtp.Path{Local: "r", Domain: "there.example"}}},
		Header: []byte("X-Stamp: 1\r\n"), Body: strings.NewReader(text)}
}
