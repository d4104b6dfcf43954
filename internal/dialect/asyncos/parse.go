package asyncos

import (
	"fmt"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// filter is a message filter: if cond then ... else ...
type filter struct {
	pos    policy.Pos
	name   string
	active bool // name: and not name!
	cond   *cond
	then   []action
	other  []action // of else
}

// action is one step of a block: an action, or a filter in it.
type action struct {
	pos    policy.Pos
	name   string // lower case, words joined by hyphens
	args   []string
	filter *filter
}

// cond is a condition: a rule, or and, or, not of others.
type cond struct {
	pos  policy.Pos
	op   string // "and", "or", "not", "" for a rule
	l, r *cond

	rule    string // lower case, words joined by hyphens
	args    []string
	compare string // "==", "!=", "<" ...; "" for a bare rule
	value   string
}

// maxDepth bounds how deep blocks and brackets may be nested.
const maxDepth = 200

type parser struct {
	lex   lexer
	tok   token
	depth int
}

// parseFilters reads a list of message filters. at is where the text begins.
func parseFilters(src string, at policy.Pos) ([]*filter, error) {
	p := &parser{lex: lexer{src: src, pos: at, lineStart: true}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var out []*filter
	for p.tok.kind != end {
		if p.tok.text == "." && p.tok.kind == mark {
			break
		}
		f, err := p.filter()
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (p *parser) advance() (err error) {
	p.tok, err = p.lex.next()
	return err
}

func (p *parser) is(s string) bool {
	return (p.tok.kind == mark || p.tok.kind == word) && strings.EqualFold(p.tok.text, s)
}

func (p *parser) fault(want string) error {
	got := fmt.Sprintf("%.40q", p.tok.text)
	if p.tok.kind == end {
		got = "the end"
	}
	return dialect.Fault{Pos: p.tok.pos, Message: want + " is missing before " + got}
}

// take goes past a word or mark that has to stand here.
func (p *parser) take(s string) error {
	if !p.is(s) {
		return p.fault(s)
	}
	return p.advance()
}

func (p *parser) deeper() error {
	if p.depth++; p.depth > maxDepth {
		return dialect.Fault{Pos: p.tok.pos, Message: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	return nil
}

// filter reads name: if cond {...} else {...}.
func (p *parser) filter() (*filter, error) {
	f := &filter{pos: p.tok.pos, name: p.tok.text, active: true}
	if p.tok.kind != word && p.tok.kind != number {
		return nil, p.fault("the name of a filter")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if !p.is(":") && !p.is("!") {
		return nil, p.fault(": or ! behind the name of the filter")
	}
	f.active = p.is(":")
	if err := p.advance(); err != nil {
		return nil, err
	}
	return f, p.body(f)
}

// body reads if cond {...} and what belongs to it.
func (p *parser) body(f *filter) (err error) {
	if err = p.deeper(); err != nil {
		return err
	}
	defer func() { p.depth-- }()
	if !p.is("if") && !p.is("elif") && !p.is("elsif") {
		return p.fault("if")
	}
	if err = p.advance(); err != nil {
		return err
	}
	if f.cond, err = p.or(); err != nil {
		return err
	}
	if f.then, err = p.block(); err != nil {
		return err
	}
	chain := p.is("elif") || p.is("elsif")
	if !chain {
		if !p.is("else") {
			return nil
		}
		if err = p.advance(); err != nil {
			return err
		}
		chain = p.is("if")
	}
	if !chain {
		f.other, err = p.block()
		return err
	}
	inner := &filter{pos: p.tok.pos, name: f.name, active: true}
	f.other = []action{{pos: inner.pos, filter: inner}}
	return p.body(inner)
}

func (p *parser) block() ([]action, error) {
	if err := p.take("{"); err != nil {
		return nil, err
	}
	var out []action
	for !p.is("}") {
		if p.is(";") {
			if err := p.advance(); err != nil {
				return nil, err
			}
			continue
		}
		a, err := p.action()
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, p.advance()
}

// action reads one action, or a filter that stands in its place.
func (p *parser) action() (action, error) {
	a := action{pos: p.tok.pos, name: plain(p.tok.text)}
	if p.is("if") {
		a.filter = &filter{pos: p.tok.pos, name: "if", active: true}
		return a, p.body(a.filter)
	}
	if p.tok.kind != word {
		return a, p.fault("an action or }")
	}
	name := p.tok.text
	if err := p.advance(); err != nil {
		return a, err
	}
	if p.is(":") || p.is("!") {
		a.filter = &filter{pos: a.pos, name: name, active: p.is(":")}
		if err := p.advance(); err != nil {
			return a, err
		}
		return a, p.body(a.filter)
	}
	var err error
	a.args, err = p.args()
	if err == nil && !p.is(";") && !p.is("}") {
		err = p.fault("; or }")
	}
	return a, err
}

// plain is the one spelling of a word that is written with _ or - and in any case.
func plain(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }

// args reads (..., ...), if it is there. A comparison in it stays as its parts.
func (p *parser) args() ([]string, error) {
	if !p.is("(") {
		return nil, nil
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	out := []string{}
	for !p.is(")") {
		if p.tok.kind == end || p.is("{") || p.is("}") || p.is(";") || p.is("(") {
			return nil, p.fault(")")
		}
		if !p.is(",") {
			out = append(out, p.tok.text)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	return out, p.advance()
}

func (p *parser) or() (*cond, error)  { return p.joined("or", p.and) }
func (p *parser) and() (*cond, error) { return p.joined("and", p.not) }

func (p *parser) joined(op string, operand func() (*cond, error)) (*cond, error) {
	l, err := operand()
	for n := 0; err == nil && p.is(op); n++ {
		c := &cond{pos: p.tok.pos, op: op, l: l}
		if n > 10*maxDepth {
			return nil, dialect.Fault{Pos: c.pos, Message: "too many conditions in one filter"}
		}
		if err = p.advance(); err != nil {
			return nil, err
		}
		c.r, err = operand()
		l = c
	}
	return l, err
}

func (p *parser) not() (*cond, error) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.is("not") || p.is("!") {
		c := &cond{pos: p.tok.pos, op: "not"}
		err := p.advance()
		if err == nil {
			c.l, err = p.not()
		}
		return c, err
	}
	if p.is("(") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		c, err := p.or()
		if err == nil {
			err = p.take(")")
		}
		return c, err
	}
	return p.rule()
}

func (p *parser) rule() (*cond, error) {
	c := &cond{pos: p.tok.pos, rule: plain(p.tok.text)}
	if p.tok.kind != word {
		return nil, p.fault("a rule")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var err error
	if c.args, err = p.args(); err != nil {
		return nil, err
	}
	switch {
	case p.tok.kind == mark && strings.Contains(" == != < <= > >= ", " "+p.tok.text+" "):
		c.compare = p.tok.text
		if err = p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != text && p.tok.kind != number && p.tok.kind != word {
			return nil, p.fault("a value")
		}
		c.value = p.tok.text
		err = p.advance()
	}
	return c, err
}

// String gives a rule as it could be written.
func (c *cond) String() string {
	s := c.rule
	if c.args != nil {
		quoted := make([]string, len(c.args))
		for i, a := range c.args {
			quoted[i] = fmt.Sprintf("%q", a)
		}
		s += "(" + strings.Join(quoted, ", ") + ")"
	}
	if c.compare != "" {
		s += fmt.Sprintf(" %s %q", c.compare, c.value)
	}
	return s
}
