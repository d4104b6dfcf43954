package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/watch"
)

var now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// store is a ledger that remembers what was committed, and can end the process before
// or behind a commit.
type store struct {
	l     *ledger.Ledger
	pos   uint64
	log   []string
	crash func() (before, behind bool)
}

var errCrash = errors.New("crash")

func newStore(t testing.TB) *store {
	t.Helper()
	l, err := ledger.Open("l", ledger.Options{FS: vfs.NewMem(), Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &store{l: l}
}

func (s *store) Commit(_ context.Context, events []ledger.Event) error {
	before, behind := false, false
	if s.crash != nil {
		before, behind = s.crash()
	}
	if before {
		panic(errCrash)
	}
	var raw [][]byte
	for _, e := range events {
		raw = append(raw, ledger.Encode(e))
		if _, place := e.(*ledger.Watched); !place {
			s.log = append(s.log, short(e))
		}
	}
	s.pos++
	if err := s.l.Apply(s.pos, raw); err != nil {
		return err
	}
	if behind {
		panic(errCrash)
	}
	return nil
}

func (s *store) WatchState(ctx context.Context, w string) ([]ledger.Watched, map[string][]byte, error) {
	return s.l.WatchState(ctx, w)
}

func short(e ledger.Event) string {
	switch e := e.(type) {
	case *ledger.Accepted:
		return fmt.Sprintf("%s accepted %s %s %s %s %s", e.ID, e.Origin, e.Customer, e.MessageID, e.Decisions[0].Recipient, e.Queue)
	case *ledger.HandedOff:
		return fmt.Sprintf("%s handed off %s %s", e.ID, e.Address, e.Reply)
	case *ledger.Attempted:
		return fmt.Sprintf("%s attempted %s", e.ID, e.Reply)
	case *ledger.Bounced:
		return fmt.Sprintf("%s bounced %s", e.ID, e.Reply)
	}
	return "?"
}

func options(s *store, f history.Format, files ...string) watch.Options {
	rows := &watch.Rows{Watch: "w", Format: f, Identify: watch.Identify{Client: func(a netip.Addr) (watch.Owner, bool) {
		return watch.Owner{Origin: "customer", Customer: "acme"}, a == netip.MustParseAddr("10.1.0.5")
	}}}
	return watch.Options{Name: "w", Files: files, History: history.Options{Format: f}, Rows: func() *watch.Rows { return rows }, Store: s,
		Now: func() time.Time { return now }, After: func(time.Duration) <-chan time.Time { c := make(chan time.Time, 1); c <- now; return c }}
}

// lines makes the log of n messages of Postfix, mixed with one another, as they are
// written: each message has five lines and one in ten is deferred at first.
func lines(r *rand.Rand, n int) (out []string) {
	var under [][]string
	for i := range n {
		q := fmt.Sprintf("%010X", 0x4F00000000+i)
		client := "app[10.1.0.5]"
		if i%7 == 0 {
			client = "evil[198.51.100.66]"
		}
		at := "2026-11-30T12:00:00.000000+00:00 mx postfix/"
		m := []string{
			at + "smtpd[1]: " + q + ": client=" + client,
			at + fmt.Sprintf("cleanup[2]: %s: message-id=<m%d@acme.example>", q, i),
			at + fmt.Sprintf("qmgr[3]: %s: from=<n@acme.example>, size=1000, nrcpt=1 (queue active)", q),
			at + fmt.Sprintf("smtp[4]: %s: to=<u%d@aol.example>, relay=mx.aol.example[203.0.113.25]:25, delay=1, dsn=2.0.0, status=sent (250 ok %d)", q, i, i),
			at + "qmgr[3]: " + q + ": removed",
		}
		if i%10 == 0 {
			m = slices.Insert(m, 3, at+fmt.Sprintf("smtp[4]: %s: to=<u%d@aol.example>, relay=none, delay=0, dsn=4.0.0, status=deferred (later)", q, i))
		}
		under = append(under, m)
	}
	for len(under) > 0 {
		i := r.IntN(min(len(under), 20))
		out = append(out, under[i][0]+"\n")
		if under[i] = under[i][1:]; len(under[i]) == 0 {
			under = slices.Delete(under, i, i+1)
		}
	}
	return out
}

// run makes rounds until a crash or until nothing is left, and tells whether it crashed.
func run(t *testing.T, o watch.Options, each func()) (crashed bool) {
	t.Helper()
	w, err := watch.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := recover(); r != nil {
			if r != errCrash {
				panic(r)
			}
			crashed = true
		}
	}()
	for range 6 {
		each()
		if _, err := w.Round(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return false
}

// TestEachLineOnce appends to a log piece by piece, rotates and truncates it meanwhile,
// and ends the process before and behind commits: the rows are those of one reading.
func TestEachLineOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		rotate func(t *testing.T, dir string, n int)
		files  string
	}{
		{"renamed, the old name not matched", func(t *testing.T, dir string, n int) { rename(t, dir, fmt.Sprintf("old.%d", n)) }, "mail.log"},
		{"renamed, both names matched", func(t *testing.T, dir string, n int) { rename(t, dir, fmt.Sprintf("mail.log.%d", n)) }, "mail.log*"},
		{"copied and truncated, the copy matched", func(t *testing.T, dir string, n int) { copyTruncate(t, dir, fmt.Sprintf("mail.log.%d", n)) }, "mail.log*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(6) {
				r := rand.New(rand.NewPCG(seed, 1))
				text := lines(r, 120)
				want := newStore(t)
				dir := t.TempDir()
				whole := filepath.Join(dir, "whole")
				if err := os.WriteFile(whole, []byte(strings.Join(text, "")), 0o600); err != nil {
					t.Fatal(err)
				}
				run(t, options(want, history.Postfix, whole), func() {})
				got := newStore(t)
				got.crash = func() (bool, bool) { return r.IntN(6) == 0, r.IntN(6) == 0 }
				all, rotations := strings.Join(text, ""), 0
				rest := all
				log := filepath.Join(dir, "mail.log")
				write := func() {
					n := min(len(rest), r.IntN(2000))
					appendTo(t, log, rest[:n])
					rest = rest[n:]
				}
				for rest != "" {
					run(t, options(got, history.Postfix, filepath.Join(dir, c.files)), write)
					// What a rotation takes away unread of a file under no matched name is lost to
					// every reader, so it is read before.
					crash := got.crash
					got.crash = nil
					if done := all[:len(all)-len(rest)]; rest != "" && !strings.HasSuffix(done, "\n") {
						whole := strings.IndexByte(rest, '\n') + 1
						appendTo(t, log, rest[:whole])
						rest = rest[whole:]
					}
					run(t, options(got, history.Postfix, filepath.Join(dir, c.files)), func() {})
					got.crash = crash
					rotations++
					c.rotate(t, dir, rotations)
				}
				got.crash = nil
				run(t, options(got, history.Postfix, filepath.Join(dir, c.files)), func() {})
				slices.Sort(want.log)
				slices.Sort(got.log)
				if len(want.log) < 240 {
					t.Fatalf("only %d rows", len(want.log))
				}
				if d := cmp.Diff(want.log, got.log); d != "" {
					t.Fatalf("seed %d, %d rotations: -want +got\n%s", seed, rotations, d)
				}
			}
		})
	}
}

func appendTo(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, dir, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, "mail.log"), filepath.Join(dir, to)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func copyTruncate(t *testing.T, dir, to string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "mail.log"))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, to), b, 0o600)
	}
	if err == nil {
		err = os.Truncate(filepath.Join(dir, "mail.log"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestHeaderGoesOn cuts an accounting file behind its header: who goes on there knows
// the columns.
func TestHeaderGoesOn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "acct.csv")
	s := newStore(t)
	appendTo(t, name, "type,timeLogged,rcpt,dlvSourceIp\nd,2026-11-30 12:00:00+0000,a@aol.example,198.51.100.7\n")
	run(t, options(s, history.PowerMTA, name), func() {})
	appendTo(t, name, "d,2026-11-30 12:00:01+0000,b@aol.example,198.51.100.7\n")
	run(t, options(s, history.PowerMTA, name), func() {})
	if len(s.log) != 4 || !strings.Contains(s.log[3], "handed off b@aol.example") {
		t.Errorf("%q", s.log)
	}
}

// TestFromTheEnd begins behind what a file already has.
func TestFromTheEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "acct.csv")
	s := newStore(t)
	appendTo(t, name, "type,timeLogged,rcpt\nd,2026-11-30 12:00:00+0000,a@aol.example\n")
	o := options(s, history.PowerMTA, name)
	o.FromEnd = true
	run(t, o, func() {})
	appendTo(t, name, "d,2026-11-30 12:00:01+0000,b@aol.example\n")
	run(t, o, func() {})
	if len(s.log) != 2 || !strings.Contains(s.log[1], "handed off b@aol.example") {
		t.Errorf("%q", s.log)
	}
}

// TestOwners tells whose mail is whose.
func TestOwners(t *testing.T) {
	r := watch.Rows{Watch: "w", Identify: watch.Identify{
		Customer: func(m *history.Message) string { return strings.Join(m.Extra, "") },
		User:     func(u string) (string, bool) { return "shop", u == "app" },
		Client: func(a netip.Addr) (watch.Owner, bool) {
			return watch.Owner{Origin: "inside"}, a == netip.MustParseAddr("10.9.0.7")
		}}}
	for _, c := range []struct {
		name string
		m    history.Message
		want string
	}{
		{"the log names the customer", history.Message{Extra: []string{"acme"}, Client: netip.MustParseAddr("198.51.100.66")}, "customer/acme"},
		{"a user", history.Message{User: "app", Client: netip.MustParseAddr("198.51.100.66")}, "customer/shop"},
		{"a user whom nobody knows", history.Message{User: "x"}, "customer/"},
		{"a bounce", history.Message{Own: true}, "self/"},
		{"an inside host", history.Message{Client: netip.MustParseAddr("10.9.0.7")}, "inside/"},
		{"a stranger", history.Message{Client: netip.MustParseAddr("198.51.100.66")}, "stranger/"},
		{"this host", history.Message{Client: netip.MustParseAddr("127.0.0.1")}, "self/"},
		{"a log without clients", history.Message{}, "customer/"},
	} {
		es := r.Events(nil, &history.Record{Kind: history.HandedOff, First: true, Time: now, Message: &c.m, Recipient: "a@b.example"})
		a := es[0].(*ledger.Accepted)
		if got := a.Origin + "/" + a.Customer; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if h := es[1].(*ledger.HandedOff); h.ID != a.ID || h.Path.Origin != a.Origin || h.Domain != "b.example" {
			t.Errorf("%s: hand-off %+v", c.name, h)
		}
	}
}
