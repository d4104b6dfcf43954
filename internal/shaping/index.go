package shaping

// index finds which of many literals stand in a text, in one pass over it (Aho and
// Corasick, 1975). Octets that are in no literal share one column.
type index struct {
	class [256]uint8
	width int
	next  []int32 // state*width+class -> state
	out   [][]int32
}

// newIndex builds the index; literals[i] are those of number i.
func newIndex(literals [][]string) *index {
	x := &index{width: 1}
	for _, set := range literals {
		for _, s := range set {
			for i := 0; i < len(s); i++ {
				if x.class[s[i]] == 0 {
					if x.width > 255 {
						continue // 256 distinct octets: the last one shares, and finds too much
					}
					x.class[s[i]] = uint8(x.width)
					x.width++
				}
			}
		}
	}
	x.state()
	for n, set := range literals {
		for _, s := range set {
			x.insert(s, int32(n))
		}
	}
	x.link()
	return x
}

func (x *index) state() int32 {
	for range x.width {
		x.next = append(x.next, -1)
	}
	x.out = append(x.out, nil)
	return int32(len(x.out) - 1)
}

func (x *index) insert(s string, n int32) {
	at := int32(0)
	for i := 0; i < len(s); i++ {
		k := int(at)*x.width + int(x.class[s[i]])
		if x.next[k] < 0 {
			fresh := x.state()
			x.next[k] = fresh
		}
		at = x.next[k]
	}
	x.out[at] = append(x.out[at], n)
}

// link turns the trie into an automaton, breadth first.
func (x *index) link() {
	fail := make([]int32, len(x.out))
	var todo []int32
	for c := range x.width {
		if s := x.next[c]; s > 0 {
			todo = append(todo, s)
		} else {
			x.next[c] = 0
		}
	}
	for len(todo) > 0 {
		s := todo[0]
		todo = todo[1:]
		x.out[s] = append(x.out[s], x.out[fail[s]]...)
		for c := range x.width {
			k := int(s)*x.width + c
			if t := x.next[k]; t >= 0 {
				fail[t] = x.next[int(fail[s])*x.width+c]
				todo = append(todo, t)
			} else {
				x.next[k] = x.next[int(fail[s])*x.width+c]
			}
		}
	}
}

// step moves on by an octet.
func (x *index) step(at int32, c byte) int32 { return x.next[int(at)*x.width+int(x.class[c])] }
