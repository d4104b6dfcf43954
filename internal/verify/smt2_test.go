package verify_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// TestSolverAgrees has z3 check every obligation of random policies: it finds a
// message exactly where the prover does.
func TestSolverAgrees(t *testing.T) {
	few := 6
	if os.Getenv("CI") != "" {
		few = 12
	}
	s := newSolver(t, "z3", true, "-in")
	s.work = "(set-option :rlimit 5000000)\n" // no time, which says nothing on a busy machine
	n := solversAgree(t, s, soak(t, few, 600))
	if n.late*20 > n.asked {
		t.Errorf("z3 leaves %d of %d obligations undecided", n.late, n.asked)
	}
}

// TestSecondSolverAgrees asks cvc5 the same, of fewer policies.
func TestSecondSolverAgrees(t *testing.T) {
	solversAgree(t, newSolver(t, "cvc5", false, "--lang=smt2", "--incremental", "--strings-exp", "--tlimit-per=2000"), soak(t, 2, 300))
}

func solversAgree(t *testing.T, s *solver, rounds int) opinions {
	t.Helper()
	n := opinions{}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 14))
		p := policytest.Random(r, shape(seed)).Program
		res := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true})
		answers, free := map[string]string{}, map[string]bool{}
		for name, text := range verify.SMT2(p, verify.Options{}) {
			n.asked++
			free[name] = strings.Contains(text, "free-")
			if answers[name] = s.solve(narrow(text)); answers[name] != "sat" {
				answers[name] = s.solve(text)
			}
			if answers[name] == "unknown" {
				n.late++
			}
		}
		for _, fault := range n.compare(p, res, answers, free) {
			t.Errorf("seed %d: %s\n%s", seed, fault, show(p))
			if n.bad++; n.bad > 3 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d policies, %d obligations, %d past the solver's time; of %d conclusions %d agree, %d of them open (%s); %d are left free or not UTF-8",
		rounds, n.asked, n.late, n.agreed+n.loose+n.undecided, n.agreed, n.open, n.kinds(), n.loose)
	if n.agreed < (n.agreed+n.loose+n.undecided)/2 || n.open < n.agreed/20 {
		t.Errorf("%+v: too few to tell", n)
	}
	return n
}

// narrow leaves only plain messages: domains that are names, local parts and header
// fields of visible ASCII. Where one of those will do, a solver finds it a hundred times
// as soon as among all of Unicode; that none does says nothing.
func narrow(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "(define-fun value "):
			line = "(define-fun value () RegLan (re.* (re.range \"!\" \"~\")))\n"
		case strings.HasPrefix(line, "(define-fun local "):
			line = "(define-fun local () RegLan (re.+ (re.union (re.range \"!\" \"@\") (re.range \"[\" \"~\"))))\n"
		case strings.HasPrefix(line, "(define-fun domain "):
			line = "(define-fun domain () RegLan (re.++ label (re.* (re.++ (str.to_re \".\") label))))\n"
		case strings.HasPrefix(line, "  (re.++ (str.to_re \"[\")"):
			continue // the second line of domain: literals
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// opinions counts.
type opinions struct {
	asked, late, agreed, open, loose, undecided, bad int
	by                                               map[verify.Code]int
}

func (n *opinions) kinds() string {
	out := ""
	for _, c := range verify.Codes() {
		if n.by[c] > 0 {
			out += fmt.Sprintf(" %s %d", c, n.by[c])
		}
	}
	return strings.TrimSpace(out)
}

// conclusion is what a solver's answers come to: a claim that is broken, or not, by a
// filter, a customer or an assert.
type conclusion struct {
	code     verify.Code
	name     string
	sat      bool // some answer shows it
	maybe    bool // it hangs on an answer that the solver has not
	freeForm bool // it hangs on a condition that was left free
}

// compare holds what was found against the answers.
func (n *opinions) compare(p *policy.Program, res *verify.Result, answers map[string]string, free map[string]bool) (faults []string) {
	found := map[blame]*verify.Finding{}
	for i := range res.Findings {
		f := &res.Findings[i]
		b := blame{f.Code, f.Filter}
		switch f.Code {
		case verify.AssertHolds:
			b.name = f.Assert
		case verify.SenderBinding:
			_, rest, _ := strings.Cut(f.Message, `"`)
			b.name, _, _ = strings.Cut(rest, `"`)
			if f.Severity == verify.Warning {
				continue
			}
		}
		found[b] = f
	}
	if n.by == nil {
		n.by = map[verify.Code]int{}
	}
	for _, c := range conclusions(p, answers, free) {
		f := found[blame{c.code, c.name}]
		switch {
		case f != nil && f.Status == verify.Unknown, c.sat && f == nil && c.freeForm:
			n.loose++
		case !c.sat && c.maybe:
			n.undecided++
		case c.sat == (f != nil):
			n.agreed++
			n.by[c.code]++
			if f != nil {
				n.open++
			}
		case !c.sat && f.Witness != nil && !plain(f):
			n.loose++ // shown by octets that are not UTF-8
		default:
			faults = append(faults, fmt.Sprintf("%+v: the prover has %+v", c, f))
		}
	}
	return faults
}

// conclusions joins the answers: asserts over all origins, and the ways by inside hosts.
func conclusions(p *policy.Program, answers map[string]string, free map[string]bool) (out []conclusion) {
	one := func(c *conclusion, name string) bool {
		a, asked := answers[name]
		c.sat, c.maybe, c.freeForm = c.sat || a == "sat", c.maybe || asked && a == "unknown", c.freeForm || free[name]
		return a == "sat"
	}
	single := func(code verify.Code, name string) {
		if c := (conclusion{code: code, name: name}); answers[fmt.Sprintf("%s %s", code, name)] != "" {
			one(&c, fmt.Sprintf("%s %s", code, name))
			out = append(out, c)
		}
	}
	for i := range p.Filters {
		single(verify.RelayForStrangers, p.Filters[i].Name)
		single(verify.Backscatter, p.Filters[i].Name)
	}
	customers := slices.ContainsFunc(p.Topology.Listeners, func(l policy.Listener) bool { return l.Auth || l.From == policy.FromCustomers })
	for _, c := range p.Topology.Customers {
		if !customers {
			break // nobody can come as one: the prover reads the senders alone
		}
		single(verify.SenderBinding, c.Name)
	}
	origins := []string{"stranger", "customer"}
	for _, h := range p.Topology.Inside {
		origins = append(origins, h.Name)
	}
	for i := range p.Asserts {
		c := conclusion{code: verify.AssertHolds, name: p.Asserts[i].Name}
		for _, of := range origins {
			one(&c, fmt.Sprintf("%s %s of %s", c.code, c.name, of))
		}
		out = append(out, c)
	}
	var way conclusion // what the tainted hosts hang on
	reached, next := map[string]bool{}, []string{"strangers"}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for _, h := range p.Topology.Inside {
			if !reached[h.Name] && one(&way, fmt.Sprintf("%s %s to %s", verify.RelayByInside, from, h.Name)) {
				reached[h.Name] = true
				next = append(next, h.Name)
			}
		}
	}
	for i := range p.Filters {
		c := conclusion{code: verify.RelayByInside, name: p.Filters[i].Name, maybe: way.maybe, freeForm: way.freeForm}
		for _, h := range p.Topology.Inside {
			if reached[h.Name] {
				one(&c, fmt.Sprintf("%s %s by %s", c.code, h.Name, c.name))
			}
		}
		if len(reached) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// plain reports a witness of whole characters.
func plain(f *verify.Finding) bool {
	for i := range f.Witness.Hops {
		h := &f.Witness.Hops[i]
		ok := utf8.ValidString(h.Sender.Local + h.Rcpt.Local + h.Client.Helo + h.Client.Name)
		for _, x := range h.Content.Headers {
			ok = ok && utf8.ValidString(x.Value)
		}
		if !ok {
			return false
		}
	}
	return true
}
