package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/smtp"
)

// inboxes are the intakes at work: each with a goroutine, those by HTTP with a server
// for each address.
type inboxes struct {
	app    *App
	cancel context.CancelFunc
	work   sync.WaitGroup
	cfg    []config.Intake
}

func newInboxes(a *App) *inboxes { return &inboxes{app: a} }

// apply makes the intakes those of a configuration. Where one has changed all begin
// again: nothing is lost by that, for what is not durable here stays where it is.
func (x *inboxes) apply(wanted []config.Intake) error {
	if x.cancel != nil && reflect.DeepEqual(wanted, x.cfg) {
		return nil
	}
	x.stop()
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel, x.cfg = cancel, wanted
	servers := map[netip.AddrPort]*http.ServeMux{}
	certs := map[netip.AddrPort]*config.TLS{}
	var errs []error
	for i := range wanted {
		in := &wanted[i]
		if in.Kind == "http" {
			if servers[in.Listen] == nil {
				servers[in.Listen] = http.NewServeMux()
			}
			servers[in.Listen].Handle(in.Path, x.hook(in))
			if in.Cert != nil {
				certs[in.Listen] = in.Cert
			}
			continue
		}
		follow, err := x.follower(in)
		if err != nil {
			errs = append(errs, fmt.Errorf("intake %q: %w", in.Name, err))
			continue
		}
		x.work.Add(1)
		go func() { defer x.work.Done(); follow(ctx) }()
	}
	for at, mux := range servers {
		if err := x.serve(ctx, at, certs[at], mux); err != nil {
			errs = append(errs, fmt.Errorf("intakes at %s: %w", at, err))
		}
	}
	return errors.Join(errs...)
}

func (x *inboxes) stop() {
	if x.cancel != nil {
		x.cancel()
		x.work.Wait()
	}
}

// deliver makes what an intake brings durable.
func (x *inboxes) deliver(in *config.Intake) inbox.Deliver {
	name := arrivalPrefix + in.Name
	return func(ctx context.Context, m *inbox.Mail) error { return x.app.takeIn(ctx, name, m, netip.Addr{}) }
}

// follower makes what reads a mailbox, folders or files.
func (x *inboxes) follower(in *config.Intake) (func(context.Context), error) {
	a := x.app
	switch in.Kind {
	case "maildir":
		m := &inbox.Maildir{Name: in.Name, Folders: in.Paths, Deliver: x.deliver(in), Every: in.Every, After: a.o.After, Log: a.log}
		return m.Follow, nil
	case "mbox":
		m := &inbox.Mbox{Name: in.Name, Files: in.Paths, Deliver: x.deliver(in), Every: in.Every, After: a.o.After, Log: a.log}
		return m.Follow, nil
	}
	trust, err := authorities(in.CA)
	if err != nil {
		return nil, err
	}
	m := &inbox.IMAP{Name: in.Name, Address: in.Address, TLS: in.TLS, Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trust}, User: in.User, Mailbox: in.Mailbox, Done: in.Done, MoveTo: in.MoveTo,
		Password: func() (string, error) { b, err := secretFile(in.Password); return string(b), err },
		Every:    in.Every, Deliver: x.deliver(in), After: a.o.After, Log: a.log}
	return m.Follow, nil
}

// authorities reads certificates to trust besides the system's, nil where there are
// none.
func authorities(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return pool, nil
}

// secretFile reads a secret, which others may not be able to read. White space around it
// does not count.
func secretFile(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read secret %s: others can read it (mode %04o); chmod 600 it", name, st.Mode().Perm())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil, fmt.Errorf("read secret %s: it is empty", name)
	}
	return b, nil
}

func (x *inboxes) hook(in *config.Intake) *inbox.Hook {
	to := in.To
	if to.Domain == "" {
		to = smtp.Path{Local: "reports", Domain: x.app.now().cfg.Node.Hostname}
	}
	return &inbox.Hook{Name: in.Name, Format: in.Format, Secret: func() ([]byte, error) { return secretFile(in.Secret) }, To: to.String(), Deliver: x.deliver(in), Now: x.app.o.Now, Log: x.app.log}
}

// serve opens an address for webhooks.
func (x *inboxes) serve(ctx context.Context, at netip.AddrPort, cert *config.TLS, mux *http.ServeMux) error {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	if cert != nil {
		c, err := tls.LoadX509KeyPair(cert.Certificate, cert.Key)
		if err != nil {
			return errors.Join(fmt.Errorf("certificate: %w", err), l.Close())
		}
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c}})
	}
	x.work.Add(2)
	go func() {
		defer x.work.Done()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			x.app.log.Error("intakes by HTTP ended", "address", at.String(), "err", err)
		}
	}()
	go func() {
		defer x.work.Done()
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
	}()
	return nil
}
