package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/ledger"
)

// TestInjectors lets real servers be a customer that signs in over STARTTLS and relays:
// each message comes out once, and the ledger has who sent it, how it came in and how
// it went out.
func TestInjectors(t *testing.T) {
	for _, c := range []struct {
		name, listen, next string
		start              func(t *testing.T, listen, gateway string)
	}{
		{"Postfix", "127.0.0.40", "127.0.0.43", postfixInjects},
		{"Exim", "127.0.0.41", "127.0.0.44", eximInjects},
		{"OpenSMTPD", "127.0.0.42", "127.0.0.45", openSMTPDInjects},
	} {
		t.Run(c.name, func(t *testing.T) { relayIn(t, c.listen, c.next, c.start) })
	}
}

func relayIn(t *testing.T, host, next string, start func(t *testing.T, listen, gateway string)) {
	swaks := need(t, "swaks")
	if os.Geteuid() != 0 {
		t.Skip("it needs root to run")
	}
	port := freePort(t, next)
	s := newSink(t, fmt.Sprintf("%s:%d", next, port))
	cert, key := certificate(t, t.TempDir())
	gateway := fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	file, _ := gatewayConfig(t, zone(t, "sink.example", next), port, fmt.Sprintf(`
listener "submission" {
  address = %q
  from    = "strangers"
  auth    = true
  tls {
    certificate = %q
    key         = %q
  }
}
customer "shop" {
  senders = ["shop.example"]
  users   = { app = %q }
}
`, gateway, cert, key, config.HashPassword("secret", []byte("0123456789abcdef"), 4096)))
	n := serve(t, file)
	listen := fmt.Sprintf("%s:%d", host, freePort(t, host))
	start(t, listen, gateway)
	to := map[string][]string{
		"plain@sink.example":  {"--body", "plain"},
		"dots@sink.example":   {"--body", strings.Repeat(".dots\n..\n.\n", 50)},
		"eight@sink.example":  {"--body", "eight bits: \xc3\xa4\xc3\xb6"},
		"attach@sink.example": {"--attach", "@/etc/services"},
	}
	for rcpt, args := range to {
		all := append([]string{"--server", listen, "--from", "news@shop.example", "--to", rcpt, "--ehlo", "app.shop.example"}, args...)
		if b, err := exec.Command(swaks, all...).CombinedOutput(); err != nil {
			t.Fatalf("swaks to %s: %v\n%s", rcpt, err, b)
		}
	}
	if err := s.await(deadline(t, 40*time.Second), func(got map[string]int) bool { return len(got) == len(to) }); err != nil {
		t.Errorf("not all arrived: %v", err)
	}
	n.stop(t)
	for rcpt := range to {
		if got := s.count(rcpt); got != 1 {
			t.Errorf("%s has it %d times", rcpt, got)
		}
		injected(t, file, rcpt)
	}
}

// injected looks in the ledger of a node for the one message to a recipient: signed in,
// over TLS, the customer's, handed off once.
func injected(t *testing.T, file, rcpt string) {
	t.Helper()
	var accepted, handed int
	for _, e := range history(t, file, rcpt) {
		switch e := e.(type) {
		case *ledger.Accepted:
			accepted++
			if e.Customer != "shop" || e.AuthUser != "app" || e.Origin != "customer" || e.Listener != "submission" || !strings.HasPrefix(e.TLS, "TLS1.") || e.Sender != "news@shop.example" {
				t.Errorf("%s was accepted as %+v", rcpt, *e)
			}
		case *ledger.HandedOff:
			handed++
			if e.Customer != "shop" || e.Address != rcpt || e.Path != (ledger.Path{Listener: "submission", Origin: "customer"}) || !strings.HasPrefix(e.Reply, "250 ") {
				t.Errorf("%s was handed off as %+v", rcpt, *e)
			}
		}
	}
	if accepted != 1 || handed != 1 {
		t.Errorf("%s: accepted %d times, handed off %d times", rcpt, accepted, handed)
	}
}

func postfixInjects(t *testing.T, listen, gateway string) {
	dir, err := os.MkdirTemp("/tmp", "postern-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host, port, _ := strings.Cut(gateway, ":")
	runPostfix(t, dir, listen, fmt.Sprintf("[%s]:%s", host, port), fmt.Sprintf(`smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{{[%s]:%s = app:secret}}
smtp_sasl_security_options = noanonymous
`, host, port))
}

func eximInjects(t *testing.T, listen, gateway string) {
	host, port, _ := strings.Cut(gateway, ":")
	startExim(t, listen, fmt.Sprintf(`begin routers
gateway:
  driver = manualroute
  transport = gateway
  route_list = * %s
  self = send
begin transports
gateway:
  driver = smtp
  port = %s
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates =
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^app^secret
`, host, port))
}

func openSMTPDInjects(t *testing.T, listen, gateway string) {
	host, port, _ := strings.Cut(listen, ":")
	openSMTPD(t, listen, fmt.Sprintf(`table secrets { app = "app:secret" }
listen on %s port %s
action "gateway" relay host "smtp+tls://app@%s" auth <secrets> tls no-verify
match from any for any action "gateway"
`, host, port, gateway))
}
