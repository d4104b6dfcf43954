package shaping_test

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/shaping"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

var (
	one = netip.MustParseAddr("198.51.100.1")
	two = netip.MustParseAddr("198.51.100.2")
)

func traffic(change ...func(*shaping.Traffic)) shaping.Traffic {
	t := shaping.Traffic{Destination: shaping.Destination{Domain: "a.example", Site: "big-1", Provider: "big"}, MX: "mx1.big.example",
		Pool: "news", Source: one, Customer: "acme", Campaign: "spring"}
	for _, c := range change {
		c(&t)
	}
	return t
}

func rule(name string, r shaping.Rule) shaping.Rule {
	r.Name, r.Where = name, "x.hcl:1:1"
	if r.Codes == nil {
		r.Codes = []shaping.CodeRange{{From: 400, To: 499}}
	}
	return r
}

func text(expr string) []*regexp.Regexp { return []*regexp.Regexp{regexp.MustCompile("(?i)" + expr)} }

func reply(code int, text string) shaping.Reply {
	return shaping.Reply{Code: code, Text: fmt.Sprint(code, " ", text), Stage: "rcpt"}
}

// TestThreshold: so many within the time, and not one less; then the counting begins
// anew.
func TestThreshold(t *testing.T) {
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("slow", shaping.Rule{
		Threshold: shaping.Threshold{Count: 3, Within: time.Minute},
		Then:      []shaping.Effect{{Kind: "suspend", Scope: "source", Within: "site", For: time.Hour}}})}})
	at := func(d time.Duration) int {
		return len(s.Observe(traffic(), reply(421, "slow down"), noon.Add(d)).Actions)
	}
	for i, step := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {30 * time.Second, 0}, {61 * time.Second, 0}, {90 * time.Second, 1}, {91 * time.Second, 0},
		{90*time.Second + time.Hour, 0}, {90*time.Second + time.Hour + 1, 0}, {90*time.Second + time.Hour + 2, 1}} {
		if got := at(step.after); got != step.want {
			t.Errorf("reply %d at %s: %d actions, want %d", i, step.after, got, step.want)
		}
	}
}

// TestBackoffDoubles: a wait that follows soon on the former is twice as long, up to the
// longest; after a quiet time it is the first again.
func TestBackoffDoubles(t *testing.T) {
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("slow", shaping.Rule{
		Then: []shaping.Effect{{Kind: "backoff", Scope: "site", For: 10 * time.Minute, Most: 30 * time.Minute}}})}})
	now := noon
	for i, want := range []time.Duration{10, 20, 30, 30} {
		j := s.Observe(traffic(), reply(421, "later"), now)
		if len(j.Actions) != 1 {
			t.Fatalf("round %d: %d actions", i, len(j.Actions))
		}
		if got := j.Actions[0].Until.Sub(now); got != want*time.Minute {
			t.Errorf("round %d: %s, want %s", i, got, want*time.Minute)
		}
		if j := s.Observe(traffic(), reply(421, "later"), now.Add(time.Second)); len(j.Actions) != 0 {
			t.Errorf("round %d: a second action while the first is in force", i)
		}
		now = j.Actions[0].Until.Add(time.Minute)
	}
	now = now.Add(3 * time.Hour)
	if j := s.Observe(traffic(), reply(421, "later"), now); j.Actions[0].Until.Sub(now) != 10*time.Minute {
		t.Errorf("after a quiet time: %s", j.Actions[0].Until.Sub(now))
	}
}

// TestScopes binds by each scope and reach, and asks with traffic that differs in one
// part.
func TestScopes(t *testing.T) {
	other := map[string]func(*shaping.Traffic){
		"site":     func(t *shaping.Traffic) { t.Site = "big-2" },
		"provider": func(t *shaping.Traffic) { t.Site, t.Provider = "x", "" },
		"domain":   func(t *shaping.Traffic) { t.Domain = "b.example" },
		"mx":       func(t *shaping.Traffic) { t.MX = "mx2.big.example" },
		"source":   func(t *shaping.Traffic) { t.Source = two },
		"pool":     func(t *shaping.Traffic) { t.Pool = "other" },
		"customer": func(t *shaping.Traffic) { t.Customer = "other" },
		"campaign": func(t *shaping.Traffic) { t.Campaign = "autumn" },
	}
	for _, c := range []struct {
		scope, within string
		free          string // parts in which other traffic is not bound
	}{
		{"site", "", "site provider"},
		{"provider", "", "provider"},
		{"domain", "", "domain"},
		{"mx", "", "mx"},
		{"source", "site", "site provider source"},
		{"source", "provider", "provider source"},
		{"source", "everywhere", "source"},
		{"pool", "site", "site provider pool"},
		{"customer", "provider", "provider customer"},
		{"customer", "everywhere", "customer"},
		{"campaign", "site", "site provider customer campaign"},
	} {
		t.Run(c.scope+" "+c.within, func(t *testing.T) {
			s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("r", shaping.Rule{Then: []shaping.Effect{{Kind: "suspend", Scope: c.scope, Within: c.within, For: time.Hour}}})}})
			if _, blocked := s.Blocked(traffic(), noon); blocked {
				t.Fatal("blocked before anything happened")
			}
			j := s.Observe(traffic(), reply(421, "no"), noon)
			b, blocked := s.Blocked(traffic(), noon.Add(time.Minute))
			if !blocked || b.Scope != c.scope || b.Until != noon.Add(time.Hour) || b.Action != j.Actions[0].ID || b.Reason != "rule r: 421 no" {
				t.Errorf("blocked %v: %+v", blocked, b)
			}
			if _, blocked := s.Blocked(traffic(), noon.Add(time.Hour)); blocked {
				t.Error("blocked after the end")
			}
			for part, change := range other {
				_, blocked := s.Blocked(traffic(change), noon.Add(time.Minute))
				if want := !strings.Contains(" "+c.free+" ", " "+part+" "); blocked != want {
					t.Errorf("another %s: blocked %v", part, blocked)
				}
			}
		})
	}
}

// TestOneWhoIsNobody: where a part is unknown, nothing is bound by it, and nobody else's
// traffic is.
func TestOneWhoIsNobody(t *testing.T) {
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("r", shaping.Rule{Then: []shaping.Effect{
		{Kind: "suspend", Scope: "customer", Within: "everywhere", For: time.Hour}}})}})
	nobody := func(t *shaping.Traffic) { t.Customer = "" }
	if j := s.Observe(traffic(nobody), reply(421, "no"), noon); len(j.Actions) != 0 {
		t.Errorf("%+v", j.Actions)
	}
	if _, blocked := s.Blocked(traffic(nobody), noon); blocked {
		t.Error("blocked")
	}
}

// TestNoProvider: what would reach a whole provider reaches the site where there is
// none.
func TestNoProvider(t *testing.T) {
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("r", shaping.Rule{Then: []shaping.Effect{{Kind: "suspend", Scope: "source", Within: "provider", For: time.Hour}}})}})
	alone := func(t *shaping.Traffic) { t.Provider = "" }
	s.Observe(traffic(alone), reply(421, "no"), noon)
	if _, blocked := s.Blocked(traffic(alone), noon); !blocked {
		t.Error("the site is not blocked")
	}
	if _, blocked := s.Blocked(traffic(alone, func(t *shaping.Traffic) { t.Site = "elsewhere" }), noon); blocked {
		t.Error("another site without a provider is blocked")
	}
}

// TestVerdictOnOneRecipient: the first rule that matches has the word; one that is not
// final lets others add.
func TestVerdictOnOneRecipient(t *testing.T) {
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{
		rule("note", shaping.Rule{Text: text("grey"), Category: "greylist", GoOn: true}),
		rule("wait", shaping.Rule{Text: text("grey"), After: 5 * time.Minute}),
		rule("never", shaping.Rule{Text: text("grey"), Fate: shaping.Bounce}),
		rule("gone", shaping.Rule{Codes: []shaping.CodeRange{{From: 550, To: 550}}, Enhanced: []shaping.Enhanced{{5, 1, -1}}, Suppress: true}),
		rule("their-5xx", shaping.Rule{Codes: []shaping.CodeRange{{From: 550, To: 559}}, Text: text("frequency"), Fate: shaping.TryAgain}),
		rule("no-answer", shaping.Rule{Codes: []shaping.CodeRange{{}}, Stages: []string{"connect"}, Category: "network"}),
	}})
	for _, c := range []struct {
		name  string
		reply shaping.Reply
		want  shaping.Judgement
	}{
		{"two that agree", shaping.Reply{Code: 451, Text: "451 greylisted"}, shaping.Judgement{Rule: "note", Category: "greylist", After: 5 * time.Minute}},
		{"a success", shaping.Reply{Code: 250, Text: "250 2.0.0 greylisted no more"}, shaping.Judgement{}},
		{"an enhanced code", shaping.Reply{Code: 550, Enhanced: "5.1.10", Text: "550 5.1.10 no"}, shaping.Judgement{Rule: "gone", Suppress: true}},
		{"no enhanced code", shaping.Reply{Code: 550, Text: "550 no"}, shaping.Judgement{}},
		{"broken enhanced codes", shaping.Reply{Code: 550, Enhanced: "5.1.1.1", Text: "550"}, shaping.Judgement{}},
		{"tried again for all its 5xx", shaping.Reply{Code: 551, Text: "551 IP FREQUENCY limited"}, shaping.Judgement{Rule: "their-5xx", Fate: shaping.TryAgain}},
		{"no reply", shaping.Reply{Text: "connect: refused", Stage: "connect"}, shaping.Judgement{Rule: "no-answer", Category: "network"}},
		{"no reply, later", shaping.Reply{Text: "connection lost", Stage: "data"}, shaping.Judgement{}},
		{"a code that is none", shaping.Reply{Code: 999, Text: "grey"}, shaping.Judgement{}},
		{"a code below none", shaping.Reply{Code: -1, Text: "grey"}, shaping.Judgement{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := s.Observe(traffic(), c.reply, noon); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSuspendAndUndo(t *testing.T) {
	s := with(t, &shaping.Rules{})
	gen := s.Generation()
	a, err := s.Suspend(shaping.Suspension{Scope: "pool", Within: "everywhere", Traffic: shaping.Traffic{Pool: "news"}, By: "ann", Reason: "blocklisted"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if s.Generation() == gen {
		t.Error("the generation did not change")
	}
	b, blocked := s.Blocked(traffic(), noon.Add(1000*time.Hour))
	if !blocked || !b.Until.IsZero() || b.Reason != "suspended by ann: blocklisted" {
		t.Errorf("%v %+v", blocked, b)
	}
	next := with(t, &shaping.Rules{}) // a restart
	next.Restore(s.Actions(noon), noon.Add(time.Hour))
	if _, blocked := next.Blocked(traffic(), noon.Add(time.Hour)); !blocked {
		t.Error("not blocked after a restart")
	}
	c, err := next.Suspend(shaping.Suspension{Scope: "site", Traffic: traffic(), Until: noon.Add(2 * time.Hour), By: "ann"}, noon)
	if err != nil || c.ID == a.ID {
		t.Errorf("second action %q, %v", c.ID, err)
	}
	if undone, err := next.Undo(a.ID, noon.Add(time.Hour)); err != nil || undone.Reason != "blocklisted" {
		t.Errorf("%+v, %v", undone, err)
	}
	if _, err := next.Undo(a.ID, noon.Add(time.Hour)); !errors.Is(err, shaping.ErrUnknown) {
		t.Errorf("undone twice: %v", err)
	}
	if b, blocked := next.Blocked(traffic(), noon); !blocked || b.Scope != "site" {
		t.Errorf("%v %+v", blocked, b)
	}
	if got := len(next.Actions(noon.Add(3 * time.Hour))); got != 0 {
		t.Errorf("%d actions after all have ended", got)
	}
	for name, w := range map[string]shaping.Suspension{
		"unknown scope": {Scope: "planet", Traffic: traffic()},
		"unknown reach": {Scope: "pool", Within: "planet", Traffic: traffic()},
		"which one":     {Scope: "pool", Within: "everywhere"},
		"in the past":   {Scope: "site", Traffic: traffic(), Until: noon},
	} {
		if _, err := s.Suspend(w, noon); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestUndoForgets: after an undo, the counting begins anew and the backoff is the first.
func TestUndoForgets(t *testing.T) {
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("slow", shaping.Rule{Then: []shaping.Effect{{Kind: "backoff", Scope: "site", For: time.Minute, Most: time.Hour}}})}})
	a := s.Observe(traffic(), reply(421, "x"), noon).Actions[0]
	if _, err := s.Undo(a.ID, noon); err != nil {
		t.Fatal(err)
	}
	b := s.Observe(traffic(), reply(421, "x"), noon.Add(time.Second)).Actions
	if len(b) != 1 || b[0].Until.Sub(b[0].From) != time.Minute || b[0].ID == a.ID {
		t.Errorf("%+v", b)
	}
}

// TestReloadKeeps: what is in force and what is counted outlives other rules.
func TestReloadKeeps(t *testing.T) {
	rules := &shaping.Rules{Rules: []shaping.Rule{rule("slow", shaping.Rule{Threshold: shaping.Threshold{Count: 2, Within: time.Hour},
		Then: []shaping.Effect{{Kind: "suspend", Scope: "site", For: time.Hour}}})}}
	s := with(t, rules)
	s.Observe(traffic(), reply(421, "x"), noon)
	s.Load(compiled(t, rules))
	if j := s.Observe(traffic(), reply(421, "x"), noon); len(j.Actions) != 1 {
		t.Error("the count is lost")
	}
	s.Load(compiled(t, &shaping.Rules{}))
	if _, blocked := s.Blocked(traffic(), noon); !blocked {
		t.Error("the action is lost")
	}
}

// TestRecord: each automatic action is told once, and those of a rule with two effects
// both are.
func TestRecord(t *testing.T) {
	var told []string
	s := shaping.New(shaping.Options{Record: func(a shaping.Action) { told = append(told, a.Kind+" "+a.Scope) },
		Program: compiled(t, &shaping.Rules{Rules: []shaping.Rule{rule("two", shaping.Rule{Then: []shaping.Effect{
			{Kind: "throttle", Scope: "source", Within: "site", For: time.Hour, Connections: 1}, {Kind: "suspend", Scope: "source", Within: "site", For: time.Minute}}})}})})
	for range 3 {
		s.Observe(traffic(), reply(421, "x"), noon)
	}
	if got := strings.Join(told, ", "); got != "throttle source, suspend source" {
		t.Error(got)
	}
}

func TestLimits(t *testing.T) {
	rate := func(n int, per time.Duration) []shaping.Rate { return []shaping.Rate{{Count: n, Per: per}} }
	s := with(t, &shaping.Rules{
		Destinations: []shaping.Definition{
			{Name: shaping.Everywhere, Limits: []shaping.LimitSet{
				{Limits: shaping.Limits{Connections: 20, MessagesPerConnection: 100}},
				{Pools: []string{"news"}, Limits: shaping.Limits{Connections: 5, Idle: time.Second}},
			}},
			{Name: "big", Limits: []shaping.LimitSet{
				{Pools: []string{"slow"}, Limits: shaping.Limits{MessageRate: rate(1, time.Minute)}},
				{Limits: shaping.Limits{Connections: 7, MessageRate: rate(100, time.Minute)}},
			}},
		},
		Warmups: []shaping.Warmup{{Name: "new", Sources: []netip.Addr{two}, Start: noon.Add(-36 * time.Hour).Truncate(24 * time.Hour),
			Schedule: []int{10, 48, 1000}, Destinations: map[string][]int{"big": {5, 7}}}},
		Rules: []shaping.Rule{rule("slow", shaping.Rule{Then: []shaping.Effect{
			{Kind: "throttle", Scope: "site", For: time.Hour, Rate: &shaping.Rate{Count: 6, Per: time.Minute}},
			{Kind: "throttle", Scope: "source", Within: "site", For: time.Hour, Connections: 2}}})},
	})
	show := func(tr shaping.Traffic, now time.Time) string {
		l := s.Limits(tr, now)
		return fmt.Sprint(l.Connections, l.ConnectionsPerSource, l.MessagesPerConnection, l.Idle, l.MessageRate, l.SourceRate)
	}
	big := func(t *shaping.Traffic) {}
	elsewhere := func(t *shaping.Traffic) { t.Provider, t.Site = "", "x" }
	pool := func(p string) func(*shaping.Traffic) { return func(t *shaping.Traffic) { t.Pool = p } }
	fresh := func(t *shaping.Traffic) { t.Source = two }
	for _, c := range []struct {
		name string
		t    shaping.Traffic
		now  time.Time
		want string
	}{
		{"everywhere", traffic(elsewhere, pool("x")), noon, "20 0 100 0s [] []"},
		{"everywhere, by pool", traffic(elsewhere), noon, "5 0 100 1s [] []"},
		{"the provider's go before", traffic(big), noon, "7 0 100 1s [100/1m] []"},
		{"the provider's, by pool", traffic(pool("slow")), noon, "7 0 100 0s [1/1m] []"},
		{"second day", traffic(fresh), noon, "7 0 100 1s [100/1m] [7/24h]"},
		{"second day elsewhere", traffic(fresh, elsewhere), noon, "5 0 100 1s [] [48/24h/2]"},
		{"before the first day", traffic(fresh), noon.Add(-100 * time.Hour), "7 0 100 1s [100/1m] [5/24h]"},
		{"the schedule is over", traffic(fresh), noon.Add(24 * time.Hour), "7 0 100 1s [100/1m] []"},
	} {
		if got := show(c.t, c.now); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	s.Observe(traffic(), reply(421, "x"), noon)
	for i := range 2 { // made, then kept
		if got, want := show(traffic(), noon), "7 2 100 1s [100/1m 6/1m] []"; got != want {
			t.Errorf("throttled, %d: %s, want %s", i, got, want)
		}
	}
	if got, want := show(traffic(fresh), noon), "7 0 100 1s [100/1m 6/1m] [7/24h]"; got != want {
		t.Errorf("throttled, another source: %s, want %s", got, want)
	}
	if got, want := show(traffic(), noon.Add(time.Hour)), "7 0 100 1s [100/1m] []"; got != want {
		t.Errorf("after the throttle: %s, want %s", got, want)
	}
}

// TestHotPathMakesNothing: what the queue asks before each attempt makes no garbage,
// with and without something in force, and neither does a success.
func TestHotPathMakesNothing(t *testing.T) {
	s := with(t, manyRules(50))
	tr := traffic()
	check := func(name string, fn func()) {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	ask := func(state string) {
		check("Blocked "+state, func() { s.Blocked(tr, noon) })
		check("Limits "+state, func() { s.Limits(tr, noon) })
		check("Enter "+state, func() { p, _, _ := s.Enter(tr, noon); p.Leave() })
		check("Observe 250 "+state, func() { s.Observe(tr, shaping.Reply{Code: 250, Text: "250 ok"}, noon) })
	}
	ask("at rest")
	for i := range 50 {
		s.Observe(traffic(func(t *shaping.Traffic) { t.Site = fmt.Sprint("s", i) }), reply(421, "rule 7 says so"), noon)
		s.Observe(traffic(func(t *shaping.Traffic) { t.Site = fmt.Sprint("s", i) }), reply(421, "rule 8 says so"), noon)
	}
	tr.Site = "s7"
	if _, blocked := s.Blocked(tr, noon); !blocked || len(s.Limits(tr, noon).MessageRate) != 1 {
		t.Error("nothing is in force")
	}
	ask("with actions in force")
}

// manyRules makes rules as a large file would have them.
func manyRules(n int) *shaping.Rules {
	r := &shaping.Rules{Destinations: []shaping.Definition{{Name: "big", Limits: []shaping.LimitSet{{Limits: shaping.Limits{Connections: 10}}}}}}
	for i := range n {
		e := shaping.Effect{Kind: "suspend", Scope: "site", For: time.Hour}
		if i%2 == 0 {
			e = shaping.Effect{Kind: "throttle", Scope: "site", For: time.Hour, Rate: &shaping.Rate{Count: 1, Per: time.Second}}
		}
		x := rule(fmt.Sprint("r", i), shaping.Rule{Then: []shaping.Effect{e}, Text: text(fmt.Sprintf(`\brule %d (says|thinks) so`, i))})
		if i%3 == 0 {
			x.Providers = []string{"big", fmt.Sprint("p", i)}
		}
		r.Rules = append(r.Rules, x)
	}
	return r
}

func BenchmarkHotPath(b *testing.B) {
	s := with(b, manyRules(500))
	tr := traffic()
	for range 2 {
		s.Observe(tr, reply(421, "rule 8 says so"), noon)
	}
	b.Run("Blocked", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			s.Blocked(tr, noon)
		}
	})
	b.Run("Limits", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			s.Limits(tr, noon)
		}
	})
	b.Run("Enter", func(b *testing.B) {
		gated := throttled(b, shaping.Effect{Scope: "customer", Within: "everywhere", Rate: &shaping.Rate{Count: 1e9, Per: time.Second}})
		defer processor(b)()
		for b.Loop() {
			p, _, _ := gated.Enter(tr, noon)
			p.Leave()
		}
	})
	b.Run("Observe250", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			s.Observe(tr, shaping.Reply{Code: 250, Text: "250 2.0.0 OK"}, noon)
		}
	})
	long := "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes"
	b.Run("Observe421of500rules", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			s.Observe(tr, shaping.Reply{Code: 421, Text: long}, noon)
		}
	})
}

// TestClockIsSet: what is in force ends as much earlier or later as the clock was set, and
// is undone by what stands on record.
func TestClockIsSet(t *testing.T) {
	p, err := shaping.Compile(&shaping.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	there := shaping.Traffic{Destination: shaping.Destination{Site: "mx.there.example"}}
	for _, by := range []time.Duration{-12 * time.Hour, 12 * time.Hour} {
		for _, restored := range []bool{false, true} {
			s := shaping.New(shaping.Options{Program: p})
			a, err := s.Suspend(shaping.Suspension{Scope: "site", Traffic: there, Until: now.Add(time.Hour), By: "op"}, now)
			if err != nil {
				t.Fatal(err)
			}
			if restored {
				s = shaping.New(shaping.Options{Program: p})
				s.Restore([]shaping.Action{a}, now.Add(by))
				if by > 0 {
					continue // it has ended by that clock
				}
			} else {
				s.ClockSet(by)
			}
			for _, d := range []time.Duration{0, 59 * time.Minute, time.Hour} {
				b, yes := s.Blocked(there, now.Add(by+d))
				if yes != (d < time.Hour) || yes && !b.Until.Equal(now.Add(by+time.Hour)) {
					t.Errorf("%s, restored %v: blocked after %s: %v until %s", by, restored, d, yes, b.Until)
				}
			}
			if u, err := s.Undo(a.ID, now.Add(by)); err != nil || !u.Until.Equal(a.Until) || !u.From.Equal(a.From) {
				t.Errorf("undone: %+v, %v", u, err)
			}
			if _, yes := s.Blocked(there, now.Add(by)); yes {
				t.Error("blocked after the end")
			}
		}
	}
}
