package inbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern.dev/postern/internal/message"
)

// maxMail bounds a report that is read from a file: of a longer one the rest is left
// out.
const maxMail = 32 << 20

// Maildir reads the mail of maildirs: what is in new is delivered, and goes to cur as
// seen only then. Nothing is deleted.
type Maildir struct {
	Name    string
	Folders []string
	Deliver Deliver
	Every   time.Duration
	After   func(time.Duration) <-chan time.Time
	Log     *slog.Logger
}

// Follow looks for mail until ctx ends.
func (m *Maildir) Follow(ctx context.Context) { poll(ctx, m.Name, m.Every, m.After, m.Log, m.Round) }

// Round delivers what is there.
func (m *Maildir) Round(ctx context.Context) error {
	var errs []error
	for _, dir := range m.Folders {
		entries, err := os.ReadDir(filepath.Join(dir, "new"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range entries {
			if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
				if err := m.one(ctx, dir, e.Name()); err != nil {
					errs = append(errs, err)
				}
			}
			if ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
		}
	}
	return errors.Join(errs...)
}

func (m *Maildir) one(ctx context.Context, dir, name string) error {
	from := filepath.Join(dir, "new", name)
	raw, err := readMail(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else was faster
	}
	if err == nil {
		err = m.Deliver(ctx, ofFile(raw))
	}
	if err == nil {
		err = os.Rename(from, filepath.Join(dir, "cur", name+":2,S"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

func readMail(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxMail))
}

// ofFile takes from a mail's header to whom and from whom it was delivered: whoever
// stored it has noted that there.
func ofFile(raw []byte) *Mail {
	fields, _ := message.ReadHeader(raw)
	m := &Mail{Raw: raw, From: bare(message.Get(fields, "Return-Path"))}
	for _, name := range []string{"X-Original-To", "Delivered-To", "Envelope-To"} {
		if to := bare(message.Get(fields, name)); m.To == "" && strings.Contains(to, "@") {
			m.To = to
		}
	}
	return m
}

// Mbox reads the mail of mbox files (RFC 4155), which it never changes. What has been
// delivered since the start is not delivered again; of what was delivered before, the
// judge knows the identity.
type Mbox struct {
	Name    string
	Files   []string
	Deliver Deliver
	Every   time.Duration
	After   func(time.Duration) <-chan time.Time
	Log     *slog.Logger

	known map[string]mboxState
}

// mboxState is what has been read of a file.
type mboxState struct {
	size    int64
	changed time.Time
	mails   map[[sha256.Size]byte]bool
}

// maxMbox bounds an mbox that is read.
const maxMbox = 1 << 30

// Follow looks for mail until ctx ends.
func (m *Mbox) Follow(ctx context.Context) { poll(ctx, m.Name, m.Every, m.After, m.Log, m.Round) }

// Round delivers what is new.
func (m *Mbox) Round(ctx context.Context) error {
	if m.known == nil {
		m.known = map[string]mboxState{}
	}
	var errs []error
	for _, name := range m.Files {
		if err := m.one(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (m *Mbox) one(ctx context.Context, name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	was := m.known[name]
	if st.Size() == was.size && st.ModTime().Equal(was.changed) {
		return nil
	}
	if st.Size() > maxMbox {
		return fmt.Errorf("larger than %d MiB", maxMbox>>20)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	now := mboxState{size: st.Size(), changed: st.ModTime(), mails: map[[sha256.Size]byte]bool{}}
	for _, raw := range SplitMbox(b) {
		sum := sha256.Sum256(raw)
		if !was.mails[sum] {
			if err := m.Deliver(ctx, ofFile(raw)); err != nil {
				was.size = -1
				m.known[name] = was
				return err
			}
			if was.mails == nil {
				was.mails = map[[sha256.Size]byte]bool{}
			}
			was.mails[sum] = true
		}
		now.mails[sum] = true
	}
	m.known[name] = now
	return nil
}

// poll calls round now and then until ctx ends, and tells of what fails once.
func poll(ctx context.Context, name string, every time.Duration, after func(time.Duration) <-chan time.Time, log *slog.Logger, round func(context.Context) error) {
	was := ""
	for ctx.Err() == nil {
		text := ""
		if err := round(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		switch {
		case text != "" && text != was:
			log.Error("intake is late", "intake", name, "err", text)
		case text == "" && was != "":
			log.Info("intake goes on", "intake", name)
		}
		was = text
		select {
		case <-after(every):
		case <-ctx.Done():
		}
	}
}
