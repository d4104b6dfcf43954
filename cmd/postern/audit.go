package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern.dev/postern/internal/audit"
	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/dialect/asyncos"
	"postern.dev/postern/internal/dialect/opensmtpd"
	"postern.dev/postern/internal/dialect/postfix"
	"postern.dev/postern/internal/verify"
)

const auditHelp = `Reads the configuration of another mail server and proves that it relays nothing for
strangers, or prints the session by which it would, and the rule that lets it by. Known are
Postfix: PATH is its configuration folder, with main.cf, master.cf and the tables, or a file
that postconf -n printed; each smtpd service of master.cf is proved by itself. And Cisco
AsyncOS: PATH is the exported XML configuration, or a folder with listeners.txt, filters.txt,
hat.txt, rat.txt, smtproutes.txt; each listener is proved by itself. And OpenSMTPD: PATH is
smtpd.conf or its folder; each listen statement is proved by itself.

What is not in the configuration (policy services, LDAP and SQL tables, reverse DNS) is taken
to permit whatever it could: what still relays nothing is closed, the rest is unknown, with
the line. Nothing is ever sent anywhere.

Exit status: 0 closed, 1 open, 2 cannot tell or bad input.`

// maxConfiguration bounds a file of a configuration.
const maxConfiguration = 256 << 20

func runAudit(ctx context.Context, e *env, args []string) error {
	f := flags("audit")
	asJSON := f.Bool("json", false, "print one JSON object")
	name := f.String("dialect", "", "the server's `NAME`; found out where it is not given: asyncos, opensmtpd, postfix")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	path, err := oneFile("audit", rest)
	if err != nil {
		return err
	}
	stop := endAtOnce(ctx)
	defer stop()
	m, err := auditModel(path, *name)
	if err != nil {
		return &exitError{code: exitUsage, text: err.Error()}
	}
	r := audit.Run(m, verify.Options{})
	if *asJSON {
		if err := printJSON(e, r); err != nil {
			return err
		}
	} else {
		r.Text(e.stdout, path)
	}
	switch r.Status {
	case verify.Open:
		return &exitError{code: exitNo}
	case verify.Unknown:
		return &exitError{code: exitUsage}
	}
	return nil
}

// auditModel reads a configuration by its dialect.
func auditModel(path, name string) (*dialect.Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	dir := path
	if !info.IsDir() {
		dir = filepath.Dir(path)
	}
	if name == "" {
		name = dialectOf(dir, path, info.IsDir())
	}
	switch name {
	case "":
		return nil, fmt.Errorf("audit %s: no configuration of a known server is there: main.cf is looked for (postfix), smtpd.conf (opensmtpd), listeners.txt or the exported XML (asyncos)", path)
	case "opensmtpd":
		file := "smtpd.conf"
		if !info.IsDir() {
			file = filepath.Base(path)
		}
		return opensmtpd.Model(file, readBelow(dir))
	case "asyncos":
		return asyncosModel(dir, path, info.IsDir())
	case "postfix":
		return postfixModel(dir, path, info.IsDir())
	}
	return nil, fmt.Errorf("audit: no dialect %q; known are asyncos, opensmtpd and postfix", name)
}

// dialectOf tells by the files that are there whose configuration it is, or "".
func dialectOf(dir, path string, folder bool) string {
	if !folder {
		if filepath.Base(path) == "smtpd.conf" {
			return "opensmtpd"
		}
		if part, _ := asyncos.Part(path); part == "xml" {
			return "asyncos"
		}
		return "postfix"
	}
	if _, err := os.Stat(filepath.Join(dir, "main.cf")); err == nil {
		return "postfix"
	}
	if _, err := os.Stat(filepath.Join(dir, "smtpd.conf")); err == nil {
		return "opensmtpd"
	}
	for _, f := range asyncosFiles(dir) {
		if part, _ := asyncos.Part(f); part == "xml" || part == "listeners" {
			return "asyncos"
		}
	}
	return ""
}

// asyncosFiles gives the files of a folder that hold a part of a configuration.
func asyncosFiles(dir string) []string {
	var out []string
	all, _ := os.ReadDir(dir)
	for _, f := range all {
		if part, _ := asyncos.Part(f.Name()); part != "" && !f.IsDir() {
			out = append(out, f.Name())
		}
	}
	return out
}

func asyncosModel(dir, path string, folder bool) (*dialect.Model, error) {
	files := []string{filepath.Base(path)}
	if folder {
		files = asyncosFiles(dir)
	}
	return asyncos.Model(asyncos.Source{Files: files, Read: readBelow(dir)})
}

func postfixModel(dir, path string, folder bool) (*dialect.Model, error) {
	main, master := "main.cf", "master.cf"
	if !folder {
		main, master = filepath.Base(path), ""
	} else if _, err := os.Stat(filepath.Join(dir, master)); errors.Is(err, fs.ErrNotExist) {
		master = ""
	}
	return postfix.Model(postfix.Source{Main: main, Master: master, Read: readBelow(dir), Directory: "/etc/postfix"})
}

// readBelow reads files of a configuration folder, wherever it was on the server: an
// absolute name is looked for by what it has below /etc/postfix, then by its last part.
func readBelow(dir string) dialect.Read {
	return func(name string) ([]byte, error) {
		name = strings.TrimPrefix(name, "/etc/postfix/")
		for _, at := range []string{filepath.Join(dir, filepath.FromSlash(name)), filepath.Join(dir, filepath.Base(name))} {
			info, err := os.Stat(at)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if info.Size() > maxConfiguration {
				return nil, fmt.Errorf("%s is larger than %d MiB", name, maxConfiguration>>20)
			}
			return os.ReadFile(at)
		}
		return nil, dialect.ErrNotFound
	}
}
