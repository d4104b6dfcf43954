package dialect

import "postern.dev/postern/internal/policy"

// Conditions of a model are made with these. A nil condition is always true.

// True and False are the constant conditions.
func True(pos policy.Pos) policy.Expr { return &policy.Literal{Pos: pos, Value: true} }

// False never holds.
func False(pos policy.Pos) policy.Expr { return &policy.Literal{Pos: pos, Value: false} }

// Text is a constant.
func Text(pos policy.Pos, s string) policy.Expr { return &policy.Literal{Pos: pos, Value: s} }

// Fact reads a fact by its dotted name.
func Fact(pos policy.Pos, name string) policy.Expr { return &policy.Field{Pos: pos, Name: name} }

// Call applies a function of the language.
func Call(pos policy.Pos, name string, args ...policy.Expr) policy.Expr {
	return &policy.Call{Pos: pos, Func: name, Args: args}
}

// Matches searches a fact with an expression of RE2.
func Matches(pos policy.Pos, fact, expression string) policy.Expr {
	return Call(pos, "matches", Fact(pos, fact), Text(pos, expression))
}

// Equal compares a fact with a text.
func Equal(pos policy.Pos, fact, s string) policy.Expr {
	return &policy.Binary{Pos: pos, Op: policy.Eq, L: Fact(pos, fact), R: Text(pos, s)}
}

// In holds where a fact is one of some texts.
func In(pos policy.Pos, fact string, texts []string) policy.Expr {
	switch len(texts) {
	case 0:
		return False(pos)
	case 1:
		return Equal(pos, fact, texts[0])
	}
	items := make([]policy.Expr, len(texts))
	for i, s := range texts {
		items[i] = Text(pos, s)
	}
	return Call(pos, "in", Fact(pos, fact), &policy.List{Pos: pos, Items: items})
}

// Within holds where an address lies in a network.
func Within(pos policy.Pos, fact, network string) policy.Expr {
	return Call(pos, "within", Fact(pos, fact), Text(pos, network))
}

// Tagged holds where a filter above set a tag.
func Tagged(pos policy.Pos, tag string) policy.Expr { return Call(pos, "tag", Text(pos, tag)) }

// Not negates; nil, which is true, becomes false.
func Not(x policy.Expr) policy.Expr {
	switch x := x.(type) {
	case nil:
		return False(policy.Pos{})
	case *policy.Not:
		return x.X
	case *policy.Literal:
		if b, is := x.Value.(bool); is {
			return &policy.Literal{Pos: x.Pos, Value: !b}
		}
	}
	return &policy.Not{Pos: x.Position(), X: x}
}

// And joins conditions; nil ones are left out. All nil is nil.
func And(xs ...policy.Expr) policy.Expr { return join(policy.And, xs) }

// Or joins conditions. Without any it is false.
func Or(xs ...policy.Expr) policy.Expr {
	for _, x := range xs {
		if x == nil {
			return nil
		}
	}
	if len(xs) == 0 {
		return False(policy.Pos{})
	}
	return join(policy.Or, xs)
}

// join makes a balanced tree, so that a table of a hundred thousand lines is not that deep.
func join(op policy.Op, xs []policy.Expr) policy.Expr {
	kept := make([]policy.Expr, 0, len(xs))
	for _, x := range xs {
		if x == nil || isConst(x, op == policy.And) {
			continue
		}
		if isConst(x, op != policy.And) {
			return x
		}
		kept = append(kept, x)
	}
	switch len(kept) {
	case 0:
		if op == policy.And {
			return nil
		}
		return False(policy.Pos{})
	case 1:
		return kept[0]
	}
	half := len(kept) / 2
	l, r := join(op, kept[:half]), join(op, kept[half:])
	return &policy.Binary{Pos: l.Position(), Op: op, L: l, R: r}
}

func isConst(x policy.Expr, value bool) bool {
	l, is := x.(*policy.Literal)
	return is && l.Value == value
}

// Whole gives a condition that is written down even if it is always true.
func Whole(x policy.Expr, pos policy.Pos) policy.Expr {
	if x == nil {
		return True(pos)
	}
	return x
}
