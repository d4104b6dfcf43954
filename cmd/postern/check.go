package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/replay"
	"postern.dev/postern/internal/verify"
)

const checkHelp = `Reads a configuration, reports every fault as file:line:column, and proves what the policy
may relay. Each finding comes with the SMTP session that shows it, the filters that would
have stopped it, and the smallest change that does.

What is not settled within -budget is unknown, with the filter at which time was up.

Exit status: 0 closed, 1 open, 2 cannot tell or bad input. Waived findings do not count.`

// checking is one run of check.
type checking struct {
	e      *env
	path   string
	cfg    *config.Config
	diags  config.Diagnostics
	o      *proof.Outcome
	late   func() bool
	took   time.Duration
	repair bool
	replay bool
	quiet  bool

	unplayed int // witnesses that could not be played
}

func runCheck(ctx context.Context, e *env, args []string) error {
	c := &checking{e: e}
	f := flags("check")
	asJSON := f.Bool("json", false, "print one JSON object")
	asSARIF := f.Bool("sarif", false, "print SARIF 2.1.0, for code scanning")
	asSMT2 := f.Bool("smt2", false, "print what is to be proved as SMT-LIB 2 scripts, for z3 or cvc5 to check")
	f.BoolVar(&c.repair, "repair", false, "make the repairs in the files, and prove the policy again")
	f.BoolVar(&c.replay, "replay", false, "play each session against a gateway with this policy on loopback, up to the arrival")
	f.BoolVar(&c.quiet, "q", false, "print faults and the last line only")
	budget := budgetFlag(f)
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if c.path, err = oneFile("check", rest); err != nil {
		return err
	}
	if n := chosen(*asJSON, *asSARIF, *asSMT2); n > 1 || n == 1 && (c.repair || c.replay) {
		return usagef("check prints -json, or -sarif, or -smt2, or does -repair and -replay")
	}
	if c.late, err = within(*budget); err != nil {
		return err
	}
	stop := endAtOnce(ctx)
	defer stop()
	c.cfg, c.diags = config.Load(c.path, config.Options{Late: c.late})
	if *asSMT2 {
		return c.smt2()
	}
	if c.cfg != nil {
		c.prove(!c.quiet)
	}
	stop()
	switch {
	case *asJSON:
		return c.json()
	case *asSARIF:
		return c.sarif()
	}
	return c.text(ctx)
}

// chosen counts the flags that are set.
func chosen(flags ...bool) int {
	n := 0
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

// warningTime is how long warnings are looked for, once the claims are settled.
const warningTime = 10 * time.Second

// prove proves the policy as it is now, and looks for warnings if it is to.
func (c *checking) prove(warnings bool) {
	begin := time.Now()
	var late time.Time
	enough := func() bool {
		if late.IsZero() {
			late = time.Now().Add(warningTime)
		}
		return time.Now().After(late)
	}
	r := verify.Check(c.cfg.Program, verify.Options{NoWarnings: !warnings, Enough: enough, Late: c.late})
	c.o, c.took = proof.Apply(r, c.cfg.Waivers, time.Now()), time.Since(begin)
}

// exit is the exit status as an error that prints nothing.
func (c *checking) exit() error {
	switch {
	case c.unplayed > 0:
		return &exitError{code: exitUsage, text: fmt.Sprintf("%s could not be played", count(c.unplayed, "session"))}
	case c.o == nil || c.o.Status == verify.Unknown:
		return &exitError{code: exitUsage}
	case c.o.Status == verify.Open:
		return &exitError{code: exitNo}
	}
	return nil
}

func (c *checking) json() error {
	doc := proof.Failed(c.diags)
	if c.o != nil {
		doc = proof.NewDocument(c.cfg, c.diags, c.o, c.took)
	}
	if err := printJSON(c.e, doc); err != nil {
		return err
	}
	return c.exit()
}

// smt2 prints the obligations one behind the other, with a (reset) between: unsat to
// each is the proof that the filter it names does nothing of the sort.
func (c *checking) smt2() error {
	if c.cfg == nil {
		return c.text(context.Background())
	}
	for name, script := range verify.SMT2(c.cfg.Program, verify.Options{}) {
		fmt.Fprintf(c.e.stdout, "; %s\n(reset)\n(echo \"%s\")\n%s\n", name, name, script)
	}
	return nil
}

func (c *checking) sarif() error {
	b, err := json.MarshalIndent(proof.Sarif(c.cfg, c.diags, c.o, app.Version()), "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(c.e.stdout, "%s\n", b)
	return c.exit()
}

// text prints for people. A configuration that does not load is told on standard
// error's last line, as every command does.
func (c *checking) text(ctx context.Context) error {
	c.diags.Write(c.e.stdout, c.e.colour)
	if c.cfg == nil {
		return &exitError{code: exitUsage, text: fmt.Sprintf("%s does not load: %s", c.path, c.diags.Count())}
	}
	if len(c.diags) > 0 {
		fmt.Fprintln(c.e.stdout)
	}
	w := c.writer()
	w.Findings(c.o)
	if c.replay {
		if err := c.playAll(ctx); err != nil {
			return err
		}
	}
	if c.repair {
		if err := c.mend(); err != nil {
			return err
		}
	}
	if !c.quiet {
		w = c.writer()
		w.Assumptions(c.o)
		w.Cut(c.o)
	}
	fmt.Fprintf(c.e.stdout, "%s: policy %s is %s\n", c.path, c.cfg.Version, proof.Summary(c.o, c.took))
	return c.exit()
}

func (c *checking) writer() *proof.Writer {
	return &proof.Writer{W: c.e.stdout, Colour: c.e.colour, Config: c.cfg}
}

// playAll replays the witness of each fault.
func (c *checking) playAll(ctx context.Context) error {
	for i := range c.o.Result.Findings {
		f := &c.o.Result.Findings[i]
		if f.Severity != verify.Fault || f.Witness == nil {
			continue
		}
		fmt.Fprintf(c.e.stdout, "replay of %s at %s:\n", f.Code, f.Pos)
		r, err := replay.Play(ctx, replay.Options{Config: c.cfg, Witness: f.Witness})
		if err != nil {
			return &exitError{code: exitUsage, text: fmt.Sprintf("replay: %v", err)}
		}
		for _, line := range r.Lines {
			fmt.Fprintf(c.e.stdout, "    %s\n", line)
		}
		fmt.Fprintf(c.e.stdout, "  %s\n\n", r.Verdict())
		if r.Skipped != "" {
			c.unplayed++
			continue
		}
		if !r.Confirmed {
			return &exitError{code: exitUsage, text: "the gateway does not do what the prover says", hint: "please report it: this is a fault in Postern"}
		}
	}
	return nil
}

// maxRepairs bounds how many repairs are made one after the other.
const maxRepairs = 32

// mend makes the repairs one by one, proves again after each, and writes the files
// only in the end.
func (c *checking) mend() error {
	first, edited := c.cfg, map[string][]byte{}
	for range maxRepairs {
		repairs := c.o.Repairs()
		if len(repairs) == 0 {
			break
		}
		files, err := proof.Edit(c.cfg, repairs[0])
		if err != nil {
			return &exitError{code: exitUsage, text: err.Error(), hint: repairs[0].String()}
		}
		for n, b := range files {
			edited[n] = b
		}
		cfg, diags := proof.Reread(c.path, edited, config.Options{Late: c.late}, os.ReadFile)
		if cfg == nil && c.late() {
			return &exitError{code: exitUsage, text: "time was up; nothing is written", hint: "give it more with -budget"}
		}
		if cfg == nil || !proof.Same(cfg.Program.Filters, repairs[0].Filters) {
			return &exitError{code: exitUsage, text: fmt.Sprintf("the repair cannot be written: the files would say something else (%s)", diags.Count()), hint: repairs[0].String()}
		}
		fmt.Fprintf(c.e.stdout, "repaired: %s\n", repairs[0])
		c.cfg, c.diags = cfg, diags
		c.prove(false) // warnings have been told, and take longer than all the rest
	}
	if len(edited) > 0 && c.late() {
		return &exitError{code: exitUsage, text: "time was up; nothing is written", hint: "give it more with -budget"}
	}
	if len(edited) == 0 {
		fmt.Fprintln(c.e.stdout, "nothing is written: there is no repair to make")
		return nil
	}
	c.writer().Diff(proof.Patch(first, edited))
	return c.store(first, edited)
}

// store writes the edited files, if they are still those that were read.
func (c *checking) store(first *config.Config, edited map[string][]byte) error {
	var names []string
	for n := range edited {
		now, err := os.ReadFile(n)
		if err != nil || !bytes.Equal(now, first.Sources[n]) {
			return &exitError{code: exitUsage, text: n + " has changed meanwhile; nothing is written"}
		}
		names = append(names, n)
	}
	if err := proof.Store(edited); err != nil {
		return &exitError{code: exitUsage, text: err.Error()}
	}
	sort.Strings(names)
	for _, n := range names {
		fmt.Fprintf(c.e.stdout, "%s is written\n", n)
	}
	return nil
}
