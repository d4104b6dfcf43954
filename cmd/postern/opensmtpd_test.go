package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
)

// enterOpenSMTPD gives OpenSMTPD, whose paths are compiled in, directories of its own
// in place of the machine's: only its processes see them.
const enterOpenSMTPD = `set -e
mount --bind "$1/usr/libexec" /usr/libexec
mount --bind "$1/var/lib" /var/lib
mount --bind "$2/spool" /var/spool
mount --bind "$2/run" /run
mount --bind "$2/resolv.conf" /etc/resolv.conf
exec "$1/usr/sbin/smtpd" -d -f "$2/smtpd.conf"`

// openSMTPD runs a real OpenSMTPD, which asks no DNS, with a configuration until the
// test ends, and gives the name of its log.
func openSMTPD(t testing.TB, listen, conf string) (log string) {
	t.Helper()
	smtpd := need(t, "smtpd")
	if err := exec.Command("unshare", "-m", "mount", "--bind", "/run", "/run").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("OpenSMTPD needs root and a mount namespace: %v", err)
		}
		t.Skipf("OpenSMTPD needs root and a mount namespace: %v", err)
	}
	dir := t.TempDir()
	for _, d := range []string{"spool", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"smtpd.conf": conf, "resolv.conf": "lookup file\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log = filepath.Join(dir, "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(smtpd))) // ROOT/usr/sbin/smtpd
	cmd := exec.Command("unshare", "-m", "sh", "-c", enterOpenSMTPD, "sh", root, dir)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		f.Close()
		if b, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("OpenSMTPD:\n%s", b)
		}
	})
	awaitListener(t, listen)
	return log
}

// TestOpenSMTPDNextHop hands mail to a real OpenSMTPD, which relays it to a sink and
// refuses one recipient. OpenSMTPD 6.8 on OpenSSL 3, as Debian 12 has it, offers STARTTLS
// and fails in each handshake: the mail goes in clear text then, and arrives.
func TestOpenSMTPDNextHop(t *testing.T) {
	need(t, "smtpd")
	t.Run("in clear text", func(t *testing.T) { openSMTPDTakes(t, "", "") })
	t.Run("with STARTTLS", func(t *testing.T) {
		cert, key := certificate(t, t.TempDir())
		openSMTPDTakes(t, fmt.Sprintf("pki \"mx.sink.example\" cert %q\npki \"mx.sink.example\" key %q\n", cert, key), `tls pki "mx.sink.example"`)
	})
}

func openSMTPDTakes(t *testing.T, pki, listener string) {
	swaks := need(t, "swaks")
	const mx, next = "127.0.0.37", "127.0.0.38"
	in, out := freePort(t, mx), freePort(t, next)
	s := newSink(t, fmt.Sprintf("%s:%d", next, out))
	log := openSMTPD(t, fmt.Sprintf("%s:%d", mx, in), pki+fmt.Sprintf(`listen on %s port %d %s hostname "mx.sink.example"
action "next" relay host "smtp://%s:%d"
match from any for rcpt-to "refused@sink.example" reject
match from any for domain "sink.example" action "next"
`, mx, in, listener, next, out))
	file, injection := gatewayConfig(t, zone(t, "sink.example", mx), in, "")
	n := serve(t, file)
	want := map[string]int{}
	for i, args := range [][]string{
		{"--body", "plain"},
		{"--body", strings.Repeat(".dots\n..\n.\n", 50)},
		{"--body", "eight bits: \xc3\xa4\xc3\xb6"},
		{"--attach", "@/etc/services"},
		{"--to", "reader4@sink.example,refused@sink.example,other@sink.example"},
	} {
		to := fmt.Sprintf("reader%d@sink.example", i)
		all := append([]string{"--server", injection, "--from", "n@news.acme.example", "--to", to, "--ehlo", "app.acme.example"}, args...)
		if b, err := exec.Command(swaks, all...).CombinedOutput(); err != nil {
			t.Fatalf("swaks %d: %v\n%s", i, err, b)
		}
		want[to] = 1
	}
	want["other@sink.example"] = 1
	err := s.await(deadline(t, 30*time.Second), func(got map[string]int) bool { return len(got) == len(want) })
	if err != nil {
		t.Errorf("not all arrived: %v", err)
	}
	n.stop(t)
	if b, err := os.ReadFile(log); err != nil || (listener != "") != (strings.Contains(string(b), "SSL routines") || strings.Contains(string(b), "smtp tls")) {
		t.Errorf("TLS was tried, or was not: %v", err)
	}
	for to := range want {
		if got := s.count(to); got != 1 {
			t.Errorf("%s has it %d times", to, got)
		}
		if e := ends(t, file, to); len(e) != 1 || !strings.HasPrefix(e[0], "handed off 250 2.0.0") {
			t.Errorf("%s: the ledger says %q", to, e)
		}
	}
	if e := ends(t, file, "refused@sink.example"); s.count("refused@sink.example") != 0 || len(e) != 1 || !strings.HasPrefix(e[0], "bounced 550") {
		t.Errorf("the refused one: the ledger says %q", e)
	}
}

// history reads what the ledger of a node that has stopped has of mail to a recipient.
func history(t testing.TB, file, recipient string) (out []ledger.Event) {
	t.Helper()
	l, err := ledger.Open(filepath.Join(filepath.Dir(file), "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ids, err := l.ByRecipient(t.Context(), recipient, time.Time{}, time.Time{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		events, err := l.History(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, events...)
	}
	return out
}

// ends says how mail to a recipient ended, as the ledger has it.
func ends(t testing.TB, file, recipient string) (out []string) {
	t.Helper()
	number := -1
	for _, e := range history(t, file, recipient) {
		switch e := e.(type) {
		case *ledger.Accepted:
			number = slices.IndexFunc(e.Decisions, func(d ledger.Decided) bool { return d.Recipient == recipient })
		case *ledger.HandedOff:
			if e.Recipient == number {
				out = append(out, "handed off "+e.Reply)
			}
		case *ledger.Bounced:
			if e.Recipient == number {
				out = append(out, "bounced "+e.Reply)
			}
		}
	}
	return out
}
