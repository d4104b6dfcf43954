package verify

// form is a propositional formula over atoms. Formulas are shared and never change.
type form struct {
	op   op
	atom int32
	kids []*form
}

type op uint8

const (
	opFalse op = iota
	opTrue
	opAtom
	opNot
	opAnd
	opOr
)

func falsity() *form { return &form{op: opFalse} }
func truth() *form   { return &form{op: opTrue} }

func constant(b bool) *form {
	if b {
		return truth()
	}
	return falsity()
}

func (f *form) isTrue() bool  { return f.op == opTrue }
func (f *form) isFalse() bool { return f.op == opFalse }

func not(f *form) *form {
	switch f.op {
	case opFalse:
		return truth()
	case opTrue:
		return falsity()
	case opNot:
		return f.kids[0]
	}
	return &form{op: opNot, kids: []*form{f}}
}

func and(fs ...*form) *form { return join(opAnd, opTrue, opFalse, fs) }
func or(fs ...*form) *form  { return join(opOr, opFalse, opTrue, fs) }

// join makes a conjunction or disjunction: unit goes without saying, zero decides.
func join(o, unit, zero op, fs []*form) *form {
	var kids []*form
	for _, f := range fs {
		switch f.op {
		case unit:
		case zero:
			return f
		case o:
			kids = append(kids, f.kids...)
		default:
			kids = append(kids, f)
		}
	}
	switch len(kids) {
	case 0:
		return &form{op: unit}
	case 1:
		return kids[0]
	}
	return &form{op: o, kids: kids}
}

// conjuncts gives the parts that must all hold.
func (f *form) conjuncts() []*form {
	switch f.op {
	case opAnd:
		return f.kids
	case opTrue:
		return nil
	}
	return []*form{f}
}

// reduce puts what is known about atoms into f: known gives +1 for an atom that
// holds, -1 for one that does not, 0 otherwise. memo keeps shared parts shared.
func (f *form) reduce(known func(int32) int8, memo map[*form]*form) *form {
	switch f.op {
	case opAtom:
		switch known(f.atom) {
		case 1:
			return truth()
		case -1:
			return falsity()
		}
		return f
	case opTrue, opFalse:
		return f
	}
	if g, ok := memo[f]; ok {
		return g
	}
	g := f.reduceKids(known, memo)
	memo[f] = g
	return g
}

func (f *form) reduceKids(known func(int32) int8, memo map[*form]*form) *form {
	if f.op == opNot {
		if k := f.kids[0].reduce(known, memo); k != f.kids[0] {
			return not(k)
		}
		return f
	}
	zero := opFalse
	if f.op == opOr {
		zero = opTrue
	}
	var kids []*form
	for i, k := range f.kids {
		r := k.reduce(known, memo)
		if r.op == zero {
			return r
		}
		if r != k && kids == nil {
			kids = append(make([]*form, 0, len(f.kids)), f.kids[:i]...)
		}
		if kids != nil {
			kids = append(kids, r)
		}
	}
	if kids == nil {
		return f
	}
	if f.op == opAnd {
		return and(kids...)
	}
	return or(kids...)
}
