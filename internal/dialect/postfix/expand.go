package postfix

import (
	"fmt"
	"strconv"
	"strings"

	"postern.dev/postern/internal/policy"
)

// settings are the parameters as a service sees them: its own, main.cf's, the defaults.
type settings struct {
	own, main params
	level     float64 // compatibility_level
	trouble   func(pos policy.Pos, text, why string)
}

// defaults for what matters to relaying (postconf(5), Postfix 3.7).
var defaults = map[string]string{
	"mydestination":                       "$myhostname, localhost.$mydomain, localhost",
	"myorigin":                            "$myhostname",
	"myhostname":                          "localhost.localdomain",
	"mynetworks_style":                    "host",
	"inet_interfaces":                     "all",
	"parent_domain_matches_subdomains":    "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps",
	"virtual_alias_domains":               "$virtual_alias_maps",
	"virtual_mailbox_domains":             "$virtual_mailbox_maps",
	"virtual_alias_maps":                  "$virtual_maps",
	"smtpd_delay_reject":                  "yes",
	"smtpd_helo_required":                 "no",
	"smtpd_null_access_lookup_key":        "<>",
	"smtpd_access_maps":                   "",
	"allow_untrusted_routing":             "no",
	"allow_percent_hack":                  "yes",
	"swap_bangpath":                       "yes",
	"smtpd_policy_service_default_action": "451 4.3.5 Server configuration problem",
}

// levelled are the defaults that depend on compatibility_level: what holds below a level.
var levelled = []struct {
	name         string
	below        float64
	older, newer string
}{
	{"smtpd_relay_restrictions", 1, "", "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"},
	{"relay_domains", 2, "$mydestination", ""},
	{"mynetworks_style", 2, "subnet", "host"},
}

// raw gives a parameter as it is written, or its default.
func (s *settings) raw(name string) param {
	if p, is := s.own[name]; is {
		return p
	}
	if p, is := s.main[name]; is {
		return p
	}
	for _, l := range levelled {
		if l.name == name {
			if s.level < l.below {
				return param{value: l.older}
			}
			return param{value: l.newer}
		}
	}
	if name == "mydomain" {
		return param{value: s.domain()}
	}
	return param{value: defaults[name]}
}

// domain is mydomain where nothing sets it: myhostname less its first label, or localdomain.
func (s *settings) domain() string {
	host := s.get("myhostname").value
	if _, rest, found := strings.Cut(host, "."); found && rest != "" {
		return rest
	}
	return "localdomain"
}

// get gives a parameter with every $name in it replaced.
func (s *settings) get(name string) param {
	p := s.raw(name)
	p.value = s.expand(p.value, p.pos, 0)
	return p
}

func (s *settings) yes(name string) bool { return strings.EqualFold(s.get(name).value, "yes") }

const maxExpansion = 64 // of one parameter within another

// expand replaces $name, ${name}, $(name), ${name?text}, ${name:text} and ${name?{a}:{b}};
// $$ is a dollar sign.
func (s *settings) expand(v string, pos policy.Pos, depth int) string {
	if !strings.Contains(v, "$") {
		return v
	}
	if depth > maxExpansion {
		s.trouble(pos, v, "parameters that contain one another")
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] != '$' || i+1 == len(v) {
			b.WriteByte(v[i])
			continue
		}
		i++
		switch c := v[i]; {
		case c == '$':
			b.WriteByte('$')
		case c == '{' || c == '(':
			end := closing(v, i)
			if end < 0 {
				s.trouble(pos, v[i-1:], "unclosed brace")
				return b.String()
			}
			b.WriteString(s.braced(v[i+1:end], pos, depth))
			i = end
		case nameByte(c):
			end := i
			for end < len(v) && nameByte(v[end]) {
				end++
			}
			b.WriteString(s.expand(s.raw(v[i:end]).value, pos, depth+1))
			i = end - 1
		default:
			b.WriteByte('$')
			b.WriteByte(c)
		}
	}
	return b.String()
}

func nameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// closing gives where the brace or parenthesis at i is closed, or -1.
func closing(s string, i int) int {
	open, end := s[i], byte('}')
	if open == '(' {
		end = ')'
	}
	for depth := 0; i < len(s); i++ {
		switch s[i] {
		case open:
			depth++
		case end:
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// braced expands what stands between braces.
func (s *settings) braced(v string, pos policy.Pos, depth int) string {
	v = strings.TrimSpace(v)
	end := 0
	for end < len(v) && nameByte(v[end]) {
		end++
	}
	name, rest := v[:end], strings.TrimSpace(v[end:])
	if name == "" || rest != "" && rest[0] != '?' && rest[0] != ':' {
		// ${{a} == {b} ? ...}: which branch is taken is not followed.
		s.trouble(pos, "${"+v+"}", "a comparison within a parameter is not followed")
		return ""
	}
	value := s.raw(name).value
	if rest == "" {
		return s.expand(value, pos, depth+1)
	}
	then, other := branches(rest)
	if (value != "") == (rest[0] == '?') {
		return s.expand(then, pos, depth+1)
	}
	return s.expand(other, pos, depth+1)
}

// branches splits "?{a}:{b}", "?text" and ":text".
func branches(rest string) (then, other string) {
	body := strings.TrimSpace(rest[1:])
	if len(body) > 0 && body[0] == '{' {
		if end := closing(body, 0); end > 0 {
			then = strings.TrimSpace(body[1:end])
			if tail := strings.TrimSpace(body[end+1:]); strings.HasPrefix(tail, ":") {
				other = unbrace(tail[1:])
			}
			return then, other
		}
	}
	return body, ""
}

// compatibility reads a level such as "2" or "3.6".
func compatibility(v string) (float64, error) {
	parts := strings.SplitN(strings.TrimSpace(v), ".", 3)
	if len(parts) > 2 {
		parts = parts[:2]
	}
	f, err := strconv.ParseFloat(strings.Join(parts, "."), 64)
	if err != nil || f < 0 {
		return 0, fmt.Errorf("compatibility_level %q is no level", v)
	}
	return f, nil
}
