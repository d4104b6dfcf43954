package config

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern.dev/postern/internal/bounce"
	"postern.dev/postern/internal/shaping"
)

// rule reads what a reply sets off.
func (l *loader) rule(hb *hclsyntax.Block) {
	b := l.openBlock(hb, ruleAttributes(), nil)
	if b.flag("off", false) {
		if len(hb.Body.Attributes) > 1 {
			l.add(hb.DefRange(), fmt.Sprintf("rule %q is off and says more", b.label), "off = true switches a shipped rule off and stands alone")
		}
		l.shape.off = append(l.shape.off, item{b.label, hb.LabelRanges[0]})
		return
	}
	r := shaping.Rule{Name: b.label, Where: at(hb.DefRange()), GoOn: !b.flag("final", true), Category: b.str("category", "")}
	for _, it := range b.strs("destinations") {
		r.Providers = append(r.Providers, it.text)
		l.shape.refs = append(l.shape.refs, it)
	}
	r.Codes, r.Enhanced, r.Text = b.codes(), b.enhanced(), b.expressions()
	for _, it := range b.strs("stage") {
		if !has(shaping.Stages(), it.text) {
			l.add(it.where, fmt.Sprintf("unknown stage %q", it.text), oneOfHint(it.text, shaping.Stages()))
			continue
		}
		r.Stages = append(r.Stages, it.text)
	}
	if a := b.attr("category"); a != nil {
		if _, ok := bounce.Parse(r.Category); !ok {
			var names []string
			for _, c := range bounce.Categories() {
				names = append(names, c.String())
			}
			l.add(a.Expr.Range(), fmt.Sprintf("unknown category %q", r.Category), oneOfHint(r.Category, names))
		}
	}
	r.After = b.duration("after", 0, leastWait, mostWait)
	b.effects(&r)
	r.Threshold = b.threshold(&r)
	b.sensible(&r)
	l.shape.rules.Rules = append(l.shape.rules.Rules, r)
}

// sensible notes a rule that would match everything, or do nothing.
func (b *block) sensible(r *shaping.Rule) {
	said := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return b.attr(n) != nil })
	}
	if !said("code", "enhanced", "text", "stage") {
		b.l.add(b.where, fmt.Sprintf("rule %q would match every failure", r.Name), `code = "4xx", enhanced = "4.7.x", text = "..." or stage = "connect"`)
	}
	if !said("then", "after", "category") {
		b.l.add(b.where, fmt.Sprintf("rule %q does nothing", r.Name), `then = suspend("1h", source)`)
	}
	if r.Fate == shaping.Bounce && r.After > 0 {
		b.l.add(b.attr("after").NameRange, "after: what bounces is not tried again", "")
	}
}

func oneOfHint(s string, names []string) string {
	if h := didYouMean(s, names); h != "" {
		return h
	}
	return "one of " + strings.Join(names, ", ")
}

// words reads a string, a number, or a list of them, as text.
func (b *block) words(name string) (out []item) {
	a := b.attr(name)
	if a == nil {
		return nil
	}
	xs := []hclsyntax.Expression{a.Expr}
	if t, ok := a.Expr.(*hclsyntax.TupleConsExpr); ok {
		xs = t.Exprs
	}
	for _, x := range xs {
		v, ok := b.constant(x)
		if !ok {
			continue
		}
		if n, whole := wholeNumber(v); whole {
			out = append(out, item{strconv.Itoa(n), x.Range()})
		} else if s, ok := b.text(x); ok {
			out = append(out, item{s, x.Range()})
		}
	}
	if len(xs) == 0 {
		b.l.add(a.Expr.Range(), name+" is empty: the rule would match nothing", "")
	}
	return out
}

func wholeNumber(v cty.Value) (int, bool) {
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.Number {
		return 0, false
	}
	n, acc := v.AsBigFloat().Int64()
	return int(n), acc == big.Exact
}

// codes reads reply codes: 421, "4xx", "450-452", "none".
func (b *block) codes() (out []shaping.CodeRange) {
	for _, it := range b.words("code") {
		c, ok := parseCodes(it.text)
		switch {
		case !ok:
			b.l.add(it.where, fmt.Sprintf("code: %q is not a reply code", it.text), `421, "4xx", "450-452", or "none" where no reply came`)
			continue
		case c.From > 0 && c.From < 400:
			b.l.add(it.where, fmt.Sprintf("code: %s is a success, which sets nothing off", it.text), "")
			continue
		}
		out = append(out, c)
	}
	return out
}

func parseCodes(s string) (c shaping.CodeRange, ok bool) {
	if s == "none" {
		return c, true
	}
	if len(s) == 3 && s[1:] == "xx" && s[0] >= '2' && s[0] <= '5' {
		n := int(s[0]-'0') * 100
		return shaping.CodeRange{From: n, To: n + 99}, true
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	return shaping.CodeRange{From: from, To: to}, err == nil && err2 == nil && from >= 200 && to <= 599 && from <= to && len(first) == 3 && len(last) == 3
}

// enhanced reads enhanced status codes, with x for any number (RFC 3463).
func (b *block) enhanced() (out []shaping.Enhanced) {
	for _, it := range b.strs("enhanced") {
		e, ok := parseEnhancedPattern(it.text)
		if !ok {
			b.l.add(it.where, fmt.Sprintf("enhanced: %q is not an enhanced status code", it.text), `three numbers, as "4.7.28", with x for any, as "4.7.x"`)
			continue
		}
		out = append(out, e)
	}
	if a := b.attr("enhanced"); a != nil && len(b.strs("enhanced")) == 0 && !b.l.diags.HasErrors() {
		b.l.add(a.Expr.Range(), "enhanced is empty: the rule would match nothing", "")
	}
	return out
}

func parseEnhancedPattern(s string) (e shaping.Enhanced, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != len(e) {
		return e, false
	}
	for i, p := range parts {
		if p == "x" {
			e[i] = -1
			continue
		}
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 || len(p) > 3 || (i == 0 && n != 4 && n != 5) {
			return e, false
		}
		e[i] = n
	}
	return e, true
}

// maxExpression bounds an expression on a reply's text.
const maxExpression = 1000

// expressions reads RE2 expressions, which are searched for without regard to case.
func (b *block) expressions() (out []*regexp.Regexp) {
	for _, it := range b.strs("text") {
		if len(it.text) > maxExpression {
			b.l.add(it.where, fmt.Sprintf("text: an expression of more than %d characters", maxExpression), "")
			continue
		}
		re, err := regexp.Compile("(?i)" + it.text)
		if err != nil {
			cause := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
			b.l.add(it.where, fmt.Sprintf("text: %s", strings.ReplaceAll(cause, "(?i)", "")), `RE2; in HCL a backslash is written twice: "\\[TSS04\\]"`)
			continue
		}
		if re.MatchString("") {
			b.l.add(it.where, fmt.Sprintf("text: %q matches every reply", it.text), "leave text out if that is meant")
			continue
		}
		out = append(out, re)
	}
	if a := b.attr("text"); a != nil && len(b.strs("text")) == 0 && !b.l.diags.HasErrors() {
		b.l.add(a.Expr.Range(), "text is empty: the rule would match nothing", "")
	}
	return out
}

// threshold reads "5/10m": so many replies in a time.
func (b *block) threshold(r *shaping.Rule) (t shaping.Threshold) {
	a := b.attr("threshold")
	if a == nil {
		return t
	}
	s, ok := b.text(a.Expr)
	if !ok {
		return t
	}
	rate, ok := shaping.ParseRate(s)
	if !ok || rate.Burst != 0 || rate.Count > 10_000 || rate.Per > 7*24*time.Hour {
		b.l.add(a.Expr.Range(), fmt.Sprintf("threshold: %q is not a threshold", s), `replies and a time, as "5/10m": at most 10000 in 168h`)
		return t
	}
	if len(r.Then) == 0 && (b.attr("then") == nil || r.Fate != shaping.AsReplied || r.Suppress) {
		b.l.add(a.NameRange, "threshold has nothing to hold back", "it is for throttle, connections, backoff and suspend: bounce(), retry(), elsewhere() and suppress() are about the one recipient")
	}
	return shaping.Threshold{Count: rate.Count, Within: rate.Per}
}

// effects reads what a rule does: one call, or a list of them.
func (b *block) effects(r *shaping.Rule) {
	a := b.attr("then")
	if a == nil {
		return
	}
	xs := []hclsyntax.Expression{a.Expr}
	if t, ok := a.Expr.(*hclsyntax.TupleConsExpr); ok {
		xs = t.Exprs
	}
	if len(xs) == 0 {
		b.l.add(a.Expr.Range(), "then is empty", `then = suspend("1h", source)`)
	}
	for _, x := range xs {
		c, ok := x.(*hclsyntax.FunctionCallExpr)
		if !ok {
			b.l.add(x.Range(), "an action is wanted here", `as suspend("1h", source), or a list of them`)
			continue
		}
		b.effect(c, r)
	}
}

func effectNames() []string {
	return []string{"throttle", "connections", "backoff", "suspend", "retry", "bounce", "elsewhere", "suppress"}
}

// effect reads one action.
func (b *block) effect(c *hclsyntax.FunctionCallExpr, r *shaping.Rule) {
	fate := shaping.AsReplied
	switch c.Name {
	case "throttle", "connections", "backoff", "suspend":
		if e, ok := b.lasting(c); ok {
			r.Then = append(r.Then, e)
		}
		return
	case "retry":
		fate = shaping.TryAgain
	case "bounce":
		fate = shaping.Bounce
	case "elsewhere":
		fate = shaping.Elsewhere
	case "suppress":
		r.Suppress = true
	default:
		b.l.add(c.NameRange, fmt.Sprintf("unknown action %q", c.Name), oneOfHint(c.Name, effectNames()))
		return
	}
	if len(c.Args) > 0 {
		b.l.add(c.Args[0].Range(), c.Name+" takes nothing in parentheses", "")
	}
	if fate != shaping.AsReplied && r.Fate != shaping.AsReplied {
		b.l.add(c.NameRange, "a second word on the recipient's fate", "one of retry(), bounce(), elsewhere()")
		return
	}
	r.Fate = max(r.Fate, fate)
}

// usage shows how an action is called.
func usage(name string) string {
	return map[string]string{
		"throttle":    `throttle("60/1m", "1h", site)`,
		"connections": `connections(2, "1h", source)`,
		"backoff":     `backoff("15m", "4h", source): the first wait, the longest, what`,
		"suspend":     `suspend("2h", source), or of all the provider's sites suspend("2h", source, provider)`,
	}[name]
}

// lasting reads an action that is in force for a time.
func (b *block) lasting(c *hclsyntax.FunctionCallExpr) (e shaping.Effect, ok bool) {
	before := len(b.l.diags)
	e.Kind = c.Name
	args := c.Args
	next := func() (x hclsyntax.Expression) {
		if len(args) > 0 {
			x, args = args[0], args[1:]
		}
		return x
	}
	short := func() (shaping.Effect, bool) {
		b.l.add(c.NameRange, c.Name+" is not called so", usage(c.Name))
		return e, false
	}
	switch c.Name {
	case "throttle":
		x := next()
		if x == nil {
			return short()
		}
		e.Rate = b.rate(x)
	case "connections":
		x := next()
		if x == nil {
			return short()
		}
		e.Kind = "throttle"
		e.Connections, _ = b.whole(x, 1, 100_000)
	}
	x := next()
	if x == nil {
		return short()
	}
	e.For = b.span(x)
	if e.Kind == "backoff" {
		e.Most = e.For
		if len(args) > 0 && bareWord(args[0]) == "" {
			x = next()
			if e.Most = b.span(x); e.Most < e.For && len(b.l.diags) == before {
				b.l.add(x.Range(), fmt.Sprintf("the longest wait %s is shorter than the first, %s", shaping.Span(e.Most), shaping.Span(e.For)), "")
			}
		}
	}
	if x = next(); x == nil {
		return short()
	}
	b.scope(&e, c.Name, x, next())
	if len(args) > 0 {
		b.l.add(args[0].Range(), c.Name+" takes no more than that", usage(c.Name))
	}
	return e, len(b.l.diags) == before
}

func (b *block) rate(x hclsyntax.Expression) *shaping.Rate {
	s, ok := b.text(x)
	if !ok {
		return nil
	}
	r, ok := shaping.ParseRate(s)
	if !ok {
		b.l.add(x.Range(), fmt.Sprintf("%q is not a rate", s), `a count and a time, as "60/1m"`)
		return nil
	}
	return &r
}

func (b *block) span(x hclsyntax.Expression) time.Duration {
	s, ok := b.text(x)
	if !ok {
		return 0
	}
	d, _ := b.wait(item{s, x.Range()})
	return d
}

// bareWord gives a word that stands without quotes, "" where it is something else.
func bareWord(x hclsyntax.Expression) string {
	if t, ok := x.(*hclsyntax.ScopeTraversalExpr); ok && len(t.Traversal) == 1 {
		return t.Traversal.RootName()
	}
	return ""
}

// scope reads what an action binds, and how far it reaches.
func (b *block) scope(e *shaping.Effect, name string, what, reach hclsyntax.Expression) {
	e.Scope = bareWord(what)
	scopes := shaping.Scopes()
	if e.Kind == "throttle" {
		scopes = []string{"site", "provider", "source", "pool", "customer", "campaign"}
	}
	if !has(scopes, e.Scope) {
		hint := oneOfHint(e.Scope, scopes) + " (a word without quotes)"
		if has(shaping.Scopes(), e.Scope) {
			hint = "a throttle binds a site, a provider, a source, a pool, a customer or a campaign; backoff and suspend bind the rest too"
		}
		b.l.add(what.Range(), fmt.Sprintf("%s: what is to be bound?", name), hint)
		return
	}
	place := has([]string{"site", "provider", "domain", "mx"}, e.Scope)
	if !place {
		e.Within = "site"
	}
	if reach == nil {
		return
	}
	e.Within = bareWord(reach)
	switch {
	case place || (e.Kind == "throttle" && e.Scope == "source"):
		b.l.add(reach.Range(), fmt.Sprintf("%s of a %s reaches no further", name, e.Scope), "")
	case !has(shaping.Reaches(), e.Within):
		b.l.add(reach.Range(), fmt.Sprintf("%s: how far does it reach?", name), oneOfHint(e.Within, shaping.Reaches())+" (a word without quotes)")
	}
}
