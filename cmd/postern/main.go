// Postern is a mail gateway for those who send for others: it proves what it may
// relay, remembers everything it sends, and notices when a complaint comes back for
// mail that nobody of its own sent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Exit codes: scripts rely on them.
const (
	exitOK    = 0
	exitNo    = 1 // the answer is no: an open policy, an incident, something not found
	exitUsage = 2 // bad input, or it cannot be told
)

// env is what a command may touch of the process.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	colour bool // stdout is a terminal and NO_COLOR is not set
}

// command is one subcommand: what it does, how it is called, an example.
type command struct {
	name    string
	args    string
	short   string
	long    string
	example string
	run     func(ctx context.Context, e *env, args []string) error
}

// exitError ends a command with an exit code. An empty text prints nothing more.
type exitError struct {
	code int
	text string
	hint string
}

func (e *exitError) Error() string { return e.text }

// usagef makes the error for a wrong call.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, text: fmt.Sprintf(format, args...)}
}

func main() {
	os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Main runs the program and gives its exit code. Tests call it in place of the
// process.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second signal ends what the first does not
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr, colour: isTerminal(stdout)}
	if err := dispatch(ctx, e, args); err != nil {
		return complain(e, err)
	}
	return exitOK
}

// endAtOnce lets a signal end a command that computes and has nothing to put away, until
// the answer is called.
func endAtOnce(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { os.Exit(exitUsage) })
}

// complain prints an error as "postern: text" and a hint on a line of its own.
func complain(e *env, err error) int {
	var x *exitError
	if !errors.As(err, &x) {
		fmt.Fprintf(e.stderr, "postern: %v\n", err)
		return exitUsage
	}
	if x.text != "" {
		fmt.Fprintf(e.stderr, "postern: %s\n", x.text)
	}
	if x.hint != "" {
		fmt.Fprintf(e.stderr, "hint: %s\n", x.hint)
	}
	return x.code
}

func dispatch(ctx context.Context, e *env, args []string) error {
	all := commands()
	if len(args) == 0 || isHelp(args[0]) {
		if len(args) > 1 {
			return help(e, all, args[1])
		}
		overview(e.stdout, all)
		if len(args) == 0 {
			return &exitError{code: exitUsage}
		}
		return nil
	}
	for i := range all {
		if all[i].name != args[0] {
			continue
		}
		if len(args) > 1 && isHelp(args[1]) {
			return help(e, all, args[0])
		}
		err := all[i].run(ctx, e, args[1:])
		if errors.As(err, new(*helpWanted)) {
			return help(e, all, args[0])
		}
		return err
	}
	return unknownCommand(all, args[0])
}

// unknownCommand refuses, with the command that was likely meant.
func unknownCommand(all []command, name string) error {
	hint := "postern help lists them"
	for i := range all {
		if near(all[i].name, name) {
			hint = fmt.Sprintf("did you mean %q?", all[i].name)
		}
	}
	return &exitError{code: exitUsage, text: fmt.Sprintf("unknown command %q", name), hint: hint}
}

// near reports whether two words differ by one letter, or by two that have changed
// places.
func near(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

func isHelp(s string) bool { return s == "help" || s == "-h" || s == "-help" || s == "--help" }

func overview(w io.Writer, all []command) {
	fmt.Fprint(w, "Postern is a mail gateway that proves what it relays, remembers what it sends,\nand notices complaints about mail that nobody of its own sent.\n\nusage: postern COMMAND [FLAGS] [ARGUMENTS]\n\n")
	for i := range all {
		fmt.Fprintf(w, "  %-10s %s\n", all[i].name, all[i].short)
	}
	fmt.Fprint(w, "\npostern help COMMAND tells more. Start with: postern demo\n")
}

func help(e *env, all []command, name string) error {
	for i := range all {
		c := &all[i]
		if c.name != name {
			continue
		}
		fmt.Fprintf(e.stdout, "usage: %s\n\n%s\n", strings.TrimSpace("postern "+c.name+" "+c.args), strings.TrimSpace(c.long))
		var h *helpWanted
		if errors.As(c.run(context.Background(), e, []string{"-h"}), &h) {
			describe(e, h.flags)
		}
		fmt.Fprintf(e.stdout, "\nexample:\n  %s\n", strings.ReplaceAll(strings.TrimSpace(c.example), "\n", "\n  "))
		return nil
	}
	return unknownCommand(all, name)
}

// helpWanted ends a command whose flags ask for help.
type helpWanted struct{ flags *flag.FlagSet }

// Error implements error.
func (*helpWanted) Error() string { return "help" }

// describe lists flags, one a line.
func describe(e *env, f *flag.FlagSet) {
	w := table(e)
	first := true
	f.VisitAll(func(fl *flag.Flag) {
		if first {
			fmt.Fprintln(e.stdout, "\nflags:")
			first = false
		}
		value, text := flag.UnquoteUsage(fl)
		fmt.Fprintf(w, "  %s\t%s\n", strings.TrimSpace("-"+fl.Name+" "+value), text)
	})
	_ = w.Flush()
}

// actionOf splits what a command is to do from the rest, and holds it against the
// actions that there are.
func actionOf(f *flag.FlagSet, args, actions []string) (string, []string, error) {
	if len(args) > 0 && isHelp(args[0]) {
		return "", nil, &helpWanted{f}
	}
	list := strings.Join(actions, ", ")
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return "", nil, &exitError{code: exitUsage, text: fmt.Sprintf("%s needs an action first: %s", f.Name(), list), hint: "postern help " + f.Name()}
	}
	if !slices.Contains(actions, args[0]) {
		return "", nil, &exitError{code: exitUsage, text: fmt.Sprintf("unknown action %q of %s: %s", args[0], f.Name(), list), hint: "postern help " + f.Name()}
	}
	return args[0], args[1:], nil
}

// flags makes a flag set that leaves printing to complain.
func flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

// parse reads flags that may stand before, between and behind the arguments.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, &helpWanted{f}
			}
			text := strings.Replace(err.Error(), "flag provided but not defined:", "unknown flag", 1)
			return nil, &exitError{code: exitUsage, text: f.Name() + ": " + text, hint: "postern help " + f.Name()}
		}
		args = f.Args()
		if len(args) == 0 {
			return rest, nil
		}
		rest = append(rest, args[0])
		args = args[1:]
	}
}

// isTerminal reports whether w is a terminal, where colour and progress make sense.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
