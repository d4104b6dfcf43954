package policy

import (
	"net/netip"
	"regexp/syntax"
	"strings"
)

// dim is a kind of fact that the index looks up.
type dim uint8

const (
	dimRcptDomain dim = iota // domains first: they have suffixes too
	dimSenderDomain
	dimClientName
	dimHelo
	dimRcptLocal
	dimSenderLocal
	dimCustomer
	dimAuth
	dimSPF
	dimDKIM
	dimDMARC
	dimTag
	dimNet
	dimRcpt
	dimSender
	dimHeader   // a header field is there
	dimHeaderIs // one of its occurrences has this value
	dimHeaderIn // one of its occurrences contains this text, in any ASCII case
	dims
)

// Texts that are read and not looked up: they are settled by partition.
const (
	dimListener = dims + iota
	dimOrigin
	sources
)

// domains is how many of the first dims are domains.
const domainDims = dimClientName + 1

// atom is one thing that may be so of a message. A filter is filed under atoms of
// which one must be true, or unknown, where the filter is to give anything but No.
type atom struct {
	dim    dim
	suffix bool   // of a domain: it ends with text
	name   string // of a header field; the local part of an address
	text   string
	net    netip.Prefix
}

// need is what a condition needs in order not to give No: nothing, something that
// never is, one of some atoms, or a junction of needs.
type need struct {
	kind  needKind
	atoms []int32
	l, r  *need
}

type needKind uint8

const (
	needNothing needKind = iota
	needNever
	needOne
	needBoth
	needEither
)

// needs reads what conditions need, and numbers the atoms.
type needs struct {
	ids   map[atom]int32
	atoms []atom
}

func (n *needs) one(as ...atom) need {
	out := need{kind: needOne, atoms: make([]int32, 0, len(as))}
	for _, a := range as {
		id, ok := n.ids[a]
		if !ok {
			id = int32(len(n.atoms))
			n.ids[a] = id
			n.atoms = append(n.atoms, a)
		}
		out.atoms = append(out.atoms, id)
	}
	return out
}

// of gives the need of x being want, or unknown. In strong three-valued logic a
// junction can only be No where the same junction of "may be" is, so that the
// predicates' Unknown needs no care but in the atoms.
func (n *needs) of(x Expr, want bool) need {
	switch x := x.(type) {
	case *Literal:
		if b, ok := x.Value.(bool); ok && b != want {
			return need{kind: needNever}
		}
	case *Not:
		return n.of(x.X, !want)
	case *Binary:
		if x.Op == And || x.Op == Or {
			l, r := n.of(x.L, want), n.of(x.R, want)
			if (x.Op == And) == want {
				return need{kind: needBoth, l: &l, r: &r}
			}
			return need{kind: needEither, l: &l, r: &r}
		}
		return n.comparison(x, want)
	case *Call:
		if want {
			return n.call(x)
		}
	}
	return need{}
}

// comparison needs something where it is an equality with a constant, or about a
// header field, which must be there.
func (n *needs) comparison(x *Binary, want bool) need {
	l, r := x.L, x.R
	if _, constant := l.(*Literal); constant {
		l, r = r, l
	}
	if h, ok := headerOf(l); ok {
		return n.header(h, x.Op == Eq, r, want)
	}
	if h, ok := headerOf(r); ok {
		return n.header(h, false, r, want)
	}
	s, isString := literalString(r)
	if f, ok := l.(*Field); ok && isString && (x.Op == Eq) == want && (x.Op == Eq || x.Op == Ne) {
		if a, ok := equality(f.Name, s); ok {
			return n.one(a)
		}
	}
	return need{}
}

func (n *needs) header(name string, equal bool, value Expr, want bool) need {
	if !want {
		return need{}
	}
	if s, ok := literalString(value); ok && equal {
		return n.one(atom{dim: dimHeaderIs, name: name, text: s})
	}
	return n.one(atom{dim: dimHeader, name: name})
}

// headerOf reads header("X").
func headerOf(x Expr) (string, bool) {
	c, ok := x.(*Call)
	if !ok || c.Func != "header" || len(c.Args) != 1 {
		return "", false
	}
	s, ok := literalString(c.Args[0])
	return strings.ToLower(s), ok
}

// call needs something where a function holds.
func (n *needs) call(x *Call) need {
	first, _ := literalString(x.Args[0])
	switch x.Func {
	case "tag":
		return n.one(atom{dim: dimTag, text: first})
	case "has_header":
		return n.one(atom{dim: dimHeader, name: strings.ToLower(first)})
	case "within":
		if l, ok := x.Args[1].(*List); ok {
			return n.networks(x.Args[0], l.Items)
		}
		return n.networks(x.Args[0], x.Args[1:])
	}
	if h, ok := headerOf(x.Args[0]); ok {
		return n.headerCall(x, h)
	}
	f, ok := x.Args[0].(*Field)
	if !ok {
		return need{}
	}
	switch x.Func {
	case "in":
		if f.Name == "client.address" {
			return n.networks(f, x.Args[1].(*List).Items)
		}
		return n.list(x.Args[1].(*List), func(s string) (atom, bool) { return equality(f.Name, s) })
	case "ends_with":
		s, _ := literalString(x.Args[1])
		s = strings.TrimSuffix(strings.ToLower(s), ".")
		if d, ok := textDim(f.Name); ok && d < domainDims && strings.HasPrefix(s, ".") {
			return n.one(atom{dim: d, suffix: true, text: s})
		}
	}
	return need{}
}

// headerCall is in, matches, ends_with or glob of a header field.
func (n *needs) headerCall(x *Call, name string) need {
	s, _ := literalString(x.Args[1])
	var contained []string
	switch x.Func {
	case "in":
		return n.list(x.Args[1].(*List), func(s string) (atom, bool) { return atom{dim: dimHeaderIs, name: name, text: s}, true })
	case "matches":
		if re, err := syntax.Parse(s, syntax.Perl); err == nil {
			contained = requiredLiterals(re.Simplify())
		}
	case "ends_with":
		if len(s) >= leastLiteral {
			contained = []string{lowerASCII(s)}
		}
	}
	if len(contained) == 0 {
		return n.one(atom{dim: dimHeader, name: name})
	}
	as := make([]atom, 0, len(contained))
	for _, c := range contained {
		as = append(as, atom{dim: dimHeaderIn, name: name, text: c})
	}
	return n.one(as...)
}

// list needs one of its constants.
func (n *needs) list(l *List, of func(string) (atom, bool)) need {
	if len(l.Items) == 0 {
		return need{kind: needNever}
	}
	as := make([]atom, 0, len(l.Items))
	for _, it := range l.Items {
		s, _ := literalString(it)
		a, ok := of(s)
		if !ok {
			return need{}
		}
		as = append(as, a)
	}
	return n.one(as...)
}

func (n *needs) networks(subject Expr, items []Expr) need {
	if f, ok := subject.(*Field); !ok || f.Name != "client.address" {
		return need{}
	}
	return n.list(&List{Items: items}, func(s string) (atom, bool) {
		p, err := ParsePrefix(s)
		return atom{dim: dimNet, net: p}, err == nil && p.Bits() > 0
	})
}

// textDim tells where a field's text is looked up.
func textDim(field string) (dim, bool) {
	switch field {
	case "rcpt.domain":
		return dimRcptDomain, true
	case "sender.domain":
		return dimSenderDomain, true
	case "client.name":
		return dimClientName, true
	case "client.helo":
		return dimHelo, true
	case "rcpt.local":
		return dimRcptLocal, true
	case "sender.local":
		return dimSenderLocal, true
	case "customer":
		return dimCustomer, true
	case "auth.user":
		return dimAuth, true
	case "spf":
		return dimSPF, true
	case "dkim":
		return dimDKIM, true
	case "dmarc":
		return dimDMARC, true
	}
	return 0, false
}

// equality gives the atom of a field that equals a constant, in the normal form that
// the compiler compares it in.
func equality(field, s string) (atom, bool) {
	switch field {
	case "client.address":
		p, err := ParsePrefix(s)
		return atom{dim: dimNet, net: p}, err == nil
	case "rcpt", "rcpt.address":
		a, err := ParseAddress(s)
		return atom{dim: dimRcpt, name: a.Local, text: a.Domain}, err == nil
	case "sender", "sender.address":
		a, err := ParseAddress(s)
		return atom{dim: dimSender, name: a.Local, text: a.Domain}, err == nil || s == ""
	}
	d, ok := textDim(field)
	if !ok {
		return atom{}, false
	}
	switch {
	case d < domainDims && s != "":
		n, err := NormaliseDomain(s)
		return atom{dim: d, text: n}, err == nil
	case d == dimHelo || d == dimRcptLocal || d == dimSenderLocal:
		s = strings.ToLower(s)
	}
	return atom{dim: d, text: s}, true
}
