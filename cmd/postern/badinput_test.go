package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestBadInputAndMailFlows gives a running node what issues are made of, one after the
// other. Each is refused with its place, the policy in force stays, and mail goes on.
func TestBadInputAndMailFlows(t *testing.T) {
	port := freePort(t, "127.0.0.39")
	sink := newSink(t, fmt.Sprintf("127.0.0.39:%d", port))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.39"), port, "")
	edit(t, file, `  log_level   = "warn"`, "  log_level   = \"warn\"\n  default_pool = \"general\"")
	dir := filepath.Dir(file)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, errs, code := run(t, "dkim", "keygen", "-algorithm", "ed25519", filepath.Join(dir, "open.key")); code != 0 {
		t.Fatal(errs)
	}
	if err := os.Chmod(filepath.Join(dir, "open.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rules.hcl"), []byte("rule \"mine\" {\n  code = 421\n  text = [\n    \"slow down\",\n    \"[0-9\",\n  ]\n  then = backoff(\"5m\", source)\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := serve(t, file)
	defer n.stop(t)
	sent := 0
	flows := func(after string) {
		t.Helper()
		sent++
		rcpt := fmt.Sprintf("r%d@sink.example", sent)
		bdat(t, listener, "n@news.acme.example", "From: n@news.acme.example\r\n\r\ntext\r\n", rcpt)
		if err := sink.await(deadline(t, 20*time.Second), func(got map[string]int) bool { return got[rcpt] > 0 }); err != nil {
			t.Fatalf("after %s no mail comes through: %v\n%s", after, err, n.log)
		}
	}
	flows("the start")
	for _, c := range []struct{ name, more, says string }{
		{"no connections at all", "limits {\n  connections_per_site = 0\n}\n", `postern.hcl:\d+:\d+: error: connections_per_site is out of range: 1 to 100000`},
		{"no connections to a destination", "destination \"d\" {\n  domains = [\"d.example\"]\n  limits {\n    connections = 0\n  }\n}\n", `postern.hcl:\d+:\d+: error: connections is out of range: 1 to 100000`},
		{"more for each address than for all", "destination \"d\" {\n  domains = [\"d.example\"]\n  limits {\n    connections = 2\n    connections_per_source = 5\n  }\n}\n", `postern.hcl:\d+:\d+: error: .*connections_per_source`},
		{"a rate of nothing", "destination \"d\" {\n  domains = [\"d.example\"]\n  limits {\n    message_rate = \"0/1m\"\n  }\n}\n", `postern.hcl:\d+:\d+: error: .*"0/1m" is not a rate`},
		{"a first wait beyond the end", "retry {\n  first  = \"10h\"\n  expire = \"5h\"\n}\n", `postern.hcl:\d+:\d+: error: `},
		{"a key that others can read", "dkim \"k\" {\n  domain   = \"news.acme.example\"\n  selector = \"s\"\n  key_file = \"open.key\"\n}\n", `postern.hcl:\d+:\d+: error: others can read .*open.key \(mode 0644\)`},
		{"a pool with a name for an address", "pool \"p\" { sources = [\"mta1.esp.example\"] }\n", `postern.hcl:\d+:\d+: error: .*"mta1.esp.example"`},
		{"a pool with half a range", "pool \"p\" { sources = [\"198.51.100.40-198.51.100.10\"] }\n", `postern.hcl:\d+:\d+: error: `},
		{"a pool with no such address", "pool \"p\" { sources = [\"198.51.100.256\"] }\n", `postern.hcl:\d+:\d+: error: .*"198.51.100.256"`},
		{"a rule file with a broken expression", "include = [\"rules.hcl\"]\n", `rules.hcl:5:\d+: error: .*\[0-9`},
		{"a rule for a destination that there is not", "rule \"r\" {\n  destinations = [\"gmial\"]\n  code = 421\n  then = retry()\n}\n", `postern.hcl:\d+:\d+: error: .*gmial`},
		{"an unfinished block", "rule \"r\" {\n", `postern.hcl:\d+:\d+: error: `},
	} {
		if err := os.WriteFile(file, append(append([]byte{}, good...), c.more...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"check", "reload"} {
			out, errs, code := run(t, command, file)
			if code == 0 || !regexp.MustCompile(c.says).MatchString(out+errs) {
				t.Errorf("%s, %s: exit %d, want %s\n%s%s", c.name, command, code, c.says, out, errs)
			}
		}
		flows(c.name)
	}
	// An address that is well written and not this machine's: its mail waits and says so,
	// other mail goes on.
	if err := os.WriteFile(file, append(append([]byte{}, good...), "pool \"away\" { sources = [\"192.0.2.77\"] }\nfilter \"away\" {\n  if   = rcpt.local == \"away\"\n  then = deliver(pool.away)\n}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := run(t, "reload", file); code != 0 {
		t.Fatalf("a pool of an address that is not here: exit %d\n%s%s", code, out, errs)
	}
	bdat(t, listener, "n@news.acme.example", "From: n@news.acme.example\r\n\r\ntext\r\n", "away@sink.example")
	eventually(t, "the mail of the pool that is not here says why it waits", func() bool {
		out, _, _ := run(t, "queue", "ls", "-pool", "away", file)
		return strings.Contains(out, "cannot assign requested address")
	})
	flows("a pool of an address that is not here")
	importRubbish(t, file, flows)
}

// importRubbish imports a file with more rubbish than lines: a bounded refusal.
func importRubbish(t *testing.T, file string, flows func(string)) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	rubbish := make([]byte, 8<<20)
	_, _ = random.Read(rubbish)
	name := filepath.Join(filepath.Dir(file), "rubbish.csv")
	if err := os.WriteFile(name, append([]byte("good@sink.example\nalso good@sink.example\n"), rubbish...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := run(t, "suppress", "import", "-customer", "acme", name, file)
	if code != exitUsage || !strings.Contains(errs, "rubbish.csv:2:1: not an address") || !strings.Contains(errs, "more than 10000 bad lines") || strings.Count(errs, "\n") > 110 || len(errs) > 64<<10 {
		t.Errorf("exit %d, %d lines\n%s%.2000s", code, strings.Count(errs, "\n"), out, errs)
	}
	flows("an import of rubbish")
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}
