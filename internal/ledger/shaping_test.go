package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/ledger"
)

// TestShapingInForce: what has ended or been undone is not in force, in whatever order
// actions end; applying the events again changes nothing.
func TestShapingInForce(t *testing.T) {
	l := openOn(t, vfs.NewMem())
	began := func(id string, until time.Time) ledger.ShapingChanged {
		return ledger.ShapingChanged{Time: epoch, Action: id, State: ledger.ShapingBegan, Until: until}
	}
	hour := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	list := []ledger.ShapingChanged{began("late", hour(9)), began("short", hour(1)), began("for-ever", time.Time{}), began("undone", hour(5)), began("undone-for-ever", time.Time{})}
	for _, e := range list[3:] {
		e.State, e.Time, e.By = ledger.ShapingUndone, hour(2), "ann"
		list = append(list, e)
	}
	var events [][]byte
	for i := range list {
		events = append(events, ledger.Encode(&list[i]))
	}
	for round := range 2 {
		if err := l.Apply(uint64(round+1), events); err != nil {
			t.Fatal(err)
		}
		for at, want := range map[int]string{0: "short late for-ever", 2: "late for-ever", 10: "for-ever"} {
			in, err := l.ShapingInForce(t.Context(), hour(at))
			var names []string
			for i := range in {
				names = append(names, in[i].Action)
			}
			if got := strings.Join(names, " "); err != nil || got != want {
				t.Errorf("round %d, after %d hours: %q, %v, want %q", round, at, got, err, want)
			}
		}
		if all, err := l.Shaping(t.Context(), time.Time{}, time.Time{}); err != nil || len(all) != len(list) {
			t.Errorf("round %d: %d events, %v", round, len(all), err)
		}
	}
}
