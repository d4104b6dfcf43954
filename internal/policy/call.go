package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// call compiles a function that is a condition.
func (c *compiler) call(x *Call) test {
	switch x.Func {
	case "in":
		return c.callIn(x)
	case "matches":
		return c.callMatches(x)
	case "within":
		return c.callWithin(x)
	case "ends_with":
		return c.callEndsWith(x)
	case "glob":
		return c.callGlob(x)
	case "has_header":
		return c.callHasHeader(x)
	case "tag":
		return c.callTag(x)
	case "header":
		c.add(x.Pos, x.Func, "header() is a header, not a condition", `compare it, or use has_header("...")`)
		return never()
	}
	c.add(x.Pos, x.Func, fmt.Sprintf("unknown function %q", x.Func), DidYouMean(x.Func, FunctionNames()))
	return never()
}

// subject checks a call's first argument, which must be text or, where ip is
// allowed, an IP address.
func (c *compiler) subject(x *Call, ip bool) (operand, bool) {
	if !c.arity(x, 2) {
		return operand{}, false
	}
	o, ok := c.operand(x.Args[0])
	if !ok {
		return o, false
	}
	if o.literal != nil || !(o.kind.textual() || (ip && o.kind == kindIP)) {
		c.add(x.Args[0].Position(), "", fmt.Sprintf("%s() cannot test %s", x.Func, o.kind), "its first argument is a field or header()")
		return o, false
	}
	return o, true
}

func (c *compiler) callIn(x *Call) test {
	o, ok := c.subject(x, true)
	if !ok {
		return never()
	}
	list, isList := x.Args[1].(*List)
	if !isList {
		c.add(x.Args[1].Position(), "", "in() takes a list as its second argument", `in(rcpt.domain, ["a.example", "b.example"])`)
		return never()
	}
	if len(list.Items) == 0 {
		c.warn(list.Pos, "", "the list is empty: this can never hold", "")
	}
	switch o.kind {
	case kindIP:
		return c.within(o, list.Items)
	case kindAddress:
		return c.inAddresses(o, list)
	}
	var set []string
	for _, it := range list.Items {
		s, isString := literalString(it)
		if !isString {
			c.add(it.Position(), "", "in() takes a list of constant strings", "")
			continue
		}
		if s, ok = c.literalFor(o, it.Position(), s); ok {
			set = append(set, s)
		}
	}
	return o.among(set, true)
}

func (c *compiler) inAddresses(o operand, list *List) test {
	set := make(map[Address]bool, len(list.Items))
	for _, it := range list.Items {
		s, _ := literalString(it)
		if a, ok := c.addressLiteral(it.Position(), s); ok {
			set[a] = true
		}
	}
	get, lacks := o.def.addr, o.lacks()
	return other(func(e *env) Result {
		if e.lacks&lacks != 0 {
			return Unknown
		}
		return truth(set[get(e)])
	})
}

func (c *compiler) callMatches(x *Call) test {
	o, ok := c.subject(x, false)
	if !ok {
		return never()
	}
	s, ok := c.constant(x, 1, "matches")
	if !ok {
		return never()
	}
	re, ok := c.regexpFor(x.Args[1].Position(), o, s)
	if !ok {
		return never()
	}
	return o.textTest(re.MatchString)
}

func (c *compiler) callWithin(x *Call) test {
	if !c.arity(x, 2) {
		return never()
	}
	o, ok := c.operand(x.Args[0])
	if !ok {
		return never()
	}
	if o.kind != kindIP {
		c.add(x.Args[0].Position(), "", fmt.Sprintf("within() tests an IP address, not %s", o.kind), "use client.address; for names use ends_with()")
		return never()
	}
	if list, isList := x.Args[1].(*List); isList {
		return c.within(o, list.Items)
	}
	return c.within(o, x.Args[1:])
}

func (c *compiler) within(o operand, items []Expr) test {
	nets, ok := c.prefixes(items)
	if !ok {
		return never()
	}
	get := o.def.ip
	return other(func(e *env) Result { return truth(anyContains(nets, get(e).Unmap())) })
}

func anyContains(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func (c *compiler) callEndsWith(x *Call) test {
	o, ok := c.subject(x, false)
	if !ok {
		return never()
	}
	s, ok := c.constant(x, 1, "ends_with")
	if !ok {
		return never()
	}
	pos := x.Args[1].Position()
	if o.kind == kindDomain || o.kind == kindAddress {
		if low := strings.TrimSuffix(strings.ToLower(s), "."); low != s {
			c.noteNormalised(pos, s, low)
			s = low
		}
		if !strings.HasPrefix(s, ".") && !strings.Contains(s, "@") {
			c.warn(pos, s, fmt.Sprintf("suffix %q has no leading dot: %q ends with it too", s, "evil"+s), fmt.Sprintf("write %q, and add == %q for the domain itself", "."+s, s))
		}
	}
	if d, ok := source(o.name); ok {
		return test{op: opSuffix, of: d, texts: []string{s}}
	}
	return o.textTest(func(v string) bool { return strings.HasSuffix(v, s) })
}

func (c *compiler) callGlob(x *Call) test {
	o, ok := c.subject(x, false)
	if !ok {
		return never()
	}
	s, ok := c.constant(x, 1, "glob")
	if !ok {
		return never()
	}
	if o.kind == kindDomain || o.kind == kindAddress {
		if low := strings.ToLower(s); low != s {
			c.noteNormalised(x.Args[1].Position(), s, low)
			s = low
		}
	}
	return o.textTest(func(v string) bool { return Glob(s, v) })
}

func (c *compiler) callHasHeader(x *Call) test {
	name, ok := c.constant(x, 0, "has_header")
	if !ok || !c.arity(x, 1) {
		return never()
	}
	o := operand{kind: kindHeader, header: strings.ToLower(name)}
	return o.textTest(func(string) bool { return true })
}

func (c *compiler) callTag(x *Call) test {
	name, ok := c.constant(x, 0, "tag")
	if !ok || !c.arity(x, 1) {
		return never()
	}
	if !c.tags[name] {
		known := make([]string, 0, len(c.tags))
		for t := range c.tags {
			known = append(known, t)
		}
		c.add(x.Args[0].Position(), name, fmt.Sprintf("no filter above sets the tag %q", name), DidYouMean(name, known))
		return never()
	}
	return other(func(e *env) Result {
		switch {
		case slices.Contains(e.tags, name):
			return Yes
		case slices.Contains(e.maybeTags, name):
			return Unknown
		}
		return No
	})
}

// Glob matches the whole of s: * stands for any run of characters, ? for one octet.
func Glob(pattern, s string) bool {
	star, mark, i, j := -1, 0, 0, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern)
}
