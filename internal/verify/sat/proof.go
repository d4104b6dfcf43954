package sat

import (
	"bufio"
	"io"
	"strconv"
)

// Step is a line of a proof: a clause that follows from those before it by reverse
// unit propagation, or one that is not needed any more.
type Step struct {
	Deleted bool
	Clause  []Lit
}

// Proof says why clauses have no model, in the steps of DRUP (Heule, Hunt and Wetzler,
// "Trimming while checking clausal proofs"). After Unsat without assumptions it ends
// with the empty clause; after Unsat under assumptions these, or the core, are to be
// added to the clauses as units.
type Proof []Step

// Record adds a step; it is what Solver.Log can be given.
func (p *Proof) Record(deleted bool, clause []Lit) {
	*p = append(*p, Step{deleted, append([]Lit(nil), clause...)})
}

// WriteTo writes the proof as drat-trim and its like read it.
func (p Proof) WriteTo(w io.Writer) (int64, error) {
	b, n := bufio.NewWriter(w), int64(0)
	var line []byte
	for _, step := range p {
		line = line[:0]
		if step.Deleted {
			line = append(line, "d "...)
		}
		for _, l := range step.Clause {
			line = append(strconv.AppendInt(line, int64(l), 10), ' ')
		}
		line = append(line, "0\n"...)
		m, err := b.Write(line)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, b.Flush()
}

// Log has f called with every clause that is learnt or dropped from now on. The slice
// is f's during the call only. For a complete proof set it before the first Solve; it
// holds until Reset.
func (s *Solver) Log(f func(deleted bool, clause []Lit)) { s.log = f }

func (s *Solver) record(deleted bool, clause []lit) {
	if s.log == nil {
		return
	}
	s.lits = s.lits[:0]
	for _, p := range clause {
		s.lits = append(s.lits, p.outside())
	}
	s.log(deleted, s.lits)
}
