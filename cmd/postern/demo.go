package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"postern.dev/postern/internal/demo"
)

func runDemo(ctx context.Context, e *env, args []string) error {
	f := flags("demo")
	asJSON := f.Bool("json", false, "")
	keep := f.Bool("keep", false, "")
	seed := f.Uint64("seed", 2008, "")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usagef("demo takes no arguments")
	}
	dir, err := os.MkdirTemp("", "postern-demo-")
	if err != nil {
		return err
	}
	if !*keep {
		defer os.RemoveAll(dir)
	}
	o := demo.Options{Dir: dir, Out: e.stdout, Terminal: e.colour, Seed: *seed}
	if *asJSON {
		o.Out, o.Terminal = e.stderr, isTerminal(e.stderr)
	}
	if *keep {
		o.Keep = func(ctx context.Context, file string) { stay(ctx, o.Out, file) }
	}
	r, err := demo.Play(ctx, o)
	if err != nil {
		return &exitError{code: exitNo, text: "demo: " + err.Error()}
	}
	if *asJSON {
		err = printJSON(e, r)
	} else {
		ending(e.stdout, r, *keep)
	}
	if err != nil {
		return err
	}
	if why := r.Wrong(); why != "" {
		return &exitError{code: exitNo, text: "demo: " + why}
	}
	return nil
}

// stay leaves the node running until it is interrupted.
func stay(ctx context.Context, w io.Writer, file string) {
	fmt.Fprintf(w, "\n        The node runs on. In another terminal:\n"+
		"          postern incident ls -all %[1]s\n          postern incident advisory INC-... %[1]s\n          postern impact INC-... %[1]s\n          postern trace -recipient victim... %[1]s\n          postern queue ls %[1]s\n        Ctrl-C ends it; the configuration and its state stay.\n", file)
	<-ctx.Done()
}

func ending(w io.Writer, r *demo.Result, kept bool) {
	fmt.Fprintf(w, "        Here: opened at complaint %d, %d of %d hand-offs counted, none after the repair, in %.1f s.\n", r.Incident.OpenedAtComplaint, r.Incident.Impact, r.StrangerDelivered, r.Seconds)
	if !kept {
		fmt.Fprint(w, "\n        Look closer: postern demo -keep leaves the node running for\n          postern trace, postern impact, postern incident advisory\n")
	}
}
