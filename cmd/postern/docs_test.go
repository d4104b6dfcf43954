package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/report"
)

// called finds calls of postern in documents: in code, at the start of a line or
// behind a command of the shell.
var called = regexp.MustCompile("(?m)(?:^ *|`|&& |\"|=|sh -c '|/usr/bin/|bin/)postern ([a-z]+)([^`\n#]*)")

// TestDocumentsNameWhatThereIs holds every call of postern in a document or package
// file against the commands, their actions and their flags.
func TestDocumentsNameWhatThereIs(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "testdata", "tools"}, d.Name()) {
			return fs.SkipDir
		}
		if d.IsDir() || !(strings.HasSuffix(name, ".md") || strings.HasSuffix(name, ".service") || d.Name() == "Dockerfile") {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range called.FindAllStringSubmatch(string(b), -1) {
			seen++
			ours, _, _ := strings.Cut(m[2], " | ") // what follows is another program's
			if why := wrongCall(m[1], strings.Fields(ours)); why != "" {
				t.Errorf("%s: %q: %s", name, strings.TrimSpace(m[0]), why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d calls were found in the documents", seen)
	}
}

// wrongCall says what is wrong with a call, "" where nothing is.
func wrongCall(name string, args []string) string {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if name == "help" {
		return ""
	}
	if i < 0 {
		return "there is no such command"
	}
	e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}
	var h *helpWanted
	if !errors.As(all[i].run(context.Background(), e, []string{"-h"}), &h) {
		return "it does not say its flags"
	}
	actions, _, _ := strings.Cut(all[i].args, " ")
	for k, a := range args {
		if f, ok := strings.CutPrefix(strings.Trim(a, "[]),.\\"), "-"); ok && f != "" && h.flags.Lookup(f) == nil {
			return "there is no flag -" + f
		}
		if k == 0 && strings.Contains(actions, "|") && !strings.HasPrefix(actions, "FILE") && regexp.MustCompile(`^[a-z]+$`).MatchString(a) && !slices.Contains(strings.Split(actions, "|"), a) {
			return "there is no action " + a
		}
	}
	return ""
}

// TestUnit lets systemd read the unit, with this machine's names in place of those that
// only an installation makes.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	b, err := os.ReadFile("../../packaging/postern.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "postern.service")
	text := strings.NewReplacer("/usr/bin/postern", "/bin/true", "User=postern", "User=root", "Group=postern", "Group=root").Replace(string(b))
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", unit).CombinedOutput(); err != nil || strings.Contains(string(out), unit) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=25", unit).CombinedOutput(); err != nil {
		t.Errorf("it is exposed: %v\n%s", err, out)
	}
}

// TestREADMENamesEveryCommand holds the table of commands against the commands.
func TestREADMENamesEveryCommand(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names() {
		if name != "version" && !regexp.MustCompile("[`,|] ?(postern )?"+name+"\\b").Match(b) {
			t.Errorf("README.md does not name %s", name)
		}
	}
}

// TestReferenceNamesWhatThereIs: what stands in the first column of the reference's
// tables of fields and functions, there is; and the verdicts are those of the judge.
func TestReferenceNamesWhatThereIs(t *testing.T) {
	known := policy.FieldNames()
	for _, f := range policy.FunctionNames() {
		known = append(known, f+"()")
	}
	rows := firstColumn(t, "../../docs/configuration.md", "## Conditions", "## assert")
	if len(rows) < 30 {
		t.Fatalf("only %d names in the reference", len(rows))
	}
	for _, n := range rows {
		if i := strings.IndexByte(n, '('); i > 0 {
			n = n[:i] + "()"
		}
		if !slices.Contains(known, n) {
			t.Errorf("the reference names %s, which there is not", n)
		}
	}
	var kinds []string
	for _, k := range []report.Kind{report.Malformed, report.Duplicate, report.Forged, report.Expired, report.Replayed, report.Sent, report.Leaked, report.Bypassed, report.Foreign, report.Undecidable} {
		kinds = append(kinds, string(k))
	}
	b, err := os.ReadFile("../../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\| \*{0,2}([a-z]+)\*{0,2} \|`).FindAllSubmatch(b, -1) {
		if w := string(m[1]); w != "verdict" {
			listed = append(listed, w)
		}
	}
	slices.Sort(kinds)
	slices.Sort(listed)
	if !slices.Equal(kinds, listed) {
		t.Errorf("docs/verdicts.md lists %q, the judge gives %q", listed, kinds)
	}
}

// firstColumn gives the code in the first cells of the tables between two headings.
func firstColumn(t *testing.T, name, from, to string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), from)
	if !ok {
		t.Fatalf("%s has no %q", name, from)
	}
	text, _, _ = strings.Cut(text, to)
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			out = append(out, m[1])
		}
	}
	return out
}

// TestREADMEFirstMessage does what the README says to a newcomer, line by line, on
// ports that are free.
func TestREADMEFirstMessage(t *testing.T) {
	for _, name := range []string{"swaks", "smtp-sink", "curl", "bash"} {
		need(t, name)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sink := need(t, "smtp-sink")
	if os.Geteuid() == 0 {
		sink += " -u nobody"
	}
	ports := []string{}
	for _, p := range []struct{ was, host string }{{":2525", "127.0.0.1"}, {":2587", "127.0.0.1"}, {":9025", "127.0.0.1"}, {":2626", "127.0.0.2"}} {
		ports = append(ports, p.was, fmt.Sprintf(":%d", freePort(t, p.host)))
	}
	// A newcomer's fingers are slower than two servers' start: what talks to them is
	// tried again.
	script := "set -e -m\nagain() { for i in $(seq 100); do \"$@\" > out 2>&1 && { cat out; return 0; }; done; cat out; return 1; }\n"
	replace := strings.NewReplacer(append(ports, "bin/postern", exe, "/usr/sbin/smtp-sink", sink)...)
	for _, line := range firstMessage(t) {
		switch {
		case strings.HasPrefix(line, "make build"):
			continue
		case strings.Contains(line, "you@aol.com"):
			line = strings.Replace(line, "#", "&& exit 9 || echo refused #", 1)
		case strings.HasPrefix(line, "swaks"), strings.HasPrefix(line, "curl"):
			line = "again " + line
		case strings.HasPrefix(line, "bin/postern trace"):
			line = "until " + strings.Replace(line, "#", "| tee out | grep 'peer said' #", 1) + "\ndo :; done; cat out"
		}
		script += replace.Replace(line) + "\n"
		if strings.HasPrefix(line, "bin/postern init") {
			script += fmt.Sprintf("sed -i 's/%s/%s/; s/%s/%s/; s/%s/%s/' try.hcl\n", ports[0], ports[1], ports[2], ports[3], ports[4], ports[5])
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "POSTERN_TEST_AS_PROGRAM=1", "GORACE=atexit_sleep_ms=0")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	for _, want := range []string{" is closed: ", "250 2.0.0 accepted as", "accepted by listener injection", "customer me", "handed off recipient 0", "peer said: 250", "550 5.7.1", "refused", "ready"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// firstMessage gives the commands of the README's section.
func firstMessage(t *testing.T) (lines []string) {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "## The first message")
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, strings.TrimRight(code, "\n"))
		}
	}
	return lines
}
