package config

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Fmt gives a file in canonical format.
func Fmt(src []byte) ([]byte, error) {
	if f, _ := scan(src); f != nil {
		return nil, fmt.Errorf("line %d: %s", f.line, f.message)
	}
	if _, ds := hclsyntax.ParseConfig(src, "", hcl.InitialPos); ds.HasErrors() {
		d := ds.Errs()[0].(*hcl.Diagnostic)
		return nil, fmt.Errorf("line %d: %s", d.Subject.Start.Line, lowerFirst(d.Summary))
	}
	return hclwrite.Format(src), nil
}

// StarterOptions fill in the starter configuration.
type StarterOptions struct {
	Hostname string
}

// Starter gives a commented configuration that loads and relays for nobody.
func Starter(o StarterOptions) []byte {
	host := strings.ToLower(strings.TrimSuffix(o.Hostname, "."))
	domain := host
	if _, rest, ok := strings.Cut(host, "."); ok && strings.Contains(rest, ".") {
		domain = rest
	}
	return hclwrite.Format([]byte(strings.NewReplacer("HOST", host, "DOMAIN", domain).Replace(starter)))
}

const starter = `# Postern. Check it with: postern check FILE; run it with: postern serve FILE

node {
  hostname    = "HOST"          # in EHLO, Received and the greeting
  state       = "state"         # spool, ledger, keys; relative to this file
  admin       = "127.0.0.1:9025" # /healthz, /readyz, /metrics
  return_path = "bounce.DOMAIN" # its MX points here: bounces come back to stamped addresses
}

# Where anybody may connect. Nobody can relay through it: strangers reach only what
# stands under accept, and of that only what a filter delivers.
listener "internet" {
  address = "127.0.0.1:2525" # 0.0.0.0:25 on a real machine
  from    = "strangers"
}

# Where customers hand their mail over: by network, or by AUTH over TLS.
listener "injection" {
  address = "127.0.0.1:2587"
  from    = "customers"
  # auth = true
  # tls {
  #   certificate = "cert.pem"
  #   key         = "key.pem"
  # }
}

accept  = ["bounce.DOMAIN"]     # recipients that strangers may name
reports = ["fbl@bounce.DOMAIN"] # complaints; give this address to the feedback loops
guard   = "hold"                # a stranger's message about to be relayed is held, and you hear of it

# A customer: who may send, and from which domains. Uncomment and change.
# customer "acme" {
#   networks = ["10.1.0.0/16"]
#   senders  = ["news.acme.example"]
#   users    = { app = "SCRAM-SHA-256$..." } # postern passwd
# }

# The addresses that mail goes out from.
pool "general" {
  sources = ["127.0.0.1"] # your public addresses
}

# Filters run top down, for each recipient by itself; the first final action wins.
# What no filter decides is refused for strangers and delivered for customers.
filter "drop-bounces" {
  if   = origin == "stranger" && rcpt.domain == "bounce.DOMAIN"
  log  = "bounce"
  then = drop()
}
`
