package policytest

import (
	"strings"

	"postern.dev/postern/internal/policy"
)

// Literal makes a constant: string, bool or int64.
func Literal(v any) policy.Expr { return &policy.Literal{Value: v} }

// Field reads a fact by its dotted name.
func Field(name string) policy.Expr { return &policy.Field{Name: name} }

func binary(l policy.Expr, op policy.Op, r policy.Expr) policy.Expr {
	return &policy.Binary{L: l, Op: op, R: r}
}

func call(f string, args ...policy.Expr) policy.Expr { return &policy.Call{Func: f, Args: args} }

func list(ss ...string) policy.Expr {
	l := &policy.List{}
	for _, s := range ss {
		l.Items = append(l.Items, Literal(s))
	}
	return l
}

// condition grows a tree of at most depth junctions.
func (g *grower) condition(depth int, assert bool) policy.Expr {
	if depth > 0 && g.r.IntN(3) > 0 {
		switch g.r.IntN(6) {
		case 0:
			return &policy.Not{X: g.condition(depth-1, assert)}
		case 1, 2:
			return binary(g.condition(depth-1, assert), policy.Or, g.condition(depth-1, assert))
		}
		return binary(g.condition(depth-1, assert), policy.And, g.condition(depth-1, assert))
	}
	if g.p.Content && g.r.IntN(3) == 0 {
		return g.contentAtom()
	}
	if g.r.IntN(3) == 0 {
		return g.sessionAtom()
	}
	return g.addressAtom()
}

func (g *grower) equality() policy.Op {
	if g.r.IntN(4) == 0 {
		return policy.Ne
	}
	return policy.Eq
}

func (g *grower) order() policy.Op {
	return one(g.r, []policy.Op{policy.Eq, policy.Ne, policy.Lt, policy.Le, policy.Gt, policy.Ge})
}

// sessionAtom reads what a session shows before MAIL.
func (g *grower) sessionAtom() policy.Expr {
	switch g.r.IntN(12) {
	case 0, 1:
		return binary(Field("listener"), g.equality(), Literal(one(g.r, g.top.Listeners).Name))
	case 2, 3:
		return binary(Literal(one(g.r, []string{"stranger", "customer", "inside"})), g.equality(), Field("origin"))
	case 4:
		return call("within", Field("client.address"), Literal(one(g.r, networks())))
	case 5:
		return call("in", Field("client.address"), list(some(g.r, networks(), 3)...))
	case 6:
		if len(g.top.Customers) > 0 {
			return binary(Field("customer"), g.equality(), Literal(one(g.r, g.top.Customers).Name))
		}
		return Field("tls.on")
	case 7:
		return g.textTest(one(g.r, []string{"client.name", "client.helo"}))
	case 8:
		return binary(Field("auth.user"), g.equality(), Literal(one(g.r, []string{"u0", "u1", ""})))
	case 9:
		return binary(Field("now.hour"), g.order(), Literal(int64(g.r.IntN(24))))
	case 10:
		if len(g.tags) > 0 {
			return call("tag", Literal(one(g.r, g.tags)))
		}
		return Literal(g.r.IntN(2) == 0)
	}
	return one(g.r, []policy.Expr{Field("tls.on"), binary(Field("tls.on"), policy.Eq, Literal(false)), Literal(true), Literal(false),
		binary(Field("tls.version"), policy.Eq, Literal("1.3")), binary(Field("now"), policy.Lt, Literal("2026-01-01T00:00:00Z"))})
}

// addressAtom reads the reverse-path or the recipient.
func (g *grower) addressAtom() policy.Expr {
	who := one(g.r, []string{"rcpt", "rcpt", "sender"})
	switch g.r.IntN(12) {
	case 9:
		return g.textTest(one(g.r, []string{who, who + ".address"}))
	case 10:
		return binary(Field(one(g.r, []string{"sender", "sender.domain", "sender.local"})), g.equality(), Literal(""))
	case 0, 1:
		return binary(Field(who+".domain"), g.equality(), Literal(one(g.r, domains())))
	case 2, 3:
		return call("in", Field(who+".domain"), list(some(g.r, domains(), 4)...))
	case 4:
		return binary(Field(who), g.equality(), Literal(g.address().String()))
	case 5:
		return call("in", Field(who+".address"), list(g.address().String(), g.address().String()))
	case 6:
		return g.textTest(who + ".local")
	case 7:
		return call("ends_with", Field(one(g.r, []string{who, who + ".domain"})), Literal(one(g.r, suffixes())))
	case 8:
		return binary(Field("sender.domain"), g.equality(), Field("rcpt.domain"))
	}
	return g.textTest(who + ".domain")
}

// textTest is a test of any kind on a text field.
func (g *grower) textTest(field string) policy.Expr {
	kinds := 2
	if g.p.Regexps {
		kinds = 4
	}
	values := domains()
	if field == "rcpt" || field == "sender" || strings.HasSuffix(field, ".address") {
		values = []string{g.address().String(), g.address().String()}
	}
	if strings.HasSuffix(field, ".local") {
		values = locals()
	}
	switch g.r.IntN(kinds) {
	case 0:
		return call("in", Field(field), list(some(g.r, values, 3)...))
	case 1:
		return call("ends_with", Field(field), Literal(one(g.r, suffixes())))
	case 2:
		return call("matches", Field(field), Literal(one(g.r, expressions())))
	}
	return call("glob", Field(field), Literal(one(g.r, globs())))
}

// contentAtom reads what is known at the end of DATA only.
func (g *grower) contentAtom() policy.Expr {
	name := one(g.r, headerNames())
	h := call("header", Literal(name))
	kinds := 7
	if g.p.Regexps {
		kinds = 10
	}
	switch g.r.IntN(kinds) {
	case 0:
		return binary(Field("size"), g.order(), Literal(int64(100*(1+g.r.IntN(3)))))
	case 1:
		return binary(Field(one(g.r, []string{"spf", "dkim", "dmarc"})), g.equality(), Literal(one(g.r, []string{"pass", "fail", "none"})))
	case 2:
		return call("has_header", Literal(name))
	case 3:
		return binary(h, g.equality(), Literal(one(g.r, headerValues())))
	case 4:
		return call("in", h, list(some(g.r, headerValues(), 3)...))
	case 5:
		return call("ends_with", h, Literal(one(g.r, []string{"17", "o", "1"})))
	case 6:
		return binary(h, g.equality(), one(g.r, []policy.Expr{Field("rcpt.local"), Field("sender.domain"), call("header", Literal("X-A"))}))
	case 7:
		return call("glob", h, Literal(one(g.r, globs())))
	}
	return call("matches", h, Literal(one(g.r, expressions())))
}
