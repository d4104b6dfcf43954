package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"postern.dev/postern/internal/demo"
)

func runDemo(ctx context.Context, e *env, args []string) error {
	f := flags("demo")
	asJSON := f.Bool("json", false, "print JSON: a line for each complaint, and last the sum")
	keep := f.Bool("keep", false, "leave the node running, and name the commands to look at it")
	seed := f.Uint64("seed", 2008, "`N` that recipients and letters are drawn with")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &exitError{code: exitUsage, text: "demo takes no arguments", hint: "postern help demo"}
	}
	dir, err := os.MkdirTemp("", "postern-demo-")
	if err != nil {
		return err
	}
	if !*keep {
		defer os.RemoveAll(dir)
	}
	return play(ctx, e, demo.Options{Dir: dir, Out: e.stdout, Terminal: e.colour, Seed: *seed}, *asJSON, *keep)
}

// play tells the story to people or to a program, and says no where it went wrong.
func play(ctx context.Context, e *env, o demo.Options, asJSON, keep bool) error {
	finish := func(r *demo.Result) error {
		ending(o.Out, r, keep)
		return nil
	}
	if asJSON {
		o.Out, o.Terminal = e.stderr, isTerminal(e.stderr)
		o.Judged = func(c demo.Complaint) { _ = printJSON(e, c) }
		finish = func(r *demo.Result) error { return printJSON(e, r) }
	}
	var kept error
	if keep {
		o.Keep = func(ctx context.Context, file string, r *demo.Result) {
			kept = finish(r)
			stay(ctx, o.Out, file, r)
		}
	}
	r, err := demo.Play(ctx, o)
	if err != nil {
		return &exitError{code: exitNo, text: "demo: " + err.Error()}
	}
	if !keep {
		kept = finish(r)
	}
	if kept != nil {
		return kept
	}
	if why := r.Wrong(); why != "" {
		return &exitError{code: exitNo, text: "demo: " + why}
	}
	return nil
}

// self names this very program so that a copied command works: where it lies,
// unless the shell finds it by its name.
func self() string {
	exe, err := os.Executable()
	if err != nil {
		return "postern"
	}
	if found, err := exec.LookPath("postern"); err == nil && found == exe {
		return "postern"
	}
	return exe
}

// stay leaves the node running until it is interrupted.
func stay(ctx context.Context, w io.Writer, file string, r *demo.Result) {
	p := self()
	fmt.Fprint(w, "\n        The node runs on. In another terminal:\n\n")
	for _, c := range []string{"status", "incident ls -all", "incident show " + r.Incident.ID, "impact " + r.Incident.ID, "incident advisory " + r.Incident.ID,
		"trace -recipient " + r.Victim, "trace -recipient " + r.Reader, "queue ls"} {
		fmt.Fprintf(w, "          %s %s %s\n", p, c, file)
	}
	fmt.Fprintf(w, "\n        Ctrl-C ends it; the configuration and its state stay in %s.\n", filepath.Dir(file))
	<-ctx.Done()
}

func ending(w io.Writer, r *demo.Result, kept bool) {
	fmt.Fprintf(w, "        Here: opened at complaint %d, %d of %d hand-offs counted, none after the repair, in %.1f s.\n", r.Incident.OpenedAtComplaint, r.Incident.Impact, r.StrangerDelivered, r.Seconds)
	if !kept {
		fmt.Fprintf(w, "\n        Look closer: %s demo -keep\n        leaves the node running for postern trace, impact and incident advisory.\n", self())
	}
}
