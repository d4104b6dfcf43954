package config_test

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/shaping"
)

// quoted reads the replies that public pages quote.
func quoted(t *testing.T) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile("testdata/replies.txt")
	if err != nil {
		t.Fatal(err)
	}
	source := ""
	for n, line := range strings.Split(string(b), "\n") {
		switch cells := strings.Split(line, "\t"); {
		case line == "":
			source = ""
		case line[0] == '#':
			source = line
		case len(cells) != 3 || !strings.Contains(source, "http"):
			t.Errorf("line %d: not a destination, rule and reply under a source", n+1)
		default:
			rows = append(rows, cells)
		}
	}
	return rows
}

func shipped(t testing.TB) *shaping.Shaping {
	t.Helper()
	p, err := shaping.Compile(config.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	return shaping.New(shaping.Options{Program: p})
}

func replyOf(t *testing.T, text string) shaping.Reply {
	t.Helper()
	code, err := strconv.Atoi(text[:3])
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	r := shaping.Reply{Code: code, Text: text, Stage: "rcpt"}
	if word, _, _ := strings.Cut(text[4:], " "); strings.Trim(word, "0123456789.") == "" && strings.Count(word, ".") == 2 {
		r.Enhanced = word
	}
	return r
}

// untested are shipped rules that are about what no reply can quote.
var untested = []string{"not-now", "broken-tls", "no-answer"}

// TestShippedRules holds the shipped rules against the replies that public pages quote:
// each reply sets off its rule and no other before it, and each rule is set off.
func TestShippedRules(t *testing.T) {
	s := shipped(t)
	hit := map[string]bool{}
	rows := quoted(t)
	for _, row := range rows {
		provider := row[0]
		if !slices.Contains(s.Providers(), provider) {
			provider = s.Resolve(row[0], map[string][]string{"pphosted.example": {"mxa-1.gslb.pphosted.com"}}[row[0]]).Provider
		}
		got := "-"
		if ms := s.Try(provider, replyOf(t, row[2])); len(ms) > 0 {
			got = ms[0].Name
		}
		if got != row[1] {
			t.Errorf("%s: %s\n got rule %s, want %s", row[0], row[2], got, row[1])
		}
		hit[got] = true
	}
	for _, r := range config.Shipped().Rules {
		if !hit[r.Name] && !slices.Contains(untested, r.Name) {
			t.Errorf("no quoted reply sets off %s", r.Name)
		}
	}
	if len(rows) < 80 {
		t.Errorf("only %d replies", len(rows))
	}
}

// TestShippedFile: it is in canonical format, and has no fault and no warning.
func TestShippedFile(t *testing.T) {
	src := config.ShippedRules()
	out, err := config.Fmt(src)
	if err != nil || !bytes.Equal(src, out) {
		t.Errorf("postern fmt changes the shipped rules (%v)", err)
	}
	cfg, ds := load(minimal)
	if cfg == nil || len(ds) > 0 {
		t.Fatalf("%v", ds)
	}
	if len(cfg.Shaping.Rules) != len(config.Shipped().Rules) || len(cfg.Shaping.Rules) < 50 {
		t.Errorf("%d rules", len(cfg.Shaping.Rules))
	}
}

const minimal = `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10-198.51.100.12"] }
`

func load(src string) (*config.Config, config.Diagnostics) {
	return config.Load("x.hcl", config.Options{Now: someDay, ReadFile: func(string) ([]byte, error) { return []byte(src), nil }})
}

// TestOwnRulesGoBefore puts a file over the shipped rules.
func TestOwnRulesGoBefore(t *testing.T) {
	cfg, ds := load(minimal + `
rule "gmail-unwanted" {
  destinations = ["gmail"]
  code         = [421, "450-452"]
  text         = "unusual rate"
  then         = [throttle("60/1m", "1h", source), connections(1, "1h", source), backoff("5m", "1h", pool, everywhere), retry()]
}
rule "mailbox-full" { off = true }
rule "mine" {
  enhanced = ["4.7.x"]
  after    = "10m"
}
destination "gmail" {
  domains = ["gmail.example"]
  limits {
    connections_per_source = 3
    retry                  = ["5m", "1h"]
    expire                 = "48h"
  }
  limits {
    pools        = ["general"]
    message_rate = "1000/1h/50"
  }
}
destination "mine" { domains = ["aol.com", ".corp.example"] }
warmup "new" {
  sources  = ["198.51.100.11"]
  start    = "2026-11-24"
  schedule = [50, 100]
  destination "gmail" { schedule = [10, 20, 40] }
}
`)
	if cfg == nil || len(ds) > 0 {
		t.Fatalf("%v", ds)
	}
	p, err := shaping.Compile(cfg.Shaping)
	if err != nil {
		t.Fatal(err)
	}
	s := shaping.New(shaping.Options{Program: p})
	var names []string
	for _, m := range s.Try("gmail", replyOf(t, "421 4.7.28 unusual rate of mail")) {
		names = append(names, m.Name+" "+m.Where+": "+m.Does)
	}
	want := "gmail-unwanted x.hcl:12:1: throttle source at this site to 60/1m for 1h, throttle source at this site to 1 connections for 1h, back off with pool everywhere for 5m, doubling up to 1h, try again"
	if got := strings.Join(names, "\n"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if ms := s.Try("", replyOf(t, "552 5.2.2 full")); len(ms) != 0 {
		t.Errorf("a rule that is off speaks: %v", ms)
	}
	for domain, provider := range map[string]string{"gmail.com": "gmail", "gmail.example": "gmail", "aol.com": "mine", "yahoo.com": "yahoo", "x.corp.example": "mine"} {
		if got := s.Resolve(domain, nil).Provider; got != provider {
			t.Errorf("%s belongs to %q, want %q", domain, got, provider)
		}
	}
	l := s.Limits(shaping.Traffic{Destination: s.Resolve("gmail.com", nil), Pool: "general", Source: cfg.Topology().Pools[0].Sources[1]}, someDay())
	if l.ConnectionsPerSource != 3 || l.MessagesPerConnection != 100 || len(l.Schedule) != 2 || l.MessageRate[0].Burst != 50 || l.SourceRate[0].Count != 20 {
		t.Errorf("%+v", l)
	}
	cfg, ds = load(minimal + "shaping { default = false }\n")
	if cfg == nil || len(cfg.Shaping.Rules)+len(cfg.Shaping.Destinations) != 0 {
		t.Errorf("without the shipped rules: %v", ds)
	}
}

// FuzzShaping: whatever stands in a file about shaping is loaded or refused with a
// place, and what is loaded compiles.
func FuzzShaping(f *testing.F) {
	f.Add(string(config.ShippedRules()))
	bad, _ := os.ReadDir("testdata/bad")
	for _, e := range bad {
		if strings.HasPrefix(e.Name(), "shaping-") && strings.HasSuffix(e.Name(), ".hcl") {
			if b, err := os.ReadFile("testdata/bad/" + e.Name()); err == nil {
				f.Add(string(b))
			}
		}
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 64<<10 {
			return
		}
		cfg, ds := load(minimal + "shaping { default = false }\n" + src)
		for i := range ds {
			if ds[i].Pos.File == "" {
				t.Errorf("no place: %s", ds[i].Message)
			}
		}
		if cfg == nil {
			if !ds.HasErrors() {
				t.Error("refused without a word")
			}
			return
		}
		p, err := shaping.Compile(cfg.Shaping)
		if err != nil {
			t.Fatal(err)
		}
		s := shaping.New(shaping.Options{Program: p})
		now := someDay()
		tr := shaping.Traffic{Destination: s.Resolve("gmail.com", []string{"mx.example"}), MX: "mx.example", Pool: "general", Source: cfg.Topology().Pools[0].Sources[0], Customer: "c", Campaign: "d"}
		s.Limits(tr, now)
		for _, a := range s.Observe(tr, shaping.Reply{Code: 421, Enhanced: "4.7.0", Text: src[:min(len(src), 300)], Stage: "connect"}, now).Actions {
			if !a.Until.After(now) {
				t.Errorf("an action that has ended: %+v", a)
			}
		}
		s.Explain(tr, now)
	})
}
