package spool_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
)

// album is a spool with a record of every kind, between messages that must survive
// whatever happens to one of them.
type album struct {
	fs    *faultfs.FS
	kinds []string
	begin []int64 // of each record in segment 1; one more for the end
}

func newAlbum(t *testing.T) *album {
	t.Helper()
	a := &album{fs: faultfs.New(), begin: []int64{0}}
	s, _, err := spool.Open(ctx, spool.Options{FS: a.fs, SegmentSize: 64 << 10, InlineBody: 4 << 10, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	put := func(kind string, b *spool.Batch) {
		t.Helper()
		p := mustCommit(t, s, b)
		a.kinds = append(a.kinds, kind)
		a.begin = append(a.begin, int64(uint32(p)))
	}
	put("witness", batch(t, s, 1, 700))
	put("message", batch(t, s, 2, 700))
	put("message without body", &spool.Batch{Message: &spool.Message{ID: id(3), Accepted: time.UnixMilli(1.7e12).UTC(), Recipients: []spool.Recipient{{}}}, Events: [][]byte{[]byte("accepted 3")}})
	put("message with a file", batch(t, s, 4, 20_000))
	put("event", &spool.Batch{Events: [][]byte{[]byte("refused"), []byte("admin")}})
	put("deferral", &spool.Batch{Changes: []spool.Change{{ID: id(1), Attempts: 1, NotBefore: time.UnixMilli(5), Reason: "451 later"}}, Events: [][]byte{[]byte("tried 1")}})
	put("hold", &spool.Batch{Changes: []spool.Change{{ID: id(4), State: spool.Held, Reason: "op"}}, Events: [][]byte{[]byte("held 4")}})
	put("end", settled(2))
	put("end with a message", &spool.Batch{Changes: settled(3).Changes, Events: [][]byte{[]byte("bounced 3")}, Message: batch(t, s, 5, 0).Message})
	put("witness", batch(t, s, 6, 700))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return a
}

// check opens what is left and looks at all that was not damaged. lost is the record
// that was, or -1.
func (a *album) check(t *testing.T, fs *faultfs.FS, lost int, what string) *spool.Recovery {
	t.Helper()
	s, rec, err := spool.Open(ctx, spool.Options{FS: fs, SegmentSize: 64 << 10, InlineBody: 4 << 10, Reserve: 1})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	for i, n := range map[int]int{0: 1, 3: 4, 9: 6} {
		if i != lost {
			checkBody(t, s, n, map[int]int{1: 700, 4: 20_000, 6: 700}[n])
		}
	}
	state := func(n int) spool.State {
		st, err := s.State(id(n))
		if err != nil {
			return spool.Settled
		}
		return st[0].State
	}
	if lost != 1 && (state(2) == spool.Settled) != (lost != 7) {
		t.Errorf("%s: message 2 is in state %d", what, state(2))
	}
	if lost != 3 && (state(4) == spool.Held) != (lost != 6) {
		t.Errorf("%s: message 4 is in state %d", what, state(4))
	}
	mustCommit(t, s, batch(t, s, 100, 50))
	checkBody(t, s, 100, 50)
	events := map[string]bool{}
	for pos := uint64(0); pos < s.Durable(); {
		more, next, err := s.Read(ctx, pos, 100)
		if err != nil {
			t.Fatalf("%s: the outbox stops: %v", what, err)
		}
		for _, e := range more {
			events[string(e)] = true
		}
		pos = next
	}
	for i, e := range []string{"accepted 1", "accepted 2", "accepted 3", "accepted 4", "refused", "tried 1", "held 4", "done 2", "bounced 3", "accepted 6"} {
		if !events[e] && i != lost {
			t.Errorf("%s: event %q is missing", what, e)
		}
	}
	return rec
}

// TestDamageToEveryKind flips a bit anywhere in any record, wipes sectors and makes
// them unreadable: the spool opens, says what it found, keeps it, and the rest is as it
// was.
func TestDamageToEveryKind(t *testing.T) {
	a := newAlbum(t)
	whole := a.fs.Get("log/00000001.seg")
	big := a.fs.Get("big/" + id(4).String())
	fresh := func() *faultfs.FS {
		fs := faultfs.New()
		fs.Put("log/00000001.seg", whole)
		fs.Put("big/"+id(4).String(), big)
		return fs
	}
	if rec := a.check(t, fresh(), -1, "undamaged"); len(rec.Corrupt) != 0 || rec.Torn != 0 {
		t.Fatalf("undamaged: %+v", rec)
	}
	r := rand.New(rand.NewPCG(11, 12))
	for i, kind := range a.kinds {
		last := i == len(a.kinds)-1
		for trial := range 40 {
			fs := fresh()
			at := a.begin[i] + r.Int64N(a.begin[i+1]-a.begin[i])
			if trial < 32 {
				at = a.begin[i] + int64(trial) // every octet of the header
			}
			what := fmt.Sprintf("%s, bit at %d of record %d", kind, at-a.begin[i], i)
			fs.Flip("log/00000001.seg", at)
			lost := i
			if off := at - a.begin[i]; (off >= 28 && off < 32) || at >= a.begin[i+1]-8 {
				lost = -2 // reserved octets and padding may change unseen
			}
			if lost == -2 {
				s, _, err := spool.Open(ctx, spool.Options{FS: fs, SegmentSize: 64 << 10, Reserve: 1})
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				_ = s.Close()
				continue
			}
			rec := a.check(t, fs, lost, what)
			if last {
				if rec.Torn == 0 || fs.Size(fmt.Sprintf("bad/00000001-%d.torn", a.begin[i])) <= 0 {
					t.Errorf("%s: %+v", what, rec)
				}
			} else if len(rec.Corrupt) != 1 || rec.Corrupt[0].Offset != a.begin[i] || fs.Size(rec.Corrupt[0].Aside) != a.begin[i+1]-a.begin[i] {
				t.Errorf("%s: %+v", what, rec)
			}
		}
	}
}

// TestUnreadableSector: what the disk does not give back costs the records that it
// touches and no others.
func TestUnreadableSector(t *testing.T) {
	a := newAlbum(t)
	fs := a.fs
	fs.Spoil("log/00000001.seg", a.begin[1]+300) // in the message 2
	s, rec, err := spool.Open(ctx, spool.Options{FS: fs, SegmentSize: 64 << 10, InlineBody: 4 << 10, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(rec.Corrupt) < 2 || rec.Corrupt[0].Cause == "" {
		t.Errorf("recovery says %+v", rec)
	}
	checkBody(t, s, 6, 700)
	mustCommit(t, s, batch(t, s, 100, 50))
}

// TestTornTail cuts the segment off at every place: whole records are kept, the rest is
// reported and set aside.
func TestTornTail(t *testing.T) {
	a := newAlbum(t)
	whole := a.fs.Get("log/00000001.seg")
	big := a.fs.Get("big/" + id(4).String())
	for cut := int64(0); cut < a.begin[len(a.begin)-1]; cut += 1 + cut%29 {
		kept := 0
		for kept+1 < len(a.begin) && a.begin[kept+1] <= cut {
			kept++
		}
		for _, shorter := range []bool{true, false} { // the file ends, or zeros follow
			fs := faultfs.New()
			b := append([]byte(nil), whole[:cut]...)
			if !shorter {
				b = append(b, make([]byte, len(whole)-int(cut))...)
			}
			fs.Put("log/00000001.seg", b)
			fs.Put("big/"+id(4).String(), big)
			s, rec, err := spool.Open(ctx, spool.Options{FS: fs, SegmentSize: 64 << 10, InlineBody: 4 << 10, Reserve: 1})
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			// Of a record whose last octets are padding nothing is lost.
			if rec.Records != kept && rec.Records != kept+1 || len(rec.Corrupt) != 0 {
				t.Errorf("cut at %d: %d records, want %d: %+v", cut, rec.Records, kept, rec)
			}
			if torn := fs.Size(fmt.Sprintf("bad/00000001-%d.torn", a.begin[rec.Records])); (torn > 0) != (rec.Torn > 0) {
				t.Errorf("cut at %d: %d octets torn, %d set aside", cut, rec.Torn, torn)
			}
			if kept > 0 {
				checkBody(t, s, 1, 700)
			}
			mustCommit(t, s, batch(t, s, 100, 50))
			_ = s.Close()
		}
	}
}

// TestStrangeFiles: what does not belong into the folder does not keep the spool from
// opening.
func TestStrangeFiles(t *testing.T) {
	fs := faultfs.New()
	for name, b := range map[string][]byte{"log/00000001.seg": nil, "log/00000002.seg": []byte("PSR1 but no more"), "log/00000003.seg": make([]byte, 5000), "log/notes.txt": []byte("x"),
		"big/nothing": []byte("x"), "tmp/7": []byte("x")} {
		fs.Put(name, b)
	}
	s, rec := openOn(t, fs)
	if rec.Messages != 0 || rec.Orphans != 1 || rec.Torn == 0 {
		t.Errorf("recovery says %+v", rec)
	}
	mustCommit(t, s, batch(t, s, 1, 50))
	checkBody(t, s, 1, 50)
}
