package app

import (
	"context"
	"time"

	"postern.dev/postern/internal/ledger"
)

// Judged waits until the node has judged n reports since it started, incidents
// included, and gives the n-th.
func (a *App) Judged(ctx context.Context, n int) (*ledger.Reported, error) {
	if err := a.intake.await(ctx, n); err != nil {
		return nil, err
	}
	rs, err := a.ledger.Reports(ctx, a.started, time.Time{})
	if err != nil {
		return nil, err
	}
	if len(rs) < n {
		return nil, ledger.ErrNotFound
	}
	return &rs[n-1], nil
}

// await waits until n reports are judged.
func (in *intake) await(ctx context.Context, n int) error {
	for {
		in.mu.Lock()
		if in.judged >= n {
			in.mu.Unlock()
			return nil
		}
		if in.progress == nil {
			in.progress = make(chan struct{})
		}
		progress := in.progress
		in.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// count notes a report that is judged and dealt with.
func (in *intake) count() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.judged++
	if in.progress != nil {
		close(in.progress)
		in.progress = nil
	}
}
