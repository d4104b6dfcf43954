package spool_test

import (
	"testing"

	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
)

// TestSlowFollowerKeepsWhatItNeeds has two followers over many segments: what is
// forgotten is what the slower one has seen, unless it is let go.
func TestSlowFollowerKeepsWhatItNeeds(t *testing.T) {
	s, _ := openOn(t, faultfs.New())
	begin := max(s.Durable(), s.Oldest())
	for n := range 200 {
		mustCommit(t, s, batch(t, s, n, 1000))
		mustCommit(t, s, settled(n))
	}
	read := func(from uint64, most int) (n int, next uint64) {
		for next = from; next < s.Durable() && n < most; {
			events, p, err := s.Read(ctx, next, 10)
			if err != nil {
				t.Fatal(err)
			}
			n, next = n+len(events), p
		}
		return n, next
	}
	_, slow := read(begin, 100)
	if n, fast := read(begin, 1000); n != 400 || fast != s.Durable() {
		t.Fatalf("the fast follower read %d of 400, to %d of %d", n, fast, s.Durable())
	}
	all := s.Behind(begin)
	s.Forget(slow - 1)
	mustCommit(t, s, &spool.Batch{})
	if slow < s.Oldest() {
		t.Fatal("events of the slow follower are gone")
	}
	if n, _ := read(slow, 1000); n+100 < 400 || n >= 400 {
		t.Errorf("%d events after about 100", n)
	}
	floor := s.Within(all / 4)
	if b := s.Behind(floor); b > all/4 || b == 0 {
		t.Errorf("%d octets within %d", b, all/4)
	}
	s.Forget(max(slow-1, floor))
	mustCommit(t, s, &spool.Batch{})
	if slow >= s.Oldest() {
		t.Error("what was let go is still there")
	}
	if got := s.Within(1 << 40); s.Behind(got) != s.Behind(s.Oldest()) || got>>32 != s.Oldest()>>32+1 {
		t.Errorf("all that there is begins at %d, not %d", got, s.Oldest())
	}
	// Who stands at the end of what went misses nothing, and reads on from there.
	events, next, err := s.Read(ctx, s.Oldest(), 1)
	if err != nil || len(events) == 0 || next <= s.Oldest() {
		t.Errorf("read from the oldest position: %d events, %d, %v", len(events), next, err)
	}
}

// TestEndOfWhatWentIsNoGap: a follower that had read a whole segment when it went has
// lost nothing.
func TestEndOfWhatWentIsNoGap(t *testing.T) {
	s, _ := openOn(t, faultfs.New())
	at := max(s.Durable(), s.Oldest())
	for n := 0; at>>32 == s.Oldest()>>32; n++ {
		before := s.Durable()
		mustCommit(t, s, batch(t, s, n, 1000))
		mustCommit(t, s, settled(n))
		if s.Durable()>>32 != at>>32 && before>>32 == at>>32 {
			for at>>32 == before>>32 && at < before { // to the end of the first segment
				_, next, err := s.Read(ctx, at, 1)
				if err != nil {
					t.Fatal(err)
				}
				if next>>32 != at>>32 {
					break
				}
				at = next
			}
			break
		}
	}
	s.Forget(s.Durable())
	mustCommit(t, s, &spool.Batch{})
	if at < s.Oldest() {
		t.Errorf("a gap is found from %d to %d", at, s.Oldest())
	}
}
