package gateway_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/gateway"
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

// TestPostmasterIsBounded: strangers cannot fill the spool with mail to the postmaster, nor
// can one network keep the others out; customers are not kept out by them; and the next
// day there is room again.
func TestPostmasterIsBounded(t *testing.T) {
	var c counts
	w := newWorldMeter(t, defaults, &c, nil)
	const to = "postmaster@gw.esp.example"
	from := func(i int) client { return client{stranger.listener, fmt.Sprintf("198.18.%d.%d", i/256, i%256)} }
	fill := func(from client, size int) (taken int) {
		for ; taken < 2000; taken++ {
			if r := w.send(from, "\r\n"+strings.Repeat(strings.Repeat("x", 98)+"\r\n", size/100), to); r.Code != 250 {
				if r.Code != 452 || r.Enhanced != (smtp.EnhancedCode{4, 2, 2}) {
					t.Fatal(r)
				}
				return taken
			}
		}
		return taken
	}
	if n := fill(from(1), 100); n != 100 {
		t.Errorf("one network: %d were taken", n)
	}
	if r := w.send(from(2), "\r\nx\r\n", to); r.Code != 452 {
		t.Errorf("its neighbour: %v", r)
	}
	if r := w.send(from(1), "\r\nx\r\n", "a@bounce.esp.example"); r.Code != 250 {
		t.Errorf("other mail: %v", r)
	}
	if n := fill(from(256), 3_000_000); n != 2 {
		t.Errorf("large ones: %d were taken", n)
	}
	if r := w.send(from(257), "\r\nx\r\n", to); r.Code != 250 {
		t.Errorf("a small one beside them: %v", r)
	}
	for i := 2; i < 40; i++ {
		fill(from(256*i), 100)
	}
	if n, _, full := w.gateway.PostmasterHeld(); n != 1000 || !full {
		t.Errorf("%d are held, full %v", n, full)
	}
	if r := w.send(acme, "From: a@news.acme.example\r\n\r\nx\r\n", to); r.Code != 250 {
		t.Errorf("a customer: %v", r)
	}
	if c.refused[gateway.PostmasterFull] == 0 {
		t.Errorf("counted %+v", c.refused)
	}
	w.now = w.now.Add(24 * time.Hour)
	if n, _, full := w.gateway.PostmasterHeld(); n != 0 || full {
		t.Errorf("the next day: %d, %v", n, full)
	}
	if r := w.send(from(1), "\r\nx\r\n", to); r.Code != 250 {
		t.Errorf("the next day: %v", r)
	}
}
