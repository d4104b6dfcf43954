package sat_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/crillab/gophersat/solver"

	"postern.dev/postern/internal/verify/sat"
)

// cnf is a problem: its variables are 1 to vars.
type cnf struct {
	vars    int
	clauses [][]sat.Lit
}

func (f *cnf) add(c ...sat.Lit) { f.clauses = append(f.clauses, c) }

// fresh makes a variable.
func (f *cnf) fresh() sat.Lit {
	f.vars++
	return sat.Lit(f.vars)
}

// load gives the problem to a solver.
func (f *cnf) load(s *sat.Solver) {
	for range f.vars {
		s.NewVar()
	}
	for _, c := range f.clauses {
		s.Add(c...)
	}
}

// random3 is a random problem with n variables and m clauses of three of them.
func random3(r *rand.Rand, n, m int) *cnf {
	f := &cnf{vars: n}
	for range m {
		v := r.Perm(n)[:3]
		c := make([]sat.Lit, 3)
		for i := range c {
			c[i] = sat.Lit(v[i] + 1)
			if r.IntN(2) == 0 {
				c[i] = c[i].Not()
			}
		}
		f.add(c...)
	}
	return f
}

// holds tells whether one of the literals is true under value.
func holds(c []sat.Lit, value func(sat.Lit) bool) bool { return slices.ContainsFunc(c, value) }

// brute tries every assignment of up to 20 variables, a machine word of them at once.
func brute(f *cnf, assumptions ...sat.Lit) bool {
	low := [6]uint64{0xAAAAAAAAAAAAAAAA, 0xCCCCCCCCCCCCCCCC, 0xF0F0F0F0F0F0F0F0, 0xFF00FF00FF00FF00, 0xFFFF0000FFFF0000, 0xFFFFFFFF00000000}
	clauses := slices.Clone(f.clauses)
	for _, l := range assumptions {
		clauses = append(clauses, []sat.Lit{l})
	}
	for high := range 1 << max(0, f.vars-6) {
		models := ^uint64(0)
		for _, c := range clauses {
			some := uint64(0)
			for _, l := range c {
				v, bits := int(max(l, l.Not()))-1, uint64(0)
				if v < 6 {
					bits = low[v]
				} else if high>>(v-6)&1 != 0 {
					bits = ^bits
				}
				if l < 0 {
					bits = ^bits
				}
				some |= bits
			}
			models &= some
		}
		if models != 0 {
			return true
		}
	}
	return false
}

// gopher asks gophersat, the oracle for what is too large for brute.
func gopher(f *cnf, assumptions ...sat.Lit) bool {
	var all [][]int
	for _, c := range f.clauses {
		ints := make([]int, len(c))
		for i, l := range c {
			ints[i] = int(l)
		}
		all = append(all, ints)
	}
	for _, l := range assumptions {
		all = append(all, []int{int(l)})
	}
	return solver.New(solver.ParseSlice(all)).Solve() == solver.Sat
}

// asker is a solver whose every answer is checked: models against the clauses, Unsat
// by its proof and by the core alone.
type asker struct {
	t testing.TB
	*sat.Solver
	f     *cnf
	proof sat.Proof
}

func ask(t testing.TB, f *cnf) *asker {
	a := &asker{t: t, Solver: sat.New(), f: f}
	a.Log(a.proof.Record)
	f.load(a.Solver)
	return a
}

func (a *asker) solve(assumptions ...sat.Lit) sat.Status {
	a.t.Helper()
	status := a.Solve(sat.Budget{}, assumptions...)
	a.check(status, assumptions)
	return status
}

func (a *asker) check(status sat.Status, assumptions []sat.Lit) {
	a.t.Helper()
	switch status {
	case sat.Sat:
		for _, c := range a.f.clauses {
			if !holds(c, a.Value) {
				a.t.Fatalf("model violates %v", c)
			}
		}
		for _, l := range assumptions {
			if !a.Value(l) || a.Value(l.Not()) {
				a.t.Fatalf("model violates the assumption %d", l)
			}
		}
	case sat.Unsat:
		if err := sat.Check(a.f.clauses, assumptions, a.proof); err != nil {
			a.t.Fatalf("proof: %v", err)
		}
		core := a.Core()
		for _, l := range core {
			if !slices.Contains(assumptions, l) {
				a.t.Fatalf("core %v holds %d, which was not assumed: %v", core, l, assumptions)
			}
		}
		if err := sat.Check(a.f.clauses, core, a.proof); err != nil {
			a.t.Fatalf("proof of core %v: %v", core, err)
		}
		if again := a.Solve(sat.Budget{}, core...); again != sat.Unsat {
			a.t.Fatalf("core %v alone: %v", core, again)
		}
	}
}

func verdict(satisfiable bool) sat.Status {
	if satisfiable {
		return sat.Sat
	}
	return sat.Unsat
}

func TestSmallRandomAgainstBruteForce(t *testing.T) {
	count := map[sat.Status]int{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 3 + r.IntN(14)
		f := random3(r, n, int(float64(n)*(3+2.5*r.Float64())))
		for range r.IntN(4) { // shapes that random3 does not make
			c := make([]sat.Lit, r.IntN(7))
			for i := range c {
				c[i] = sat.Lit(1+r.IntN(n)) * sat.Lit(1-2*r.IntN(2))
			}
			if len(c) > 0 {
				f.add(c...)
			}
		}
		want := verdict(brute(f))
		count[want]++
		if got := ask(t, f).solve(); got != want {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
	if count[sat.Sat] < 500 || count[sat.Unsat] < 500 {
		t.Errorf("the problems are one-sided: %v", count)
	}
}

func TestRandomAgainstGophersat(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		n := 60 + r.IntN(100)
		f := random3(r, n, int(float64(n)*(4+0.6*r.Float64())))
		if got, want := ask(t, f).solve(), verdict(gopher(f)); got != want {
			t.Fatalf("seed %d: %v, gophersat says %v", seed, got, want)
		}
	}
}

// TestIncremental adds clauses between queries under assumptions.
func TestIncremental(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		n := 6 + r.IntN(9)
		a := ask(t, &cnf{vars: n})
		for range 25 {
			for _, c := range random3(r, n, r.IntN(5)).clauses {
				a.f.add(c...)
				a.Add(c...)
			}
			var assumptions []sat.Lit
			for range r.IntN(6) {
				assumptions = append(assumptions, sat.Lit(1+r.IntN(n))*sat.Lit(1-2*r.IntN(2)))
			}
			want := verdict(brute(a.f, assumptions...))
			if got := a.solve(assumptions...); got != want {
				t.Fatalf("seed %d: %v under %v, want %v", seed, got, assumptions, want)
			}
		}
	}
}

// TestIncrementalLarge asks one solver many queries that are hard enough for restarts,
// reductions and sweeps in between, switching groups of clauses on by a literal each.
func TestIncrementalLarge(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	const n, groups = 120, 40
	a := ask(t, &cnf{vars: n + groups})
	for g := range groups {
		on := sat.Lit(n + 1 + g)
		for _, c := range random3(r, n, 40).clauses {
			c = append(c, on.Not())
			a.f.add(c...)
			a.Add(c...)
		}
	}
	for q := range 16 {
		var on []sat.Lit
		for _, g := range r.Perm(groups)[:12+r.IntN(3)] {
			on = append(on, sat.Lit(n+1+g))
		}
		if q%5 == 4 { // one group goes for good
			a.f.add(on[0].Not())
			a.Add(on[0].Not())
			on = on[1:]
		}
		if got, want := a.solve(on...), verdict(gopher(a.f, on...)); got != want {
			t.Fatalf("query %d under %v: %v, gophersat says %v", q, on, got, want)
		}
	}
	if st := a.Stats(); st.Reductions == 0 || st.Restarts == 0 {
		t.Errorf("too easy to test anything: %+v", st)
	}
}

// pigeons says that n pigeons sit alone in holes.
func pigeons(n, holes int) *cnf {
	f := &cnf{vars: n * holes}
	at := func(p, h int) sat.Lit { return sat.Lit(p*holes + h + 1) }
	for p := range n {
		c := make([]sat.Lit, holes)
		for h := range c {
			c[h] = at(p, h)
			for q := range p {
				f.add(at(p, h).Not(), at(q, h).Not())
			}
		}
		f.add(c...)
	}
	return f
}

func TestPigeonhole(t *testing.T) {
	for n := 2; n <= 8; n++ {
		if got := ask(t, pigeons(n, n-1)).solve(); got != sat.Unsat {
			t.Errorf("%d pigeons in %d holes: %v", n, n-1, got)
		}
		if got := ask(t, pigeons(n, n)).solve(); got != sat.Sat {
			t.Errorf("%d pigeons in %d holes: %v", n, n, got)
		}
	}
}

// xor says that an odd number of the literals is true, or an even one.
func (f *cnf) xor(odd bool, lits ...sat.Lit) {
	for signs := range 1 << len(lits) {
		c := slices.Clone(lits)
		negated := false
		for i := range c {
			if signs>>i&1 != 0 {
				c[i] = c[i].Not()
				negated = !negated
			}
		}
		if negated != odd { // the assignment that c excludes has the wrong parity
			f.add(c...)
		}
	}
}

// chain computes the parity of the inputs in a given order and gives its last link.
func (f *cnf) chain(inputs []sat.Lit, order []int) sat.Lit {
	sum := inputs[order[0]]
	for _, i := range order[1:] {
		next := f.fresh()
		f.xor(false, next, sum, inputs[i])
		sum = next
	}
	return sum
}

func TestXORChains(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for n := 2; n <= 12; n++ {
		f := &cnf{}
		var inputs []sat.Lit
		for range n {
			inputs = append(inputs, f.fresh())
		}
		one, two := f.chain(inputs, r.Perm(n)), f.chain(inputs, r.Perm(n))
		a := ask(t, f)
		if got := a.solve(one); got != sat.Sat {
			t.Fatalf("%d inputs, one chain: %v", n, got)
		}
		odd := false
		for _, l := range inputs {
			odd = odd != a.Value(l)
		}
		if !odd {
			t.Errorf("%d inputs: the model is not odd", n)
		}
		if got := a.solve(one, two.Not()); got != sat.Unsat {
			t.Errorf("%d inputs, chains that differ: %v", n, got)
		}
		if core := a.Core(); len(core) != 2 {
			t.Errorf("%d inputs: core %v, want both ends", n, core)
		}
	}
}

func TestCoreLeavesOutWhatIsNotNeeded(t *testing.T) {
	f := &cnf{vars: 40}
	for v := sat.Lit(1); v < 20; v++ {
		f.add(v.Not(), v+1) // 1 implies 2 implies ... 20
	}
	f.add(-20, -30)
	a := ask(t, f)
	assumptions := []sat.Lit{40, 3, 1, 2, 35, 30, 5, 31}
	if got := a.solve(assumptions...); got != sat.Unsat {
		t.Fatal(got)
	}
	core := a.Core()
	if len(core) != 2 || !slices.Contains(core, 30) {
		t.Errorf("core %v, want one of the chain and 30", core)
	}
	if again := a.Core(); !slices.Equal(core, again) {
		t.Errorf("core %v, then %v", core, again)
	}
	for _, tt := range []struct {
		name    string
		assumed []sat.Lit
		want    []sat.Lit
	}{
		{"itself and its negation", []sat.Lit{39, 38, -38}, []sat.Lit{38, -38}},
		{"made twice", []sat.Lit{20, 20, 30, 30}, []sat.Lit{20, 30}},
	} {
		if got := a.solve(tt.assumed...); got != sat.Unsat || !slices.Equal(a.Core(), tt.want) {
			t.Errorf("%s: %v, core %v, want %v", tt.name, got, a.Core(), tt.want)
		}
	}
	a.f.add(7)
	a.Add(7)
	if got := a.solve(1, 2, 30); got != sat.Unsat || !slices.Equal(a.Core(), []sat.Lit{30}) {
		t.Errorf("false by the clauses: %v, core %v", got, a.Core())
	}
	a.f.add(30)
	a.Add(30)
	if got := a.solve(1, 2); got != sat.Unsat || len(a.Core()) != 0 {
		t.Errorf("clauses without a model: %v, core %v", got, a.Core())
	}
}

func TestAdd(t *testing.T) {
	for _, tt := range []struct {
		name    string
		clauses [][]sat.Lit
		want    sat.Status
		count   int
	}{
		{"nothing", nil, sat.Sat, 0},
		{"the empty clause", [][]sat.Lit{{}}, sat.Unsat, 0},
		{"units at odds", [][]sat.Lit{{3}, {-3}}, sat.Unsat, 0},
		{"a tautology", [][]sat.Lit{{1, 2, -1}, {-2}}, sat.Sat, 0},
		{"a literal twice", [][]sat.Lit{{1, 2, 1, 2}, {-1, -1}}, sat.Sat, 1},
		{"only one literal, thrice", [][]sat.Lit{{2, 2, 2}, {-2, 1}, {-1, -2}}, sat.Unsat, 0},
		{"false literals", [][]sat.Lit{{-1}, {-2}, {1, 2, 3}, {-3, 1, 4}, {-4, 2}}, sat.Unsat, 0},
		{"a clause that holds already", [][]sat.Lit{{1}, {1, 2, 3}}, sat.Sat, 0},
	} {
		a := ask(t, &cnf{clauses: tt.clauses})
		if got := a.solve(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if got := a.Stats().Clauses; got != tt.count {
			t.Errorf("%s: %d clauses, want %d", tt.name, got, tt.count)
		}
	}
}

func TestAddDoesNotKeepTheSlice(t *testing.T) {
	s, c := sat.New(), []sat.Lit{1, 2}
	s.Add(c...)
	c[0], c[1] = 3, 3
	if s.Solve(sat.Budget{}, -1, -2) != sat.Unsat || s.Solve(sat.Budget{}, -3) != sat.Sat {
		t.Error("the clause changed with the caller's slice")
	}
	if c[0] != 3 {
		t.Error("the caller's slice was written to")
	}
}

func TestBudget(t *testing.T) {
	for _, b := range []sat.Budget{{Conflicts: 50}, {Propagations: 2000}} {
		a := ask(t, pigeons(8, 7))
		before := a.Stats()
		if got := a.Solve(b); got != sat.Unknown {
			t.Fatalf("%+v: %v", b, got)
		}
		after := a.Stats()
		if b.Conflicts > 0 && after.Conflicts-before.Conflicts > b.Conflicts+10 {
			t.Errorf("%+v: spent %d conflicts", b, after.Conflicts)
		}
		if b.Propagations > 0 && after.Propagations-before.Propagations > b.Propagations+1000 {
			t.Errorf("%+v: spent %d propagations", b, after.Propagations)
		}
		rounds := 0
		for status := sat.Unknown; status == sat.Unknown; rounds++ {
			status = a.Solve(sat.Budget{Conflicts: 100})
			a.check(status, nil)
			if status == sat.Sat {
				t.Fatal("pigeons found holes")
			}
		}
		if rounds < 2 {
			t.Errorf("%+v: what was left took %d rounds", b, rounds)
		}
	}
	a := ask(t, pigeons(8, 8))
	if got := a.Solve(sat.Budget{Conflicts: 1, Propagations: 1}); got != sat.Unknown {
		t.Errorf("a budget of one: %v", got)
	}
	if got := a.solve(); got != sat.Sat {
		t.Errorf("then without a bound: %v", got)
	}
}

func TestPhase(t *testing.T) {
	s := sat.New()
	s.Add(1, 2, 3)
	s.Add(4, 5)
	s.SetPhase(4)
	s.SetPhase(5)
	s.SetPhase(2)
	for range 3 {
		s.Solve(sat.Budget{}, -2, 1) // leads the saved phases astray
		if s.Solve(sat.Budget{}) != sat.Sat {
			t.Fatal("unsat")
		}
		for l, want := range map[sat.Lit]bool{1: false, 2: true, 3: false, 4: true, 5: true, -5: false, 9: false, -9: true} {
			if s.Value(l) != want {
				t.Errorf("%d is %v", l, !want)
			}
		}
	}
}

func TestResetForgets(t *testing.T) {
	s := sat.New()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 6))
		n := 4 + r.IntN(12)
		f := random3(r, n, int(4.3*float64(n)))
		s.Reset()
		f.load(s)
		if got, want := s.Solve(sat.Budget{}), verdict(brute(f)); got != want {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
		if st := s.Stats(); st.Vars != n {
			t.Fatalf("seed %d: %d variables, want %d", seed, st.Vars, n)
		}
	}
}

// TestDeterminism wants the same proof for the same calls, on a fresh and a used solver.
func TestDeterminism(t *testing.T) {
	var proofs [3]strings.Builder
	used := sat.New()
	for i := range proofs {
		r := rand.New(rand.NewPCG(7, 7))
		if used.Reset(); i == 1 {
			used = sat.New()
		}
		var p sat.Proof
		used.Log(p.Record)
		random3(r, 100, 500).load(used)
		used.Solve(sat.Budget{})
		if _, err := p.WriteTo(&proofs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if proofs[0].String() != proofs[1].String() || proofs[0].String() != proofs[2].String() || proofs[0].Len() < 1000 {
		t.Errorf("proofs differ: %d, %d and %d bytes", proofs[0].Len(), proofs[1].Len(), proofs[2].Len())
	}
}

// FuzzSolve reads bytes as clauses, a byte for a literal and zero for an end, with
// queries in between, and compares with brute force.
func FuzzSolve(f *testing.F) {
	f.Add([]byte{1, 2, 0, 129, 130, 0})
	f.Add([]byte{1, 2, 3, 0, 129, 0, 130, 0, 131, 0})
	f.Add([]byte{0})
	f.Add([]byte{1, 2, 0, 1, 130, 0, 129, 2, 0, 255, 129, 130, 0, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := ask(t, &cnf{})
		var c []sat.Lit
		queries := 0
		query := func(assumptions ...sat.Lit) {
			for _, l := range assumptions {
				a.f.vars = max(a.f.vars, int(max(l, l.Not())))
			}
			if got, want := a.solve(assumptions...), verdict(brute(a.f, assumptions...)); got != want {
				t.Fatalf("%v under %v: %v, want %v", a.f.clauses, assumptions, got, want)
			}
		}
		for _, x := range b[:min(len(b), 400)] {
			switch l := sat.Lit(x&127)%12 + 1; {
			case x == 0:
				a.f.add(slices.Clone(c)...)
				a.Add(c...)
				c = c[:0]
			case x == 255 && queries < 8:
				queries++
				query(c...)
				c = c[:0]
			case x&128 != 0:
				l = -l
				fallthrough
			default:
				a.f.vars = max(a.f.vars, int(max(l, l.Not())))
				c = append(c, l)
			}
		}
		query(c...)
	})
}
