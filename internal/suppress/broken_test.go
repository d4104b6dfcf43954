package suppress_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"postern.dev/postern/internal/suppress"
)

// TestFailedWriteIsNotDurable: an address that the disk did not take is not said to be on
// the list, and the position of what was followed stays.
func TestFailedWriteIsNotDurable(t *testing.T) {
	one := suppress.Entry{Customer: "acme", Address: "one@example.com"}
	acts := map[string]func(*suppress.Store) error{
		"add":     func(s *suppress.Store) error { return s.Add(one) },
		"add new": func(s *suppress.Store) error { _, err := s.AddNew(one); return err },
		"follow":  func(s *suppress.Store) error { _, err := s.Follow(7, []suppress.Entry{one}); return err },
		"remove":  func(s *suppress.Store) error { _, err := s.Remove("acme", addressOf(0)); return err },
		"erase":   func(s *suppress.Store) error { _, err := s.Erase(t.Context(), addressOf(0), true); return err },
		"import": func(s *suppress.Store) error {
			_, err := s.Import(t.Context(), strings.NewReader("one@example.com\n"), suppress.ImportOptions{Customer: "acme"})
			return err
		},
	}
	for name, act := range acts {
		for what, kind := range map[string]errorfs.OpKind{"write": errorfs.OpFileWrite, "sync": errorfs.OpFileSyncData} {
			t.Run(fmt.Sprintf("%s, %s", name, what), func(t *testing.T) { failsAt(t, kind, act) })
		}
	}
}

func failsAt(t *testing.T, kind errorfs.OpKind, act func(*suppress.Store) error) {
	var failing atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && op.Kind == kind && strings.HasSuffix(op.Path, ".log") {
			return errors.New("no such luck")
		}
		return nil
	}))
	now, key, told := day, filepath.Join(t.TempDir(), "key"), 0
	s := list(t, &now, suppress.Options{FS: fs, Key: key, Failed: func(error) { told++ }})
	zero := addressOf(0)
	if _, err := s.Follow(3, []suppress.Entry{{Customer: "acme", Address: zero.String()}}); err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	if act(s) == nil || s.Err() == nil || told != 1 {
		t.Errorf("failed: %v, told %d times", s.Err(), told)
	}
	if s.Position() != 3 {
		t.Errorf("position %d", s.Position())
	}
	if act(s) == nil {
		t.Error("it is written to again")
	}
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	closed := make(chan struct{})
	go func() { _ = s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("does not close")
	}
	s = list(t, &now, suppress.Options{FS: left, Key: key})
	if s.Position() != 3 || find(t, s, "acme", zero.String()) == "" {
		t.Errorf("position %d after the restart, or the entry is gone", s.Position())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
