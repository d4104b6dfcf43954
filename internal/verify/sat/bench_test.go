package sat_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/crillab/gophersat/solver"

	"postern.dev/postern/internal/verify/sat"
)

// ints is a problem as gophersat wants it.
func (f *cnf) ints() [][]int {
	all := make([][]int, len(f.clauses))
	for i, c := range f.clauses {
		for _, l := range c {
			all[i] = append(all[i], int(l))
		}
	}
	return all
}

// compare runs a set of problems, all of them once for an operation, through this
// solver, this solver with a log, the checker, and gophersat.
func compare(b *testing.B, problems []*cnf) {
	s := sat.New()
	proofs := make([]sat.Proof, len(problems))
	run := func(b *testing.B, log bool) {
		unsat := 0
		for b.Loop() {
			unsat = 0
			for i, f := range problems {
				s.Reset()
				if log {
					proofs[i] = nil
					s.Log(proofs[i].Record)
				}
				f.load(s)
				if s.Solve(sat.Budget{}) == sat.Unsat {
					unsat++
				}
			}
		}
		b.ReportMetric(float64(unsat), "unsat")
	}
	b.Run("own", func(b *testing.B) { b.ReportAllocs(); run(b, false) })
	b.Run("own-with-proof", func(b *testing.B) { run(b, true) })
	b.Run("gophersat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, f := range problems {
				solver.New(solver.ParseSlice(f.ints())).Solve()
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			for i, f := range problems {
				if p := proofs[i]; len(p) > 0 && len(p[len(p)-1].Clause) == 0 && !p[len(p)-1].Deleted {
					if err := sat.Check(f.clauses, nil, p); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
}

// set makes count random problems of m clauses.
func set(seed uint64, count, n, m int) []*cnf {
	r := rand.New(rand.NewPCG(seed, 20))
	out := make([]*cnf, count)
	for i := range out {
		out[i] = random3(r, n, m)
	}
	return out
}

// BenchmarkRandom is ten random problems at the threshold for an operation.
func BenchmarkRandom(b *testing.B) {
	for _, n := range []int{100, 200} {
		b.Run(fmt.Sprintf("vars=%d", n), func(b *testing.B) { compare(b, set(1, 10, n, n*426/100)) })
	}
}

// BenchmarkFilters is one list of opaque drop filters before a delivering one: each
// filter is a clause of three literals. It is the prover's worst case.
func BenchmarkFilters(b *testing.B) {
	for _, m := range []int{600, 800, 1000} {
		b.Run(fmt.Sprintf("filters=%d", m), func(b *testing.B) { compare(b, set(2, 1, m*100/426, m)) })
	}
}

// BenchmarkSmall is 5,000 queries of 50 variables and 200 clauses for an operation.
func BenchmarkSmall(b *testing.B) { compare(b, set(3, 5000, 50, 200)) }
