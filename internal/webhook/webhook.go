// Package webhook tells a receiver on the web of events in the ledger: each as one signed
// request, in order, again until it is taken. It follows the spool's outbox from a
// position of its own, so a receiver that hangs delays nobody, and one that was away
// misses nothing that the spool still has.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"postern.dev/postern/internal/ledger"
)

// Source is where events come from: the spool.
type Source interface {
	Read(ctx context.Context, from uint64, most int) (events [][]byte, next uint64, err error)
	Oldest() uint64
	Durable() uint64
}

// Options are what a Webhook is made of.
type Options struct {
	Name     string
	URL      string
	Secret   func() ([]byte, error)
	Sign     func(secret, body []byte, at time.Time) string
	Events   map[ledger.Kind]bool
	Position string // file
	Timeout  time.Duration
	Source   Source
	Saved    func() // told that the position has moved
	Now      func() time.Time
	After    func(time.Duration) <-chan time.Time
	Log      *slog.Logger
}

// Webhook is one receiver.
type Webhook struct {
	o      Options
	client *http.Client

	mu    sync.Mutex
	state State
}

// State is what a webhook says of itself.
type State struct {
	Name    string
	At      uint64 // everything before has been taken, or was not wanted
	Sent    int64  // since the start
	Refused int64  // events that the receiver does not want at all
	Gaps    int64  // times that events were gone before they could be sent
	Err     string // why it waits
}

// Body is what is sent. ID is the same whenever the event is sent again.
type Body struct {
	ID    string       `json:"id"`
	Event string       `json:"event"`
	Time  time.Time    `json:"time"`
	Data  ledger.Event `json:"data"`
}

// Bounds of the time between two attempts.
const (
	firstWait = time.Second
	lastWait  = 5 * time.Minute
)

// Open takes up a position, or begins with what happens from now on.
func Open(o Options) (*Webhook, error) {
	w := &Webhook{o: o, client: &http.Client{Timeout: o.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	w.state = State{Name: o.Name, At: max(o.Source.Durable(), o.Source.Oldest())}
	b, err := os.ReadFile(o.Position)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return w, w.save(w.state.At)
	case err != nil:
		return nil, fmt.Errorf("webhook %q: position: %w", o.Name, err)
	}
	at, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || at > w.state.At {
		return nil, fmt.Errorf("webhook %q: %s is no position in this spool; remove it to begin with what happens from now on", o.Name, o.Position)
	}
	w.state.At = at
	return w, nil
}

// save writes the position, all of it or nothing.
func (w *Webhook) save(at uint64) error {
	if err := os.MkdirAll(filepath.Dir(w.o.Position), 0o700); err != nil {
		return fmt.Errorf("webhook %q: %w", w.o.Name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(w.o.Position), ".position-*")
	if err != nil {
		return fmt.Errorf("webhook %q: %w", w.o.Name, err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, at)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), w.o.Position)
	}
	if err != nil {
		return fmt.Errorf("webhook %q: %w", w.o.Name, err)
	}
	return nil
}

// State tells how the webhook fares.
func (w *Webhook) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Follow sends until ctx ends.
func (w *Webhook) Follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.step(ctx)
		w.note(err)
		if err != nil {
			w.pause(ctx, firstWait)
		}
	}
}

func (w *Webhook) pause(ctx context.Context, d time.Duration) {
	select {
	case <-w.o.After(d):
	case <-ctx.Done():
	}
}

func (w *Webhook) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	w.mu.Lock()
	was := w.state.Err
	w.state.Err = text
	w.mu.Unlock()
	switch {
	case text != "" && was == "":
		w.o.Log.Error("webhook waits, mail goes on", "webhook", w.o.Name, "err", err)
	case text == "" && was != "":
		w.o.Log.Info("webhook goes on", "webhook", w.o.Name)
	}
}

// step sends the next events and moves on.
func (w *Webhook) step(ctx context.Context) error {
	at := w.State().At
	if oldest := w.o.Source.Oldest(); at < oldest {
		w.o.Log.Error("webhook has lost events: it was late for longer than the spool may be held back", "webhook", w.o.Name, "from", at, "to", oldest)
		w.mu.Lock()
		w.state.Gaps++
		w.mu.Unlock()
		return w.move(oldest)
	}
	events, next, err := w.o.Source.Read(ctx, at, 256)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("read events: %w", err)
	}
	for _, raw := range events {
		if len(raw) == 0 || !w.o.Events[ledger.Kind(raw[0])] {
			continue
		}
		e, err := ledger.Decode(raw)
		if err != nil {
			continue // the ledger has put it aside
		}
		if err := w.insist(ctx, e, raw); err != nil {
			return err
		}
	}
	return w.move(next)
}

func (w *Webhook) move(next uint64) error {
	if err := w.save(next); err != nil {
		return err
	}
	w.mu.Lock()
	w.state.At = next
	w.mu.Unlock()
	if w.o.Saved != nil {
		w.o.Saved()
	}
	return nil
}

// insist sends one event until it is taken or refused for good, or until the spool no
// longer has it.
func (w *Webhook) insist(ctx context.Context, e ledger.Event, raw []byte) error {
	body, err := json.Marshal(Body{ID: fmt.Sprintf("%016x", xxhash.Sum64(raw)), Event: e.Kind().String(), Time: e.When().UTC(), Data: e})
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		refused, err := w.send(ctx, body)
		w.mu.Lock()
		switch {
		case refused:
			w.state.Refused++
		case err == nil:
			w.state.Sent++
		}
		at := w.state.At
		w.mu.Unlock()
		if refused {
			w.o.Log.Warn("webhook refuses an event", "webhook", w.o.Name, "err", err)
			return nil
		}
		if err == nil || ctx.Err() != nil {
			w.note(err)
			return errors.Join(err, ctx.Err())
		}
		w.note(err)
		if at < w.o.Source.Oldest() {
			return nil // what waits is given up by the next step
		}
		w.pause(ctx, wait)
	}
}

// send makes one request. Refused tells that the same request will never be taken.
func (w *Webhook) send(ctx context.Context, body []byte) (refused bool, err error) {
	secret, err := w.o.Secret()
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.o.URL, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Postern")
	req.Header.Set("Postern-Signature", w.o.Sign(secret, body, w.o.Now()))
	resp, err := w.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch c := resp.StatusCode; {
	case c >= 200 && c < 300:
		return false, nil
	case c == http.StatusBadRequest || c == http.StatusRequestEntityTooLarge || c == http.StatusUnprocessableEntity || c == http.StatusUnsupportedMediaType:
		return true, fmt.Errorf("%s answered %s", w.o.URL, resp.Status)
	}
	return false, fmt.Errorf("%s answered %s", w.o.URL, resp.Status)
}
