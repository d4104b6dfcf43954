package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

func truth(b bool) Result {
	if b {
		return Yes
	}
	return No
}

// compiler turns syntax trees into predicates and gathers every fault on the way.
type compiler struct {
	problems
	topology *Topology
	filters  []Filter
	fields   map[string]fieldDef
	assert   bool            // compiling an assert
	tags     map[string]bool // that some filter sets
}

// operand is a checked expression that is not a condition.
type operand struct {
	kind    kind
	pos     Pos
	name    string   // of a field
	def     fieldDef // of a field
	header  string   // of header("X"), lower case
	literal any      // of a constant: string, int64, bool
}

// condition compiles an expression that must be a condition. It always returns a
// test; where there were faults it is never asked.
func (c *compiler) condition(x Expr) test {
	switch x := x.(type) {
	case *Not:
		return test{op: opNot, kids: []test{c.condition(x.X)}}
	case *Binary:
		if x.Op == And || x.Op == Or {
			return c.junction(x)
		}
		return c.comparison(x)
	case *Call:
		return c.call(x)
	case *Literal:
		if b, ok := x.Value.(bool); ok {
			return constantTest(b)
		}
	case *Field:
		if o, ok := c.operand(x); ok {
			if o.kind == kindBool {
				flag := o.def.flag
				return other(func(e *env) Result { return truth(flag(e)) })
			}
			c.add(x.Pos, x.Name, fmt.Sprintf("%s is %s, not a condition", x.Name, o.kind), "compare it, as in "+x.Name+` == "..."`)
		}
		return never()
	}
	c.add(x.Position(), "", "not a condition", "a condition is a comparison, a function such as in(), or true")
	return never()
}

// never is the test of what does not compile.
func never() test { return other(func(*env) Result { return Unknown }) }

func other(run predicate) test { return test{op: opOther, run: run} }

func constantTest(b bool) test {
	if b {
		return test{op: opYes}
	}
	return test{op: opNo}
}

// junction is && or ||, in strong three-valued logic: and is the least of all, or
// the greatest, in whatever order they are asked.
func (c *compiler) junction(x *Binary) test {
	t := test{op: opOr}
	if x.Op == And {
		t.op = opAnd
	}
	for _, part := range []test{c.condition(x.L), c.condition(x.R)} {
		if part.op == t.op {
			t.kids = append(t.kids, part.kids...)
		} else {
			t.kids = append(t.kids, part)
		}
	}
	slices.SortStableFunc(t.kids, func(a, b test) int { return int(a.op) - int(b.op) })
	return t
}

// operand checks a field, a header or a constant.
func (c *compiler) operand(x Expr) (operand, bool) {
	switch x := x.(type) {
	case *Literal:
		switch v := x.Value.(type) {
		case string:
			return operand{kind: kindString, pos: x.Pos, literal: v}, true
		case int64:
			return operand{kind: kindInt, pos: x.Pos, literal: v}, true
		case bool:
			return operand{kind: kindBool, pos: x.Pos, literal: v}, true
		}
	case *Field:
		d, ok := c.fields[x.Name]
		if !ok {
			c.add(x.Pos, x.Name, fmt.Sprintf("unknown field %q", x.Name), DidYouMean(x.Name, FieldNames()))
			return operand{}, false
		}
		if d.assert && !c.assert {
			c.add(x.Pos, x.Name, x.Name+" can be read in an assert only", "")
			return operand{}, false
		}
		return operand{kind: d.kind, pos: x.Pos, name: x.Name, def: d}, true
	case *Call:
		if x.Func == "header" {
			name, ok := c.constant(x, 0, "header")
			return operand{kind: kindHeader, pos: x.Pos, header: strings.ToLower(name)}, ok && c.arity(x, 1)
		}
		c.add(x.Pos, x.Func, x.Func+"() is a condition and cannot be compared", "")
		return operand{}, false
	}
	c.add(x.Position(), "", "not a value", "compare a field or header() with a constant")
	return operand{}, false
}

// lacks tells what the operand's value cannot be read without.
func (o *operand) lacks() lack {
	switch {
	case o.header != "", o.def.content:
		return lackContent
	case o.def.rcpt:
		return lackRcpt
	}
	return 0
}

// each runs test over the operand's text values until one gives true.
func (o *operand) each(e *env, test func(string) bool) bool {
	switch {
	case o.kind == kindHeader:
		for i := range e.facts.Content.Headers {
			h := &e.facts.Content.Headers[i]
			if h.Name == o.header && test(h.Value) {
				return true
			}
		}
		return false
	case o.kind == kindAddress:
		return test(o.def.addr(e).String())
	}
	return test(o.def.text(e))
}

// textTest makes the test "holds for a value of o".
func (o operand) textTest(holds func(string) bool) test {
	lacks := o.lacks()
	return other(func(e *env) Result {
		if e.lacks&lacks != 0 {
			return Unknown
		}
		return truth(o.each(e, holds))
	})
}

// among makes the test "a value of o is one of these", or with want false "a value is
// none of these".
func (o operand) among(texts []string, want bool) test {
	if o.kind == kindHeader {
		return test{op: opHeader, field: o.header, texts: texts, want: want}
	}
	if d, ok := source(o.name); ok {
		return test{op: opText, of: d, texts: texts, want: want}
	}
	return o.textTest(func(v string) bool { return slices.Contains(texts, v) == want })
}

// source tells which of the texts that have a hash a field is.
func source(field string) (dim, bool) {
	switch field {
	case "listener":
		return dimListener, true
	case "origin":
		return dimOrigin, true
	}
	return textDim(field)
}

func (c *compiler) arity(x *Call, n int) bool {
	if len(x.Args) == n {
		return true
	}
	c.add(x.Pos, x.Func, fmt.Sprintf("%s() takes %d argument(s), not %d", x.Func, n, len(x.Args)), "")
	return false
}

// constant gives a call's i-th argument, which must be a non-empty constant string.
func (c *compiler) constant(x *Call, i int, what string) (string, bool) {
	if i >= len(x.Args) {
		return "", c.arity(x, i+1)
	}
	l, ok := x.Args[i].(*Literal)
	if ok {
		if s, isString := l.Value.(string); isString && s != "" {
			return s, true
		}
	}
	c.add(x.Args[i].Position(), "", what+"() takes a constant string here", "")
	return "", false
}

// regexpFor compiles an RE2 expression for o and warns where it matches more than
// it seems to.
func (c *compiler) regexpFor(pos Pos, o operand, s string) (*regexp.Regexp, bool) {
	re, err := regexp.Compile(s)
	if err != nil {
		c.add(pos, s, "bad regular expression: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "the syntax is RE2's: no look-around, no back-references")
		return nil, false
	}
	if (o.kind == kindDomain || o.kind == kindAddress) && !(strings.HasSuffix(s, "$") && !strings.HasSuffix(s, `\$`)) {
		c.warn(pos, s, fmt.Sprintf("expression %q is not anchored at its end: it matches longer addresses too", s), `end it with "$", or use in() or ends_with()`)
	}
	return re, true
}

// prefixes reads constants as addresses or networks.
func (c *compiler) prefixes(items []Expr) (out []netip.Prefix, ok bool) {
	ok = true
	for _, it := range items {
		s, isString := literalString(it)
		p, err := ParsePrefix(s)
		if !isString || err != nil {
			c.add(it.Position(), s, fmt.Sprintf("%q is not an IP address or network", s), `write it as "192.0.2.0/24"`)
			ok = false
			continue
		}
		out = append(out, p)
	}
	return out, ok
}

func literalString(x Expr) (string, bool) {
	l, ok := x.(*Literal)
	if !ok {
		return "", false
	}
	s, ok := l.Value.(string)
	return s, ok
}

// ParsePrefix reads an IP address or a network in CIDR form. Host bits beyond the
// prefix are an error: they are a mistake more often than not.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("parse network %q: not an IP address", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("parse network %q: not a network", s)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("parse network %q: host bits are set; the network is %s", s, p.Masked())
	}
	return p, nil
}
