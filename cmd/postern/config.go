package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/term"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
)

// loadConfig reads a configuration and prints what is wrong with it. loud prints
// warnings too.
func loadConfig(e *env, path string, loud bool, late func() bool) (*config.Config, error) {
	cfg, diags := config.Load(path, config.Options{Late: late})
	if loud || diags.HasErrors() {
		diags.Write(e.stderr, isTerminal(e.stderr))
	}
	if diags.HasErrors() {
		return nil, &exitError{code: exitUsage, text: fmt.Sprintf("%s does not load: %s", path, diags.Count())}
	}
	return cfg, nil
}

func runFmt(_ context.Context, e *env, args []string) error {
	f := flags("fmt")
	write := f.Bool("w", false, "write the files back, and name those that changed")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		src, err := io.ReadAll(e.stdin)
		if err != nil {
			return err
		}
		out, err := config.Fmt(src)
		if err != nil {
			return usagef("standard input: %v", err)
		}
		_, err = e.stdout.Write(out)
		return err
	}
	for _, name := range rest {
		if err := fmtFile(e, name, *write); err != nil {
			return err
		}
	}
	return nil
}

func fmtFile(e *env, name string, write bool) error {
	src, err := os.ReadFile(name)
	if err != nil {
		return usagef("%v", err)
	}
	out, err := config.Fmt(src)
	if err != nil {
		return usagef("%s: %v", name, err)
	}
	if !write {
		_, err = e.stdout.Write(out)
		return err
	}
	if bytes.Equal(src, out) {
		return nil
	}
	fmt.Fprintln(e.stdout, name)
	return proof.Store(map[string][]byte{name: out})
}

func runInit(_ context.Context, e *env, args []string) error {
	f := flags("init")
	hostname := f.String("hostname", "", "the gateway's `NAME` in the DNS (this machine's)")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	name := "postern.hcl"
	if len(rest) > 0 {
		name = rest[0]
	}
	if len(rest) > 1 {
		return &exitError{code: exitUsage, text: "init writes one file", hint: "postern help init"}
	}
	if *hostname == "" {
		if *hostname, err = os.Hostname(); err != nil {
			return usagef("the host's name is unknown; give -hostname")
		}
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if errors.Is(err, fs.ErrExist) {
		return &exitError{code: exitUsage, text: name + " exists", hint: "name another file"}
	}
	if err != nil {
		return usagef("%v", err)
	}
	_, err = file.Write(config.Starter(config.StarterOptions{Hostname: *hostname}))
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if cfg, diags := config.Load(name, config.Options{}); cfg == nil || diags.HasErrors() {
		return errors.Join(usagef("hostname %q: %s", *hostname, diags[0].Message), os.Remove(name))
	}
	fmt.Fprintf(e.stdout, "%s is written: it relays for nobody yet.\nRead it, enter a customer, then: postern check %s && postern serve %s\n", name, name, name)
	return nil
}

func runPasswd(_ context.Context, e *env, args []string) error {
	args, err := parse(flags("passwd"), args)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		return &exitError{code: exitUsage, text: "passwd reads the password from standard input", hint: "printf %s 'secret' | postern passwd"}
	}
	password, err := readPassword(e)
	if err != nil {
		return err
	}
	if password == "" {
		return usagef("empty password")
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, config.HashPassword(password, salt, 16384))
	return nil
}

// readPassword reads a password: without an echo and twice on a terminal, from a pipe
// as it comes, less the end of its line.
func readPassword(e *env) (string, error) {
	if f, ok := e.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		first, err := ask(e, f, "password: ")
		if err != nil {
			return "", err
		}
		again, err := ask(e, f, "once more: ")
		if err != nil {
			return "", err
		}
		if first != again {
			return "", usagef("the two are not the same")
		}
		return first, nil
	}
	b, err := io.ReadAll(io.LimitReader(e.stdin, 1024))
	return string(bytes.TrimRight(b, "\r\n")), err
}

func ask(e *env, f *os.File, prompt string) (string, error) {
	fmt.Fprint(e.stderr, prompt)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(e.stderr)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return string(b), nil
}
