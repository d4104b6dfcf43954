package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
)

var ctx = context.Background()

// openOn opens a spool with small segments, so that little mail crosses many.
func openOn(t testing.TB, fs spool.FS) (*spool.Spool, *spool.Recovery) {
	t.Helper()
	s, rec, err := spool.Open(ctx, spool.Options{FS: fs, SegmentSize: 16 << 10, InlineBody: 4 << 10, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, rec
}

func id(n int) smtp.ID {
	return smtp.NewID(time.UnixMilli(1.7e12), [6]byte{byte(n >> 16), byte(n >> 8), byte(n)})
}

// batch makes the n-th message with a body that can be told from others.
func batch(t testing.TB, s *spool.Spool, n, size int) *spool.Batch {
	t.Helper()
	b := s.NewBody()
	b.SetPrefix([]byte(fmt.Sprintf("X-N: %d\r\n\r\n", n)))
	if _, err := b.Write(pattern(n, size)); err != nil {
		t.Fatal(err)
	}
	return &spool.Batch{Body: b, Events: [][]byte{fmt.Appendf(nil, "accepted %d", n)},
		Message: &spool.Message{ID: id(n), Accepted: time.UnixMilli(1.7e12).UTC(), From: smtp.Path{Local: "a", Domain: "b.example"}, Size: b.Size(), Origin: "customer",
			Recipients: []spool.Recipient{{To: smtp.Path{Local: "c", Domain: "d.example"}, Headers: []string{"X-A: b"}}}}}
}

func pattern(n, size int) []byte {
	return bytes.Repeat([]byte{byte('a' + n%26)}, size)
}

func settled(n int) *spool.Batch {
	return &spool.Batch{Changes: []spool.Change{{ID: id(n), State: spool.Settled}}, Events: [][]byte{fmt.Appendf(nil, "done %d", n)}}
}

func mustCommit(t testing.TB, s *spool.Spool, b *spool.Batch) spool.Position {
	t.Helper()
	p, err := s.Commit(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// checkBody reads a message back and compares it.
func checkBody(t testing.TB, s *spool.Spool, n, size int) {
	t.Helper()
	m, r, err := s.Open(id(n))
	if err != nil {
		t.Fatalf("message %d: %v", n, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	want := append([]byte(fmt.Sprintf("X-N: %d\r\n\r\n", n)), pattern(n, size)...)
	if err != nil || !bytes.Equal(b, want) || m.Recipients[0].To.Local != "c" || m.Size != int64(len(want)) {
		t.Fatalf("message %d reads as %d octets, %v", n, len(b), err)
	}
}

func TestCommitAndReadBack(t *testing.T) {
	s, _ := openOn(t, spool.Disk(t.TempDir()))
	for n, size := range []int{0, 1, 100, 4000, 5000, 100_000} { // the last two stand in files
		mustCommit(t, s, batch(t, s, n, size))
		checkBody(t, s, n, size)
	}
	if st := s.Stats(); st.Messages != 6 {
		t.Errorf("%d messages", st.Messages)
	}
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	dir := t.TempDir()
	openOn(t, spool.Disk(dir))
	if _, _, err := spool.Open(ctx, spool.Options{Dir: dir}); err == nil {
		t.Error("the spool opens twice")
	}
}

// model is what must be there: everything acknowledged, and whatever else was asked
// for as a whole or not at all.
type model struct {
	size    map[int]int  // of live messages that were acknowledged
	maybe   map[int]int  // asked for when the crash came
	tried   map[int]int  // attempts that were acknowledged, of live messages
	settled map[int]bool // acknowledged as settled
	ending  map[int]bool // asked to be settled when the crash came
	forgot  uint64       // where the follower stands
	events  []string     // acknowledged since then, in order
}

// TestCrashes runs random operations, crashes at a random one, recovers, and compares
// with the model; many times over the same disk.
func TestCrashes(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		fs := faultfs.New()
		m := &model{size: map[int]int{}, maybe: map[int]int{}, tried: map[int]int{}, settled: map[int]bool{}, ending: map[int]bool{}}
		n := 0
		for range 6 {
			s, _ := openOn(t, fs)
			m.check(t, seed, s)
			for range r.IntN(30) {
				n = m.step(t, r, s, n)
			}
			// One last group under way when the power goes: nobody hears of it.
			if r.IntN(2) == 0 {
				size := r.IntN(6000)
				m.maybe[n] = size
				_ = s.Submit(batch(t, s, n, size))
				n++
			}
			fs = fs.Crash(r)
			_ = s.Close()
		}
	}
}

func (m *model) step(t *testing.T, r *rand.Rand, s *spool.Spool, n int) int {
	if r.IntN(8) == 0 {
		m.forgot = s.Durable() // a follower has seen it all: old segments may go
		m.events = nil
		s.Forget(m.forgot)
	}
	if live := len(m.size); live > 0 && r.IntN(2) == 0 {
		k := slices.Sorted(maps.Keys(m.size))[r.IntN(live)]
		if r.IntN(3) == 0 {
			m.tried[k]++
			mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(k), Attempts: m.tried[k], NotBefore: time.UnixMilli(int64(m.tried[k])).UTC(), Reason: "451 later"}}})
			return n
		}
		mustCommit(t, s, settled(k))
		delete(m.size, k)
		delete(m.tried, k)
		m.settled[k] = true
		m.events = append(m.events, fmt.Sprintf("done %d", k))
		return n
	}
	size := r.IntN(6000)
	mustCommit(t, s, batch(t, s, n, size))
	m.size[n] = size
	m.events = append(m.events, fmt.Sprintf("accepted %d", n))
	return n + 1
}

func (m *model) check(t *testing.T, seed uint64, s *spool.Spool) {
	t.Helper()
	live := map[smtp.ID]bool{}
	s.List(func(e spool.Entry) bool { live[e.ID] = true; return true })
	for n, size := range m.size {
		if !live[id(n)] {
			t.Fatalf("seed %d: acknowledged message %d is gone", seed, n)
		}
		checkBody(t, s, n, size)
		delete(live, id(n))
		if st, err := s.State(id(n)); err != nil || st[0].Attempts != m.tried[n] || (m.tried[n] > 0 && (st[0].Reason != "451 later" || st[0].NotBefore.UnixMilli() != int64(m.tried[n]))) {
			t.Fatalf("seed %d: message %d was tried %d times; the spool says %+v, %v", seed, n, m.tried[n], st, err)
		}
	}
	for n, size := range m.maybe {
		if live[id(n)] {
			checkBody(t, s, n, size)
			m.size[n] = size
			delete(live, id(n))
		}
		delete(m.maybe, n)
	}
	for l := range live {
		t.Fatalf("seed %d: message %s came back", seed, l)
	}
	m.checkEvents(t, seed, s)
}

// checkEvents reads the outbox from where the follower stands: all acknowledged events
// since then, in order.
func (m *model) checkEvents(t *testing.T, seed uint64, s *spool.Spool) {
	t.Helper()
	var got []string
	for pos := m.forgot; pos < s.Durable(); {
		events, next, err := s.Read(ctx, pos, 10)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, e := range events {
			got = append(got, string(e))
		}
		pos = next
	}
	i := 0
	for _, g := range got {
		if i < len(m.events) && g == m.events[i] {
			i++
		}
	}
	if i < len(m.events) {
		t.Fatalf("seed %d: event %q is missing or out of order", seed, m.events[i])
	}
}

// TestCorruptRecord flips one bit somewhere in a segment: everything else survives,
// and the damage is reported and set aside.
func TestCorruptRecord(t *testing.T) {
	for trial := range 40 {
		r := rand.New(rand.NewPCG(uint64(trial), 9))
		fs := faultfs.New()
		s, _ := openOn(t, fs)
		var ends []spool.Position
		for n := range 10 {
			ends = append(ends, mustCommit(t, s, batch(t, s, n, 500)))
		}
		_ = s.Close()
		victim := r.IntN(9) // the last one could not be told from a torn tail
		var begin int64
		if victim > 0 {
			begin = int64(uint32(ends[victim-1]))
		}
		end := int64(uint32(ends[victim]))
		fs.Flip("log/00000001.seg", begin+r.Int64N(end-begin-16)) // padding may change unseen
		s, rec := openOn(t, fs)
		if len(rec.Corrupt) != 1 || fs.Size(rec.Corrupt[0].Aside) != end-begin {
			t.Fatalf("trial %d: recovery says %+v", trial, rec)
		}
		for n := range 10 {
			if n != victim {
				checkBody(t, s, n, 500)
			}
		}
		if _, err := s.Message(id(victim)); !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("trial %d: the damaged message gives %v", trial, err)
		}
		mustCommit(t, s, batch(t, s, 100, 10))
		if _, _, err := s.Read(ctx, 0, 100); err != nil {
			t.Errorf("trial %d: the outbox stops at the damage: %v", trial, err)
		}
	}
}

// TestDamageUnderTheRunningSpool: a body that is not what was written is never given
// out.
func TestDamageUnderTheRunningSpool(t *testing.T) {
	fs := faultfs.New()
	s, _, err := spool.Open(ctx, spool.Options{FS: fs, InlineBody: 4 << 10, Reserve: 1, Recent: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	mustCommit(t, s, batch(t, s, 1, 500))
	mustCommit(t, s, batch(t, s, 2, 50_000))
	fs.Flip("log/00000001.seg", 300)
	fs.Flip("big/"+id(2).String(), 40_000)
	if _, _, err := s.Open(id(1)); !errors.Is(err, spool.ErrCorrupt) {
		t.Errorf("the damaged record gives %v", err)
	}
	_, r, err := s.Open(id(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, spool.ErrCorrupt) {
		t.Errorf("the damaged file gives %v", err)
	}
}

// TestFullDisk: no message is taken while there is no room, outcomes still are, and
// it goes on by itself when there is room again.
func TestFullDisk(t *testing.T) {
	fs := faultfs.New()
	fs.Quota = 64 << 10
	s, _ := openOn(t, fs)
	n := 0
	var err error
	for ; n < 100; n++ {
		if _, err = s.Commit(ctx, batch(t, s, n, 3000)); err != nil {
			break
		}
	}
	if !errors.Is(err, spool.ErrFull) {
		t.Fatalf("after %d messages: %v", n, err)
	}
	b := s.NewBody()
	if _, err := b.Write(make([]byte, 60_000)); !errors.Is(err, spool.ErrFull) {
		t.Errorf("a large body gives %v", err)
	}
	b.Discard()
	for k := range n {
		checkBody(t, s, k, 3000)
	}
	fs.Quota = 0
	mustCommit(t, s, batch(t, s, n, 3000))
	checkBody(t, s, n, 3000)
}

// TestFailedSync: the commits of a group whose sync failed fail, and the segment is
// never trusted again.
func TestFailedSync(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	mustCommit(t, s, batch(t, s, 1, 100))
	fs.FailSync = 1
	if _, err := s.Commit(ctx, batch(t, s, 2, 100)); !errors.Is(err, faultfs.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	p := mustCommit(t, s, batch(t, s, 3, 100))
	if p>>32 == 1 {
		t.Error("it goes on in the segment whose sync failed")
	}
	checkBody(t, s, 1, 100)
	checkBody(t, s, 3, 100)
	if _, err := s.Message(id(2)); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("the failed message gives %v", err)
	}
}

// TestBrokenPromise: what Submit promised and could not keep stops every later
// commit.
func TestBrokenPromise(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	mustCommit(t, s, batch(t, s, 1, 100))
	fs.FailSync = 1
	if err := s.Submit(settled(1)); err != nil {
		t.Fatal(err)
	}
	for s.Err() == nil {
		if _, err := s.Commit(ctx, &spool.Batch{Events: [][]byte{[]byte("x")}}); err != nil {
			break
		}
	}
	if _, err := s.Commit(ctx, batch(t, s, 2, 100)); err == nil {
		t.Error("mail is taken after a broken promise")
	}
}

func TestSegmentsAreReclaimed(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	for n := range 200 {
		mustCommit(t, s, batch(t, s, n, 1000))
		mustCommit(t, s, settled(n))
	}
	if st := s.Stats(); st.Segments < 5 {
		t.Fatalf("%d segments: too few for the test", st.Segments)
	}
	s.Forget(s.Durable())
	if st := s.Stats(); st.Segments > 2 {
		t.Errorf("%d segments remain of nothing", st.Segments)
	}
	if names, _ := fs.List("big"); len(names) != 0 {
		t.Errorf("bodies remain: %v", names)
	}
}

// TestNothingComesBack: while one message waits for days, all that came after it is
// settled and its segments go; at the next start only the one is there, as it was.
func TestNothingComesBack(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	for _, size := range []int{1000, 50_000} { // in the log, and in a file of its own
		mustCommit(t, s, batch(t, s, size, size))
		mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(size), State: spool.Held, Attempts: 3, Reason: "held by op"}}, Events: [][]byte{[]byte("held")}})
	}
	most := 0
	for n := range 400 {
		mustCommit(t, s, batch(t, s, n, 1000))
		mustCommit(t, s, settled(n))
		s.Forget(s.Durable())
		most = max(most, s.Stats().Segments)
	}
	if most > 8 {
		t.Errorf("%d segments were kept for two messages", most)
	}
	for range 2 {
		_ = s.Close()
		s, _ = openOn(t, fs)
		if st := s.Stats(); st.Messages != 2 {
			t.Fatalf("%d messages after a restart", st.Messages)
		}
		for _, size := range []int{1000, 50_000} {
			checkBody(t, s, size, size)
			if st, err := s.State(id(size)); err != nil || st[0].State != spool.Held || st[0].Attempts != 3 || st[0].Reason != "held by op" {
				t.Errorf("message %d: %+v, %v", size, st, err)
			}
		}
		mustCommit(t, s, settled(9999))
	}
}

// TestMoveWhileRead: a message that the writer moves can be read all the time.
func TestMoveWhileRead(t *testing.T) {
	s, _ := openOn(t, faultfs.New())
	mustCommit(t, s, batch(t, s, 7777, 1000))
	mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(7777), Attempts: 1}}, Events: [][]byte{[]byte("tried")}})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, r, err := s.Open(id(7777)); err != nil {
				t.Error(err)
				return
			} else if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	for n := range 300 {
		mustCommit(t, s, batch(t, s, n, 1000))
		mustCommit(t, s, settled(n))
		s.Forget(s.Durable())
	}
	close(stop)
	<-done
	checkBody(t, s, 7777, 1000)
}

// TestGroupCommit: concurrent commits share syncs, and all are there.
func TestGroupCommit(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	var wg sync.WaitGroup
	const writers, each = 20, 30
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				if _, err := s.Commit(ctx, batch(t, s, w*each+i, 50)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if st := s.Stats(); st.Messages != writers*each {
		t.Errorf("%d messages", st.Messages)
	}
	for n := range writers * each {
		checkBody(t, s, n, 50)
	}
}

// FuzzRecover opens a spool over arbitrary octets.
func FuzzRecover(f *testing.F) {
	fs := faultfs.New()
	s, _ := openOn(f, fs)
	mustCommit(f, s, batch(f, s, 1, 50))
	mustCommit(f, s, settled(1))
	file, _ := fs.Open("log/00000001.seg", false)
	seed := make([]byte, 2048)
	_, _ = file.ReadAt(seed, 0)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := faultfs.New()
		fs.Put("log/00000001.seg", b)
		s, _, err := spool.Open(ctx, spool.Options{FS: fs, SegmentSize: 16 << 10, Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, s, batch(t, s, 7, 10))
		checkBody(t, s, 7, 10)
		_ = s.Close()
	})
}

func BenchmarkCommit(b *testing.B) {
	s, _, err := spool.Open(ctx, spool.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var n sync.Mutex
	next := 0
	b.SetParallelism(25)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Lock()
			next++
			k := next
			n.Unlock()
			if _, err := s.Commit(ctx, batch(b, s, k, 4096)); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestPromiseWaitsForRoom: on a full disk a promise waits and nothing is broken; with
// room it goes before what came later.
func TestPromiseWaitsForRoom(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	mustCommit(t, s, batch(t, s, 1, 100))
	fs.Limit(1) // no room for another segment
	event := func(name string) *spool.Batch {
		return &spool.Batch{Events: [][]byte{append([]byte(name), make([]byte, 12<<10)...)}}
	}
	mustCommit(t, s, event("fills the segment"))
	if err := s.Submit(event("promised")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, event("refused")); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("with no room: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Fatalf("a full disk breaks a promise: %v", err)
	}
	fs.Limit(0)
	mustCommit(t, s, event("later"))
	var got []string
	for at := uint64(0); len(got) < 5; {
		events, next, err := s.Read(ctx, at, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, string(bytes.TrimRight(e, "\x00")))
		}
		if at = next; at >= s.Durable() {
			break
		}
	}
	if want := []string{"accepted 1", "fills the segment", "promised", "later"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLostNote: a note that cannot be kept breaks nothing.
func TestLostNote(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	mustCommit(t, s, batch(t, s, 1, 100))
	fs.FailNextSync()
	if err := s.Note(&spool.Batch{Events: [][]byte{[]byte("refused")}}); err != nil {
		t.Fatal(err)
	}
	for fs.SyncFails() {
		_, _ = s.Commit(ctx, &spool.Batch{Events: [][]byte{[]byte("x")}})
	}
	mustCommit(t, s, batch(t, s, 2, 100))
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

// TestNoBodyFileStaysBehind: a large message that finds no room leaves no file.
func TestNoBodyFileStaysBehind(t *testing.T) {
	fs := faultfs.New()
	s, _ := openOn(t, fs)
	mustCommit(t, s, batch(t, s, 1, 100))
	b := batch(t, s, 2, 20_000)
	fs.Limit(fs.Used() + 10_000)
	if _, err := s.Commit(ctx, b); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("got %v", err)
	}
	b.Body.Discard()
	for _, dir := range []string{"big", "tmp"} {
		if names, _ := fs.List(dir); len(names) > 0 {
			t.Errorf("%s holds %v", dir, names)
		}
	}
	fs.Limit(0)
	mustCommit(t, s, batch(t, s, 3, 20_000))
}

// tight is a disk on which nothing is reserved, and which has room for little more.
type tight struct {
	spool.FS
	left int64
}

type tightFile struct {
	spool.File
	fs *tight
}

func (d *tight) Free() (int64, error) { return d.left, nil }

func (d *tight) Open(name string, create bool) (spool.File, error) {
	f, err := d.FS.Open(name, create)
	return tightFile{f, d}, err
}

func (f tightFile) WriteAt(p []byte, at int64) (int, error) {
	if f.fs.left -= int64(len(p)); f.fs.left < 0 {
		return 0, unix.ENOSPC
	}
	return f.File.WriteAt(p, at)
}

// TestLastRoomIsForRecords: what is written ahead of the records does not take the room
// that a promise needs.
func TestLastRoomIsForRecords(t *testing.T) {
	disk := &tight{FS: faultfs.New(), left: 1 << 30}
	s, _, err := spool.Open(ctx, spool.Options{FS: disk, SegmentSize: 1 << 20, Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	mustCommit(t, s, batch(t, s, 1, 10))
	disk.left = 300 << 10 // no commit is under way
	for n := range 400 {
		mustCommit(t, s, &spool.Batch{Changes: []spool.Change{{ID: id(1), Attempts: n + 1, Reason: "451 " + strings.Repeat("x", 500)}}})
	}
	if err := s.Submit(settled(1)); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, &spool.Batch{})
	if err := s.Err(); err != nil {
		t.Errorf("a promise is lost: %v", err)
	}
}

// TestCommitsWhileClosing closes under many commits and promises: each has an answer, and
// what was promised is there at the next start.
func TestCommitsWhileClosing(t *testing.T) {
	for round := range 300 {
		fs := faultfs.New()
		s, _ := openOn(t, fs)
		const workers = 16
		kept := make([]int, workers)
		var work sync.WaitGroup
		for w := range workers {
			work.Go(func() {
				for n := 0; ; n++ {
					b := &spool.Batch{Events: [][]byte{fmt.Appendf(nil, "%d %d", w, n)}}
					var err error
					if w%2 == 0 {
						_, err = s.Commit(ctx, b)
					} else {
						err = s.Submit(b)
					}
					if err != nil {
						return
					}
					kept[w]++
				}
			})
		}
		time.Sleep(time.Duration(round%8) * 50 * time.Microsecond)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		answered := make(chan struct{})
		go func() { work.Wait(); close(answered) }()
		select {
		case <-answered:
		case <-time.After(20 * time.Second):
			t.Fatalf("round %d: a commit that came while the spool was closed waits for ever", round)
		}
		want := 0
		for _, k := range kept {
			want += k
		}
		again, _ := openOn(t, fs)
		got := 0
		for at, end := uint64(0), again.Durable(); at < end; {
			events, next, err := again.Read(ctx, at, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			got, at = got+len(events), next
		}
		_ = again.Close()
		if got != want {
			t.Fatalf("round %d: %d were promised, %d are there", round, want, got)
		}
	}
}

// TestPromisesAreKeptByThemselves: what found no room is written once there is some,
// though nothing else comes that would have to be written.
func TestPromisesAreKeptByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		s, _ := openOn(t, fs)
		defer s.Close()
		fs.Limit(1) // no room for a segment
		if err := s.Submit(&spool.Batch{Events: [][]byte{[]byte("promised")}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := s.Durable(); n != 0 {
			t.Fatalf("durable up to %d without room", n)
		}
		fs.Limit(0)
		time.Sleep(time.Minute)
		if n := s.Durable(); n == 0 {
			t.Error("the promise is not kept a minute after there was room")
		}
	})
}

// TestClockIsSetBack: what was to wait for an hour does not wait for more than that, from
// when the clock was set, or from the start on.
func TestClockIsSetBack(t *testing.T) {
	fs, now := faultfs.New(), time.UnixMilli(1.7e12).UTC()
	open := func() *spool.Spool {
		s, _, err := spool.Open(ctx, spool.Options{FS: fs, Reserve: 1, Now: func() time.Time { return now }, Elapsed: func() time.Duration { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	b := batch(t, s, 1, 10)
	b.Changes = []spool.Change{{ID: id(1), Attempts: 1, NotBefore: now.Add(time.Hour)}}
	if _, err := s.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	due := now.Add(time.Hour)
	for _, c := range []struct {
		name string
		to   time.Time
		want time.Time
	}{
		{"not set", now.Add(time.Minute), due},
		{"set forward", due.Add(time.Hour), due},
		{"set back", due.Add(-25 * time.Hour), due.Add(-24 * time.Hour)},
	} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		now = c.to
		s = open()
		if st, err := s.State(id(1)); err != nil || !st[0].NotBefore.Equal(c.want) {
			t.Errorf("%s: %+v %v, want %s", c.name, st, err, c.want)
		}
	}
	st, _ := s.State(id(1))
	now = now.Add(-12 * time.Hour)
	mustCommit(t, s, batch(t, s, 2, 10))
	due = st[0].NotBefore.Add(-12 * time.Hour)
	if st, err := s.State(id(1)); err != nil || !st[0].NotBefore.Equal(due) {
		t.Errorf("set back while it runs: %+v %v, want %s", st, err, due)
	}
	_ = s.Close()
}
