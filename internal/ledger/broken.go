package ledger

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// broken knows whether the store has failed for good. Pebble tells its logger so, and
// takes for granted that the logger ends the process: behind a call of Fatalf it goes on
// as if nothing had happened, and reports a write as done that was not.
type broken struct {
	log    *slog.Logger
	tell   func(error)   // told once; may be nil
	since  chan struct{} // closed when it has failed
	mu     sync.Mutex
	reason error
}

func newBroken(log *slog.Logger, tell func(error)) *broken {
	return &broken{log: log, tell: tell, since: make(chan struct{})}
}

// Infof implements pebble.Logger. Only faults are passed on.
func (b *broken) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (b *broken) Errorf(format string, a ...any) {
	b.log.Error("ledger store", "err", fmt.Sprintf(format, a...))
}

// Fatalf implements pebble.Logger. It returns, so whoever writes asks for err.
func (b *broken) Fatalf(format string, a ...any) {
	reason := fmt.Errorf("the ledger's index has failed, restart to read it again: %s", fmt.Sprintf(format, a...))
	b.mu.Lock()
	first := b.reason == nil
	if first {
		b.reason = reason
		close(b.since)
	}
	b.mu.Unlock()
	b.log.Error("ledger store", "err", reason)
	if first && b.tell != nil {
		b.tell(reason)
	}
}

// err gives why the store has failed, nil while it has not.
func (b *broken) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reason
}

// listener lets a damaged table be read around: the look-up that met it fails, and what
// is written is none the worse.
func (b *broken) listener() *pebble.EventListener {
	return &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) { b.log.Error("ledger store", "err", i.String()) }}
}
