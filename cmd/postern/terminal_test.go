package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: what a person sees and types, and the program's end.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// prompted is where prompts go: after each it has the person type the next line.
type prompted struct {
	person *os.File
	types  []string
	seen   bytes.Buffer
}

func (p *prompted) Write(b []byte) (int, error) {
	p.seen.Write(b)
	if bytes.HasSuffix(b, []byte(": ")) && len(p.types) > 0 {
		line := p.types[0]
		p.types = p.types[1:]
		// Typed a little later, when the echo is off: what comes before is shown by any terminal.
		time.AfterFunc(50*time.Millisecond, func() { _, _ = io.WriteString(p.person, line+"\n") })
	}
	return len(b), nil
}

// TestPasswdOnATerminal types a password and looks that it is shown nowhere.
func TestPasswdOnATerminal(t *testing.T) {
	for _, c := range []struct {
		name  string
		types []string
		code  int
		says  string
	}{
		{"twice the same", []string{"opensesame", "opensesame"}, 0, ""},
		{"not the same", []string{"opensesame", "opensesams"}, exitUsage, "the two are not the same"},
		{"empty", []string{"", ""}, exitUsage, "empty password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			person, program := terminal(t)
			shown := make(chan string, 1)
			go func() { b, _ := io.ReadAll(person); shown <- string(b) }()
			stderr, stdout := &prompted{person: person, types: c.types}, &bytes.Buffer{}
			if code := Main([]string{"passwd"}, program, stdout, stderr); code != c.code || !strings.Contains(stderr.seen.String(), c.says) {
				t.Errorf("exit %d: %s", code, stderr.seen.String())
			}
			if (c.code == 0) != strings.HasPrefix(stdout.String(), "SCRAM-SHA-256$") {
				t.Errorf("printed %q", stdout)
			}
			program.Close()
			if got := <-shown; strings.Contains(got, "sesam") || strings.Contains(stderr.seen.String(), "sesam") {
				t.Errorf("the terminal shows %q", got)
			}
		})
	}
}
