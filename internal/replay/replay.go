package replay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/verify"
)

// Options are what is played.
type Options struct {
	Config  *config.Config
	Witness *verify.Witness
	Wait    time.Duration // for a message to arrive; 20 s
}

// Report is what happened.
type Report struct {
	Lines     []string // both sides of the sessions, and what arrived
	Confirmed bool     // the gateway did what the witness says
	Arrived   int      // messages at the lab's sink
	Skipped   string   // why it could not be played, "" if it was
}

// Verdict says it in a line.
func (r *Report) Verdict() string {
	switch {
	case r.Skipped != "":
		return "not played: " + r.Skipped
	case !r.Confirmed:
		return "NOT confirmed: the gateway did something else"
	case r.Arrived > 0:
		return "confirmed over a socket: the message arrived"
	}
	return "confirmed over a socket"
}

// Play plays a witness.
func Play(ctx context.Context, o Options) (*Report, error) {
	if o.Wait == 0 {
		o.Wait = 20 * time.Second
	}
	r := &Report{}
	all, reason, err := settings(&o)
	if err != nil || reason != "" {
		r.Skipped = reason
		return r, err
	}
	s, err := newStage(ctx, &o, all)
	if err != nil {
		return nil, err
	}
	defer s.close()
	r.Confirmed = true
	for i := range o.Witness.Hops {
		ok, err := s.hop(ctx, r, all[i], &o.Witness.Decisions[i])
		if err != nil {
			return nil, err
		}
		r.Confirmed = r.Confirmed && ok
	}
	return r, nil
}

// settings arranges the world for all messages of a witness. Two of them that want
// different records under one name cannot be had.
func settings(o *Options) (all []*setting, reason string, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	zone := map[string]string{}
	for i := range o.Witness.Hops {
		s, reason := arrange(o.Config.Program, &o.Witness.Hops[i], &o.Witness.Decisions[i], key)
		if reason != "" {
			return nil, reason, nil
		}
		if reason := offered(o, &s.facts); reason != "" {
			return nil, reason, nil
		}
		for name, record := range s.zone {
			if old, twice := zone[name]; twice && old != record {
				return nil, "its messages need different records of " + name, nil
			}
			zone[name] = record
		}
		all = append(all, s)
	}
	return all, "", nil
}

// offered says what of a connection the listener does not offer.
func offered(o *Options, f *policy.Facts) string {
	for i := range o.Config.Listeners {
		if l := &o.Config.Listeners[i]; l.Name == f.Listener && l.TLS == nil && f.TLS.On {
			return fmt.Sprintf("it needs TLS, which listener %q does not offer", l.Name)
		}
	}
	return ""
}

// stage is a gateway on loopback and a sink that takes everything it sends.
type stage struct {
	o         *Options
	settings  []*setting
	dir       string
	lab       *lab.Lab
	sink      *lab.Provider
	node      *app.App
	cfg       *config.Config
	listeners map[string]string // name -> address
}

// newStage starts it.
func newStage(ctx context.Context, o *Options, all []*setting) (*stage, error) {
	s := &stage{o: o, settings: all, listeners: map[string]string{}}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) open(ctx context.Context) error {
	var err error
	if s.dir, err = os.MkdirTemp("", "postern-replay-"); err != nil {
		return err
	}
	if s.lab, err = lab.New(lab.Options{}); err != nil {
		return err
	}
	takeAll := lab.Behaviour{Refuse: func(smtp.Path) *smtp.Reply { return nil }}
	if s.sink, err = s.lab.AddProvider("sink", s.domains(), message.ProfileAOL, takeAll); err != nil {
		return err
	}
	if err := s.records(); err != nil {
		return err
	}
	if err := s.rehearsal(); err != nil {
		return err
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(s.sink.MX), uint16(s.lab.Port))
	s.node, err = app.New(ctx, app.Options{Config: s.cfg, Now: s.clock(), By: "replay", Elsewhere: func(netip.AddrPort) netip.AddrPort { return to }})
	if err != nil {
		return err
	}
	return s.node.Start(ctx)
}

// records puts the settings into the lab's DNS.
func (s *stage) records() error {
	done := map[string]bool{}
	for _, x := range s.settings {
		for _, record := range x.zone {
			if done[record] {
				continue
			}
			done[record] = true
			if err := s.lab.Record(record); err != nil {
				return err
			}
		}
		for _, name := range x.broken {
			s.lab.Break(name, true)
		}
	}
	return nil
}

// close takes everything down.
func (s *stage) close() {
	if s.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.node.Stop(ctx)
	}
	if s.lab != nil {
		s.lab.Close()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// domains lists where the witness's messages go.
func (s *stage) domains() []string {
	out := []string{"sink.example"}
	add := func(a policy.Address) {
		if a.Domain != "" && a.Domain[0] != '[' && !slices.Contains(out, a.Domain) {
			out = append(out, a.Domain)
		}
	}
	for i := range s.o.Witness.Decisions {
		d := &s.o.Witness.Decisions[i]
		add(d.Rcpt)
		for _, c := range d.Effects.Copies {
			add(c.Rcpt)
		}
	}
	return out
}

// clock runs from the witness's moment on if the policy looks at the clock.
func (s *stage) clock() func() time.Time {
	if !s.o.Config.Program.Mentions("now", "now.hour", "now.weekday") {
		return time.Now
	}
	shift := time.Until(s.o.Witness.Hops[0].Now)
	return func() time.Time { return time.Now().Add(shift) }
}

// rehearsal makes the configuration of the stage: the same policy, on loopback, with
// the guard watching only and every finding waived.
func (s *stage) rehearsal() error {
	c := *s.o.Config
	n := &c.Node
	n.State, n.Socket, n.Keys = filepath.Join(s.dir, "state"), filepath.Join(s.dir, "postern.sock"), filepath.Join(s.dir, "stamp.keys")
	n.Admin, n.Resolver, n.SMTPPort = "", []netip.AddrPort{s.lab.Resolver()}, s.lab.Port
	c.Guard, c.Waivers = config.GuardObserve, nil
	for _, code := range verify.Codes() {
		c.Waivers = append(c.Waivers, config.Waiver{Code: code, Reason: "rehearsal on loopback", Until: time.Now().AddDate(100, 0, 0)})
	}
	var err error
	if c.Users, err = s.users(); err != nil {
		return err
	}
	var tls *config.TLS
	c.Listeners = nil
	for _, l := range s.o.Config.Listeners {
		addr, err := free()
		if err != nil {
			return err
		}
		s.listeners[l.Name] = addr.String()
		l.Addresses, l.ProxyFrom, l.Limits = []netip.AddrPort{addr}, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, smtp.DefaultLimits()
		if l.TLS != nil {
			if tls == nil {
				if tls, err = certificate(s.dir, slices.ContainsFunc(s.settings, func(x *setting) bool { return x.rsa })); err != nil {
					return err
				}
			}
			l.TLS = &config.TLS{Certificate: tls.Certificate, Key: tls.Key, Implicit: l.TLS.Implicit, Min: l.TLS.Min}
		}
		c.Listeners = append(c.Listeners, l)
	}
	s.cfg = &c
	return nil
}

const password = "rehearsal"

// users gives every user the same known password.
func (s *stage) users() (map[string]config.User, error) {
	v, err := config.ParseVerifier(config.HashPassword(password, []byte("rehearsal-salt-16"), 4096))
	if err != nil {
		return nil, err
	}
	out := map[string]config.User{}
	for name, u := range s.o.Config.Users {
		out[name] = config.User{Customer: u.Customer, Verifier: v}
	}
	return out, nil
}

func free() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.20.0.9:0")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("replay: %w", err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()), nil
}

// hop speaks one session and looks what comes of it.
func (s *stage) hop(ctx context.Context, r *Report, x *setting, d *policy.Decision) (bool, error) {
	accepted, lines, err := s.speak(ctx, x)
	r.Lines = append(r.Lines, lines...)
	if err != nil {
		return false, err
	}
	if accepted == (d.Disposition == policy.Refused) {
		return false, nil
	}
	var want []string
	if d.Disposition == policy.Deliver {
		want = append(want, proof.Path(d.Rcpt).String())
	}
	if accepted {
		for _, c := range d.Effects.Copies {
			want = append(want, proof.Path(c.Rcpt).String())
		}
	}
	wait, cancel := context.WithTimeout(ctx, s.o.Wait)
	defer cancel()
	for _, to := range want {
		got := func(v *lab.Delivery) bool { return normal(v.To) == to }
		if err := s.sink.Await(wait, 1, got); err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				return false, err
			}
			r.Lines = append(r.Lines, fmt.Sprintf("   (nothing arrived for %s in %s)", to, s.o.Wait))
			return false, nil
		}
		r.Arrived++
		r.Lines = append(r.Lines, fmt.Sprintf("   (arrived for %s at the sink)", to))
	}
	return true, nil
}

// normal spells a path as the policy does.
func normal(p smtp.Path) string {
	a, err := policy.Normalise(p)
	if err != nil {
		return ""
	}
	return proof.Path(a).String()
}
