package app

import (
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/policy"
)

// securities gives what mail to a domain is to be protected with; nil where the
// configuration says nothing. A domain by itself goes before a suffix, a longer suffix
// before a shorter one, and "*" comes last.
func securities(cfg *config.Config) func(domain string) *egress.Security {
	if len(cfg.TLSPolicies) == 0 {
		return nil
	}
	exact := map[string]*egress.Security{}
	suffix := map[string]*egress.Security{} // with the dot
	var all *egress.Security
	for i := range cfg.TLSPolicies {
		p := &cfg.TLSPolicies[i]
		s := &egress.Security{Mode: egress.TLSMode(p.Mode), Names: p.Names, Roots: p.Roots}
		for _, d := range p.Domains {
			switch d.Kind {
			case policy.MatchDomain:
				exact[d.Domain] = s
			case policy.MatchSuffix:
				suffix[d.Domain] = s
			default:
				all = s
			}
		}
	}
	return func(domain string) *egress.Security {
		if s := exact[domain]; s != nil {
			return s
		}
		for i := 0; i < len(domain); i++ {
			if domain[i] == '.' {
				if s := suffix[domain[i:]]; s != nil {
					return s
				}
			}
		}
		return all
	}
}
