package opensmtpd

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// band is a condition by its bounds: lo is sure to hold, hi is all that could.
type band struct{ lo, hi policy.Expr }

func exact(x policy.Expr) band { return band{x, x} }
func (b band) not() band       { return band{dialect.Not(b.hi), dialect.Not(b.lo)} }
func (b band) and(o band) band { return band{dialect.And(b.lo, o.lo), dialect.And(b.hi, o.hi)} }

type modeller struct {
	tables  map[string][]string
	relays  map[string]bool // actions by whether they send mail on
	rules   [][]word
	filters map[string][]word
	owned   []string
	tag     string
	maybe   bool
	gaps    []dialect.Gap
	proxied bool
}

// gap is a condition of which nothing is known.
func (m *modeller) gap(w word, why string) band {
	m.gaps = append(m.gaps, dialect.Gap{Pos: w.pos, Text: w.text, Why: why})
	if !m.maybe {
		return band{dialect.False(w.pos), dialect.True(w.pos)}
	}
	return exact(dialect.Call(w.pos, "has_header", dialect.Text(w.pos, fmt.Sprintf("%s%d", dialect.GapHeader, len(m.gaps)))))
}

// items gives the entries of an operand: a table's, or itself.
func (m *modeller) items(w word) ([]string, bool) {
	if name, is := strings.CutPrefix(w.text, "<"); is && !w.quoted {
		t, known := m.tables[strings.TrimSuffix(name, ">")]
		return t, known
	}
	return []string{w.text}, true
}

// operand is the condition that a fact is in a table.
func (m *modeller) operand(what string, w word, regex bool) band {
	items, known := m.items(w)
	if !known {
		return m.gap(w, "what this table has is not in the configuration")
	}
	if what == "rdns" && !regex {
		return m.gap(w, "whoever owns the zone of his address can give it any reverse name")
	}
	out := exact(dialect.False(w.pos))
	for _, it := range items {
		b := m.item(what, it, w, regex)
		out = band{dialect.Or(out.lo, b.lo), dialect.Or(out.hi, b.hi)}
	}
	return out
}

var facts = map[string]string{"domain": "rcpt.domain", "rcpt-to": "rcpt.address", "mail-from": "sender.address", "helo": "client.helo", "rdns": "client.name"}

func (m *modeller) item(what, it string, w word, regex bool) band {
	if regex {
		if _, err := regexp.Compile(it); err != nil || what == "src" || what == "rdns" && strings.Contains(it, "$") {
			return m.gap(w, "this expression is not followed")
		}
		return exact(dialect.Matches(w.pos, facts[what], "(?i)"+it))
	}
	if what == "src" {
		n, err := network(it)
		if err != nil {
			return m.gap(w, "no network")
		}
		return exact(dialect.Within(w.pos, "client.address", n.String()))
	}
	re := strings.ReplaceAll(regexp.QuoteMeta(strings.ToLower(it)), `\*`, ".*")
	switch {
	case what == "domain" || what == "helo" || strings.Contains(it, "@") && it[0] != '@':
		re = "^" + re + "$"
	case it != "" && it[0] == '@' && len(it) > 1:
		re += "$"
	default:
		return m.gap(w, "what this entry matches is not followed")
	}
	return exact(dialect.Matches(w.pos, facts[what], "(?i)"+re))
}

func network(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
