// Package ahocorasick finds which of many texts occur in a string, in one pass and in
// any ASCII case (Aho and Corasick, 1975).
package ahocorasick

// Automaton knows its texts. It never changes, and any number of goroutines may scan
// with it. Octets that occur in no text share one class, so that a state is a short
// row.
type Automaton struct {
	class [256]uint8 // of an octet; 0: in no text
	width int32
	next  []int32 // state*width + class -> state
	found []int32 // state -> first in outs, of found[state+1]-found[state]
	outs  []int32 // values of the texts that end in a state
}

// New makes an Automaton for texts in ASCII lower case; finding the text of an index
// gives the value of that index.
func New(texts []string, values []int32) *Automaton {
	a := &Automaton{width: 1}
	for _, t := range texts {
		for i := 0; i < len(t); i++ {
			if a.class[t[i]] == 0 && a.width < 256 {
				a.class[t[i]] = uint8(a.width)
				a.width++
			}
		}
	}
	for c := 'A'; c <= 'Z'; c++ {
		a.class[c] = a.class[byte(c)+('a'-'A')]
	}
	ends := a.trie(texts)
	a.link(ends, values)
	return a
}

// trie lays the texts out; it tells which texts end in each state. 0 is the root and,
// for now, "no state".
func (a *Automaton) trie(texts []string) [][]int32 {
	a.next = make([]int32, a.width)
	ends := make([][]int32, 1)
	for k, t := range texts {
		s := int32(0)
		for i := 0; i < len(t); i++ {
			at := s*a.width + int32(a.class[t[i]])
			if a.next[at] == 0 {
				a.next[at] = int32(len(ends))
				ends = append(ends, nil)
				a.next = append(a.next, make([]int32, a.width)...)
			}
			s = a.next[at]
		}
		ends[s] = append(ends[s], int32(k))
	}
	return ends
}

// link turns the trie into a complete automaton, breadth first: where a state has no
// edge it takes the edge of its longest proper suffix, whose outputs it has too.
func (a *Automaton) link(ends [][]int32, values []int32) {
	n := int32(len(ends))
	fail := make([]int32, n)
	all := make([][]int32, n)
	queue := make([]int32, 1, n)
	total := 0
	for head := 0; head < len(queue); head++ {
		s := queue[head]
		for _, k := range ends[s] {
			all[s] = append(all[s], values[k])
		}
		if s != 0 {
			all[s] = append(all[s], all[fail[s]]...)
		}
		total += len(all[s])
		for c := int32(0); c < a.width; c++ {
			to, back := &a.next[s*a.width+c], int32(0)
			if s != 0 {
				back = a.next[fail[s]*a.width+c]
			}
			if *to == 0 {
				*to = back
				continue
			}
			fail[*to] = back
			queue = append(queue, *to)
		}
	}
	a.found = make([]int32, n+1)
	a.outs = make([]int32, 0, total)
	for s := range n {
		a.found[s] = int32(len(a.outs))
		a.outs = append(a.outs, all[s]...)
	}
	a.found[n] = int32(len(a.outs))
}

// Scan appends the values of all texts that occur in s to out, once or more each.
func Scan[S string | []byte](a *Automaton, s S, out []int32) []int32 {
	state := int32(0)
	for i := 0; i < len(s); i++ {
		state = a.next[state*a.width+int32(a.class[s[i]])]
		if from, to := a.found[state], a.found[state+1]; from != to {
			out = append(out, a.outs[from:to]...)
		}
	}
	return out
}
