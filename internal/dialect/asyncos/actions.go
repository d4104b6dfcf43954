package asyncos

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// harmless are actions that change nothing about where mail goes.
var harmless = []string{
	"alt-src-host", "archive", "duplicate-quarantine", "edit-body-text", "html-convert", "add-footer", "add-heading", "bounce-profile",
	"skip-spamcheck", "skip-viruscheck", "skip-ampcheck", "skip-vofcheck", "skip-marketingcheck", "skip-socialcheck", "skip-bulkcheck",
	"encrypt-deferred", "smime-gateway-deferred", "tag-message", "log-entry", "log", "no-op", "noop", "set-importance", "cef-log-entry",
}

// run writes one filter below conditions: low for what certainly gets here, high for what
// could.
func (m *modeller) run(f *filter, name string, low, high policy.Expr) {
	before := m.unknowns
	sure, could := m.expr(f.cond, false), m.expr(f.cond, true)
	if why := m.doubtful(f); why != "" {
		sure = dialect.And(sure, m.unknown(f.pos, "filter "+f.name, why, false))
		could = dialect.And(could, m.unknown(f.pos, "filter "+f.name, why, true))
	}
	certain := before == m.unknowns
	m.block(f.then, name, dialect.And(low, sure), dialect.And(high, could), certain)
	if f.other != nil {
		m.block(f.other, name, dialect.And(low, dialect.Not(could)), dialect.And(high, dialect.Not(sure)), certain)
	}
}

func (m *modeller) block(as []action, name string, low, high policy.Expr, certain bool) {
	for i := range as {
		a := &as[i]
		if a.filter == nil {
			m.act(a, name, low, high, certain)
			continue
		}
		if a.filter.active {
			inner := name
			if a.filter.name != "if" && a.filter.name != name {
				inner += "/" + a.filter.name
			}
			m.run(a.filter, inner, low, high)
		}
	}
}

func (a *action) arg(n int) string {
	if n < len(a.args) {
		return a.args[n]
	}
	return ""
}

func (a *action) String() string { return a.name + "(" + strings.Join(a.args, ", ") + ")" }

// variable reports an address whose domain the sender has a hand in.
func variable(addr string) bool {
	at := strings.LastIndexByte(addr, '@')
	return strings.Contains(addr[at+1:], "$")
}

// act writes one action.
func (m *modeller) act(a *action, name string, low, high policy.Expr, certain bool) {
	switch {
	case a.name == "deliver" || a.name == "skip-filters" || a.name == "encrypt" || a.name == "smime-gateway":
		m.deliver("filter "+name+": "+a.name+"()", a.pos, low, high)
	case a.name == "drop":
		m.add("filter "+name+": drop()", a.pos, high, nil, drop(a.pos))
	case a.name == "bounce":
		m.remark(a.pos, "filter "+name+": bounce()", "backscatter: a bounce goes to whatever sender a stranger names")
		m.add("filter "+name+": bounce()", a.pos, high, nil, drop(a.pos))
	case a.name == "bcc" || a.name == "bcc-scan" || a.name == "notify-copy":
		m.copied(a, name, low)
	case a.name == "notify":
		if strings.Contains(a.arg(0), "$") {
			m.remark(a.pos, "filter "+name+": "+a.String(), "backscatter: a notice goes to an address that a stranger names")
		}
	case a.name == "alt-rcpt-to":
		m.hold(a, high, variable(a.arg(0)), "")
	case a.name == "alt-mailhost":
		m.hold(a, high, false, "every recipient's mail goes to that host, which may send it on")
	case a.name == "quarantine":
		m.hold(a, high, false, "what is in a quarantine is released by people, or when its time or its room is over")
	case a.name == "strip-header" || a.name == "insert-header" || a.name == "edit-header-text":
		m.edit(a, high, certain)
	case strings.HasPrefix(a.name, "drop-attachments-"), strings.HasPrefix(a.name, "url-"), slices.Contains(harmless, a.name):
	default:
		m.add("filter "+name+": "+a.name+"()", a.pos, dialect.And(high, m.unknown(a.pos, a.String(), "what this action does is not known", false)),
			nil, &policy.Final{Pos: a.pos, Kind: policy.ThenDeliver})
	}
}

// copied writes a copy to an address that the sender has a hand in. The message itself
// goes on: the sender's choice tells which of the two is looked at.
func (m *modeller) copied(a *action, name string, low policy.Expr) {
	to := a.arg(0)
	if !variable(to) {
		return
	}
	one := m.chosen(a.pos, "the copy that "+a.String()+" makes")
	cond := dialect.And(low, one)
	if strings.EqualFold(to, "$EnvelopeRecipients") {
		cond = dialect.And(cond, m.outward(a.pos))
	}
	m.add("filter "+name+": "+a.name+"()", a.pos, cond, nil, &policy.Final{Pos: a.pos, Kind: policy.ThenDeliver})
}

// hold marks a message that does not go to its recipients.
func (m *modeller) hold(a *action, cond policy.Expr, free bool, why string) {
	h := hold{tag: fmt.Sprintf("%s %d", a.String(), len(m.holds)+1), pos: a.pos, text: a.String(), why: why, free: free}
	if m.add(a.String(), a.pos, cond, tagAction(a.pos, h.tag), nil) {
		m.tags[h.tag] = true
		m.holds = append(m.holds, h)
	}
}

func (m *modeller) edit(a *action, cond policy.Expr, certain bool) {
	e := edit{tag: fmt.Sprintf("edit %d", len(m.edits)+1), header: a.arg(0), value: a.arg(1), insert: a.name == "insert-header"}
	e.known = certain && a.name != "edit-header-text" && !strings.Contains(e.value, "$")
	if m.add(a.String(), a.pos, cond, tagAction(a.pos, e.tag), nil) {
		m.edits = append(m.edits, e)
	}
}

// invalid says why the appliance skips a filter: something that it names is not there.
func (m *modeller) invalid(f *filter) string {
	why := ""
	f.rules(func(c *cond) {
		if (c.rule == "recv-listener" || c.rule == "recv-inj") && !slices.ContainsFunc(m.cfg.listeners, func(l listener) bool { return strings.EqualFold(l.name, c.value) }) {
			why = fmt.Sprintf("there is no listener %q (%s)", c.value, c.pos)
		}
	})
	return why
}

// doubtful says what a filter names that may not be there.
func (m *modeller) doubtful(f *filter) string {
	why := ""
	for _, a := range f.then {
		if a.name == "alt-src-host" && len(m.cfg.interfaces) > 0 && !slices.Contains(m.cfg.interfaces, a.arg(0)) {
			why = fmt.Sprintf("no interface %q is in the configuration: if it is no group either, the appliance skips the filter", a.arg(0))
		}
	}
	return why
}

// rules calls visit for every rule in a filter and in those in it.
func (f *filter) rules(visit func(*cond)) {
	f.cond.rules(visit)
	for _, as := range [][]action{f.then, f.other} {
		for _, a := range as {
			if a.filter != nil {
				a.filter.rules(visit)
			}
		}
	}
}

func (c *cond) rules(visit func(*cond)) {
	if c == nil {
		return
	}
	if c.op == "" {
		visit(c)
	}
	c.l.rules(visit)
	c.r.rules(visit)
}
