package policy

import (
	"fmt"
	"strings"
	"time"
)

// comparison compiles ==, !=, <, <=, >, >=.
func (c *compiler) comparison(x *Binary) test {
	l, lok := c.operand(x.L)
	r, rok := c.operand(x.R)
	if !lok || !rok {
		return never()
	}
	op := x.Op
	if l.literal != nil && r.literal == nil {
		l, r, op = r, l, mirrored(op)
	}
	if l.literal != nil {
		c.add(x.Pos, "", "two constants are compared", "")
		return never()
	}
	if op != Eq && op != Ne && l.kind != kindInt && l.kind != kindTime {
		c.add(x.Pos, "", fmt.Sprintf("%s cannot be ordered", l.kind), "only numbers and times can be compared with "+string(op))
		return never()
	}
	if r.literal == nil {
		return c.compareFields(x, op, l, r)
	}
	switch l.kind {
	case kindInt:
		return c.compareInt(op, l, r)
	case kindTime:
		return c.compareTime(op, l, r)
	case kindBool:
		return c.compareBool(op, l, r)
	case kindIP:
		return c.compareIP(op, l, r)
	}
	return c.compareText(op, l, r)
}

// mirrored gives the operator for swapped operands.
func mirrored(op Op) Op {
	switch op {
	case Lt:
		return Gt
	case Le:
		return Ge
	case Gt:
		return Lt
	case Ge:
		return Le
	}
	return op
}

func (c *compiler) mismatch(l, r operand, hint string) test {
	c.add(r.pos, fmt.Sprint(r.literal), fmt.Sprintf("%s is compared with %s", l.kind, r.kind), hint)
	return never()
}

func ordered[T int | int64](op Op, sign T) bool {
	switch op {
	case Eq:
		return sign == 0
	case Ne:
		return sign != 0
	case Lt:
		return sign < 0
	case Le:
		return sign <= 0
	case Gt:
		return sign > 0
	}
	return sign >= 0
}

func (c *compiler) compareInt(op Op, l, r operand) test {
	n, ok := r.literal.(int64)
	if s, isString := r.literal.(string); isString {
		if v, err := ParseSize(s); err == nil {
			n, ok = v, true
		}
	}
	if !ok {
		return c.mismatch(l, r, `a number, or a size such as "10MiB"`)
	}
	num, lacks := l.def.num, l.lacks()
	less, same, more := truth(ordered(op, -1)), truth(ordered(op, 0)), truth(ordered(op, 1))
	return other(func(e *env) Result {
		if e.lacks&lacks != 0 {
			return Unknown
		}
		switch v := num(e); {
		case v < n:
			return less
		case v > n:
			return more
		}
		return same
	})
}

func (c *compiler) compareTime(op Op, l, r operand) test {
	s, _ := r.literal.(string)
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return c.mismatch(l, r, `write the time as "2026-01-31T00:00:00Z"`)
	}
	get := l.def.time
	return other(func(e *env) Result { return truth(ordered(op, get(e).Compare(t))) })
}

func (c *compiler) compareBool(op Op, l, r operand) test {
	b, ok := r.literal.(bool)
	if !ok {
		return c.mismatch(l, r, "")
	}
	flag := l.def.flag
	want := b == (op == Eq)
	return other(func(e *env) Result { return truth(flag(e) == want) })
}

func (c *compiler) compareIP(op Op, l, r operand) test {
	s, _ := r.literal.(string)
	p, err := ParsePrefix(s)
	if err != nil || !p.IsSingleIP() {
		return c.mismatch(l, r, "use within() for a network")
	}
	get := l.def.ip
	return other(func(e *env) Result { return truth((get(e).Unmap() == p.Addr()) == (op == Eq)) })
}

// compareText compares text with a constant. For a header it holds if it holds for
// one occurrence, whichever the operator.
func (c *compiler) compareText(op Op, l, r operand) test {
	s, ok := r.literal.(string)
	if !ok {
		return c.mismatch(l, r, "")
	}
	if l.kind == kindAddress {
		return c.compareAddress(op, l, r.pos, s)
	}
	s, ok = c.literalFor(l, r.pos, s)
	if !ok {
		return never()
	}
	return l.among([]string{s}, op == Eq)
}

func (c *compiler) compareAddress(op Op, l operand, pos Pos, s string) test {
	var a Address // "" is the null reverse-path
	if s != "" {
		var ok bool
		if a, ok = c.addressLiteral(pos, s); !ok {
			return never()
		}
	}
	get, lacks, want := l.def.addr, l.lacks(), op == Eq
	return other(func(e *env) Result {
		if e.lacks&lacks != 0 {
			return Unknown
		}
		return truth((get(e) == a) == want)
	})
}

// compareFields compares two facts, as sender.domain == rcpt.domain.
func (c *compiler) compareFields(x *Binary, op Op, l, r operand) test {
	if !l.kind.textual() || !r.kind.textual() || (l.kind == kindAddress) != (r.kind == kindAddress) {
		c.add(x.Pos, "", fmt.Sprintf("%s is compared with %s", l.kind, r.kind), "")
		return never()
	}
	if r.kind == kindHeader && l.kind != kindHeader {
		l, r = r, l
	}
	want, lacks := op == Eq, l.lacks()|r.lacks()
	return other(func(e *env) Result {
		if e.lacks&lacks != 0 {
			return Unknown
		}
		return truth(l.each(e, func(a string) bool {
			return r.each(e, func(b string) bool { return (a == b) == want })
		}))
	})
}

// literalFor brings a constant into the normal form of what it is compared with, and
// checks names.
func (c *compiler) literalFor(o operand, pos Pos, s string) (string, bool) {
	if o.def.enum != "" {
		return s, c.known(o.def.enum, pos, s)
	}
	if o.kind == kindDomain && s != "" {
		d, err := NormaliseDomain(s)
		if err != nil {
			c.add(pos, s, fmt.Sprintf("%q is not a domain", s), "")
			return s, false
		}
		c.noteNormalised(pos, s, d)
		return d, true
	}
	if o.header == "" && o.kind == kindString {
		if low := strings.ToLower(s); low != s && o.def.lower {
			c.noteNormalised(pos, s, low)
			return low, true
		}
	}
	return s, true
}

func (c *compiler) addressLiteral(pos Pos, s string) (Address, bool) {
	a, err := ParseAddress(s)
	if err != nil {
		c.add(pos, s, fmt.Sprintf("%q is not an address", s), "an address is local@domain; for a domain compare the .domain field")
		return a, false
	}
	c.noteNormalised(pos, s, a.String())
	return a, true
}

func (c *compiler) noteNormalised(pos Pos, written, normal string) {
	if written != normal {
		c.warn(pos, written, fmt.Sprintf("%q is compared as %q", written, normal), "addresses are brought to lower case, A-labels and no trailing dot before any filter; write it so")
	}
}

// known checks a name against the topology. A customer may stand in the node's
// store instead of the file, so an unknown one is a warning.
func (c *compiler) known(enum string, pos Pos, s string) bool {
	names := c.topology.names(enum, c.filters)
	for _, n := range names {
		if n == s {
			return true
		}
	}
	if s == "" && (enum == "customer" || enum == "pool" || enum == "filter" || enum == "inside") {
		return true // "none"
	}
	message := fmt.Sprintf("unknown %s %q", enum, s)
	if enum == "customer" {
		c.warn(pos, s, message+" in these files", DidYouMean(s, names))
		return true
	}
	c.add(pos, s, message, DidYouMean(s, names))
	return false
}

// ParseSize reads a number of octets: "1500", "64KiB", "50MiB", "1GiB".
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	var factor int64
	switch s[len(digits):] {
	case "", "B":
		factor = 1
	case "KiB":
		factor = 1 << 10
	case "MiB":
		factor = 1 << 20
	case "GiB":
		factor = 1 << 30
	}
	var n int64
	for i := 0; i < len(digits); i++ {
		d := int64(digits[i]) - '0'
		if d < 0 || d > 9 || n > (1<<52) {
			factor = 0
			break
		}
		n = n*10 + d
	}
	if factor == 0 || digits == "" {
		return 0, fmt.Errorf(`parse size %q: not a size such as "50MiB"`, s)
	}
	return n * factor, nil
}
