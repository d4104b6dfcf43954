package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/ledger"
)

// certificate writes a self-signed certificate and its key.
func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw.esp.example"}, DNSNames: []string{"gw.esp.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kb}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestSwaksSignsIn sends with swaks over STARTTLS and AUTH, right and wrong.
func TestSwaksSignsIn(t *testing.T) {
	swaks := need(t, "swaks")
	port := freePort(t, "127.0.0.33")
	s := newSink(t, fmt.Sprintf("127.0.0.33:%d", port))
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	more := fmt.Sprintf(`
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
`, addr, cert, key, config.HashPassword("secret", []byte("0123456789abcdef"), 4096))
	file, _ := gatewayConfig(t, zone(t, "sink.example", "127.0.0.33"), port, more)
	n := serve(t, file)
	for _, c := range []struct {
		name string
		args []string
		ok   bool
		want string
	}{
		{"PLAIN over STARTTLS", []string{"-tls", "-a", "PLAIN", "-au", "app", "-ap", "secret"}, true, "250 2.0.0 accepted as"},
		{"wrong password", []string{"-tls", "-a", "PLAIN", "-au", "app", "-ap", "Secret"}, false, "535 5.7.8"},
		{"unknown user", []string{"-tls", "-a", "PLAIN", "-au", "nobody", "-ap", "secret"}, false, "535 5.7.8"},
		{"no TLS, no AUTH offered", []string{"-a", "PLAIN", "-au", "app", "-ap", "secret"}, false, "did not advertise"},
		{"a stranger", nil, false, "550 5.7.1 relaying denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"--server", addr, "--from", "news@shop.example", "--to", "reader@sink.example", "--ehlo", "app.shop.example"}, c.args...)
			out, err := exec.Command(swaks, args...).CombinedOutput()
			if (err == nil) != c.ok || !strings.Contains(string(out), c.want) {
				t.Errorf("%v, want %q\n%s", err, c.want, out)
			}
		})
	}
	if err := s.await(deadline(t, 20*time.Second), func(got map[string]int) bool { return got["reader@sink.example"] == 1 }); err != nil {
		t.Error("the message did not arrive")
	}
	n.stop(t)
}

// TestPostfixAccepts hands mail to a real Postfix, which takes it and delivers it to
// a sink of its own.
func TestPostfixAccepts(t *testing.T) {
	postfix := need(t, "postfix")
	if os.Geteuid() != 0 {
		t.Skip("Postfix needs root to run")
	}
	dir, err := os.MkdirTemp("/tmp", "postern-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in, out := freePort(t, "127.0.0.34"), freePort(t, "127.0.0.35")
	s := newSink(t, fmt.Sprintf("127.0.0.35:%d", out))
	cert := postfixConfig(t, dir, fmt.Sprintf("127.0.0.34:%d", in), fmt.Sprintf("[127.0.0.35]:%d", out))
	if b, err := exec.Command(postfix, "-c", dir, "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v\n%s", err, b)
	}
	t.Cleanup(func() { _ = exec.Command(postfix, "-c", dir, "stop").Run() })
	awaitListener(t, fmt.Sprintf("127.0.0.34:%d", in))
	handOver(t, in, "127.0.0.34", cert, true, func(ctx context.Context) error {
		return s.await(ctx, func(got map[string]int) bool { return len(got) == 5 })
	})
}

func postfixConfig(t testing.TB, dir, listen, next string) (cert string) {
	t.Helper()
	cert, key := certificate(t, dir)
	for _, d := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_ = exec.Command("chown", "postfix", filepath.Join(dir, "data")).Run()
	_ = os.Chmod(dir, 0o755)
	main := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.sink.example
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = %[2]s
maillog_file = %[1]s/log
maillog_file_prefixes = %[3]s
alias_maps =
smtputf8_enable = yes
smtpd_tls_security_level = may
smtpd_tls_cert_file = %[4]s
smtpd_tls_key_file = %[5]s
smtpd_tls_loglevel = 1
`, dir, next, filepath.Dir(dir), cert, key)
	master := "tlsmgr unix - - n 1000? 1 tlsmgr\n" + listen + ` inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
	for name, text := range map[string]string{"main.cf": main, "master.cf": master} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

// handOver sends mail of every sort through a node to a server at an address, each over
// a connection of its own and only to whom has the certificate; taken waits until that
// server has taken all of it.
func handOver(t *testing.T, port int, mx, cert string, resumes bool, taken func(context.Context) error) {
	t.Helper()
	file, listener := gatewayConfig(t, zone(t, "sink.example", mx), port, fmt.Sprintf(`
limits { messages_per_connection = 1 }
tls_policy "sink" {
  domains = ["sink.example"]
  mode    = "verify"
  names   = ["gw.esp.example"]
  ca_file = %q
}
`, cert))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	one := strings.Replace(string(b), "127.0.0.21-127.0.0.24", "127.0.0.21", 1) // sessions are a source's own
	if err := os.WriteFile(file, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	n := serve(t, file)
	swaks := need(t, "swaks")
	for i, args := range [][]string{
		{"--body", "plain"},
		{"--header", "Subject: =?utf-8?q?=C3=A4?=", "--body", strings.Repeat(".dots\n..\n.\n", 50)},
		{"--body", "eight bits: \xc3\xa4\xc3\xb6"},
		{"--body", strings.Repeat("a long line ", 80)},
		{"--attach", "@/etc/services"},
	} {
		to := fmt.Sprintf("reader%d@sink.example", i)
		all := append([]string{"--server", listener, "--from", "n@news.acme.example", "--to", to, "--ehlo", "app.acme.example"}, args...)
		if out, err := exec.Command(swaks, all...).CombinedOutput(); err != nil {
			t.Fatalf("swaks %d: %v\n%s", i, err, out)
		}
	}
	if err := taken(deadline(t, 30*time.Second)); err != nil {
		out, _, _ := run(t, "queue", "ls", file)
		t.Errorf("not all was taken: %v\n%s", err, out)
	}
	n.stop(t)
	protected(t, file, resumes)
}

// protected looks in the ledger how mail was handed off: all of it to a host that was
// verified, and over a session that was resumed where the host does that.
func protected(t testing.TB, file string, resumes bool) {
	t.Helper()
	l, err := ledger.Open(filepath.Join(filepath.Dir(file), "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var fresh, resumed int
	for i := range 5 {
		ids, err := l.ByRecipient(t.Context(), fmt.Sprintf("reader%d@sink.example", i), time.Time{}, time.Time{}, 10)
		if err != nil || len(ids) != 1 {
			t.Fatalf("reader%d: %v, %v", i, ids, err)
		}
		events, err := l.History(t.Context(), ids[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			h, ok := e.(*ledger.HandedOff)
			switch {
			case !ok:
			case !strings.HasPrefix(h.TLS, "TLS 1.") || !strings.Contains(h.TLS, " verified"):
				t.Errorf("handed off over %q", h.TLS)
			case strings.HasSuffix(h.TLS, " resumed"):
				resumed++
			default:
				fresh++
			}
		}
	}
	if fresh == 0 || (resumed > 0) != resumes || fresh+resumed != 5 {
		t.Errorf("%d full handshakes, %d resumed", fresh, resumed)
	}
}

// TestEximAccepts hands mail to a real Exim.
func TestEximAccepts(t *testing.T) {
	exim := need(t, "exim4")
	if os.Geteuid() != 0 {
		t.Skip("Exim needs root to run with a configuration of its own")
	}
	dir, err := os.MkdirTemp("/tmp", "postern-exim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o777)
	in := freePort(t, "127.0.0.36")
	cert, key := certificate(t, dir)
	_ = os.Chmod(key, 0o644) // Exim reads it as its own user
	_ = os.Chmod(cert, 0o644)
	conf := filepath.Join(dir, "exim.conf")
	text := fmt.Sprintf(`exim_path = %[3]s
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%slog
pid_file_path = %[1]s/pid
primary_hostname = mx.sink.example
local_interfaces = 127.0.0.36
daemon_smtp_ports = %[2]d
acl_smtp_rcpt = accept
tls_advertise_hosts = *
tls_certificate = %[4]s
tls_privatekey = %[5]s
smtp_accept_max = 100
queue_only
`, dir, in, exim, cert, key)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exim, "-C", conf, "-bdf")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	awaitListener(t, net.JoinHostPort("127.0.0.36", fmt.Sprint(in)))
	defer func() {
		if t.Failed() {
			for _, name := range []string{"mainlog", "paniclog"} {
				b, _ := os.ReadFile(filepath.Join(dir, name))
				t.Logf("%s:\n%s", name, b)
			}
		}
	}()
	handOver(t, in, "127.0.0.36", cert, false, func(ctx context.Context) error {
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			if b, err := os.ReadFile(filepath.Join(dir, "mainlog")); err == nil && strings.Count(string(b), " <= ") == 5 {
				return nil
			}
		}
		return ctx.Err()
	})
}
