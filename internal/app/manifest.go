package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"

	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/watch"
)

// Bounds of a manifest that is handed in at once.
const (
	maxManifest     = 256 << 20
	manifestAtOnce  = 4096 // events of one commit
	maxManifestLine = 1 << 20
)

// ManifestDone tells what became of a manifest that was handed in.
type ManifestDone struct {
	Lines      int64 `json:"lines"`
	Rows       int64 `json:"rows"`
	Unreadable int64 `json:"unreadable"`
}

// manifest takes what a customer's own system says it has sent, as lines of JSON, for a
// watch of that format. Rows are made of what the lines say, so a manifest that is
// handed in again, after an answer that was lost, adds nothing to the ledger.
func (a *App) manifest(r *http.Request) (any, error) {
	name, g := r.PathValue("name"), a.now()
	rows := g.watched[name]
	if rows == nil || rows.Format != history.Manifest {
		return nil, fmt.Errorf("no watch %q of format %q: %w", name, history.Manifest, ledger.ErrNotFound)
	}
	var o history.Options
	for i := range g.cfg.Watches {
		if w := &g.cfg.Watches[i]; w.Name == name {
			o = HistoryOptions(w)
		}
	}
	p, done := history.New(o), ManifestDone{}
	lines := bufio.NewScanner(io.LimitReader(r.Body, maxManifest))
	lines.Buffer(make([]byte, 64<<10), maxManifestLine)
	var events []ledger.Event
	flush := func() error {
		if len(events) == 0 {
			return nil
		}
		b := &spool.Batch{}
		for _, e := range events {
			b.Events = append(b.Events, ledger.Encode(e))
		}
		done.Rows += int64(len(events))
		events = events[:0]
		_, err := a.spool.Commit(r.Context(), b)
		return err
	}
	for lines.Scan() {
		events = manifestRows(rows, p.Line(lines.Bytes()), events)
		if len(events) >= manifestAtOnce {
			if err := flush(); err != nil {
				return nil, fmt.Errorf("keep manifest: %w", err)
			}
		}
	}
	if err := errors.Join(lines.Err(), flush()); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	c := p.Counts()
	done.Lines, done.Unreadable = c.Lines, c.Unreadable
	return done, nil
}

func manifestRows(rows *watch.Rows, records []history.Record, events []ledger.Event) []ledger.Event {
	for i := range records {
		events = rows.Events(events, &records[i])
	}
	return events
}
