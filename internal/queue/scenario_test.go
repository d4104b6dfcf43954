package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// receiver is where the scenarios' mail goes: what a test says of a connection, before
// anything else is asked.
type receiver struct {
	*internet
	mu    sync.Mutex
	greet func(source netip.Addr, host string) error // nil lets it come about
	tls   func(host string) error                    // why it is in clear text
	tried []string
}

// Dial implements queue.Transport.
func (r *receiver) Dial(ctx context.Context, source netip.Addr, h egress.Host) (*egress.Conn, error) {
	r.mu.Lock()
	r.tried = append(r.tried, h.Name)
	greet, tls := r.greet, r.tls
	r.mu.Unlock()
	if greet != nil {
		if err := greet(source, h.Name); err != nil {
			return nil, err
		}
	}
	c, err := r.internet.Dial(ctx, source, h)
	if c != nil && tls != nil {
		c.TLSFailure = tls(h.Name)
	}
	return c, err
}

func (r *receiver) change(fn func()) { r.mu.Lock(); defer r.mu.Unlock(); fn() }

// hosts gives the hosts that were tried since it was asked last.
func (r *receiver) hosts() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.tried, " ")
	r.tried = nil
	return s
}

// scene is a world with a receiver and the rules that come with the program, or those
// of a file.
type scene struct {
	*world
	to      *receiver
	shaping *shaping.Shaping
}

func newScene(t *testing.T, rules string) *scene {
	t.Helper()
	all := config.Shipped()
	if rules != "" {
		text := "node {\n  hostname = \"gw.esp.example\"\n  state = \"state\"\n}\nlistener \"in\" {\n  address = \"127.0.0.1:25\"\n  from = \"strangers\"\n}\nshaping { default = false }\n" + rules
		cfg, ds := config.Load("postern.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
		if cfg == nil {
			t.Fatalf("%v", ds)
		}
		all = cfg.Shaping
	}
	p, err := shaping.Compile(all)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 7)
	s := &scene{world: w, to: &receiver{internet: w.net}, shaping: shaping.New(shaping.Options{Program: p})}
	ring, err := stamp.NewRing([]stamp.Key{{ID: 1, Secret: make([]byte, 32), Created: epoch}})
	if err != nil {
		t.Fatal(err)
	}
	w.routing.Limits.Messages, w.routing.Limits.Idle = 1, 0 // a connection for each message: what a test counts does not depend on who comes first
	routing := w.routing
	w.q = queue.New(queue.Options{Store: w.store, Transport: s.to, Gate: w.gate, Routing: func() *queue.Routing { return routing }, Ring: func() *stamp.Ring { return ring },
		OnGuard: func(ledger.GuardTripped) {}, Clock: w.clock, Random: w.random, Shaper: s.shaping})
	w.q.Start()
	return s
}

// one sends a message by a pool and waits until the ledger says what became of it.
func (s *scene) one(pool, to string) {
	s.t.Helper()
	was := s.outcomes()
	s.send(func(m *spool.Message) { m.Recipients[0].Pool = pool }, to)
	s.await(to, func([]ledger.Event) bool { return s.outcomesLocked() > was })
}

// outcomes counts what attempts came to.
func (s *scene) outcomes() int {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.outcomesLocked()
}

func (s *scene) outcomesLocked() (n int) {
	for _, e := range s.store.events {
		switch e.(type) {
		case *ledger.Attempted, *ledger.HandedOff, *ledger.Bounced:
			n++
		}
	}
	return n
}

// told gives the ledger's events as lines: when, what, of which source.
func (s *scene) told() string {
	var b strings.Builder
	for _, e := range s.store.seen() {
		at := e.When().Sub(epoch)
		switch e := e.(type) {
		case *ledger.Attempted:
			fmt.Fprintf(&b, "%s attempted: %s\n", at, e.Reply)
		case *ledger.HandedOff:
			fmt.Fprintf(&b, "%s handed off from %s to %s\n", at, e.Source, e.Host)
		case *ledger.Bounced:
			fmt.Fprintf(&b, "%s bounced: %s\n", at, e.Reply)
		case *ledger.ShapingChanged:
			what := map[string]string{"source": e.Source.String(), "mx": e.MX, "site": e.Site, "customer": e.Customer}[e.Scope]
			fmt.Fprintf(&b, "%s %s: %s of %s %s at %q until %s by rule %s after %d\n", at, e.State, e.Does, e.Scope, what, e.Site, e.Until.Sub(epoch), e.Rule, e.Count)
		}
	}
	return b.String()
}

// expect compares the ledger with lines.
func (s *scene) expect(want string) {
	s.t.Helper()
	if got := s.told(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		s.t.Errorf("the ledger says\n%s\nwant\n%s", got, want)
	}
}

// until turns the clock on and waits for so many hand-offs.
func (s *scene) until(d time.Duration, handedOff int) {
	s.t.Helper()
	s.clock.advance(epoch.Add(d).Sub(s.clock.Now()))
	s.await(fmt.Sprintf("%d hand-offs after %s", handedOff, d), func(all []ledger.Event) bool {
		n := 0
		for _, e := range all {
			if _, ok := e.(*ledger.HandedOff); ok {
				n++
			}
		}
		return n >= handedOff
	})
}

const lone = "198.51.100.9" // the only source of pool other

// TestProviderThrottles: five replies that say "slower" and the address is left alone
// for a while; the sixth message is not tried, and all goes on by itself.
func TestProviderThrottles(t *testing.T) {
	s := newScene(t, "")
	var mu sync.Mutex
	busy := true
	s.net.add("there.example", &peer{rcpt: func(string) string {
		mu.Lock()
		defer mu.Unlock()
		if busy {
			return "421 4.7.0 too many messages, slow down"
		}
		return "250 2.1.5 yes"
	}})
	s.net.add("else.example", &peer{})
	for i := range 5 {
		s.one("other", fmt.Sprintf("r%d@there.example", i))
	}
	want := strings.Repeat("0s attempted: 421 4.7.0 too many messages, slow down\n", 5) +
		`0s began: backoff of source ` + lone + ` at "mx1.there.example" until 10m0s by rule slow-down after 5` + "\n"
	s.expect(want)
	s.send(func(m *spool.Message) { m.Recipients[0].Pool = "other" }, "r5@there.example")
	s.one("other", "r@else.example") // another site takes the same address's mail
	s.expect(want + "0s handed off from " + lone + " to mx1.else.example\n")
	mu.Lock()
	busy = false
	mu.Unlock()
	s.until(9*time.Minute, 1)
	s.one("other", "s@else.example")
	if got := strings.Count(s.told(), "attempted"); got != 5 {
		t.Errorf("%d attempts before the end of the backoff", got)
	}
	s.until(20*time.Minute, 8)
	if got := s.told(); strings.Count(got, "20m0s handed off from "+lone+" to mx1.there.example") != 6 || strings.Count(got, "began") != 1 {
		t.Error(got)
	}
}

// TestProviderDefersByPattern: Yahoo's codes hold the address back at all of Yahoo's
// domains, which are one site, and a second time for twice as long.
func TestProviderDefersByPattern(t *testing.T) {
	s := newScene(t, "")
	deferred := "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints"
	for _, d := range []string{"yahoo.com", "aol.com"} {
		s.net.add(d, &peer{rcpt: func(string) string { return deferred }})
	}
	for i := range 5 {
		s.one("other", fmt.Sprintf("r%d@%s", i, []string{"yahoo.com", "aol.com"}[i%2]))
	}
	s.expect(strings.Repeat("0s attempted: "+deferred+"\n", 5) + `0s began: backoff of source ` + lone + ` at "yahoo" until 30m0s by rule yahoo-deferred after 5`)
	s.clock.advance(31 * time.Minute)
	s.await("a second backoff", func(all []ledger.Event) bool {
		return slices.ContainsFunc(all, func(e ledger.Event) bool {
			c, ok := e.(*ledger.ShapingChanged)
			return ok && c.From.Equal(epoch.Add(31*time.Minute)) && c.Until.Equal(epoch.Add(91*time.Minute))
		})
	})
}

// TestProviderBlocksOneSource: GMX turns one address away at the door; the mail waits,
// and goes by the other address of the pool.
func TestProviderBlocksOneSource(t *testing.T) {
	s := newScene(t, "")
	listed := smtp.NewReply(554, smtp.EnhancedCode{}, "IP address is block listed")
	bad := netip.MustParseAddr("198.51.100.1")
	s.to.greet = func(source netip.Addr, _ string) error {
		if source == bad {
			return listed
		}
		return nil
	}
	s.net.add("gmx.net", &peer{})
	for !strings.Contains(s.told(), "attempted") { // whichever address has its turn
		s.one("general", "r@gmx.net")
	}
	s.until(2*time.Minute, strings.Count(s.told(), "handed off")+1) // the site has had its rest, and the first message goes by the other
	s.clock.advance(2 * time.Second)
	for i := range 6 {
		s.one("general", fmt.Sprintf("r%d@gmx.net", i))
	}
	got := s.told()
	if strings.Count(got, "attempted: 554 IP address is block listed") != 1 ||
		strings.Count(got, `began: suspend of source 198.51.100.1 at "gmx" until 4h0m0s by rule gmx-blocklist after 1`) != 1 ||
		strings.Count(got, "handed off from 198.51.100.2 to mx1.gmx.net") < 7 || strings.Contains(got, "from 198.51.100.1") {
		t.Error(got)
	}
}

// TestProviderGreylists: nothing is held back but the recipient itself, and that for as
// long as is usual.
func TestProviderGreylists(t *testing.T) {
	s := newScene(t, "")
	var mu sync.Mutex
	seen := map[string]bool{}
	s.net.add("there.example", &peer{rcpt: func(to string) string {
		mu.Lock()
		defer mu.Unlock()
		if !seen[to] {
			seen[to] = true
			return "450 4.2.0 Recipient address rejected: Greylisted"
		}
		return "250 2.1.5 yes"
	}})
	for i := range 8 {
		s.one("other", fmt.Sprintf("r%d@there.example", i))
	}
	s.expect(strings.Repeat("0s attempted: 450 4.2.0 Recipient address rejected: Greylisted\n", 8))
	for _, e := range s.store.seen() {
		if a := e.(*ledger.Attempted); !a.Next.Equal(epoch.Add(5*time.Minute)) || a.Category != "greylisted" {
			t.Errorf("tried again at %s, category %q", a.Next, a.Category)
		}
	}
	s.until(5*time.Minute, 8)
}

// TestProviderBlackHolesOneMX: the host that does not answer is passed over while there
// is another, and is tried again after its time.
func TestProviderBlackHolesOneMX(t *testing.T) {
	s := newScene(t, `
rule "dead" {
  code  = "none"
  stage = "connect"
  then  = suspend("10m", mx)
}
`)
	s.to.greet = func(_ netip.Addr, host string) error {
		if host == "mx1.there.example" {
			return errors.New("connect to mx1.there.example: i/o timeout")
		}
		return nil
	}
	s.net.add("there.example", &peer{})
	s.net.add("there.example", &peer{})
	s.one("other", "a@there.example")
	began := `0s began: suspend of mx mx1.there.example at "" until 10m0s by rule dead after 1` + "\n"
	handed := " handed off from " + lone + " to mx2.there.example\n"
	s.expect(began + "0s" + handed)
	s.one("other", "b@there.example")
	s.expect(began + "0s" + handed + "0s" + handed)
	if got := s.to.hosts(); got != "mx1.there.example mx2.there.example mx2.there.example" {
		t.Errorf("tried %s", got)
	}
	s.to.change(func() { s.to.greet = nil })
	s.clock.advance(11 * time.Minute)
	s.one("other", "c@there.example")
	if got := s.to.hosts(); got != "mx1.there.example" {
		t.Errorf("after its time: tried %s", got)
	}
}

// TestProviderBreaksTLS: mail goes on, by the host whose TLS works.
func TestProviderBreaksTLS(t *testing.T) {
	s := newScene(t, `
rule "broken-tls" {
  code      = "none"
  stage     = "tls"
  threshold = "2/10m"
  then      = backoff("10m", "1h", mx)
}
`)
	s.to.tls = func(host string) error {
		if host == "mx1.there.example" {
			return errors.New("tls: handshake failure")
		}
		return nil
	}
	s.net.add("there.example", &peer{})
	s.net.add("there.example", &peer{})
	for i := range 4 {
		s.one("other", fmt.Sprintf("r%d@there.example", i))
	}
	one, two := "0s handed off from "+lone+" to mx1.there.example\n", "0s handed off from "+lone+" to mx2.there.example\n"
	s.expect(one + `0s began: backoff of mx mx1.there.example at "" until 10m0s by rule broken-tls after 2` + "\n" + one + two + two)
	if got := s.to.hosts(); got != "mx1.there.example mx1.there.example mx2.there.example mx2.there.example" {
		t.Errorf("tried %s", got)
	}
}

// TestTheLastHostIsNotPassedOver: what is said of hosts never stops a site.
func TestTheLastHostIsNotPassedOver(t *testing.T) {
	s := newScene(t, "rule \"broken-tls\" {\n  stage = \"tls\"\n  code = \"none\"\n  then = suspend(\"10m\", mx)\n}\n")
	s.to.tls = func(string) error { return errors.New("tls: handshake failure") }
	s.net.add("there.example", &peer{})
	for i := range 3 {
		s.one("other", fmt.Sprintf("r%d@there.example", i))
	}
	if got := s.told(); strings.Count(got, "handed off") != 3 || strings.Count(got, "began") != 1 {
		t.Error(got)
	}
}

// TestOneReplyIsOneReply: a transaction for several recipients that is refused as a whole
// counts once.
func TestOneReplyIsOneReply(t *testing.T) {
	s := newScene(t, "rule \"twice\" {\n  code = 451\n  threshold = \"2/10m\"\n  then = suspend(\"1h\", site)\n  after = \"30m\"\n}\n")
	s.net.add("there.example", &peer{end: func(string) string { return "451 4.3.0 not now" }})
	s.send(func(m *spool.Message) { m.Origin, m.Customer = string(policy.Inside), "" }, "a@there.example", "b@there.example", "c@there.example")
	s.await("attempts", func([]ledger.Event) bool { return s.outcomesLocked() == 3 })
	s.expect(strings.Repeat("0s attempted: 451 4.3.0 not now\n", 3))
	for _, e := range s.store.seen() {
		if a, ok := e.(*ledger.Attempted); ok && a.Next.Sub(epoch) < 30*time.Minute {
			t.Errorf("a recipient is tried again at %s", a.Next)
		}
	}
}
