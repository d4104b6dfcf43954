package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// TLSMode says how much protection a destination's mail needs.
type TLSMode string

// The modes.
const (
	Opportunistic TLSMode = "opportunistic" // where it is offered and works (RFC 7435)
	Required      TLSMode = "required"      // encrypted, to whomever
	Verified      TLSMode = "verify"        // encrypted, to a host whose certificate is right
	Clear         TLSMode = "none"
)

// Security is what a destination is to be protected with. Nil is Opportunistic.
type Security struct {
	Mode  TLSMode
	Names []string       // that a certificate may be for, ".suffix" is one label below; the host's where empty
	Roots *x509.CertPool // the system's where nil
}

func (s *Security) mode() TLSMode {
	if s == nil || s.Mode == "" {
		return Opportunistic
	}
	return s.Mode
}

// demands reports whether clear text will not do.
func (s *Security) demands() bool { return s.mode() == Required || s.mode() == Verified }

// Meets reports whether a connection that was made for another destination is protected
// as this one demands.
func (c *Conn) Meets(s *Security) bool {
	switch s.mode() {
	case Required:
		return c.TLS() != nil
	case Verified:
		return c.TLS() != nil && c.secured == s
	}
	return true
}

// insecureError tells that a host cannot be used as securely as is demanded.
type insecureError struct {
	code string // enhanced status (RFC 3463, section 3.8)
	err  error
}

func (e *insecureError) Error() string { return e.err.Error() }
func (e *insecureError) Unwrap() error { return e.err }

// plainFor is how long a host whose TLS has failed is spoken to in clear text.
const (
	plainFor  = time.Hour
	maxPlain  = 10_000
	maxTicket = 10_000
)

// memory is what a Transport knows of hosts' TLS: which have failed, and the tickets
// with which sessions are resumed. Its zero value is ready.
type memory struct {
	mu      sync.Mutex
	plain   map[Host]time.Time
	tickets tls.ClientSessionCache
}

// failed notes that TLS with a host does not work.
func (m *memory) failed(h Host, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plain == nil || len(m.plain) >= maxPlain {
		m.plain = map[Host]time.Time{} // simple, rare, and bounded
	}
	m.plain[h.bare()] = now.Add(plainFor)
}

// broken reports whether TLS with a host has failed not long ago.
func (m *memory) broken(h Host, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, known := m.plain[h.bare()]
	if known && !now.Before(until) {
		delete(m.plain, h.bare())
	}
	return known && now.Before(until)
}

// bare is the host without what a destination demands of it.
func (h Host) bare() Host { return Host{Name: h.Name, Addr: h.Addr} }

// sessions gives the tickets for connections from a source to a host. One that was
// verified is resumed only under the same demand.
func (m *memory) sessions(source netip.Addr, h Host) tls.ClientSessionCache {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tickets == nil {
		m.tickets = tls.NewLRUClientSessionCache(maxTicket)
	}
	prefix := fmt.Sprintf("%s %s ", source, h.Addr)
	if h.Security.mode() == Verified {
		prefix += fmt.Sprintf("%p ", h.Security)
	}
	return &tickets{all: m.tickets, prefix: prefix}
}

// tickets are those of one source and host among all.
type tickets struct {
	all    tls.ClientSessionCache
	prefix string
}

// Get implements tls.ClientSessionCache.
func (t *tickets) Get(key string) (*tls.ClientSessionState, bool) { return t.all.Get(t.prefix + key) }

// Put implements tls.ClientSessionCache.
func (t *tickets) Put(key string, s *tls.ClientSessionState) { t.all.Put(t.prefix+key, s) }

// tlsFor gives the configuration for a host.
func (t *Transport) tlsFor(source netip.Addr, h Host) *tls.Config {
	cfg := t.TLS.Clone()
	cfg.ServerName = h.Name
	cfg.ClientSessionCache = t.memory.sessions(source, h)
	if h.Security.mode() == Verified {
		// Go would look for ServerName alone; which names are right is ours to say.
		cfg.InsecureSkipVerify = true
		cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return h.verify(&s, t.now()) }
	}
	return cfg
}

// verify looks whether the certificate is vouched for and is for a right name. It is
// asked of resumed sessions too.
func (h Host) verify(s *tls.ConnectionState, now time.Time) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the peer has no certificate")
	}
	leaf := s.PeerCertificates[0]
	o := x509.VerifyOptions{Roots: h.Security.Roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(o); err != nil {
		return err
	}
	names := h.Security.Names
	if len(names) == 0 {
		names = []string{h.Name}
	}
	for _, n := range names {
		if !strings.HasPrefix(n, ".") {
			if leaf.VerifyHostname(n) == nil {
				return nil
			}
			continue
		}
		for _, dns := range leaf.DNSNames {
			if i := strings.IndexByte(dns, '.'); i > 0 && strings.EqualFold(dns[i:], n) {
				return nil
			}
		}
	}
	return fmt.Errorf("its certificate is for %s, not for %s", strings.Join(leaf.DNSNames, ", "), strings.Join(names, " or "))
}

// unoffered is what becomes of mail that demands TLS, at a host that does not offer it.
func unoffered(h Host) error {
	return &insecureError{"4.7.4", fmt.Errorf("%s [%s] does not offer STARTTLS, which is required", h.Name, h.Addr.Addr())}
}

// unsound is what becomes of it where the handshake fails.
func unsound(err error) error { return &insecureError{"4.7.5", err} }

// Insecure reports that a host could not be used as securely as the mail demands: that
// says nothing of the host for other mail.
func Insecure(err error) bool { return errors.As(err, new(*insecureError)) }
