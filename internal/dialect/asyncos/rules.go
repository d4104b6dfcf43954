package asyncos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// free are rules about what the sender writes: he chooses whether they hold.
var free = []string{
	"valid", "signed", "signed-certificate", "encrypted", "body-contains", "only-body-contains", "attachment-contains",
	"attachment-binary-contains", "every-attachment-contains", "attachment-filename", "attachment-type", "attachment-filetype",
	"attachment-mimetype", "attachment-size", "attachment-corrupt", "attachment-protected", "attachment-unprotected",
	"malformed-header", "duplicate-boundaries", "message-language", "addr-count", "spf-status", "spf-passed",
	"smime-gateway-message", "smime-gateway-verified", "random", "header-repeats", "macro-detection-rule",
}

// expr makes a condition of a rule. Where something is not known, high asks for what
// could hold, and otherwise for what certainly does.
func (m *modeller) expr(c *cond, high bool) policy.Expr {
	switch c.op {
	case "and":
		return dialect.And(m.expr(c.l, high), m.expr(c.r, high))
	case "or":
		return dialect.Or(m.expr(c.l, high), m.expr(c.r, high))
	case "not":
		return dialect.Not(m.expr(c.l, !high))
	}
	if c.compare == "!=" {
		equal := *c
		equal.compare = "=="
		return dialect.Not(m.rule(&equal, !high))
	}
	return m.rule(c, high)
}

// rule makes a condition of a rule that is bare or compared, but not by !=.
func (m *modeller) rule(c *cond, high bool) policy.Expr {
	switch c.rule {
	case "true":
		return nil
	case "false":
		return dialect.False(c.pos)
	case "rcpt-to":
		return m.expression(c, high, m.recipient)
	case "mail-from":
		return m.expression(c, high, m.sender)
	case "subject":
		return m.header(c, "subject", high)
	case "header":
		if len(c.args) == 1 && headerName(c.args[0]) {
			return m.header(c, c.args[0], high)
		}
	case "remote-ip":
		return m.remote(c, high)
	case "recv-listener", "recv-inj", "recv-int":
		name := m.l.name
		if c.rule == "recv-int" {
			name = m.l.on
		}
		if c.compare == "==" {
			return constant(c.pos, strings.EqualFold(name, c.value))
		}
	case "sendergroup":
		if c.compare == "==" {
			return m.inGroup(c, high)
		}
	case "rcpt-count":
		return m.count(c, high)
	case "body-size":
		if n, err := octets(c.value); err == nil && c.compare != "" {
			op := policy.Op(c.compare)
			return &policy.Binary{Pos: c.pos, Op: op, L: dialect.Fact(c.pos, "size"), R: &policy.Literal{Pos: c.pos, Value: n}}
		}
	default:
		if slices.Contains(free, c.rule) {
			return m.chosen(c.pos, c.String())
		}
	}
	return m.unknown(c.pos, c.String(), "what this rule says is not in the message filters", high)
}

func constant(pos policy.Pos, b bool) policy.Expr {
	if b {
		return nil
	}
	return dialect.False(pos)
}

// headerName reports a name that a field can have and that stands for nothing else here.
func headerName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	low := strings.ToLower(s)
	return s != "" && low != dialect.CompanionHeader && !strings.HasPrefix(low, dialect.GapHeader) && !strings.HasPrefix(low, dialect.ChosenHeader)
}

// expression makes a condition with the expression that a rule compares with.
func (m *modeller) expression(c *cond, high bool, f func(c *cond, re string, high bool) policy.Expr) policy.Expr {
	if c.compare != "==" {
		return m.unknown(c.pos, c.String(), "this comparison is not known", high)
	}
	re, err := translate(c.value)
	if err != nil {
		return m.unknown(c.pos, c.String(), err.Error(), high)
	}
	return f(c, re, high)
}

// recipient holds if any recipient matches: this one, or one that the sender names beside
// it and the RAT accepts.
func (m *modeller) recipient(c *cond, re string, high bool) policy.Expr {
	re = foldless(re)
	own := dialect.Matches(c.pos, "rcpt.address", re)
	other := dialect.Call(c.pos, "header", dialect.Text(c.pos, dialect.CompanionHeader))
	if m.takesAll {
		return dialect.Or(own, dialect.Call(c.pos, "matches", other, dialect.Text(c.pos, re)))
	}
	all := []policy.Expr{own}
	for _, a := range m.companions {
		if matchesText(re, a) {
			all = append(all, &policy.Binary{Pos: c.pos, Op: policy.Eq, L: other, R: dialect.Text(c.pos, a)})
		}
	}
	if len(all) == 1 {
		all = append(all, m.unknown(c.pos, c.String(), "whether another recipient that the RAT accepts matches is not known", high))
	}
	return dialect.Or(all...)
}

// sender matches the reverse-path. Expressions tell case apart and the sender chooses it.
func (m *modeller) sender(c *cond, re string, _ bool) policy.Expr {
	if !caseMatters(re) {
		return dialect.Matches(c.pos, "sender.address", re)
	}
	return dialect.And(dialect.Matches(c.pos, "sender.address", foldless(re)), m.chosen(c.pos, "letters of the sender in the case that "+c.String()+" asks for"))
}

// header matches a field; one that is not there is empty. What filters above did to it
// counts.
func (m *modeller) header(c *cond, name string, high bool) policy.Expr {
	if c.compare == "" {
		c = &cond{pos: c.pos, rule: c.rule, args: c.args, compare: "==", value: "."}
	}
	return m.expression(c, high, func(c *cond, re string, high bool) policy.Expr {
		field := dialect.Text(c.pos, name)
		empty := matchesText(re, "")
		out := dialect.Call(c.pos, "matches", dialect.Call(c.pos, "header", field), dialect.Text(c.pos, re))
		if empty {
			out = dialect.Or(out, dialect.Not(dialect.Call(c.pos, "has_header", field)))
		}
		for _, e := range m.edits {
			if !strings.EqualFold(e.header, name) {
				continue
			}
			tag := dialect.Tagged(c.pos, e.tag)
			then := constant(c.pos, empty)
			switch {
			case !e.known:
				then = m.unknown(c.pos, c.String(), "a filter above changes the field", high)
			case e.insert:
				// What was there stays, and stands once in the condition, which would double else.
				out = dialect.Or(dialect.And(tag, constant(c.pos, matchesText(re, e.value))), out)
				continue
			}
			out = dialect.Or(dialect.And(tag, then), dialect.And(dialect.Not(tag), out))
		}
		return out
	})
}

func (m *modeller) remote(c *cond, high bool) policy.Expr {
	nets, ok := hostRange(c.value)
	if !ok || c.compare != "==" {
		return m.unknown(c.pos, c.String(), "no address or network", high)
	}
	var within []policy.Expr
	for _, n := range nets {
		within = append(within, dialect.Within(c.pos, "client.address", n.String()))
	}
	return dialect.Or(within...)
}

// inGroup holds for mail that the HAT put into a sender group.
func (m *modeller) inGroup(c *cond, high bool) policy.Expr {
	for tag := range m.tags {
		if strings.EqualFold(tag, groupTag+c.value) {
			return dialect.Tagged(c.pos, tag)
		}
	}
	if m.l.hat {
		return dialect.False(c.pos)
	}
	return m.unknown(c.pos, c.String(), "the HAT is not there", high)
}

// count compares the number of recipients: one, or as many as the sender likes.
func (m *modeller) count(c *cond, high bool) policy.Expr {
	n, err := strconv.Atoi(c.value)
	if err != nil || c.compare == "" {
		return m.unknown(c.pos, c.String(), "no number", high)
	}
	yes, no := false, false
	for _, k := range []int{2, n - 1, n, n + 1} {
		if k >= 2 {
			yes, no = yes || compare(k, c.compare, n), no || !compare(k, c.compare, n)
		}
	}
	var more policy.Expr
	switch {
	case yes && no:
		more = m.chosen(c.pos, c.String())
	case no:
		more = dialect.False(c.pos)
	}
	several := dialect.Call(c.pos, "has_header", dialect.Text(c.pos, dialect.CompanionHeader))
	if compare(1, c.compare, n) {
		return dialect.Or(dialect.Not(several), more)
	}
	return dialect.And(several, more)
}

func compare(a int, op string, b int) bool {
	switch op {
	case "==":
		return a == b
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	}
	return a >= b
}

// octets reads "100", "5K", "20M".
func octets(s string) (int64, error) {
	unit := int64(1)
	switch low := strings.ToLower(strings.TrimSuffix(strings.ToLower(s), "b")); {
	case strings.HasSuffix(low, "k"):
		unit, s = 1<<10, low[:len(low)-1]
	case strings.HasSuffix(low, "m"):
		unit, s = 1<<20, low[:len(low)-1]
	}
	n, err := strconv.ParseInt(s, 10, 40)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	return n * unit, nil
}
