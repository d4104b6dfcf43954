package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern.dev/postern/internal/policy"
)

func filterAttributes() []string {
	return []string{"if", "then", "log", "tag", "set_header", "pool", "limit", "copy", "set_rcpt"}
}

// filter reads a filter block. Its non-final actions take effect in the order of the
// file.
func (l *loader) filter(hb *hclsyntax.Block) {
	b := l.openBlock(hb, filterAttributes(), nil)
	f := policy.Filter{Pos: position(hb.DefRange()), Name: b.label}
	if a := b.attr("if"); a != nil {
		if f.If = l.condition(a.Expr); f.If == nil {
			f.If = &policy.Literal{Pos: position(a.Expr.Range()), Value: true} // the fault is noted
		}
	}
	for _, a := range sortedAttributes(hb.Body) {
		if a.Name == "if" || a.Name == "then" {
			continue
		}
		act, ok := b.action(a)
		if !ok { // the fault is noted; the filter was meant to do something
			act = []policy.Action{{Pos: position(a.Expr.Range()), Kind: policy.DoLog}}
		}
		f.Do = append(f.Do, act...)
	}
	if a := b.attr("then"); a != nil {
		if f.Then = b.final(a.Expr); f.Then == nil {
			f.Then = &policy.Final{Pos: position(a.Expr.Range()), Kind: policy.ThenDrop} // the fault is noted
		}
	}
	l.filters = append(l.filters, f)
}

// action reads one non-final action.
func (b *block) action(a *hclsyntax.Attribute) ([]policy.Action, bool) {
	act := policy.Action{Pos: position(a.Expr.Range()), Kind: policy.ActionKind(a.Name)}
	switch act.Kind {
	case policy.DoLog, policy.DoTag:
		var ok bool
		act.Text, ok = b.text(a.Expr)
		return []policy.Action{act}, ok
	case policy.DoSetHeader:
		return b.setHeader(a.Expr)
	case policy.DoPool:
		var ok bool
		act.Text, ok = b.pool(a.Expr)
		return []policy.Action{act}, ok
	case policy.DoLimit:
		s, ok := b.text(a.Expr)
		if !ok {
			return nil, false
		}
		if act.Rate, ok = parseRate(s); !ok {
			b.l.add(a.Expr.Range(), fmt.Sprintf("%q is not a rate", s), `a count and a time, as "100/1m"`)
		}
		return []policy.Action{act}, ok
	case policy.DoCopy, policy.DoSetRcpt:
		s, ok := b.text(a.Expr)
		if !ok {
			return nil, false
		}
		var err error
		if act.Rcpt, err = policy.ParseAddress(s); err != nil {
			b.l.add(a.Expr.Range(), fmt.Sprintf("%q is not an address", s), "local@domain")
			return nil, false
		}
		return []policy.Action{act}, true
	}
	return nil, false
}

// setHeader reads { "Name" = "value", ... }.
func (b *block) setHeader(x hclsyntax.Expression) ([]policy.Action, bool) {
	o, ok := x.(*hclsyntax.ObjectConsExpr)
	if !ok {
		b.l.add(x.Range(), "set_header is a map", `set_header = { "X-Name" = "value" }`)
		return nil, false
	}
	var out []policy.Action
	for _, it := range o.Items {
		name, named := key(it.KeyExpr)
		v, ok := b.text(it.ValueExpr)
		if !named || !ok {
			if ok {
				b.l.add(it.KeyExpr.Range(), "a header's name is a constant", "")
			}
			continue
		}
		if !headerName(name) || strings.ContainsAny(v, "\r\n\x00") {
			b.l.add(it.KeyExpr.Range(), fmt.Sprintf("%q is not a header field", name), "printable ASCII without a colon, and a value of one line")
			continue
		}
		out = append(out, policy.Action{Pos: position(it.KeyExpr.Range()), Kind: policy.DoSetHeader, Name: name, Text: v})
	}
	return out, true
}

func headerName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 127 || s[i] == ':' {
			return false
		}
	}
	return s != ""
}

// pool reads pool.NAME. Whether it exists is for the policy to say.
func (b *block) pool(x hclsyntax.Expression) (string, bool) {
	if t, ok := x.(*hclsyntax.ScopeTraversalExpr); ok {
		if name, ok := dotted(t.Traversal); ok {
			if p, ok := strings.CutPrefix(name, "pool."); ok {
				return p, true
			}
		}
	}
	b.l.add(x.Range(), "a pool is wanted here", "write it as pool.NAME")
	return "", false
}

func finalNames() []string {
	return []string{"deliver", "reject", "drop", "hold", "bounce", "skip"}
}

// final reads a final action, a call.
func (b *block) final(x hclsyntax.Expression) *policy.Final {
	c, ok := x.(*hclsyntax.FunctionCallExpr)
	if !ok {
		b.l.add(x.Range(), "then is an action", "one of deliver(), deliver(pool.NAME), reject(), drop(), hold(), bounce(), skip()")
		return nil
	}
	f := &policy.Final{Pos: position(x.Range()), Kind: policy.FinalKind(c.Name), Code: 550}
	most := 1
	switch f.Kind {
	case policy.ThenDeliver:
		if len(c.Args) == 1 {
			if f.Pool, ok = b.pool(c.Args[0]); !ok {
				return nil
			}
		}
	case policy.ThenReject:
		most = 3
		if !b.rejectArgs(f, c.Args) {
			return nil
		}
	case policy.ThenDrop, policy.ThenSkip:
		most = 0
	case policy.ThenHold, policy.ThenBounce:
		if len(c.Args) == 1 {
			if f.Text, ok = b.text(c.Args[0]); !ok {
				return nil
			}
		}
	default:
		b.l.add(c.NameRange, fmt.Sprintf("unknown action %q", c.Name), didYouMean(c.Name, finalNames()))
		return nil
	}
	if len(c.Args) > most {
		b.l.add(c.Range(), fmt.Sprintf("%s() takes at most %d argument(s)", c.Name, most), "")
		return nil
	}
	return f
}

// rejectArgs reads reject("text"), reject(550, "text") or reject(550, "5.7.1", "text").
func (b *block) rejectArgs(f *policy.Final, args []hclsyntax.Expression) bool {
	for i, a := range args {
		v, ok := b.constant(a)
		if !ok {
			return false
		}
		switch {
		case i == 0 && v.Type() == cty.Number && len(args) > 1:
			code, _ := v.AsBigFloat().Int64()
			f.Code = int(code)
		case v.Type() == cty.String && i == 1 && len(args) == 3:
			if f.Enhanced, ok = enhanced(v.AsString(), f.Code); !ok {
				b.l.add(a.Range(), fmt.Sprintf("%q is not an enhanced code of a %d", v.AsString(), f.Code), `as "5.7.1"`)
				return false
			}
		case v.Type() == cty.String && i == len(args)-1:
			f.Text = v.AsString()
		default:
			b.l.add(a.Range(), "not an argument of reject()", `reject(550, "5.7.1", "text")`)
			return false
		}
	}
	return true
}

func enhanced(s string, code int) (e [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 {
			return e, false
		}
		e[i] = n
	}
	return e, e[0] == code/100
}

// parseRate reads "100/1m".
func parseRate(s string) (r policy.Rate, ok bool) {
	count, per, found := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	d, err2 := time.ParseDuration(per)
	if !found || err != nil || err2 != nil || n <= 0 || n > 1e9 || d < time.Second || d > 366*24*time.Hour {
		return r, false
	}
	return policy.Rate{Count: n, Seconds: int(d / time.Second)}, true
}

// assert reads an assert block.
func (l *loader) assert(hb *hclsyntax.Block) {
	b := l.openBlock(hb, []string{"always"}, nil)
	b.require("always")
	a := policy.Assert{Pos: position(hb.DefRange()), Name: b.label}
	if at := b.attr("always"); at != nil {
		a.Always = l.condition(at.Expr)
	}
	if a.Always != nil {
		l.asserts = append(l.asserts, a)
	}
}
