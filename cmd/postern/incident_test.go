package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

// leak is a node with the policy of 2008 in a lab, as a process that can be killed.
type leak struct {
	t        *testing.T
	lab      *lab.Lab
	aol      *lab.Provider
	spammer  *lab.Spammer
	file     string
	internet string
	node     *nodeProcess
}

const leakConfig = `
node {
  hostname     = "gw.esp.example"
  state        = "state"
  resolver     = [%q]
  smtp_port    = %d
  default_pool = "aol"
  log_level    = "error"
}
listener "internet" {
  address = %q
  from    = "strangers"
}
retry {
  first = "1s"
  max   = "1s"
}
accept  = ["*"]
reports = ["fbl@fbl.esp.example"]
guard   = "observe"
provider "aol" { domains = ["fbl.aol.com"] }
pool "aol" { sources = ["127.21.0.1-127.21.0.4"] }
filter "aol-range" {
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
filter "drop" {
  if   = listener == "internet"
  then = drop()
}
waive "PV001" {
  filter = "aol-range"
  reason = "the test is about what happens then"
  until  = %q
}
`

func newLeak(t *testing.T) *leak {
	t.Helper()
	l := &leak{t: t}
	var err error
	if l.lab, err = lab.New(lab.Options{Seed: 2008}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.lab.Close)
	if l.aol, err = l.lab.AddProvider("aol", []string{"aol.com", "aim.com"}, message.ProfileAOL, lab.Behaviour{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l.internet = fmt.Sprintf("127.20.0.1:%d", freePort(t, "127.20.0.1"))
	l.file = filepath.Join(dir, "postern.hcl")
	if err := os.WriteFile(l.file, fmt.Appendf(nil, leakConfig, l.lab.Resolver(), l.lab.Port, l.internet, time.Now().AddDate(0, 1, 0).UTC().Format(time.DateOnly)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.spammer = l.lab.AddSpammer(9, l.internet)
	l.node = serve(t, l.file)
	return l
}

func (l *leak) spam(n int) {
	l.t.Helper()
	if tally := l.spammer.Spam(l.t.Context(), n, "aol.com", nil); tally.Accepted != n {
		l.t.Fatalf("%d of %d messages were taken", tally.Accepted, n)
	}
}

func (l *leak) arrived(n int) {
	l.t.Helper()
	if err := l.aol.Await(deadline(l.t, 20*time.Second), n, (*lab.Delivery).ByStranger); err != nil {
		l.t.Fatal(err)
	}
}

// kill ends the node without a word and starts the next one.
func (l *leak) kill() {
	l.t.Helper()
	_ = l.node.cmd.Process.Kill()
	_ = l.node.cmd.Wait()
	l.node = serve(l.t, l.file)
}

func (l *leak) complain(i int) error {
	d := l.aol.Received()[i]
	for end := time.Now().Add(5 * time.Second); counts(l.t, l.file).Waiting > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // until the hand-off is on record, as a complaint of the real world finds it
	}
	return l.aol.Complain(deadline(l.t, 10*time.Second), &d, l.internet, smtp.Path{Local: "fbl", Domain: "fbl.esp.example"})
}

// postern runs a command and wants exit 0.
func (l *leak) postern(args ...string) string {
	l.t.Helper()
	out, errs, code := run(l.t, append(args, l.file)...)
	if code != 0 {
		l.t.Fatalf("postern %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// incidents waits until at least one is listed.
func (l *leak) incidents() (ids []string) {
	l.t.Helper()
	for ctx := deadline(l.t, 20*time.Second); ctx.Err() == nil; {
		ids = nil
		for line := range strings.Lines(l.postern("incident", "ls", "-all", "-json")) {
			var v struct{ ID string }
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				l.t.Fatal(err)
			}
			ids = append(ids, v.ID)
		}
		if len(ids) > 0 {
			return ids
		}
	}
	l.t.Fatal("no incident has opened")
	return nil
}

// awaitHeld waits until so many recipients are held.
func (l *leak) awaitHeld(n int) {
	l.t.Helper()
	ctx := deadline(l.t, 20*time.Second)
	for {
		c := counts(l.t, l.file)
		if c.Held == n && c.Waiting == 0 {
			return
		}
		if ctx.Err() != nil {
			l.t.Fatalf("%d are held and %d wait, want %d held", c.Held, c.Waiting, n)
		}
	}
}

// TestContainmentSurvivesKill: a containment holds across kill -9, so does what it
// held; a release too.
func TestContainmentSurvivesKill(t *testing.T) {
	l := newLeak(t)
	l.spam(3)
	l.arrived(3)
	if err := l.complain(0); err != nil {
		t.Fatal(err)
	}
	id := l.incidents()[0]
	l.postern("incident", "contain", id)
	l.kill()
	l.spam(2)
	l.awaitHeld(2)
	l.kill()
	l.awaitHeld(2)
	if n := l.aol.Count((*lab.Delivery).ByStranger); n != 3 {
		t.Errorf("%d arrived in spite of the containment", n-3)
	}
	l.postern("incident", "release", "-mail", id)
	l.kill()
	l.arrived(5)
	l.spam(1)
	l.arrived(6)
	if out := l.postern("impact", id); !strings.Contains(out, "6 recipients") {
		t.Errorf("the impact after three kills:\n%s", out)
	}
	l.node.stop(t)
}

// TestComplaintSurvivesKill: the node dies right after its 250 to a complaint, or
// somewhat later. There is one incident in the end, never none and never two.
func TestComplaintSurvivesKill(t *testing.T) {
	l := newLeak(t)
	rounds := max(3, killRounds()/8)
	l.spam(1)
	l.arrived(1)
	for round := range rounds {
		if err := l.complain(0); err != nil {
			t.Fatal(err)
		}
		for range round % 4 { // let it get somewhat further: one question takes some time
			if c, err := net.DialTimeout("tcp", l.internet, time.Second); err == nil {
				c.Close()
			}
		}
		l.kill()
		ids := l.incidents()
		if len(ids) != round+1 {
			t.Fatalf("round %d: incidents %v", round, ids)
		}
		l.postern("incident", "close", ids[round])
	}
	l.node.stop(t)
}

// TestFalsePages: whoever is not the provider opens nothing, with the very report that
// the provider would send.
func TestFalsePages(t *testing.T) {
	l := newLeak(t)
	l.spam(1)
	l.arrived(1)
	provider := l.aol.Reporter
	l.aol.Reporter = "127.66.0.77"
	if err := l.complain(0); err != nil {
		t.Fatal(err)
	}
	l.kill() // what is not judged yet is judged now
	l.awaitHeld(0)
	if out := l.postern("incident", "ls", "-all", "-json"); out != "" {
		t.Errorf("a page for nothing: %s", out)
	}
	l.aol.Reporter = provider
	if err := l.complain(0); err != nil {
		t.Fatal(err)
	}
	if ids := l.incidents(); len(ids) != 1 {
		t.Errorf("incidents %v", ids)
	}
	l.node.stop(t)
}
