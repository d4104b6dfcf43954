package replay_test

import (
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/replay"
	"postern.dev/postern/internal/verify"
)

const worldText = `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
  tls {
    certificate = "nowhere.pem"
    key         = "nowhere.key"
  }
}
accept = ["*"]
pool "general" { sources = ["198.51.100.10"] }
filter "leak" {
  if   = CONDITION
  then = deliver()
}
`

// TestPlayWorld lets the prover find the message for a condition on what the DNS, a
// signature or the connection says, and plays it: the gateway asks the lab and comes to the
// same, or it is said why that cannot be had.
func TestPlayWorld(t *testing.T) {
	for _, c := range []struct{ condition, skipped string }{
		{`spf == "none"`, ""},
		{`spf == "pass"`, ""},
		{`spf == "fail"`, ""},
		{`spf == "softfail"`, ""},
		{`spf == "neutral"`, ""},
		{`spf == "permerror"`, ""},
		{`spf == "temperror"`, ""},
		{`spf == "policy"`, `SPF never gives "policy"`},
		{`spf == "pass" && sender.address == ""`, ""},
		{`spf == "pass" && sender.domain == "b.example" && within(client.address, "2001:db8::/32")`, ""},
		{`dkim == "none"`, ""},
		{`dkim == "pass"`, ""},
		{`dkim == "fail"`, ""},
		{`dkim == "permerror"`, ""},
		{`dkim == "temperror"`, ""},
		{`dkim == "neutral"`, `DKIM never gives "neutral"`},
		{`dmarc == "none"`, ""},
		{`dmarc == "pass"`, ""},
		{`dmarc == "fail"`, ""},
		{`dmarc == "permerror"`, ""},
		{`dmarc == "temperror"`, ""},
		{`dmarc == "pass" && spf == "fail"`, ""},
		{`dmarc == "pass" && dkim == "fail"`, ""},
		{`dmarc == "pass" && dkim == "none" && spf == "fail"`, "DMARC cannot pass where SPF gives fail and DKIM none"},
		{`dmarc == "fail" && spf == "pass" && dkim == "pass"`, ""},
		{`dmarc == "pass" && header("From") == "a@b.example" && spf == "softfail"`, ""},
		{`dmarc == "fail" && header("From") == "a@b.example" && dkim == "pass"`, ""},
		{`dmarc == "pass" && header("From") == "a@b.example" && dkim == "none" && sender.domain == "far.example"`, "neither the domain of SPF nor that of the signature is the author's"},
		{`dkim == "pass" && size == 3000`, ""},
		{`dkim == "fail" && size > 3000`, ""},
		{`dkim == "pass" && size < 40`, "and is refused"},
		{`client.name == "mx.b.example"`, ""},
		{`ends_with(client.name, ".b.example") && within(client.address, "2001:db8::/32")`, ""},
		{`tls.version == "1.1"`, "no connection has TLS version"},
		{`tls.version == "1.2"`, ""},
		{`tls.version == "1.3"`, ""},
		{`tls.cipher == "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"`, ""},
		{`tls.cipher == "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"`, ""},
		{`tls.cipher == "TLS_AES_128_GCM_SHA256"`, ""},
		{`tls.cipher == "TLS_AES_256_GCM_SHA384"`, "which cannot be asked for"},
	} {
		t.Run(c.condition, func(t *testing.T) {
			t.Parallel()
			src := []byte(strings.Replace(worldText, "CONDITION", c.condition, 1))
			cfg, ds := config.Load("x.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return src, nil }})
			if cfg == nil {
				t.Fatal(ds)
			}
			res := verify.Check(cfg.Program, verify.Options{NoRepairs: true, NoWarnings: true})
			if len(res.Findings) != 1 || res.Findings[0].Witness == nil {
				t.Fatalf("%s, %+v", res.Status, res.Findings)
			}
			r, err := replay.Play(t.Context(), replay.Options{Config: cfg, Witness: res.Findings[0].Witness, Wait: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if c.skipped != "" {
				if !strings.Contains(r.Skipped, c.skipped) || r.Confirmed {
					t.Errorf("%s\n%s", r.Verdict(), strings.Join(r.Lines, "\n"))
				}
				return
			}
			if !r.Confirmed || r.Arrived != 1 || r.Skipped != "" {
				t.Errorf("%s\n%+v\n%s", r.Verdict(), res.Findings[0].Witness.Hops[0].Content, strings.Join(r.Lines, "\n"))
			}
		})
	}
}
