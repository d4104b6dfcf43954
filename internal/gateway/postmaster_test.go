package gateway_test

import (
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/verify"
)

// TestPostmaster: where anybody's mail to the postmaster goes, by what the operator has
// said, and that no such way is a relay.
func TestPostmaster(t *testing.T) {
	const node = `
node {
  hostname   = "gw.esp.example"
  state      = "state"
  postmaster = "POSTMASTER"
}
listener "internet" {
  address = "127.0.0.1:2525"
  from    = "strangers"
}
accept = ["bounce.esp.example", "mail.esp.example", ".wide.example", "*"]
inside "room" {
  address = "127.0.0.9:25"
  domains = ["mail.esp.example"]
  resends = RESENDS
}
pool "general" { sources = ["127.0.0.21"] }
filter "mail" {
  if   = rcpt.domain == "mail.esp.example"
  then = deliver()
}
`
	for _, c := range []struct {
		name, postmaster, resends, more string
		to, want, inside                string
		disposition                     policy.Disposition
		warned                          bool
	}{
		{"to an inside host", "ops@mail.esp.example", "false", "", "gw.esp.example", "ops@mail.esp.example", "room", policy.Deliver, false},
		{"at an accepted domain", "ops@mail.esp.example", "false", "", "bounce.esp.example", "ops@mail.esp.example", "room", policy.Deliver, false},
		{"at a domain with a host of its own", "ops@mail.esp.example", "false", "", "mail.esp.example", "postmaster@mail.esp.example", "room", policy.Deliver, false},
		{"the host sends on", "ops@mail.esp.example", "true", "", "gw.esp.example", "postmaster@gw.esp.example", "", policy.Hold, true},
		{"the host sends on, though declared", "ops@mail.esp.example", "true", `sinks = ["ops@mail.esp.example"]`, "gw.esp.example", "postmaster@gw.esp.example", "", policy.Hold, true},
		{"far away, not declared", "ops@far.example", "false", "", "gw.esp.example", "postmaster@gw.esp.example", "", policy.Hold, true},
		{"far away, declared", "ops@far.example", "false", `sinks = ["ops@far.example"]`, "gw.esp.example", "ops@far.example", "", policy.Deliver, false},
		{"nothing said", "postmaster@gw.esp.example", "false", "", "gw.esp.example", "postmaster@gw.esp.example", "", policy.Hold, false},
		{"somebody else's", "ops@mail.esp.example", "false", "", "far.example", "postmaster@far.example", "", policy.Refused, false},
		{"under a wide domain", "ops@mail.esp.example", "false", "", "x.wide.example", "postmaster@x.wide.example", "", policy.Refused, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.NewReplacer("POSTMASTER", c.postmaster, "RESENDS", c.resends).Replace(node) + c.more
			cfg, ds := config.Load("p.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
			if cfg == nil {
				t.Fatal(ds)
			}
			warned := false
			for i := range ds {
				warned = warned || strings.Contains(ds[i].Message, "postmaster")
			}
			d, _ := policy.Eval(cfg.Program, &policy.Facts{Listener: "internet", Origin: policy.Stranger, Rcpt: policy.Address{Local: "postmaster", Domain: c.to}, Content: &policy.Content{}})
			if d.Disposition != c.disposition || d.Rcpt.String() != c.want || d.Inside != c.inside || warned != c.warned {
				t.Errorf("%s to %s by %q, warned %v (%v)", d.Disposition, d.Rcpt, d.Inside, warned, ds)
			}
			if d.Disposition == policy.Deliver && cfg.Program.Relays(policy.Stranger, d.Rcpt, d.Inside) && !cfg.Program.Topology.DeclaredSink(d.Rcpt) {
				t.Error("it relays")
			}
			r := verify.Check(cfg.Program, verify.Options{})
			if r.Status != verify.Closed {
				t.Errorf("the proof is %s: %+v", r.Status, r.Findings)
			}
		})
	}
}

// TestPostmasterIsHeld looks at what the spool keeps of a stranger's mail to the
// postmaster, and that a filter cannot take it.
func TestPostmasterIsHeld(t *testing.T) {
	w := newWorld(t, "filter \"all\" {\n  if   = rcpt.local == \"postmaster\"\n  then = drop()\n}\n")
	m, _ := w.accepted(stranger, "Subject: x\r\n\r\nx\r\n", "Postmaster@gw.esp.example")
	if r := &m.Recipients[0]; r.State != spool.Held || r.Reason != "postmaster" {
		t.Errorf("it is %v: %s", r.State, r.Reason)
	}
	s := w.session(stranger)
	defer s.Close()
	if r := s.Mail(ctx, smtp.Path{}, smtp.MailParams{}); r != nil {
		t.Fatal(r)
	}
	if r := s.Rcpt(ctx, smtp.Path{Local: "Postmaster"}, smtp.RcptParams{}); r != nil {
		t.Errorf("without a domain: %v", r)
	}
}

// session begins one.
func (w *world) session(from client) smtp.Session {
	w.t.Helper()
	peer := &smtp.Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr(from.addr), 4000), Helo: "client.example", ESMTP: true}
	s, refused := w.gateway.Listener(from.listener, false).NewSession(ctx, peer)
	if refused != nil {
		w.t.Fatal(refused)
	}
	return s
}
