package demo

import (
	"fmt"
	"strings"
	"time"

	"postern.dev/postern/internal/lab"
)

// filters of the policy, in the order that leaks and in the repaired one.
const aolFilter = `# AOL mail goes out over the addresses that AOL knows.
filter "aol-range" {
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
`

const dropFilter = `# Bounces come in from the Internet: log and drop them.
filter "drop-internet-bounces" {
  if   = listener == "internet"
  log  = "bounce"
  then = drop()
}
`

// configuration writes the sender's configuration of 2008 in the lab's addresses.
// The leaking one needs a waiver to be loaded at all.
func configuration(l *lab.Lab, repaired bool, waiver string) string {
	filters := []string{aolFilter, dropFilter}
	if repaired {
		filters = []string{dropFilter, aolFilter}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `node {
  hostname     = "gw.esp.example"
  state        = "state"
  resolver     = [%q]
  smtp_port    = %d
  return_path  = "bounce.esp.example"
  default_pool = "general"
  log_level    = "error"
}
listener "internet" {
  address = "127.20.0.1:%d"
  from    = "strangers"
}
listener "injection" {
  address = "127.20.0.2:%d"
  from    = "customers"
  limits {
    per_address = 100
  }
}
retry {
  first  = "1s"
  factor = 1.5
  max    = "5s"
}
rule "greylist" { off = true } # five minutes are long in a day of seconds

accept  = ["*"] # what the appliance had: bounces come to many domains
reports = ["fbl@fbl.esp.example"]
guard   = "observe" # in 2008 there was none: watch, and let it happen
`, l.Resolver(), l.Port, l.Port, l.Port)
	b.WriteString(waiver)
	for _, c := range customers() {
		fmt.Fprintf(&b, `
customer %q {
  networks = ["127.10.%d.0/24"]
  senders  = [%q]
}
`, c.name, c.n, c.domain)
	}
	for _, p := range providers() {
		fmt.Fprintf(&b, "provider %q { domains = [%q] }\n", p.name, "fbl."+p.domains[0])
	}
	b.WriteString(`
pool "general" { sources = ["127.22.0.1-127.22.0.10"] }
pool "aol" { sources = ["127.21.0.1-127.21.0.14"] }

`)
	b.WriteString(strings.Join(filters, "\n"))
	return b.String()
}

// waiver is what lets the leak be loaded, for the story.
func waiver(now time.Time) string {
	return fmt.Sprintf(`
waive "PV001" {
  filter = "aol-range"
  reason = "the proof says that it leaks; in 2008 there was none"
  until  = %q
}
`, now.AddDate(0, 1, 0).UTC().Format(time.DateOnly))
}

type customer struct {
	n            int
	name, domain string
}

func customers() []customer {
	return []customer{{1, "acme", "news.acme.example"}, {2, "bravo", "mail.bravo.example"}, {3, "coda", "coda.example"}}
}

type provider struct {
	name    string
	domains []string
	profile string
}

func providers() []provider {
	return []provider{{"aol", []string{"aol.com", "aim.com"}, "aol"}, {"yahoo", []string{"yahoo.com"}, "yahoo"},
		{"hotmail", []string{"hotmail.com"}, "jmrp"}, {"comcast", []string{"comcast.net"}, "validity"}}
}
