package app_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/ledger"
)

// TestLogEventsAreTheLedgers holds the names that a configuration may use against the
// kinds that there are.
func TestLogEventsAreTheLedgers(t *testing.T) {
	var kinds []string
	for k := ledger.KindAccepted; k.String() != "unknown"; k++ {
		kinds = append(kinds, k.String())
	}
	if got := config.LogEvents(); !slices.Equal(got, kinds) {
		t.Errorf("got %q, the ledger has %q", got, kinds)
	}
}

// TestEveryEventIsDocumented looks for each kind and record in the description of log
// files.
func TestEveryEventIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(config.LogEvents(), "gap") {
		if !strings.Contains(string(b), `"event":"`+k+`"`) {
			t.Errorf("docs/logs.md has no line of %s", k)
		}
	}
	for _, r := range config.LogRecords() {
		if !bytes.Contains(b, []byte("\n| `"+r+"` |")) {
			t.Errorf("docs/logs.md has no record %s", r)
		}
	}
}

// TestLogFilesChangeWithAReload adds a log file, changes it, and takes one that cannot
// be opened: the running ones stay as they are.
func TestLogFilesChangeWithAReload(t *testing.T) {
	w := newWorld(t, "")
	path := filepath.Join(w.dir, "a.jsonl")
	read := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	base, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	load := func(more string) error {
		t.Helper()
		if err := os.WriteFile(w.file, append(slices.Clone(base), more...), 0o600); err != nil {
			t.Fatal(err)
		}
		return w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t"}, nil)
	}
	if err := load("log_file \"a\" { path = \"a.jsonl\" }\n"); err != nil {
		t.Fatal(err)
	}
	if err := load("log_file \"a\" {\n  path = \"a.jsonl\"\n  events = [\"policy-loaded\"]\n}\nlog_file \"b\" { path = \"b\" }\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := load("log_file \"c\" { path = \"folder\" }\n"); err == nil || !strings.Contains(err.Error(), `log file "c"`) {
		t.Errorf("a log file that is a folder: %v", err)
	}
	if err := load("log_file \"b\" { path = \"b\" }\n"); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(read(), `"event":"policy-loaded"`); n != 2 {
		t.Errorf("%d loads are in the file, 2 happened while it was wanted:\n%s", n, read())
	}
}
