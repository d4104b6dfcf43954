package journal

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// book is a source of events in memory: record n stands at position n<<32 + 8.
type book struct {
	batches [][][]byte
	first   int // batches before it are gone
	rows    map[smtp.ID]*ledger.Accepted
}

func (b *book) Oldest() uint64  { return uint64(b.first+1) << 32 }
func (b *book) Durable() uint64 { return uint64(len(b.batches)+1) << 32 }

func (b *book) Read(ctx context.Context, from uint64, most int) (events [][]byte, next uint64, err error) {
	i := int(from>>32) - 1
	if i < b.first {
		return nil, from, errors.New("gone")
	}
	for ; i < len(b.batches) && len(events) < most; i++ {
		events = append(events, b.batches[i]...)
	}
	if next = uint64(i+1) << 32; next > from {
		return events, next, nil
	}
	return nil, from, context.DeadlineExceeded
}

func (b *book) Accepted(_ context.Context, id smtp.ID) (*ledger.Accepted, error) {
	if a := b.rows[id]; a != nil {
		return a, nil
	}
	return nil, ledger.ErrNotFound
}

// life adds the events of one message, over some batches.
func (b *book) life(r *rand.Rand, now time.Time) {
	var six [6]byte
	for i := range six {
		six[i] = byte(r.Uint32())
	}
	id := smtp.NewID(now, six)
	peer := netip.MustParseAddrPort("192.0.2.7:4711")
	a := &ledger.Accepted{Time: now, ID: id, Listener: "injection", Peer: peer, Helo: "app.acme.example", Origin: "customer", Customer: "acme",
		Sender: "news@acme.example", MessageID: id.String() + "@acme.example", Size: int64(r.IntN(1 << 20)), Policy: "0123456789ab"}
	n := 1 + r.IntN(3)
	for i := range n {
		a.Decisions = append(a.Decisions, ledger.Decided{Recipient: fmt.Sprintf("reader%d@dest%d.example", i, r.IntN(9)), Disposition: "deliver", Filter: "f", Pool: "general"})
	}
	if b.rows == nil {
		b.rows = map[smtp.ID]*ledger.Accepted{}
	}
	b.rows[id] = a
	b.add(a)
	path := ledger.Path{Listener: "injection", Filter: "f", Origin: "customer"}
	source := netip.MustParseAddr("198.51.100.10")
	for i := range n {
		switch r.IntN(5) {
		case 0:
			b.add(&ledger.Attempted{Time: now, ID: id, Recipient: i, Attempt: 1, Pool: "general", Source: source, Peer: peer, Host: "mx.dest.example", Reply: "451 4.7.1 slow down, please", Next: now.Add(time.Minute)})
		case 1:
			b.add(&ledger.Bounced{Time: now, ID: id, Recipient: i, Path: path, Source: source, Peer: peer, Host: "mx.dest.example", Reply: "550 5.1.1 <reader0@dest1.example>: \"unknown\""})
		case 2:
			b.add(&ledger.Reported{Time: now, Subject: id, Rcpt: i, Format: "arf", Verdict: "sent", Provider: "aol", Customer: "acme"}, &ledger.Admin{Time: now, By: "root", Action: "hold"})
		default:
			b.add(&ledger.HandedOff{Time: now, ID: id, Recipient: i, Address: a.Decisions[i].Recipient, Domain: "dest.example", Path: path, Customer: "acme", Pool: "general", Source: source, Peer: peer, Host: "mx.dest.example", Reply: "250 2.0.0 ok", Attempt: 1, Seconds: 0.5})
		}
	}
	if r.IntN(10) == 0 {
		b.batches = append(b.batches, nil)
	}
}

func (b *book) add(events ...ledger.Event) {
	var batch [][]byte
	for _, e := range events {
		batch = append(batch, ledger.Encode(e))
	}
	b.batches = append(b.batches, batch)
}

// expect makes all lines of a book in one go.
func (b *book) expect(t *testing.T, o Options) string {
	t.Helper()
	var enc encoder = newObjects(o)
	if o.Format == PMTA {
		enc = newAccounting(o)
	}
	var out []byte
	seq := uint64(0)
	for _, batch := range b.batches {
		for _, raw := range batch {
			e, err := ledger.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			seq++
			if out, err = enc.lines(t.Context(), out, seq, e, raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	return string(out)
}

// written reads all files of a journal, the rotated ones first, without headers.
func written(t *testing.T, path string, header string, others ...string) string {
	t.Helper()
	var out strings.Builder
	for _, n := range append(append(others, rotated(path)...), path) {
		b, err := os.ReadFile(n)
		if err != nil {
			continue
		}
		if strings.HasSuffix(n, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		out.WriteString(strings.TrimPrefix(string(b), header))
	}
	return out.String()
}

// fickle is a disk that takes a part, or nothing, now and then.
type fickle struct {
	disk
	r *rand.Rand
}

var errFull = errors.New("no space left on device")

func (f *fickle) Write(p []byte) (int, error) {
	if f.r.IntN(6) == 0 && len(p) > 0 {
		n, err := f.disk.Write(p[:f.r.IntN(len(p))])
		return n, errors.Join(err, errFull)
	}
	return f.disk.Write(p)
}

func (f *fickle) Sync() error {
	if f.r.IntN(20) == 0 {
		return errFull
	}
	return f.disk.Sync()
}

// abandon ends a journal as kill -9 does, or as a loss of power: then what was not
// made durable is partly gone, or something else stands there.
func abandon(t *testing.T, j *Journal, r *rand.Rand) {
	t.Helper()
	j.work.Wait()
	_ = j.file.close()
	_ = j.places.close()
	if j.places.last.Inode != j.file.inode {
		return
	}
	name := findInode(j.o.Path, j.file.inode)
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	loose := st.Size() - int64(j.places.last.Size)
	if loose <= 0 || r.IntN(3) == 0 {
		return
	}
	keep := int64(j.places.last.Size) + r.Int64N(loose)
	if err := os.Truncate(name, keep); err != nil {
		t.Fatal(err)
	}
	if r.IntN(2) == 0 { // blocks that were allocated and never written
		if err := os.Truncate(name, st.Size()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEachEventOnceInOrder lets a node end in every way at random moments, with files
// that rotate, that others move away, and a disk that fails, and compares what the
// files hold with all events.
func TestEachEventOnceInOrder(t *testing.T) {
	trials := 8
	if os.Getenv("POSTERN_SOAK") != "" {
		trials = 500
	}
	for _, format := range []Format{JSONL, PMTA} {
		for trial := range trials {
			t.Run(fmt.Sprintf("%s/%d", format, trial), func(t *testing.T) { aLife(t, format, uint64(trial)) })
		}
	}
}

func aLife(t *testing.T, format Format, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	dir := t.TempDir()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	b := &book{}
	o := Options{Name: "x", Format: format, Path: filepath.Join(dir, "mail.log"), Position: filepath.Join(dir, "state", "x.position"), Source: b, Rows: b,
		RotateSize: int64(2000 + r.IntN(20000)), RotateEvery: time.Hour, Compress: r.IntN(2) == 0, Now: func() time.Time { return now }}
	start := func() *Journal {
		j, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		j.file.f = &fickle{j.file.f, r}
		return j
	}
	j := start()
	var moved []string
	for range 300 {
		switch k := r.IntN(100); {
		case k < 50:
			b.life(r, now)
		case k < 85:
			if err := j.step(t.Context()); err != nil && !errors.Is(err, errFull) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		case k < 90:
			now = now.Add(time.Duration(r.IntN(3000)) * time.Second)
		case k < 95:
			abandon(t, j, r)
			j = start()
		default:
			name := fmt.Sprintf("%s.moved-%04d", o.Path, len(moved))
			if j.file.moved() || len(j.file.tail) > 0 {
				continue
			}
			j.work.Wait()
			if n := len(rotated(o.Path)); n > 0 {
				continue // the order of names would no longer be that of the lines
			}
			if err := os.Rename(o.Path, name); err != nil {
				t.Fatal(err)
			}
			moved = append(moved, name)
			j.Reopen()
		}
	}
	for j.at.At < b.Durable() || len(j.file.wait) > 0 || j.dirty {
		if err := j.step(t.Context()); err != nil {
			now = now.Add(time.Second) // what waits is due
		}
	}
	j.work.Wait()
	if got, want := written(t, o.Path, string(j.lines.header()), moved...), b.expect(t, o); got != want {
		t.Errorf("the files differ from the events: %s", firstDifference(got, want))
	}
	_ = j.file.close()
	_ = j.places.close()
}

func firstDifference(got, want string) string {
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d of %d, %d wanted:\ngot  %q\nwant %q", i+1, len(g), len(w), at(g, i), at(w, i))
		}
	}
	return "nowhere"
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// TestGapIsTold takes events away before the journal has them.
func TestGapIsTold(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	dir := t.TempDir()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	b := &book{}
	var saved uint64
	o := Options{Name: "x", Format: JSONL, Path: filepath.Join(dir, "mail.jsonl"), Position: filepath.Join(dir, "x.position"), Source: b, Rows: b, Now: func() time.Time { return now },
		Saved: func(p uint64) { saved = p }, Log: slog.New(slog.DiscardHandler)}
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b.life(r, now)
	}
	if err := j.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b.life(r, now)
	}
	b.first = len(b.batches) - 2
	for range 3 {
		if err := j.step(t.Context()); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if err := j.save(); err != nil {
		t.Fatal(err)
	}
	text := written(t, o.Path, "")
	if n := strings.Count(text, `"event":"gap","time":"2026-11-25T12:00:00Z"`); n != 1 || j.State().Gaps != 1 {
		t.Errorf("%d gaps told, %d counted\n%s", n, j.State().Gaps, text)
	}
	if saved != b.Durable() {
		t.Errorf("saved %d, want %d", saved, b.Durable())
	}
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// failing is a disk whose syncs fail while left is above zero.
type failing struct {
	disk
	left int
}

func (f *failing) Sync() error {
	if f.left--; f.left >= 0 {
		return syscall.EIO
	}
	return f.disk.Sync()
}

// TestFailedSyncIsNotTrusted: lines that a failed sync was about are written again,
// though the next sync says that all is well.
func TestFailedSyncIsNotTrusted(t *testing.T) {
	r, b, o := lifeOf(t, JSONL)
	j := opened(t, o)
	until(t, j, b)
	st, err := os.Stat(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	b.life(r, o.Now())
	for j.at.At < b.Durable() {
		if err := j.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	j.file.f = &failing{j.file.f, 1}
	if err := j.save(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	// What the disk has in place of the lines.
	whole, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	clear(whole[st.Size():])
	if err := os.WriteFile(o.Path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, j, b)
	if got, want := written(t, o.Path, ""), b.expect(t, o); got != want {
		t.Errorf("the file differs from the events: %s", firstDifference(got, want))
	}
	_ = errors.Join(j.file.close(), j.places.close())
}

// failingSlots fails its writes number from to number to.
type failingSlots struct {
	slots
	n, from, to int
}

func (f *failingSlots) WriteAt(p []byte, off int64) (int, error) {
	if f.n++; f.n >= f.from && f.n <= f.to {
		return 0, syscall.EIO
	}
	return f.slots.WriteAt(p, off)
}

// TestUnmarkedFileHasNoLines: the place of a new file cannot be written down, and the
// process dies. No line stands in both files.
func TestUnmarkedFileHasNoLines(t *testing.T) {
	r, b, o := lifeOf(t, PMTA)
	o.RotateSize = 100
	j := opened(t, o)
	if err := j.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.places.file = &failingSlots{slots: j.places.file, from: 2, to: 9} // the old file's last place is durable
	for range 8 {
		b.life(r, o.Now())
		_ = j.step(t.Context())
	}
	if n := len(rotated(o.Path)); n != 1 {
		t.Fatalf("%d files were put aside", n)
	}
	_ = errors.Join(j.file.close(), j.places.close())
	j = opened(t, o)
	until(t, j, b)
	j.work.Wait()
	if got, want := written(t, o.Path, string(j.lines.header())), b.expect(t, o); got != want {
		t.Errorf("the files differ from the events: %s", firstDifference(got, want))
	}
	_ = errors.Join(j.file.close(), j.places.close())
}

// TestCutFileHasItsHeader: a file that lost what was in it, or took the number of ours,
// begins with a header.
func TestCutFileHasItsHeader(t *testing.T) {
	r, b, o := lifeOf(t, PMTA)
	j := opened(t, o)
	until(t, j, b)
	_ = errors.Join(j.file.close(), j.places.close())
	if err := os.Truncate(o.Path, 0); err != nil {
		t.Fatal(err)
	}
	b.life(r, o.Now())
	j = opened(t, o)
	until(t, j, b)
	text, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, j.lines.header()) || bytes.Count(text, j.lines.header()) != 1 || len(text) == len(j.lines.header()) {
		t.Errorf("the file is %.200q", text)
	}
	_ = errors.Join(j.file.close(), j.places.close())
}

// lifeOf makes a few events and a journal's options.
func lifeOf(t *testing.T, format Format) (*rand.Rand, *book, Options) {
	r, b, dir := rand.New(rand.NewPCG(1, 1)), &book{}, t.TempDir()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	o := Options{Name: "x", Format: format, Path: filepath.Join(dir, "mail.log"), Position: filepath.Join(dir, "x.position"), Source: b, Rows: b, Now: func() time.Time { return now }}
	j := opened(t, o) // it begins with what happens from now on
	_ = errors.Join(j.file.close(), j.places.close())
	for range 5 {
		b.life(r, now)
	}
	return r, b, o
}

func opened(t *testing.T, o Options) *Journal {
	t.Helper()
	j, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// until lets a journal write all events, and makes them durable.
func until(t *testing.T, j *Journal, b *book) {
	t.Helper()
	for n := 0; j.at.At < b.Durable() || j.suspect || j.unmarked; n++ {
		if err := j.step(t.Context()); n > 1000 {
			t.Fatal(err)
		}
	}
	if err := j.save(); err != nil {
		t.Fatal(err)
	}
}

// TestLinesHaveTheLedgersNames compares the lines of every kind of event with what the
// ledger itself writes as JSON.
func TestLinesHaveTheLedgersNames(t *testing.T) {
	id := smtp.NewID(time.UnixMilli(1764072000000), [6]byte{1, 2, 3, 4, 5, 6})
	b := &book{}
	w := newObjects(Options{Rows: b})
	events := []ledger.Event{&ledger.Accepted{ID: id, Sender: "a@b.example", Decisions: []ledger.Decided{{Recipient: "c@d.example"}}}, &ledger.Refused{Reply: "550 no\x7f\u009b\u202e"}, &ledger.Attempted{ID: id}, &ledger.HandedOff{ID: id},
		&ledger.Bounced{ID: id}, &ledger.Held{ID: id}, &ledger.Released{ID: id}, &ledger.Dropped{ID: id}, &ledger.Reported{Subject: id}, &ledger.GuardTripped{ID: id}, &ledger.IncidentChanged{}, &ledger.PolicyLoaded{}, &ledger.Admin{}}
	for i, e := range events {
		line, err := w.lines(t.Context(), nil, uint64(i+1), e, nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsAny(line, "\x7f") || bytes.Contains(line, []byte("\u009b")) || bytes.Contains(line, []byte("\u202e")) {
			t.Errorf("harmful: %q", line)
		}
		var got, want map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		raw, _ := json.Marshal(e)
		_ = json.Unmarshal(raw, &want)
		want["seq"], want["event"] = float64(i+1), e.Kind().String()
		if env, ok := got["envelope"].(map[string]any); ok {
			if m, _ := about(e); m.IsZero() || env["from"] != "a@b.example" || env["to"] != "c@d.example" {
				t.Errorf("envelope %v of %s", env, e.Kind())
			}
			delete(got, "envelope")
		} else if m, _ := about(e); !m.IsZero() {
			t.Errorf("no envelope: %s", line)
		}
		if a, b := fmt.Sprint(got), fmt.Sprint(want); a != b {
			t.Errorf("%s\n%s", a, b)
		}
	}
}

// FuzzLines reads back what any octets become, in both formats.
func FuzzLines(f *testing.F) {
	f.Add("550 5.1.1 <a@b>", "=cmd|' /C calc'!A0", "\x1b]0;x\x07\u202e\"\r\n,")
	f.Add("x@y", "\xff\xfe\u2028", "-1+1")
	f.Fuzz(func(t *testing.T, reply, host, filter string) {
		e := &ledger.HandedOff{Time: time.Unix(1764072000, 0).UTC(), Address: reply, Host: host, Reply: filter, Path: ledger.Path{Filter: filter}}
		line, err := newObjects(Options{Rows: &book{}}).lines(t.Context(), nil, 1, e, nil)
		if err != nil || !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%v %q", err, line)
		}
		for _, r := range strings.TrimSuffix(string(line), "\n") {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				t.Fatalf("%q in %q", r, line)
			}
		}
		row, err := newAccounting(Options{Rows: &book{}}).lines(t.Context(), nil, 1, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(bytes.NewReader(row)).ReadAll()
		if err != nil || len(rows) != 1 || len(rows[0]) != strings.Count(columns, ",")+1 {
			t.Fatalf("%v %q", err, row)
		}
		for _, v := range rows[0] {
			if v != "" && strings.ContainsRune("=+-@", rune(v[0])) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("value %q in %q", v, row)
			}
		}
	})
}

// TestAccounting shows one row of each record.
func TestAccounting(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	id := smtp.NewID(now, [6]byte{1, 2, 3, 4, 5, 6})
	mx, source := netip.MustParseAddrPort("203.0.113.9:25"), netip.MustParseAddr("198.51.100.10")
	at := now.Add(3 * time.Second)
	w := newAccounting(Options{Rows: &book{}})
	var out []byte
	for _, e := range []ledger.Event{
		&ledger.Accepted{Time: now, ID: id, Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Helo: "app", Sender: "news@acme.example", Customer: "acme", Size: 1234,
			Decisions: []ledger.Decided{{Recipient: "bob@dest.example", Pool: "general"}}},
		&ledger.HandedOff{Time: at, ID: id, Address: "bob@dest.example", Domain: "dest.example", Pool: "general", Source: source, Peer: mx, Host: "mx.dest.example", Reply: "250 2.0.0 ok, thanks"},
		&ledger.Attempted{Time: at, ID: id, Pool: "general", Reply: "connect to mx.dest.example: refused", Category: "no-answer"},
		&ledger.Bounced{Time: at, ID: id, Source: source, Peer: mx, Host: "mx.dest.example", Reply: "552 5.2.2 full"},
		&ledger.Reported{Time: at, Subject: id, Format: "arf", Provider: "aol"},
		&ledger.Reported{Time: at, Subject: id, Format: "dsn", Provider: "dest"},
		&ledger.Admin{Time: at},
	} {
		var err error
		if out, err = w.lines(t.Context(), out, 1, e, nil); err != nil {
			t.Fatal(err)
		}
	}
	q, env := "2026-11-25 12:00:00+0000", id.String()
	l := "2026-11-25 12:00:03+0000"
	want := []string{
		"r," + q + "," + q + ",news@acme.example,bob@dest.example,,,,,,,smtp,app (192.0.2.7),,,,,1234,general,acme," + env + ",dest.example/general,general,,,,",
		"d," + l + "," + q + `,news@acme.example,bob@dest.example,,relayed,2.0.0,"smtp;250 2.0.0 ok, thanks",mx.dest.example (203.0.113.9),,smtp,app (192.0.2.7),smtp,198.51.100.10,203.0.113.9,,1234,general,acme,` + env + ",dest.example/general,general,,,,",
		"t," + l + "," + q + ",news@acme.example,bob@dest.example,,delayed,4.0.0,smtp;connect to mx.dest.example: refused,,no-answer-from-host,smtp,app (192.0.2.7),smtp,,,,1234,general,acme," + env + ",dest.example/general,general,,,,",
		"b," + l + "," + q + ",news@acme.example,bob@dest.example,,failed,5.2.2,smtp;552 5.2.2 full,mx.dest.example (203.0.113.9),quota-issues,smtp,app (192.0.2.7),smtp,198.51.100.10,203.0.113.9,,1234,general,acme," + env + ",dest.example/general,general,,,,",
		"f," + l + "," + q + ",news@acme.example,bob@dest.example,,,,,,,smtp,app (192.0.2.7),,,,,1234,general,acme," + env + ",dest.example/general,general,abuse,arf,aol,acme.example",
		"rb," + l + "," + q + ",news@acme.example,bob@dest.example,,failed,,,,,smtp,app (192.0.2.7),,,,,1234,general,acme," + env + ",dest.example/general,general,,dsn,dest,",
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\r\n"), "\r\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestMaskedLinesHaveNoAddress writes the life of a message with a key.
func TestMaskedLinesHaveNoAddress(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	b := &book{}
	for range 50 {
		b.life(r, time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
	}
	for _, f := range []Format{JSONL, PMTA} {
		o := Options{Format: f, Rows: b, Key: []byte("0123456789abcdef")}
		text := b.expect(t, o)
		if strings.Contains(text, "reader") || strings.Contains(text, "news@") {
			t.Errorf("%s has an address", f)
		}
		if !strings.Contains(text, "@dest1.example") || text != b.expect(t, o) {
			t.Errorf("%s: hashes are not the same twice, or have no domain", f)
		}
		o.Key = []byte("another")
		if text == b.expect(t, o) {
			t.Errorf("%s: the key does not matter", f)
		}
	}
}

// TestOldFilesGo keeps what is young and small enough.
func TestOldFilesGo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m[a]il.log")
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for i := range 10 {
		w := &file{path: path}
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 100), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.putAside(now.Add(-time.Duration(10-i)*24*time.Hour), uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path+".old", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		keep Keep
		left int
	}{{"nothing bounded", Keep{}, 10}, {"age", Keep{Age: 8 * 24 * time.Hour}, 8}, {"octets", Keep{Octets: 550}, 5}, {"both", Keep{Age: 3 * 24 * time.Hour, Octets: 1000}, 3}} {
		if _, err := tidy(path, c.keep, now); err != nil || len(rotated(path)) != c.left {
			t.Errorf("%s: %v, %d left", c.name, err, len(rotated(path)))
		}
	}
}

// TestDamagedPosition loses one copy of the position, then both.
func TestDamagedPosition(t *testing.T) {
	name := filepath.Join(t.TempDir(), "p")
	p, err := openPlaces(name, func() uint64 { return 5 })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := p.save(place{At: uint64(10 + i), Seq: 3}); err != nil {
			t.Fatal(err)
		}
	}
	newest := int64(p.last.turn % 2)
	for i, want := range []uint64{13, 0} {
		f, _ := os.OpenFile(name, os.O_WRONLY, 0)
		_, _ = f.WriteAt([]byte("torn"), (newest+int64(i))%2*slotSize+20)
		f.Close()
		q, err := openPlaces(name, nil)
		if want == 0 {
			if !errors.Is(err, errPositionLost) {
				t.Errorf("both damaged: %v", err)
			}
			continue
		}
		if err != nil || q.last.At != want {
			t.Errorf("one damaged: %v, %+v", err, q)
		}
	}
}

// cpu is the processor time of the process so far: of it the cost of a core is made,
// however busy the machine is.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLines(b *testing.B) {
	for _, f := range []Format{JSONL, PMTA} {
		b.Run(string(f), func(b *testing.B) {
			r := rand.New(rand.NewPCG(3, 3))
			k := &book{}
			for range 1000 {
				k.life(r, time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
			}
			var all [][]byte
			for _, batch := range k.batches {
				all = append(all, batch...)
			}
			var enc encoder = newObjects(Options{Rows: k})
			if f == PMTA {
				enc = newAccounting(Options{Rows: k})
			}
			var buf []byte
			b.ReportAllocs()
			began := cpu()
			for i := 0; b.Loop(); i++ {
				raw := all[i%len(all)]
				e, err := ledger.Decode(raw)
				if err != nil {
					b.Fatal(err)
				}
				if buf, err = enc.lines(b.Context(), buf[:0], uint64(i), e, raw); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/(cpu()-began).Seconds(), "events/core-s")
		})
	}
}
