package config

import (
	"fmt"
	"math/big"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern.dev/postern/internal/policy"
)

// allowed tells what a condition may be made of.
const allowed = "a condition is made of fields, constants, lists, ! && || == != < <= > >=, parentheses and functions"

// condition translates an HCL expression into the policy's tree. It notes a fault
// and gives nil for what the language does not have.
func (l *loader) condition(x hclsyntax.Expression) policy.Expr {
	pos := position(x.Range())
	switch x := x.(type) {
	case *hclsyntax.ParenthesesExpr:
		return l.condition(x.Expression)
	case *hclsyntax.LiteralValueExpr:
		return l.literal(x.Range(), x.Val)
	case *hclsyntax.TemplateExpr:
		if x.IsStringLiteral() {
			v, _ := x.Value(nil)
			return l.literal(x.Range(), v)
		}
		l.add(x.Range(), "a template is not a constant", `"${...}" has no place in a policy`)
		return nil
	case *hclsyntax.ScopeTraversalExpr:
		name, ok := dotted(x.Traversal)
		if !ok {
			l.add(x.Range(), "indexing has no place in a policy", allowed)
			return nil
		}
		return &policy.Field{Pos: pos, Name: name}
	case *hclsyntax.UnaryOpExpr:
		if x.Op == hclsyntax.OpLogicalNot {
			if in := l.condition(x.Val); in != nil {
				return &policy.Not{Pos: pos, X: in}
			}
			return nil
		}
	case *hclsyntax.BinaryOpExpr:
		return l.binary(x)
	case *hclsyntax.FunctionCallExpr:
		return l.call(x)
	case *hclsyntax.TupleConsExpr:
		list := &policy.List{Pos: pos}
		for _, e := range x.Exprs {
			if in := l.condition(e); in != nil {
				list.Items = append(list.Items, in)
			}
		}
		return list
	}
	l.add(x.Range(), "this kind of expression has no place in a policy", allowed)
	return nil
}

func (l *loader) literal(where hcl.Range, v cty.Value) policy.Expr {
	pos := position(where)
	switch {
	case v.IsNull():
	case v.Type() == cty.Bool:
		return &policy.Literal{Pos: pos, Value: v.True()}
	case v.Type() == cty.String:
		return &policy.Literal{Pos: pos, Value: v.AsString()}
	case v.Type() == cty.Number:
		if n, acc := v.AsBigFloat().Int64(); acc == big.Exact {
			return &policy.Literal{Pos: pos, Value: n}
		}
		l.add(where, "a whole number is wanted here", "")
		return nil
	}
	l.add(where, "null has no place in a policy", "")
	return nil
}

// dotted gives a traversal as a dotted name.
func dotted(t hcl.Traversal) (string, bool) {
	name := t.RootName()
	for _, step := range t[1:] {
		a, ok := step.(hcl.TraverseAttr)
		if !ok {
			return "", false
		}
		name += "." + a.Name
	}
	return name, true
}

func (l *loader) binary(x *hclsyntax.BinaryOpExpr) policy.Expr {
	var op policy.Op
	switch x.Op {
	case hclsyntax.OpLogicalAnd:
		op = policy.And
	case hclsyntax.OpLogicalOr:
		op = policy.Or
	case hclsyntax.OpEqual:
		op = policy.Eq
	case hclsyntax.OpNotEqual:
		op = policy.Ne
	case hclsyntax.OpLessThan:
		op = policy.Lt
	case hclsyntax.OpLessThanOrEqual:
		op = policy.Le
	case hclsyntax.OpGreaterThan:
		op = policy.Gt
	case hclsyntax.OpGreaterThanOrEqual:
		op = policy.Ge
	default:
		l.add(x.Range(), "arithmetic has no place in a policy", allowed)
		return nil
	}
	left, right := l.condition(x.LHS), l.condition(x.RHS)
	if left == nil || right == nil {
		return nil
	}
	return &policy.Binary{Pos: position(x.Range()), Op: op, L: left, R: right}
}

func (l *loader) call(x *hclsyntax.FunctionCallExpr) policy.Expr {
	if !has(policy.FunctionNames(), x.Name) {
		l.add(x.NameRange, fmt.Sprintf("unknown function %q", x.Name), didYouMean(x.Name, policy.FunctionNames()))
		return nil
	}
	c := &policy.Call{Pos: position(x.NameRange), Func: x.Name}
	for _, a := range x.Args {
		in := l.condition(a)
		if in == nil {
			return nil
		}
		c.Args = append(c.Args, in)
	}
	return c
}
