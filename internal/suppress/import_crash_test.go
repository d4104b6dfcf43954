package suppress_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"postern.dev/postern/internal/suppress"
)

// imported is what an import brings: many addresses, the first of which stands on the
// list for another reason, and some twice.
func imported(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s\n", appendAddress(nil, i))
		if i%100 == 99 {
			fmt.Fprintf(&b, "%s\n", appendAddress(nil, i-50))
		}
	}
	return b.String()
}

// state tells whether the list is as before an import of n addresses, or as after it.
func state(t *testing.T, s *suppress.Store, n int) string {
	t.Helper()
	got := map[string]suppress.Reason{}
	if err := s.Walk(t.Context(), suppress.Query{All: true}, func(e *suppress.Entry) (bool, error) {
		got[e.Address] = e.Reason
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	first := got[addressOf(0).String()]
	switch {
	case len(got) == 2 && first == suppress.Complaint && got["before@example.com"] == suppress.Manual:
		return "before"
	case len(got) == n+1 && first == suppress.Unsubscribe && got["before@example.com"] == suppress.Manual:
		return "after"
	}
	return fmt.Sprintf("torn: %d entries, the first %s", len(got), first)
}

// started makes a list with two entries on a disk; the buffer makes an import many runs.
func started(t *testing.T, fs vfs.FS, key string, buffer int) *suppress.Store {
	t.Helper()
	now := day
	s := list(t, &now, suppress.Options{FS: fs, Key: key, Buffer: buffer})
	if err := s.Add(suppress.Entry{Address: addressOf(0).String(), Reason: suppress.Complaint}, suppress.Entry{Address: "before@example.com"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestImportCrash loses power at points all along an import: it has been made, or not,
// and never a part of it; and it can be made again.
func TestImportCrash(t *testing.T) {
	const n, buffer = 2000, 16 << 10
	key := filepath.Join(t.TempDir(), "key")
	random := rand.New(rand.NewPCG(1, 1))
	seen := map[string]int{}
	for point := 0; ; point += 7 {
		fs := vfs.NewCrashableMem()
		var mu sync.Mutex
		var left *vfs.MemFS
		ops, armed := 0, false
		s := started(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if armed {
				if ops++; ops == point+1 {
					left = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
				}
			}
			return nil
		})), key, buffer)
		mu.Lock()
		armed = true
		mu.Unlock()
		if out, err := s.Import(t.Context(), strings.NewReader(imported(n)), suppress.ImportOptions{Reason: suppress.Unsubscribe}); err != nil || out.Bad != 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		mu.Lock()
		armed = false
		after := left
		mu.Unlock()
		if got := state(t, s, n); got != "after" {
			t.Fatalf("without a crash: %s", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if after == nil {
			break // the import has fewer points than that
		}
		now := day
		s = list(t, &now, suppress.Options{FS: after, Key: key, Buffer: buffer})
		got := state(t, s, n)
		seen[got]++
		if strings.HasPrefix(got, "torn") {
			t.Errorf("power lost at operation %d of the disk: %s", point, got)
		}
		if names, err := after.List("list/import"); err == nil {
			t.Errorf("power lost at operation %d of the disk: %q are left", point, names)
		}
		if _, err := s.Import(t.Context(), strings.NewReader(imported(n)), suppress.ImportOptions{Reason: suppress.Unsubscribe}); err != nil || state(t, s, n) != "after" {
			t.Errorf("made again: %v, %s", err, state(t, s, n))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if seen["before"] < 5 || seen["after"] < 1 {
		t.Errorf("the points tell little: %v", seen)
	}
}

// TestImportFails has every operation on an import's own files fail once: the list is as
// it was, goes on, and the import can be made again.
func TestImportFails(t *testing.T) {
	const n, buffer = 2000, 16 << 10
	full := errors.New("disk full")
	key := filepath.Join(t.TempDir(), "key")
	failures := 0
	for point := 0; ; point += 3 {
		var mu sync.Mutex
		ops, armed := 0, true
		s := started(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if armed && strings.Contains(op.Path, "import/") && op.Kind != errorfs.OpRemove && op.Kind != errorfs.OpFileClose {
				if ops++; ops == point+1 {
					return full
				}
			}
			return nil
		})), key, buffer)
		_, err := s.Import(t.Context(), strings.NewReader(imported(n)), suppress.ImportOptions{Reason: suppress.Unsubscribe})
		mu.Lock()
		armed = false
		done := ops <= point
		mu.Unlock()
		got := state(t, s, n)
		if err != nil && (got != "before" || !errors.Is(err, full)) || err == nil && got != "after" {
			t.Errorf("operation %d: %v, and the list is as %s", point, err, got)
		}
		if err != nil {
			failures++
			if _, err := s.Import(t.Context(), strings.NewReader(imported(n)), suppress.ImportOptions{Reason: suppress.Unsubscribe}); err != nil || state(t, s, n) != "after" {
				t.Errorf("made again: %v", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
	}
	if failures < 20 {
		t.Errorf("only %d operations fail", failures)
	}
}

// TestImportIsBrokenOff by who asked for it: nothing is on the list.
func TestImportIsBrokenOff(t *testing.T) {
	s := started(t, vfs.NewMem(), filepath.Join(t.TempDir(), "key"), 16<<10)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	out, err := s.Import(ctx, io.MultiReader(strings.NewReader(imported(9000)), calls(cancel), strings.NewReader(imported(9000))), suppress.ImportOptions{})
	if !errors.Is(err, context.Canceled) || out.Entries != 0 || state(t, s, 0) != "before" {
		t.Errorf("%+v, %v, %s", out, err, state(t, s, 0))
	}
}

// calls is a reader of nothing that does something.
type calls func()

func (c calls) Read([]byte) (int, error) { c(); return 0, io.EOF }

// TestEraseDuringAnImport: what is erased while an import is under way that names it
// does not come back with it.
func TestEraseDuringAnImport(t *testing.T) {
	for _, entirely := range []bool{false, true} {
		now := day
		s := list(t, &now, suppress.Options{Buffer: 16 << 10})
		secret := addressOf(7)
		if err := s.Add(suppress.Entry{Address: secret.String()}); err != nil {
			t.Fatal(err)
		}
		erase := calls(func() {
			if n, err := s.Erase(t.Context(), secret, entirely); n != 1 || err != nil {
				t.Errorf("erased %d, %v", n, err)
			}
		})
		out, err := s.Import(t.Context(), io.MultiReader(strings.NewReader(imported(1000)), erase, strings.NewReader(imported(1000))), suppress.ImportOptions{})
		if err != nil || out.Bad != 0 {
			t.Fatal(out, err)
		}
		e, found, err := s.Find("", secret)
		if err != nil || found == entirely || e.Address != "" {
			t.Errorf("entirely %v: %+v, %v, %v", entirely, e, found, err)
		}
		if _, found, err := s.Find("", addressOf(8)); !found || err != nil {
			t.Errorf("another address: %v, %v", found, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillDuringAnImport kills a process with SIGKILL at several points of an import.
func TestKillDuringAnImport(t *testing.T) {
	const n = 60_000
	if dir := os.Getenv("POSTERN_SUPPRESS_IMPORT"); dir != "" {
		importer(dir, n)
		return
	}
	dir := t.TempDir()
	open := func() *suppress.Store {
		s, err := suppress.Open(filepath.Join(dir, "list"), suppress.Options{Key: filepath.Join(dir, "key"), Buffer: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if err := s.Add(suppress.Entry{Address: addressOf(0).String(), Reason: suppress.Complaint}, suppress.Entry{Address: "before@example.com"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{1, 5, 13, 14, 1 << 20} { // lines of progress
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillDuringAnImport$")
		cmd.Env = append(os.Environ(), "POSTERN_SUPPRESS_IMPORT="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told, ended := 0, false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch {
			case strings.HasPrefix(lines.Text(), "line "):
				if told++; told == after {
					_ = cmd.Process.Kill()
				}
			case lines.Text() == "imported":
				ended = true
			}
		}
		_ = cmd.Wait()
		s := open()
		got := state(t, s, n)
		if got != "before" && got != "after" || ended && got != "after" {
			t.Errorf("killed after %d: %s", after, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got == "after" {
			return
		}
	}
	t.Error("the import never came to its end")
}

// importer imports until it is killed.
func importer(dir string, n int) {
	s, err := suppress.Open(filepath.Join(dir, "list"), suppress.Options{Key: filepath.Join(dir, "key"), Buffer: 256 << 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = s.Import(context.Background(), bytes.NewReader([]byte(imported(n))), suppress.ImportOptions{Reason: suppress.Unsubscribe, Progress: func(l int64) {
		fmt.Println("line", l)
		time.Sleep(time.Millisecond) // lets the signal arrive here
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("imported")
	_ = s.Close()
}
