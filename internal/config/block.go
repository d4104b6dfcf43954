package config

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern.dev/postern/internal/policy"
)

// block is one block of the configuration, or a file's top level, opened with the
// names that may stand in it.
type block struct {
	l     *loader
	name  string // "listener", "the file"
	label string
	where hcl.Range
	body  *hclsyntax.Body
}

// open checks that only known attributes and blocks stand in a body.
func (l *loader) open(name, label string, where hcl.Range, body *hclsyntax.Body, attrs, blocks []string) *block {
	for _, a := range sortedAttributes(body) {
		if !has(attrs, a.Name) {
			hint := didYouMean(a.Name, attrs)
			if has(blocks, a.Name) {
				hint = a.Name + " is a block: " + a.Name + " { ... }"
			}
			l.add(a.NameRange, fmt.Sprintf("unknown attribute %q in %s", a.Name, name), hint)
		}
	}
	for _, b := range body.Blocks {
		if !has(blocks, b.Type) {
			hint := didYouMean(b.Type, blocks)
			if has(attrs, b.Type) {
				hint = b.Type + " is an attribute: " + b.Type + " = ..."
			}
			l.add(b.TypeRange, fmt.Sprintf("unknown block %q in %s", b.Type, name), hint)
		}
	}
	return &block{l: l, name: name, label: label, where: where, body: body}
}

func sortedAttributes(b *hclsyntax.Body) []*hclsyntax.Attribute {
	out := make([]*hclsyntax.Attribute, 0, len(b.Attributes))
	for _, a := range b.Attributes {
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].NameRange.Start.Byte < out[j].NameRange.Start.Byte })
	return out
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (b *block) attr(name string) *hclsyntax.Attribute { return b.body.Attributes[name] }

// require notes a missing attribute.
func (b *block) require(names ...string) {
	for _, n := range names {
		if b.attr(n) == nil {
			b.l.add(b.where, fmt.Sprintf("%s has no %s", b.what(), n), "")
		}
	}
}

func (b *block) what() string {
	if b.label != "" {
		return fmt.Sprintf("%s %q", b.name, b.label)
	}
	return b.name
}

// key gives the key of a map; ok is false where it is no constant string.
func key(x hclsyntax.Expression) (s string, ok bool) {
	v, ds := x.Value(nil)
	if ds.HasErrors() || v.IsNull() || v.Type() != cty.String {
		return "", false
	}
	return v.AsString(), true
}

// constant evaluates an expression that may not refer to anything.
func (b *block) constant(x hclsyntax.Expression) (cty.Value, bool) {
	v, ds := x.Value(nil)
	if ds.HasErrors() {
		b.l.add(x.Range(), "a constant is wanted here", "")
		return v, false
	}
	if v.IsNull() {
		b.l.add(x.Range(), "null is no value", "leave it out")
		return v, false
	}
	return v, v.IsKnown()
}

func (b *block) text(x hclsyntax.Expression) (string, bool) {
	v, ok := b.constant(x)
	if !ok {
		return "", false
	}
	if v.Type() != cty.String {
		b.l.add(x.Range(), "a string is wanted here", "")
		return "", false
	}
	return v.AsString(), true
}

// str gives a string attribute, or the default.
func (b *block) str(name, def string) string {
	a := b.attr(name)
	if a == nil {
		return def
	}
	if s, ok := b.text(a.Expr); ok {
		return s
	}
	return def
}

// item is a string of a list, with its place.
type item struct {
	text  string
	where hcl.Range
}

// strs gives a list of strings; a single string stands for a list of one.
func (b *block) strs(name string) []item {
	a := b.attr(name)
	if a == nil {
		return nil
	}
	xs := []hclsyntax.Expression{a.Expr}
	if t, ok := a.Expr.(*hclsyntax.TupleConsExpr); ok {
		xs = t.Exprs
	}
	var out []item
	for _, x := range xs {
		if s, ok := b.text(x); ok {
			out = append(out, item{s, x.Range()})
		}
	}
	return out
}

func (b *block) flag(name string, def bool) bool {
	a := b.attr(name)
	if a == nil {
		return def
	}
	v, ok := b.constant(a.Expr)
	if !ok {
		return def
	}
	if v.Type() != cty.Bool {
		b.l.add(a.Expr.Range(), name+" is true or false", "")
		return def
	}
	return v.True()
}

// number gives a number within bounds.
func (b *block) number(name string, def, lo, hi float64) float64 {
	a := b.attr(name)
	if a == nil {
		return def
	}
	v, ok := b.constant(a.Expr)
	if !ok {
		return def
	}
	if v.Type() != cty.Number {
		b.l.add(a.Expr.Range(), name+" is a number", "")
		return def
	}
	f, _ := v.AsBigFloat().Float64()
	if f < lo || f > hi {
		b.l.add(a.Expr.Range(), fmt.Sprintf("%s is out of range: %v to %v", name, lo, strconv.FormatFloat(hi, 'f', -1, 64)), "")
		return def
	}
	return f
}

func (b *block) count(name string, def, lo, hi int) int {
	a := b.attr(name)
	f := b.number(name, float64(def), float64(lo), float64(hi))
	if a != nil && f != float64(int(f)) {
		b.l.add(a.Expr.Range(), name+" is a whole number", "")
		return def
	}
	return int(f)
}

func (b *block) duration(name string, def, lo, hi time.Duration) time.Duration {
	a := b.attr(name)
	if a == nil {
		return def
	}
	s, ok := b.text(a.Expr)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		b.l.add(a.Expr.Range(), fmt.Sprintf("%q is not a duration", s), `a number and a unit, as "30s", "5m", "4h"`)
		return def
	}
	if d < lo || d > hi {
		b.l.add(a.Expr.Range(), fmt.Sprintf("%s is out of range: %s to %s", name, lo, hi), "")
		return def
	}
	return d
}

func (b *block) size(name string, def int64) int64 {
	a := b.attr(name)
	if a == nil {
		return def
	}
	s, ok := b.text(a.Expr)
	if !ok {
		return def
	}
	n, err := policy.ParseSize(s)
	if err != nil || n < 1024 {
		b.l.add(a.Expr.Range(), fmt.Sprintf("%q is not a size", s), `a number and a unit, as "50MiB", and at least 1KiB`)
		return def
	}
	return n
}

func (b *block) oneOf(name, def string, values ...string) string {
	a := b.attr(name)
	if a == nil {
		return def
	}
	s, ok := b.text(a.Expr)
	if !ok {
		return def
	}
	if !has(values, s) {
		hint := didYouMean(s, values)
		if hint == "" {
			hint = "one of " + strings.Join(values, ", ")
		}
		b.l.add(a.Expr.Range(), fmt.Sprintf("%s cannot be %q", name, s), hint)
		return def
	}
	return s
}

func (b *block) domain(it item) (string, bool) {
	d, err := policy.NormaliseDomain(it.text)
	if err != nil || strings.HasPrefix(d, "[") {
		b.l.add(it.where, fmt.Sprintf("%q is not a domain", it.text), "")
		return "", false
	}
	return d, true
}

// patterns reads entries of accept, domains and senders.
func (b *block) patterns(name string) []policy.Pattern {
	var out []policy.Pattern
	for _, it := range b.strs(name) {
		p, err := policy.ParsePattern(it.text, position(it.where))
		if err != nil {
			b.l.add(it.where, fmt.Sprintf("%q is not a domain, .suffix, address or *", it.text), "")
			continue
		}
		if p.String() != it.text {
			b.l.warn(it.where, fmt.Sprintf("%q is read as %q", it.text, p.String()), "write it in lower case, in A-labels, without a trailing dot")
		}
		out = append(out, p)
	}
	return out
}

// addresses gives the addresses of a list, and where each stands.
func (b *block) addresses(name string) (out []policy.Address, at []policy.Pos) {
	for _, it := range b.strs(name) {
		a, err := policy.ParseAddress(it.text)
		if err != nil {
			b.l.add(it.where, fmt.Sprintf("%q is not an address", it.text), "local@domain")
			continue
		}
		out, at = append(out, a), append(at, position(it.where))
	}
	return out, at
}

func (b *block) prefixes(name string) []netip.Prefix {
	var out []netip.Prefix
	for _, it := range b.strs(name) {
		p, err := policy.ParsePrefix(it.text)
		if err != nil {
			_, cause, _ := strings.Cut(err.Error(), ": ")
			b.l.add(it.where, fmt.Sprintf("%q: %s", it.text, cause), `an address, or a network such as "192.0.2.0/24"`)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (b *block) addrPort(it item) (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(it.text)
	if err != nil {
		hint := `as "192.0.2.1:25" or "[2001:db8::1]:25"`
		if _, err := netip.ParseAddr(it.text); err == nil {
			hint = fmt.Sprintf("add the port: %q", it.text+":25")
		}
		b.l.add(it.where, fmt.Sprintf("%q is not an address with a port", it.text), hint)
		return a, false
	}
	return a, true
}

// didYouMean makes the hint for an unknown name.
func didYouMean(s string, candidates []string) string { return policy.DidYouMean(s, candidates) }
