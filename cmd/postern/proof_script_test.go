package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestProofScripts runs what is about proofs as people do, from testdata/proof. Besides
// what testscript has: exits CODE ARGS runs postern and wants that exit code;
// edit FILE OLD NEW replaces a text; join FILE MORE appends. MONTH is a day a month ahead.
func TestProofScripts(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	exits := func(ts *testscript.TestScript, _ bool, args []string) {
		err := ts.Exec(exe, args[1:]...)
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			ts.Fatalf("%v", err)
		}
		if strconv.Itoa(code) != args[0] {
			ts.Fatalf("exit %d, want %s", code, args[0])
		}
	}
	edit := func(ts *testscript.TestScript, _ bool, args []string) {
		text := ts.ReadFile(args[0])
		if !strings.Contains(text, args[1]) {
			ts.Fatalf("%s has no %q", args[0], args[1])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
	}
	join := func(ts *testscript.TestScript, _ bool, args []string) {
		text := ts.ReadFile(args[0]) + ts.ReadFile(args[1])
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/proof",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "edit": edit, "join": join},
		Setup: func(e *testscript.Env) error {
			e.Setenv("POSTERN_TEST_AS_PROGRAM", "1")
			e.Setenv("NO_COLOR", "1")
			e.Setenv("EXAMPLES", examples)
			e.Setenv("MONTH", time.Now().AddDate(0, 1, 0).UTC().Format(time.DateOnly))
			return nil
		},
	})
}
