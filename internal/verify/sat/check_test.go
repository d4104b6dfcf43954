package sat_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/verify/sat"
)

func TestCheckRefuses(t *testing.T) {
	square := [][]sat.Lit{{1, 2}, {1, -2}, {-1, 2}, {-1, -2}}
	add := func(c ...sat.Lit) sat.Step { return sat.Step{Clause: c} }
	del := func(c ...sat.Lit) sat.Step { return sat.Step{Deleted: true, Clause: c} }
	for _, tt := range []struct {
		name        string
		clauses     [][]sat.Lit
		assumptions []sat.Lit
		proof       sat.Proof
		want        string // part of the error; empty: the proof holds
	}{
		{"a proof", square, nil, sat.Proof{add(1), add()}, ""},
		{"no proof", square, nil, nil, "without a contradiction"},
		{"units suffice", [][]sat.Lit{{1}, {-1, 2}, {-2}}, nil, nil, ""},
		{"an empty clause given", [][]sat.Lit{{}}, nil, nil, ""},
		{"the empty clause too soon", square, nil, sat.Proof{add()}, "step 0"},
		{"a clause that does not follow", square[:3], nil, sat.Proof{add(1), add(-2)}, "step 1"},
		{"assumptions", square[:3], []sat.Lit{-2}, nil, ""},
		{"assumptions that can hold", square[:3], []sat.Lit{1}, nil, "without a contradiction"},
		{"assumptions at odds", nil, []sat.Lit{5, -5}, nil, ""},
		{"a step that would follow from an assumption only", square[:3], []sat.Lit{-2}, sat.Proof{add(-1)}, "step 0"},
		{"what was deleted is gone", square, nil, sat.Proof{del(2, 1), add(1)}, "step 1"},
		{"one copy is deleted", append(square, []sat.Lit{2, 1}), nil, sat.Proof{del(1, 2), add(1)}, ""},
		{"an unknown deletion", square, nil, sat.Proof{del(1, 2, 3), add(1)}, ""},
		{"a unit stays", [][]sat.Lit{{1}, {-1}}, nil, sat.Proof{del(1)}, ""},
		{"a literal twice", [][]sat.Lit{{1, 1, 2}, {-1, -1}, {-2, -2, -2}}, nil, nil, ""},
		{"literal 0", [][]sat.Lit{{1, 0}}, nil, nil, "literal 0"},
	} {
		err := sat.Check(tt.clauses, tt.assumptions, tt.proof)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestCheckIsSound has nonsense refused: no steps whatever may prove what brute force
// can satisfy.
func TestCheckIsSound(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 10))
		n := 3 + r.IntN(6)
		f := random3(r, n, 4*n)
		var p sat.Proof
		for range r.IntN(12) {
			step := sat.Step{Deleted: r.IntN(4) == 0}
			for range r.IntN(4) {
				step.Clause = append(step.Clause, sat.Lit(1+r.IntN(n))*sat.Lit(1-2*r.IntN(2)))
			}
			if step.Deleted {
				step.Clause = f.clauses[r.IntN(len(f.clauses))]
			}
			p = append(p, step)
		}
		if err := sat.Check(f.clauses, nil, p); err == nil && brute(f) {
			t.Fatalf("seed %d: proved %v to have no model by %v", seed, f.clauses, p)
		}
	}
}

// TestTamperedProofs takes steps out of a real proof and clauses out of the problem.
func TestTamperedProofs(t *testing.T) {
	f := pigeons(6, 5)
	a := ask(t, f)
	a.solve()
	for _, i := range []int{0, 7, len(f.clauses) - 1} { // every clause is needed
		clauses := slices.Delete(slices.Clone(f.clauses), i, i+1)
		if sat.Check(clauses, nil, a.proof) == nil {
			t.Errorf("proved without %v, which is needed", f.clauses[i])
		}
	}
	if err := sat.Check(f.clauses, nil, nil); !errors.Is(err, sat.ErrIncomplete) {
		t.Errorf("no steps: %v", err)
	}
	last := a.proof[len(a.proof)-1:]
	if err := sat.Check(f.clauses, nil, last); err == nil || len(last[0].Clause) != 0 {
		t.Errorf("only the last step, %v: %v", last, err)
	}
}

func TestProofText(t *testing.T) {
	p := sat.Proof{{Clause: []sat.Lit{1, -2}}, {Deleted: true, Clause: []sat.Lit{3}}, {}}
	var b strings.Builder
	n, err := p.WriteTo(&b)
	if want := "1 -2 0\nd 3 0\n0\n"; b.String() != want || n != int64(len(want)) || err != nil {
		t.Errorf("%q, %d, %v", b.String(), n, err)
	}
}
