package demo

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

// load writes a policy and reads it.
func (s *story) load(repaired bool, waiver string) (*config.Config, error) {
	if err := os.WriteFile(s.file, []byte(configuration(s.lab, repaired, waiver)), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	cfg, diags := config.Load(s.file, config.Options{Now: s.o.Now})
	if diags.HasErrors() {
		return nil, errors.New("the demonstration's configuration does not load: " + diags[0].Error())
	}
	return cfg, nil
}

// foretold tells what the prover says of the policy of 2008 before it is loaded: who
// would have relayed, how, and the one move that stops it. Then the policy is waived,
// for the story's sake.
func (s *story) foretold() (*config.Config, error) {
	cfg, err := s.load(false, "")
	if err != nil {
		return nil, err
	}
	r := verify.Check(cfg.Program, verify.Options{NoWarnings: true})
	s.n.scene("What Postern says before it loads such a policy (postern check):")
	faults := 0
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Severity != verify.Fault {
			continue // that customers are known by loopback addresses, as all is here
		}
		faults++
		if f.Witness == nil || f.Repair == nil {
			return nil, fmt.Errorf("the prover shows no message or no repair for %s", f.Code)
		}
		s.n.block(fmt.Sprintf("error %s: %s\n\n", f.Code, f.Message))
		d := &f.Witness.Decisions[len(f.Witness.Decisions)-1]
		s.n.block(strings.Join(proof.Dialogue(cfg.Program, &f.Witness.Hops[0], d), "\n") + "\n")
		s.n.block(fmt.Sprintf("and it is %s.\n\nrepair: %s\n        proven again; %s\n", proof.Fate(d), f.Repair, proof.Price(f.Repair)))
	}
	if r.Status != verify.Open || faults != 1 {
		return nil, fmt.Errorf("the prover finds the policy of 2008 %s, with %d findings", r.Status, faults)
	}
	s.n.say("")
	s.n.say("It would not load it. In 2008 there was no proof, so here it is waived: waive \"PV001\" { ... }")
	return s.load(false, waiver(s.o.Now()))
}
