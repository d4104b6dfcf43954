package config

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/policy"
)

// TLSPolicy says how mail to some domains is to be protected on its way out.
type TLSPolicy struct {
	Name    string
	Domains []policy.Pattern
	Mode    string         // opportunistic, required, verify, none
	Names   []string       // that certificates may be for; the host's own where empty
	Roots   *x509.CertPool // the system's where nil
}

func tlsPolicyAttributes() []string { return []string{"domains", "mode", "names", "ca_file"} }

func (l *loader) tlsPolicy(hb *hclsyntax.Block) {
	b := l.openBlock(hb, tlsPolicyAttributes(), nil)
	b.require("domains", "mode")
	p := TLSPolicy{Name: b.label, Mode: b.oneOf("mode", "opportunistic", "opportunistic", "required", "verify", "none")}
	items := b.strs("domains")
	for i, d := range b.patterns("domains") {
		where := items[min(i, len(items)-1)].where
		if d.Kind == policy.MatchAddress {
			l.add(where, fmt.Sprintf("%q is an address: TLS is for domains", d.String()), "")
			continue
		}
		key := "tls_policy for " + d.String()
		if first, twice := l.names[key]; twice {
			l.add(where, fmt.Sprintf("%q has a tls_policy already, at %s", d.String(), position(first)), "")
			continue
		}
		l.names[key] = where
		p.Domains = append(p.Domains, d)
	}
	for _, name := range []string{"names", "ca_file"} {
		if a := b.attr(name); a != nil && p.Mode != "verify" {
			l.add(a.NameRange, fmt.Sprintf("%s is for mode = \"verify\"", name), "")
		}
	}
	for _, it := range b.strs("names") {
		dot := strings.HasPrefix(it.text, ".")
		it.text = strings.TrimPrefix(it.text, ".")
		if d, ok := b.domain(it); ok {
			if dot {
				d = "." + d
			}
			p.Names = append(p.Names, d)
		}
	}
	l.roots(b, &p)
	l.cfg.TLSPolicies = append(l.cfg.TLSPolicies, p)
}

// roots reads the certificates that others are to be vouched for by.
func (l *loader) roots(b *block, p *TLSPolicy) {
	a := b.attr("ca_file")
	if a == nil {
		return
	}
	name := l.path(b.str("ca_file", ""))
	text, err := l.read(name)
	if err != nil {
		l.add(a.Expr.Range(), "read "+name+": "+cause(err), "")
		return
	}
	p.Roots = x509.NewCertPool()
	if !p.Roots.AppendCertsFromPEM(text) {
		l.add(a.Expr.Range(), name+" has no certificate in PEM", "")
	}
}
