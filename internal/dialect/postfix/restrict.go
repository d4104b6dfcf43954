package postfix

import (
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// verdict is what a restriction comes to where its condition holds.
type verdict uint8

const (
	next   verdict = iota // DUNNO: the next restriction
	permit                // ends its list
	refuse                // reject, defer, discard: the message does not get out
)

// step is one place of a list that has been flattened: where cond holds and no step
// before it has ended the list.
type step struct {
	cond policy.Expr
	then verdict
	name string
	pos  policy.Pos
}

// place says where in a session a list is worked through, and so what is known.
type place struct {
	rcpt bool // the recipient is known
	helo bool // the list belongs to HELO: without one it is passed over
}

// restrictions flattens a list. guard is under which condition it is reached.
func (m *modeller) restrictions(items []string, pos policy.Pos, guard policy.Expr, at place, trail string, depth int) []step {
	if depth > 32 {
		m.gap(pos, trail, "restriction classes that contain one another")
		return nil
	}
	var out []step
	for i := 0; i < len(items); i++ {
		word := strings.ToLower(items[i])
		if word == "warn_if_reject" {
			if i+1 < len(items) {
				taken := m.arguments(items, i+1)
				out = append(out, harmless(m.one(items[i+1], taken, pos, guard, at, trail, depth))...)
				i += 1 + len(taken)
			}
			continue
		}
		taken := m.arguments(items, i)
		out = append(out, m.one(items[i], taken, pos, guard, at, trail, depth)...)
		i += len(taken)
	}
	return out
}

// harmless is what is left under warn_if_reject.
func harmless(steps []step) []step {
	var out []step
	for _, s := range steps {
		if s.then != refuse {
			out = append(out, s)
		}
	}
	return out
}

// arguments gives the words behind a restriction that belong to it.
func (m *modeller) arguments(items []string, i int) []string {
	word := strings.ToLower(items[i])
	n := 0
	switch {
	case strings.HasPrefix(word, "check_"), word == "sleep", strings.HasPrefix(word, "reject_rbl"), strings.HasPrefix(word, "reject_rhsbl"),
		strings.HasPrefix(word, "permit_dnswl"), strings.HasPrefix(word, "permit_rhswl"), word == "reject_maps_rbl_domain":
		n = 1
	}
	if i+1+n > len(items) {
		n = len(items) - i - 1
	}
	return items[i+1 : i+1+n]
}

// one models one restriction.
func (m *modeller) one(word string, args []string, pos policy.Pos, guard policy.Expr, at place, trail string, depth int) []step {
	name := trail + ": " + strings.Join(append([]string{word}, args...), " ")
	is := func(c policy.Expr, v verdict) []step {
		return []step{{cond: dialect.And(guard, c), then: v, name: name, pos: pos}}
	}
	low := strings.ToLower(word)
	if strings.HasPrefix(low, "check_") {
		return m.check(low, args, pos, guard, at, name, depth)
	}
	if class, known := m.classes[word]; known {
		_ = class
		p := m.get(word)
		if p.pos.Line == 0 {
			p.pos = pos
		}
		return m.restrictions(list(p.value), p.pos, guard, at, trail+" > "+word, depth+1)
	}
	switch low {
	case "permit":
		return is(nil, permit)
	case "reject", "defer", "defer_if_permit":
		// defer_if_permit turns every later permit into a 4xx.
		return is(nil, refuse)
	case "permit_mynetworks":
		return is(m.mynetworks.cond, permit)
	case "permit_auth_destination":
		if at.rcpt {
			return is(m.authorised, permit)
		}
		return nil
	case "reject_unauth_destination", "defer_unauth_destination", "check_relay_domains":
		if at.rcpt {
			return is(dialect.Not(m.authorised), refuse)
		}
		return nil
	case "permit_mx_backup":
		if at.rcpt {
			return m.perhaps(name, pos, guard, "whether this host is a mail exchanger of the recipient's domain is up to its DNS")
		}
		return nil
	case "permit_naked_ip_address":
		return is(dialect.Matches(pos, "client.helo", `^\[?[0-9.]+\]?$`), permit)
	case "permit_tls_all_clientcerts":
		return m.perhaps(name, pos, guard, "it depends on which certificates the server's authorities have signed")
	case "permit_sasl_authenticated", "permit_tls_clientcerts", "permit_inet_interfaces", "permit_dnswl_client", "permit_rhswl_client":
		// Strangers have neither a password nor a certificate that is listed; the lists of
		// DNS permit authorised destinations only.
		if m.spoofed && low == "permit_sasl_authenticated" && m.login {
			return is(nil, permit)
		}
		return nil
	case "reject_non_fqdn_helo_hostname", "reject_non_fqdn_hostname":
		return is(dialect.And(dialect.Not(dialect.Equal(pos, "client.helo", "")), dialect.Not(dialect.Matches(pos, "client.helo", `^\[|\.`))), refuse)
	case "reject_invalid_helo_hostname", "reject_invalid_hostname":
		return is(dialect.And(dialect.Not(dialect.Equal(pos, "client.helo", "")), dialect.Not(dialect.Matches(pos, "client.helo", `^[A-Za-z0-9._\[\]:-]+$`))), refuse)
	case "reject_unknown_client_hostname", "reject_unknown_client":
		return is(dialect.Equal(pos, "client.name", ""), refuse)
	case "reject_non_fqdn_sender":
		return is(dialect.And(dialect.Not(dialect.Equal(pos, "sender.address", "")), dialect.Not(dialect.Matches(pos, "sender.domain", `\.|^\[`))), refuse)
	case "reject_non_fqdn_recipient":
		if at.rcpt {
			return is(dialect.Not(dialect.Matches(pos, "rcpt.domain", `\.|^\[`)), refuse)
		}
		return nil
	}
	if strings.HasPrefix(low, "reject_") || low == "sleep" || low == "defer_if_reject" {
		return nil // it can only refuse, and some stranger gets past it
	}
	if strings.Contains(word, ":") { // type:table alone: a table of the list's own kind
		return m.check(m.ownCheck(trail), []string{word}, pos, guard, at, name, depth)
	}
	return m.perhaps(name, pos, guard, "no restriction or class of that name is known")
}

// ownCheck is the check that a bare table stands for in a list.
func (m *modeller) ownCheck(trail string) string {
	switch {
	case strings.HasPrefix(trail, "smtpd_client"):
		return "check_client_access"
	case strings.HasPrefix(trail, "smtpd_helo"):
		return "check_helo_access"
	case strings.HasPrefix(trail, "smtpd_sender"):
		return "check_sender_access"
	}
	return "check_recipient_access"
}

// perhaps is a restriction of which it is not known whether it permits.
func (m *modeller) perhaps(name string, pos policy.Pos, guard policy.Expr, why string) []step {
	if !m.maybe {
		m.note(pos, name, why)
		return []step{{cond: guard, then: refuse, name: name, pos: pos}}
	}
	return []step{{cond: dialect.And(guard, m.gap(pos, name, why)), then: permit, name: name, pos: pos}}
}
