package policy

// Listener and origin are settled when the index is built: each pair is a partition,
// one bit of a mask.
const (
	partitionListeners = 16 // the last stands for every other listener
	partitionOrigins   = 4  // the last stands for every other origin
	partitionCount     = partitionListeners * partitionOrigins
)

// partitions numbers the pairs of listener and origin.
type partitions struct {
	listeners []string // at most partitionListeners-1
}

func newPartitions(t *Topology) partitions {
	var p partitions
	for i := range t.Listeners {
		if len(p.listeners) < partitionListeners-1 {
			p.listeners = append(p.listeners, t.Listeners[i].Name)
		}
	}
	return p
}

func (p *partitions) of(f *Facts) int {
	l := partitionListeners - 1
	for i, name := range p.listeners {
		if name == f.Listener {
			l = i
			break
		}
	}
	return l*partitionOrigins + originNumber(f.Origin)
}

func originNumber(o Origin) int {
	switch o {
	case Stranger:
		return 0
	case Customer:
		return 1
	case Inside:
		return 2
	}
	return partitionOrigins - 1
}

// settle evaluates a condition in all partitions at once, with everything but
// listener and origin unknown: the partitions where it is No, and where it is Yes.
func (p *partitions) settle(x Expr) (no, yes uint64) {
	switch x := x.(type) {
	case *Literal:
		if b, ok := x.Value.(bool); ok {
			return certain(b)
		}
	case *Not:
		no, yes = p.settle(x.X)
		return yes, no
	case *Binary:
		switch x.Op {
		case And:
			ln, ly := p.settle(x.L)
			rn, ry := p.settle(x.R)
			return ln | rn, ly & ry
		case Or:
			ln, ly := p.settle(x.L)
			rn, ry := p.settle(x.R)
			return ln & rn, ly | ry
		case Eq, Ne:
			no, yes = p.equal(x)
			if x.Op == Ne {
				return yes, no
			}
			return no, yes
		}
	case *Call:
		if x.Func == "in" {
			return p.in(x)
		}
	}
	return 0, 0
}

func certain(b bool) (no, yes uint64) {
	if b {
		return 0, ^uint64(0)
	}
	return ^uint64(0), 0
}

func (p *partitions) equal(x *Binary) (no, yes uint64) {
	l, r := x.L, x.R
	if _, constant := l.(*Literal); constant {
		l, r = r, l
	}
	f, isField := l.(*Field)
	s, isString := literalString(r)
	if !isField || !isString {
		return 0, 0
	}
	return p.named(f.Name, s)
}

func (p *partitions) in(x *Call) (no, yes uint64) {
	f, isField := x.Args[0].(*Field)
	l, isList := x.Args[1].(*List)
	if !isField || !isList || (f.Name != "listener" && f.Name != "origin") {
		return 0, 0
	}
	no = ^uint64(0)
	for _, it := range l.Items {
		s, _ := literalString(it)
		n, y := p.named(f.Name, s)
		no, yes = no&n, yes|y
	}
	return no, yes
}

// named tells where listener or origin is s, and where it is not. Of the partitions
// that stand for others nothing is known.
func (p *partitions) named(field, s string) (no, yes uint64) {
	for part := range partitionCount {
		l, o := part/partitionOrigins, part%partitionOrigins
		known, same := false, false
		switch field {
		case "listener":
			known, same = l < len(p.listeners), l < len(p.listeners) && p.listeners[l] == s
		case "origin":
			known, same = o < partitionOrigins-1, o == originNumber(Origin(s))
		}
		switch {
		case known && same:
			yes |= 1 << part
		case known:
			no |= 1 << part
		}
	}
	return no, yes
}
