package ledger_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"postern.dev/postern/internal/ledger"
)

// TestFailedWriteIsNotDurable: what the disk did not take is not taken for applied, no
// position moves past it, whoever waits is told, and the next start has what was there.
func TestFailedWriteIsNotDurable(t *testing.T) {
	for name, kind := range map[string]errorfs.OpKind{"write": errorfs.OpFileWrite, "sync": errorfs.OpFileSyncData} {
		t.Run(name, func(t *testing.T) {
			var failing atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if failing.Load() && op.Kind == kind && strings.HasSuffix(op.Path, ".log") {
					return errors.New("no such luck")
				}
				return nil
			}))
			told := 0
			l, err := ledger.Open("ledger", ledger.Options{FS: fs, Cache: 1 << 20, Failed: func(error) { told++ }})
			if err != nil {
				t.Fatal(err)
			}
			apply := func(n int) error { return l.Apply(uint64(n), [][]byte{ledger.Encode(accepted(n, "stranger"))}) }
			if err := apply(1); err != nil {
				t.Fatal(err)
			}
			if pos, err := l.Flush(); pos != 1 || err != nil {
				t.Fatal(pos, err)
			}
			failing.Store(true)
			durable := uint64(1)
			for n := 2; l.Err() == nil && n < 100; n++ {
				if apply(n) != nil {
					break
				}
				if pos, err := l.Flush(); err == nil {
					durable = pos
				}
			}
			switch {
			case durable != 1:
				t.Errorf("position %d is taken for durable", durable)
			case l.Err() == nil || told != 1:
				t.Errorf("failed: %v, told %d times", l.Err(), told)
			case l.CaughtUp(ctx, 1000) == nil:
				t.Error("a position is reached that never can be")
			case apply(200) == nil:
				t.Error("it is written to again")
			}
			left := mem.CrashClone(vfs.CrashCloneCfg{})
			closed := make(chan error, 1)
			go func() { closed <- l.Close() }()
			select {
			case err := <-closed:
				if err == nil {
					t.Error("closed as if nothing had happened")
				}
			case <-time.After(time.Minute):
				t.Fatal("does not close")
			}
			l = openOn(t, left)
			if l.Position() != 1 {
				t.Errorf("position %d after the restart", l.Position())
			}
			if _, err := l.Accepted(ctx, id(1)); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
