package main

import (
	"context"
	"fmt"
	"strings"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

const diffHelp = `Compares what two configurations do, not how they are written: each class of messages
whose fate changes, with one message of it, and what decides about it in the old and in the
new one. A class is a pair of deciding filters and an origin. Behind them it lists what filters
do otherwise to messages whose fate is the same: logs, tags, headers, limits, copies, and
whom held mail is for.

Past -budget the search is cut short.

Exit status: 0 every message has the same fate and the same effects, 1 some have not, 2 bad
input, or the search was cut short.`

// difference is the answer of diff -json.
type difference struct {
	Old      string         `json:"old"` // policy versions
	New      string         `json:"new"`
	Complete bool           `json:"complete"` // every class is listed
	Changes  []proof.Change `json:"changes"`
}

func runDiff(ctx context.Context, e *env, args []string) error {
	defer endAtOnce(ctx)()
	f := flags("diff")
	asJSON := f.Bool("json", false, "print one JSON object")
	budget := budgetFlag(f)
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return &exitError{code: exitUsage, text: "diff takes two configurations, the old one first", hint: "postern help diff"}
	}
	late, err := within(*budget)
	if err != nil {
		return err
	}
	// What stood in an old file need not be waived today.
	old, err := readPolicy(e, rest[0], late)
	if err != nil {
		return err
	}
	next, err := readPolicy(e, rest[1], late)
	if err != nil {
		return err
	}
	c := verify.Diff(old.Program, next.Program, verify.Options{Late: late})
	if *asJSON {
		if err := printJSON(e, difference{Old: old.Version, New: next.Version, Complete: c.Complete, Changes: proof.NewChanges(c.Changes)}); err != nil {
			return err
		}
	} else {
		printDiff(e, old, next, c)
	}
	switch {
	case len(c.Changes) > 0:
		return &exitError{code: exitNo}
	case !c.Complete:
		return &exitError{code: exitUsage}
	}
	return nil
}

// readPolicy reads a configuration whose waivers' dates do not matter.
func readPolicy(e *env, path string, late func() bool) (*config.Config, error) {
	cfg, diags := config.Load(path, config.Options{AnyDay: true, Late: late})
	if diags.HasErrors() {
		diags.Write(e.stderr, isTerminal(e.stderr))
		return nil, &exitError{code: exitUsage, text: fmt.Sprintf("%s does not load: %s", path, diags.Count())}
	}
	return cfg, nil
}

func printDiff(e *env, old, next *config.Config, d *verify.Comparison) {
	w := &proof.Writer{W: e.stdout, Colour: e.colour, Config: next}
	fates := 0
	for i := range d.Changes {
		c := &d.Changes[i]
		was, is := proof.Fate(&c.Old), proof.Fate(&c.New)
		if c.Effect == nil {
			fates++
		} else {
			was, is = proof.EffectText(c.Effect, c.Effect.Old), proof.EffectText(c.Effect, c.Effect.New)
		}
		fmt.Fprintf(e.stdout, "%d. %s\n", i+1, proof.Class(&c.Facts))
		w.Diff("- " + was + "\n" + way(old.Program, &c.Facts) + "+ " + is + "\n" + way(next.Program, &c.Facts))
		fmt.Fprintln(e.stdout)
	}
	fmt.Fprintln(e.stdout, diffSum(fates, len(d.Changes)-fates, d.Complete))
	if d.Stopped != nil {
		fmt.Fprintf(e.stdout, "time was up at %s, filter %q: give it more with -budget\n", d.Stopped.Pos, d.Stopped.Name)
	}
}

// diffSum puts in words how many kinds of messages fare otherwise.
func diffSum(fates, effects int, complete bool) string {
	if fates+effects == 0 {
		if complete {
			return "every message has the same fate"
		}
		return "no difference was found, but the search was cut short: it cannot be told"
	}
	var parts []string
	switch {
	case fates == 1 && complete:
		parts = append(parts, "one kind of message changes its fate")
	case fates > 0:
		parts = append(parts, fmt.Sprintf("%d kinds of messages change their fate", fates))
	}
	switch {
	case effects == 1 && complete:
		parts = append(parts, "one effect differs where the fate is the same")
	case effects > 0:
		parts = append(parts, fmt.Sprintf("%d effects differ where the fate is the same", effects))
	}
	out := strings.Join(parts, "; ")
	if !complete {
		return "at least " + out + ": the search was cut short"
	}
	return out
}

// way lists the filters that applied to a message, and where they stand.
func way(p *policy.Program, f *policy.Facts) string {
	_, trace := policy.Eval(p, f)
	var b strings.Builder
	for _, s := range trace {
		if s.Result != policy.No {
			fmt.Fprintf(&b, "    %s filter %s at %s\n", s.Result, s.Filter, s.Pos)
		}
	}
	return b.String()
}
