package ledger_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// TestWatchState follows two files of a watch, and messages that begin and end.
func TestWatchState(t *testing.T) {
	ctx := context.Background()
	l, err := ledger.Open("l", ledger.Options{FS: vfs.NewMem(), Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := accepted(1, "customer")
	steps := []ledger.Event{
		&ledger.Watched{Time: epoch, Watch: "w", Inode: 1, Offset: 10, Open: []ledger.WatchedOpen{{Queue: "A", State: []byte("a")}, {Queue: "B", State: []byte("b")}}},
		&ledger.Watched{Time: epoch, Watch: "other", Inode: 1, Offset: 99, Open: []ledger.WatchedOpen{{Queue: "A", State: []byte("x")}}},
		&ledger.Watched{Time: epoch, Watch: "w", Inode: 2, Offset: 5, Head: "h"},
		&ledger.Watched{Time: epoch, Watch: "w", Inode: 1, Offset: 20, Open: []ledger.WatchedOpen{{Queue: "B", State: []byte("b2")}}, Closed: []string{"A"}},
		a,
	}
	for i, e := range steps {
		if err := l.Apply(uint64(i+1), [][]byte{ledger.Encode(e)}); err != nil {
			t.Fatal(err)
		}
	}
	files, open, err := l.WatchState(ctx, "w")
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint64]int64{}
	for _, f := range files {
		got[f.Inode] = f.Offset
	}
	if d := cmp.Diff(map[uint64]int64{1: 20, 2: 5}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string][]byte{"B": []byte("b2")}, open); d != "" {
		t.Error(d)
	}
	ids, err := l.ByQueue(ctx, "w", a.Queue)
	if d := cmp.Diff([]smtp.ID{a.ID}, ids); d != "" || err != nil {
		t.Error(d, err)
	}
	if ids, _ := l.ByQueue(ctx, "other", a.Queue); ids != nil {
		t.Errorf("another watch has %v", ids)
	}
}
