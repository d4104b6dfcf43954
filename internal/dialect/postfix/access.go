package postfix

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// branch is one line of a table: where it is the first that applies, value is the answer.
type branch struct {
	cond  policy.Expr
	value string
	pos   policy.Pos
	// doubt says why it is not known that a stranger can be meant, where it is not.
	doubt string
	bits  int  // of an address: how much of it the key has
	rcpt  bool // it is about the recipient
}

// check models check_*_access and check_policy_service.
func (m *modeller) check(word string, args []string, pos policy.Pos, guard policy.Expr, at place, name string, depth int) []step {
	if len(args) == 0 {
		return m.perhaps(name, pos, guard, "a table should follow")
	}
	switch word {
	case "check_policy_service":
		return m.policyService(args[0], pos, guard, name)
	case "check_sasl_access", "check_ccert_access", "check_etrn_access":
		return nil // of clients that proved who they are
	case "check_recipient_access":
		if !at.rcpt {
			return nil
		}
	case "check_client_access", "check_helo_access", "check_sender_access", "check_reverse_client_hostname_access":
	default:
		if strings.HasSuffix(word, "_mx_access") || strings.HasSuffix(word, "_ns_access") || strings.HasSuffix(word, "_a_access") {
			return nil // may not permit (access(5), "OK is not allowed"), and some stranger gets past
		}
		return m.perhaps(name, pos, guard, "no restriction of that name is known")
	}
	t, err := m.tables.open(args[0], pos)
	if err != nil {
		return m.perhaps(name, pos, guard, err.Error())
	}
	return m.answers(m.branches(word, t, pos), pos, guard, at, name, depth, word == "check_reverse_client_hostname_access")
}

// policyService models a policy service: what it answers is not known, and where it does
// not, the default action is taken.
func (m *modeller) policyService(arg string, pos policy.Pos, guard policy.Expr, name string) []step {
	action := m.get("smtpd_policy_service_default_action").value
	for i, part := range list(unbrace(arg)) {
		if i == 0 {
			continue
		}
		if k, v, found := strings.Cut(unbrace(part), "="); found && strings.TrimSpace(k) == "default_action" {
			action = strings.TrimSpace(v)
		}
	}
	switch kind, class := m.action(action); {
	case kind == next && class == nil:
		// Where it does not answer, the next restriction is asked.
		if !m.maybe {
			m.note(pos, name, "what a policy service answers is not in the configuration")
			return nil
		}
	case kind == permit:
		// It fails open: who stops the service, or overloads it, may relay.
		return []step{{cond: guard, then: permit, name: name + " (its default_action, when the service does not answer)", pos: pos}}
	}
	return m.perhaps(name, pos, guard, "what a policy service answers is not in the configuration")
}

// answers makes steps of a table's lines.
func (m *modeller) answers(bs []branch, pos policy.Pos, guard policy.Expr, at place, name string, depth int, noPermit bool) []step {
	var out []step
	var earlier []policy.Expr // lines whose answer is to go on
	for _, b := range bs {
		where := b.pos
		if where.Line == 0 {
			where = pos
		}
		reached := dialect.And(append(slices.Clone(earlier), guard, b.cond)...)
		kind, class := m.action(b.value)
		switch {
		case class != nil:
			out = append(out, m.nested(class, where, reached, b, at, name, depth, noPermit)...)
			earlier = append(earlier, dialect.Not(b.cond))
		case kind == permit && noPermit:
			earlier = append(earlier, dialect.Not(b.cond))
		case kind == permit && b.doubt != "":
			out = append(out, m.perhaps(name+" "+b.value, where, reached, b.doubt)...)
		case kind == next:
			earlier = append(earlier, dialect.Not(b.cond))
		case kind == permit && b.rcpt && !m.yes("allow_untrusted_routing"):
			out = append(out, step{cond: dialect.And(reached, unrouted(b.cond)), then: kind, name: name, pos: where})
		default:
			out = append(out, step{cond: reached, then: kind, name: name, pos: where})
		}
	}
	return out
}

// nested is a table's answer that is a list of restrictions.
func (m *modeller) nested(class []string, where policy.Pos, reached policy.Expr, b branch, at place, name string, depth int, noPermit bool) []step {
	steps := m.restrictions(class, where, reached, at, name+" > "+b.value, depth+1)
	if noPermit {
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.then == permit })
	}
	if b.doubt == "" {
		return steps
	}
	var out []step
	for _, s := range steps {
		if s.then == permit {
			out = append(out, m.perhaps(s.name, s.pos, s.cond, b.doubt)...)
			continue
		}
		out = append(out, s)
	}
	return out
}

// action reads the answer of an access table (access(5)): what it comes to, or the
// restrictions that it names.
func (m *modeller) action(value string) (verdict, []string) {
	word, _ := cutKey(strings.TrimSpace(value))
	if word == "" {
		return permit, nil // an empty answer is OK, with a warning
	}
	if len(word) >= 3 && (word[0] == '4' || word[0] == '5') && digits(word[:3]) && (len(word) == 3 || word[3] == '.' || word[3] == ' ') {
		return refuse, nil
	}
	if digits(word) {
		return permit, nil
	}
	switch strings.ToUpper(word) {
	case "OK", "RELAY":
		return permit, nil
	case "REJECT", "DEFER", "DEFER_IF_PERMIT", "DISCARD":
		return refuse, nil
	case "DUNNO", "DEFER_IF_REJECT", "HOLD", "FILTER", "REDIRECT", "PREPEND", "WARN", "INFO", "BCC":
		return next, nil
	}
	return next, list(value)
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// branches gives a table's lines in the order in which they are found for what a check
// looks up.
func (m *modeller) branches(word string, t *table, pos policy.Pos) []branch {
	switch {
	case t.all != nil:
		return []branch{{value: t.all.value, pos: pos}}
	case len(t.rules) > 0:
		return m.ordered(word, t, pos)
	}
	switch word {
	case "check_client_access":
		return append(m.hostKeys("client.name", t, pos), m.addressKeys(t, pos)...)
	case "check_reverse_client_hostname_access":
		return nil
	case "check_helo_access":
		return m.hostKeys("client.helo", t, pos)
	case "check_sender_access":
		return m.mailKeys("sender", t, pos)
	}
	return m.mailKeys("rcpt", t, pos)
}

// ordered gives the lines of a cidr, regexp or pcre table.
func (m *modeller) ordered(word string, t *table, pos policy.Pos) []branch {
	var out []branch
	for i := range t.rules {
		ru := &t.rules[i]
		b := branch{value: ru.value, pos: ru.pos, rcpt: word == "check_recipient_access"}
		switch {
		case ru.re == "" && word != "check_client_access":
			continue // no text is a network
		case ru.re == "":
			b.cond = dialect.Within(pos, "client.address", ru.net.String())
			if !ru.negate {
				b.doubt = m.whose(ru.net)
			}
		default:
			b.cond = m.search(word, ru, pos)
		}
		if ru.negate {
			b.cond = dialect.Not(b.cond)
		}
		out = append(out, b)
	}
	return out
}

// whose says why a network in an access table may not be the strangers'.
func (m *modeller) whose(n netip.Prefix) string {
	if n.Addr().Is4() && n.Bits() < 20 || n.Addr().Is6() && n.Bits() < 32 {
		return ""
	}
	return fmt.Sprintf("whether strangers can send from %s is not in the configuration", n)
}

// search is an expression on what a check looks up.
func (m *modeller) search(word string, ru *rule, pos policy.Pos) policy.Expr {
	switch word {
	case "check_client_access":
		// The name first, "unknown" where there is none, then the address.
		c := dialect.Matches(pos, "client.name", ru.re)
		if matchesText(ru.re, "unknown") {
			c = dialect.Or(c, dialect.Equal(pos, "client.name", ""))
		}
		switch onAddress(ru.re) {
		case always:
			return nil
		case sometimes:
			return dialect.Or(c, m.gap(pos, ru.re, "which addresses an expression matches is not followed"))
		}
		return c
	case "check_helo_access":
		return dialect.And(dialect.Not(dialect.Equal(pos, "client.helo", "")), dialect.Matches(pos, "client.helo", ru.re))
	case "check_sender_access":
		c := dialect.Matches(pos, "sender.address", ru.re)
		if matchesText(ru.re, m.get("smtpd_null_access_lookup_key").value) {
			return dialect.Or(c, dialect.Equal(pos, "sender.address", ""))
		}
		return dialect.And(dialect.Not(dialect.Equal(pos, "sender.address", "")), c)
	}
	return dialect.Matches(pos, "rcpt.address", ru.re)
}

// hostKeys gives the lines of a table that a host name finds: the name, then what it
// lies below, the longest first.
func (m *modeller) hostKeys(fact string, t *table, pos policy.Pos) []branch {
	below := m.below("smtpd_access_maps")
	var out []branch
	for _, e := range sorted(t.keyed) {
		key := e.key
		if strings.Contains(key, "@") || strings.HasPrefix(key, ".") && below {
			continue
		}
		if _, is := octets(key); is && fact == "client.name" {
			continue
		}
		b := branch{cond: domainKeys(fact, []string{key}, pos, below), value: e.value, pos: e.pos}
		if fact == "client.name" {
			if key == "unknown" {
				b.cond = dialect.Or(b.cond, dialect.Equal(pos, fact, ""))
			} else {
				b.doubt = "who controls the reverse DNS of " + key + " is not in the configuration"
			}
		}
		out = append(out, b)
	}
	return merge(out)
}

// addressKeys gives the lines that an address finds: itself, then its leading octets.
func (m *modeller) addressKeys(t *table, pos policy.Pos) []branch {
	var out []branch
	for _, e := range sorted(t.keyed) {
		n, ok := octets(e.key)
		if !ok {
			continue
		}
		out = append(out, branch{cond: dialect.Within(pos, "client.address", n.String()), value: e.value, pos: e.pos, doubt: m.whose(n), bits: n.Bits()})
	}
	slices.SortStableFunc(out, func(a, b branch) int { return b.bits - a.bits })
	return out
}

// octets reads "192", "192.168" or a whole address as the network that it finds.
func octets(key string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(key); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	parts := strings.Split(key, ".")
	if len(parts) > 3 {
		return netip.Prefix{}, false
	}
	for _, p := range parts {
		if !digits(p) || len(p) > 3 {
			return netip.Prefix{}, false
		}
	}
	a, err := netip.ParseAddr(key + strings.Repeat(".0", 4-len(parts)))
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, 8*len(parts)), true
}

// mailKeys gives the lines that an address of mail finds: the address, then its domain
// and what that lies below, then its local part with "@".
func (m *modeller) mailKeys(of string, t *table, pos policy.Pos) []branch {
	below := m.below("smtpd_access_maps")
	var whole, domains, locals []branch
	null := m.get("smtpd_null_access_lookup_key").value
	for _, e := range sorted(t.keyed) {
		b := branch{value: e.value, pos: e.pos, rcpt: of == "rcpt"}
		local, dom, found := strings.Cut(e.key, "@")
		switch {
		case of == "sender" && e.key == null:
			b.cond = dialect.Equal(pos, "sender.address", "")
			whole = append(whole, b)
		case found && dom == "":
			b.cond = m.localPart(of, local, pos)
			locals = append(locals, b)
		case found && local != "" && dialect.IsDomain(dom):
			b.cond = dialect.And(m.localPart(of, local, pos), dialect.Equal(pos, of+".domain", dom))
			b.doubt = m.destinationOf(of, dom)
			whole = append(whole, b)
		case found || strings.HasPrefix(e.key, ".") && below:
			continue // never looked up
		default:
			dom = e.key
			b.cond, b.doubt = domainKeys(of+".domain", []string{e.key}, pos, below), m.destinationOf(of, dom)
			domains = append(domains, b)
		}
	}
	return slices.Concat(whole, merge(domains), locals)
}

func (m *modeller) destinationOf(of, dom string) string {
	if of != "rcpt" {
		return ""
	}
	return m.destination(dom)
}

// destination says why mail to a domain that a recipient table names may be no relaying.
func (m *modeller) destination(dom string) string {
	if dom == "" || dialect.PublicName(strings.TrimPrefix(dom, ".")) || dialect.Provider(dom) {
		return ""
	}
	for _, o := range m.owned {
		if o == dom || strings.HasPrefix(o, ".") && strings.HasSuffix(dom, o) {
			return ""
		}
	}
	return "a stranger's mail for " + dom + " goes on; whether that domain is one of yours is not in the configuration"
}

// localPart holds for a local part, with or without an extension.
func (m *modeller) localPart(of, local string, pos policy.Pos) policy.Expr {
	c := dialect.Equal(pos, of+".local", local)
	if d := m.get("recipient_delimiter").value; d != "" {
		for i := range len(d) {
			c = dialect.Or(c, dialect.Call(pos, "glob", dialect.Fact(pos, of+".local"), dialect.Text(pos, glob(local)+d[i:i+1]+"*")))
		}
	}
	return c
}

// glob quotes nothing, since * and ? have no other spelling in a glob: where a text has
// them, the pattern is wider than the text.
func glob(s string) string { return s }

// sorted puts keys in the order in which they are looked up: more labels first.
func sorted(keys []entry) []entry {
	out := slices.Clone(keys)
	slices.SortStableFunc(out, func(a, b entry) int { return strings.Count(b.key, ".") - strings.Count(a.key, ".") })
	return out
}

// merge joins neighbours with one answer, so that a long table is a few conditions.
func merge(bs []branch) []branch {
	const long = 64 // below it each line keeps its own place
	if len(bs) <= long {
		return bs
	}
	var out []branch
	for from := 0; from < len(bs); {
		to := from + 1
		for to < len(bs) && bs[to].value == bs[from].value && bs[to].doubt == bs[from].doubt {
			to++
		}
		b := bs[from]
		conds := make([]policy.Expr, 0, to-from)
		for _, m := range bs[from:to] {
			conds = append(conds, m.cond)
		}
		b.cond = dialect.Or(conds...)
		out = append(out, b)
		from = to
	}
	return out
}
