package replay_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/replay"
	"postern.dev/postern/internal/verify"
)

const text = `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
listener "submission" {
  address = "0.0.0.0:587"
  from    = "customers"
  auth    = true
  tls {
    certificate = "nowhere.pem"
    key         = "nowhere.key"
  }
}
accept = ["*"]
customer "acme" {
  senders = ["news.acme.example"]
  users   = { app = "VERIFIER" }
}
sinks = ["archive@partner.example"]
pool "general" { sources = ["198.51.100.10"] }
filter "leak" {
  if   = rcpt.domain == "aol.com" && (now.hour < 25)
  then = deliver()
}
filter "copies" {
  if   = header("X-Copy") == "yes"
  copy = "archive@partner.example"
  then = drop()
}
filter "large" {
  if   = size > 3000
  then = reject("large")
}
filter "rest" {
  if   = origin == "stranger"
  then = drop()
}
`

func load(t *testing.T) *config.Config {
	t.Helper()
	src := strings.Replace(text, "VERIFIER", config.HashPassword("unknown to us", []byte("0123456789abcdef"), 4096), 1)
	cfg, ds := config.Load("x.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(src), nil }})
	if cfg == nil {
		t.Fatal(ds)
	}
	return cfg
}

// TestPlay plays messages of every kind, and finds out a witness that is not true.
func TestPlay(t *testing.T) {
	cfg := load(t)
	stranger := policy.Facts{Listener: "internet", Origin: policy.Stranger, Client: policy.Client{Address: netip.MustParseAddr("203.0.113.9"), Helo: "h.example"},
		Sender: policy.Address{Local: "a", Domain: "b.example"}, Rcpt: policy.Address{Local: "some one", Domain: "aol.com"}, Now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC), Content: &policy.Content{}}
	to := func(domain string, c *policy.Content) policy.Facts {
		f := stranger
		f.Rcpt.Domain, f.Content = domain, c
		return f
	}
	v6 := stranger
	v6.Client.Address = netip.MustParseAddr("2001:db8::9")
	customer := stranger
	customer.Listener, customer.Origin, customer.Customer, customer.AuthUser = "submission", policy.Customer, "acme", "app"
	customer.TLS, customer.Sender = policy.TLS{On: true, Version: "1.2"}, policy.Address{Local: "n", Domain: "news.acme.example"}
	named := stranger
	named.Client.Name = "mx.b.example"
	deliver := func(d *policy.Decision) {
		d.Disposition, d.Rcpt = policy.Deliver, policy.Address{Local: "x", Domain: "yahoo.com"}
	}
	for _, c := range []struct {
		name      string
		f         policy.Facts
		lie       func(*policy.Decision)
		confirmed bool
		arrived   int
		want      string
	}{
		{"a leak", stranger, nil, true, 1, "peer 203.0.113.9"},
		{"IPv6", v6, nil, true, 1, "peer 2001:db8::9"},
		{"TLS and AUTH", customer, nil, true, 1, "S: 235 2.7.0 authenticated"},
		{"a copy", to("x.example", &policy.Content{Headers: []policy.HeaderField{{Name: "x-copy", Value: "yes"}}}), nil, true, 1, "arrived for archive@partner.example"},
		{"refused", to("x.example", &policy.Content{Size: 3001}), nil, true, 0, "S: 550 5.7.1 large"},
		{"dropped", to("x.example", &policy.Content{Size: 3000}), nil, true, 0, "S: 250 2.0.0 accepted as"},
		{"a lie: it is dropped", to("yahoo.com", &policy.Content{}), deliver, false, 0, "nothing arrived for x@yahoo.com"},
		{"a lie: it is refused", to("x.example", &policy.Content{Size: 3001}), deliver, false, 0, "S: 550"},
		{"a client with a name, of which the policy asks nothing", named, nil, true, 1, "PTR mx.b.example."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, _ := policy.Eval(cfg.Program, &c.f)
			if c.lie != nil {
				c.lie(&d)
			}
			wait := 20 * time.Second
			if !c.confirmed {
				wait = 2 * time.Second
			}
			r, err := replay.Play(t.Context(), replay.Options{Config: cfg, Wait: wait, Witness: &verify.Witness{Hops: []policy.Facts{c.f}, Decisions: []policy.Decision{d}}})
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(r.Lines, "\n")
			if r.Confirmed != c.confirmed || r.Arrived != c.arrived || !strings.Contains(all, c.want) || r.Skipped != "" {
				t.Errorf("%s, %d arrived\n%s", r.Verdict(), r.Arrived, all)
			}
		})
	}
}
