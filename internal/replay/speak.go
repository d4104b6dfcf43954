package replay

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
)

// dialogue is the client's end of one session, with a record of both sides.
type dialogue struct {
	nc    net.Conn
	r     *bufio.Reader
	lines []string
	code  int // of the last reply
}

// speak plays one message and reports whether it was accepted. The peer's address
// goes ahead in a PROXY header, which the stage's listeners believe from loopback.
func (s *stage) speak(ctx context.Context, x *setting) (accepted bool, lines []string, err error) {
	f := &x.facts
	addr, ok := s.listeners[f.Listener]
	if !ok {
		return false, nil, fmt.Errorf("replay: no listener %q", f.Listener)
	}
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, nil, fmt.Errorf("replay: %w", err)
	}
	d := &dialogue{nc: nc, r: bufio.NewReader(nc)}
	defer func() { d.nc.Close() }()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	_ = nc.SetDeadline(time.Now().Add(s.o.Wait))
	family, here := "TCP4", "127.20.0.9"
	if f.Client.Address.Is6() {
		family, here = "TCP6", "::1"
	}
	if _, err := fmt.Fprintf(nc, "PROXY %s %s %s 40000 25\r\n", family, f.Client.Address, here); err != nil {
		return false, nil, fmt.Errorf("replay: %w", err)
	}
	d.note("peer %s, to listener %s at %s", f.Client.Address, f.Listener, addr)
	for _, record := range slices.Sorted(maps.Values(x.zone)) {
		d.note("in the DNS: %s", record)
	}
	accepted, err = d.session(x, s.implicit(f.Listener))
	return accepted, d.lines, err
}

func (s *stage) implicit(listener string) bool {
	for i := range s.cfg.Listeners {
		if l := &s.cfg.Listeners[i]; l.Name == listener {
			return l.TLS != nil && l.TLS.Implicit
		}
	}
	return false
}

func (d *dialogue) note(format string, a ...any) {
	d.lines = append(d.lines, "   ("+fmt.Sprintf(format, a...)+")")
}

// session gives true when the end of the data was answered with 250.
func (d *dialogue) session(x *setting, implicit bool) (bool, error) {
	f := &x.facts
	if implicit {
		if err := d.protect(x); err != nil {
			return false, err
		}
	}
	if err := d.reply(); err != nil || d.code != 220 {
		return false, err
	}
	name := f.Client.Helo
	if name == "" {
		name = "client.example"
	}
	if ok, err := d.say("EHLO " + name); !ok {
		return false, err
	}
	if f.TLS.On && !implicit {
		if ok, err := d.say("STARTTLS"); !ok {
			return false, err
		}
		if err := d.protect(x); err != nil {
			return false, err
		}
		if ok, err := d.say("EHLO " + name); !ok {
			return false, err
		}
	}
	if f.AuthUser != "" {
		secret := base64.StdEncoding.EncodeToString([]byte("\x00" + f.AuthUser + "\x00" + password))
		if ok, err := d.send("AUTH PLAIN "+secret, "AUTH PLAIN (as user "+f.AuthUser+")"); !ok {
			return false, err
		}
	}
	return d.transaction(x)
}

func (d *dialogue) transaction(x *setting) (bool, error) {
	f := &x.facts
	from, to := proof.Path(f.Sender).String(), proof.Path(f.Rcpt).String()
	more := ""
	if !ascii(from + to) {
		more = " SMTPUTF8"
	}
	for _, line := range []string{"MAIL FROM:<" + from + ">" + more, "RCPT TO:<" + to + ">", "DATA"} {
		if ok, err := d.say(line); !ok {
			return false, err
		}
	}
	text := string(x.text)
	var b strings.Builder
	for line := range strings.SplitAfterSeq(text, "\r\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	if !strings.HasSuffix(text, "\r\n") {
		b.WriteString("\r\n")
	}
	return d.send(b.String()+".", fmt.Sprintf("(%d octets) and .", len(text)))
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func (d *dialogue) say(line string) (bool, error) { return d.send(line, line) }

// send sends a command, shown as such, and reports a positive reply.
func (d *dialogue) send(line, shown string) (bool, error) {
	d.lines = append(d.lines, "C: "+shown)
	if _, err := d.nc.Write([]byte(line + "\r\n")); err != nil {
		return false, fmt.Errorf("replay: %w", err)
	}
	if err := d.reply(); err != nil {
		return false, err
	}
	return d.code >= 200 && d.code < 400, nil
}

// reply reads a reply; of several lines the first is recorded.
func (d *dialogue) reply() error {
	for i := range 100 {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("replay: read reply: %w", err)
		}
		line = strings.TrimRight(line, "\r\n")
		if _, err := fmt.Sscanf(line, "%3d", &d.code); err != nil || len(line) < 3 {
			return fmt.Errorf("replay: malformed reply %q", line)
		}
		if i == 0 {
			d.lines = append(d.lines, "S: "+strings.Replace(line, "250-", "250 ", 1))
		}
		if len(line) == 3 || line[3] != '-' {
			return nil
		}
	}
	return errors.New("replay: endless reply")
}

// protect makes the connection TLS, at the version that the witness has.
func (d *dialogue) protect(x *setting) error {
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // our own certificate, on loopback
	switch x.facts.TLS.Version {
	case "1.2":
		cfg.MaxVersion = tls.VersionTLS12
	case "1.3":
		cfg.MinVersion = tls.VersionTLS13
	}
	if x.suite != 0 {
		cfg.CipherSuites = []uint16{x.suite}
	}
	c := tls.Client(d.nc, cfg)
	if err := c.Handshake(); err != nil {
		return fmt.Errorf("replay: TLS: %w", err)
	}
	d.nc = c
	d.r.Reset(c)
	d.note("TLS %s", tls.CipherSuiteName(c.ConnectionState().CipherSuite))
	return nil
}

// certificate writes a certificate of our own for the stage's listeners.
func certificate(dir string, needRSA bool) (*config.TLS, error) {
	var key crypto.Signer
	var err error
	if needRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"gw.rehearsal.example"}}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := &config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	err = errors.Join(os.WriteFile(out.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(out.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return out, err
}
