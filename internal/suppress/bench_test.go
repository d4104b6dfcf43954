package suppress_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/suppress"
)

// file makes n lines of addresses on the way, every 1,000th of them rubbish, in the
// order that a list has that nobody has sorted.
type file struct {
	n, next int
	rest    []byte
	random  *rand.Rand
}

func (f *file) Read(p []byte) (int, error) {
	for len(f.rest) < 32<<10 && f.next < f.n {
		i := f.next
		f.next++
		if i%1000 == 999 {
			f.rest = append(f.rest, "\x00\xff,,,rubbish\"\n"...)
			continue
		}
		f.rest = appendAddress(f.rest, i)
		f.rest = append(f.rest, '\n')
	}
	if len(f.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.rest)
	f.rest = f.rest[:copy(f.rest, f.rest[n:])]
	return n, nil
}

// appendAddress spells the address of a number: 25 octets or so.
func appendAddress(b []byte, i int) []byte {
	x := uint64(i) * 0x9e3779b97f4a7c15
	b = append(b, "user."...)
	b = strconv.AppendUint(b, x>>20, 36)
	b = append(b, "@example"...)
	b = strconv.AppendInt(b, int64(i%5000), 10)
	return append(b, ".com"...)
}

func addressOf(i int) policy.Address {
	a, err := suppress.Normalise(string(appendAddress(nil, i)))
	if err != nil {
		panic(err)
	}
	return a
}

// measure looks n addresses up and tells how long the middle and the slowest took.
func measure(t testing.TB, s *suppress.Store, n int, number func() int, want bool) (median, p99 time.Duration) {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		a := addressOf(number())
		begin := time.Now()
		_, found, err := s.Find("acme", a)
		took[i] = time.Since(begin)
		if err != nil || found != want {
			t.Fatalf("%v: found %v, %v", a, found, err)
		}
	}
	slices.Sort(took)
	return took[n/2], took[n*99/100]
}

// TestMillions imports a long list and measures; POSTERN_SOAK=1 makes it a hundred million,
// POSTERN_SUPPRESS_ENTRIES another number. What goes on beside the import is looked up
// all the time: mail goes on.
func TestMillions(t *testing.T) {
	n := 40_000
	if os.Getenv("POSTERN_SOAK") != "" {
		n = 100_000_000
	}
	if v, err := strconv.Atoi(os.Getenv("POSTERN_SUPPRESS_ENTRIES")); err == nil {
		n = v
	}
	dir := t.TempDir()
	s, err := suppress.Open(filepath.Join(dir, "list"), suppress.Options{Key: filepath.Join(dir, "key")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop, beside := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var took []time.Duration
		for i := 0; ; i++ {
			select {
			case <-stop:
				beside <- took
				return
			case <-time.After(10 * time.Millisecond):
			}
			begin := time.Now()
			_, err := s.AddNew(suppress.Entry{Customer: "acme", Address: fmt.Sprintf("beside%d@example.org", i), Reason: suppress.HardBounce})
			if err != nil {
				t.Error(err)
			}
			took = append(took, time.Since(begin))
		}
	}()
	begin, spent := time.Now(), processorTime(t)
	out, err := s.Import(t.Context(), &file{n: n, random: rand.New(rand.NewPCG(1, 2))}, suppress.ImportOptions{Customer: "acme", Reason: suppress.Manual, MaxBad: -1, Progress: progress(begin)})
	took := time.Since(begin)
	close(stop)
	writes := <-beside
	if err != nil {
		t.Fatal(err)
	}
	if out.Lines != int64(n) || out.Bad != int64(n/1000) || out.Entries != int64(n-n/1000) || len(out.Faults) != min(100, n/1000) || out.Faults[0].Line != 1000 {
		t.Fatalf("imported %+v", out)
	}
	spent = processorTime(t) - spent
	t.Logf("%d lines in %v: %.0f a second; processor time %v, %.2f us a line", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), spent.Round(time.Millisecond), float64(spent.Nanoseconds())/1000/float64(n))
	if slices.Sort(writes); len(writes) > 0 {
		t.Logf("%d writes of others meanwhile: median %v, 99%% within %v, slowest %v", len(writes), writes[len(writes)/2], writes[len(writes)*99/100], writes[len(writes)-1])
	}
	random := rand.New(rand.NewPCG(3, 4))
	looks := min(n/40, 100_000)
	there := func() int { return random.IntN(n/1000)*1000 + random.IntN(999) }
	absent := func() int { return n + random.IntN(n) }
	measure(t, s, looks, absent, false) // filters into the cache
	median, p99 := measure(t, s, looks, absent, false)
	t.Logf("look-up of what is not there: median %v, 99%% within %v", median, p99)
	median, p99 = measure(t, s, looks, there, true)
	t.Logf("look-up of what is there: median %v, 99%% within %v", median, p99)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("memory: Go %d MiB, process %d MiB; disk %d MiB", m.Sys>>20, resident(t)>>20, s.Size()>>20)
	begin = time.Now()
	counted, err := s.Count(t.Context(), suppress.Query{Customer: "acme"})
	if err != nil || len(counted) != 1 || counted[0].Entries != out.Entries+int64(len(writes)) {
		t.Fatalf("counted %+v, %v", counted, err)
	}
	t.Logf("counted in %v", time.Since(begin).Round(time.Millisecond))
	t.Logf("processor time of all, with what the store does afterwards and this test: %v", processorTime(t).Round(time.Millisecond))
}

// processorTime is what this process has used, in user and system mode.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// progress tells where a long import is, where somebody watches.
func progress(begin time.Time) func(int64) {
	next := int64(5_000_000)
	return func(lines int64) {
		if lines >= next {
			fmt.Fprintf(os.Stderr, "%d lines after %v\n", lines, time.Since(begin).Round(time.Second))
			next = lines - lines%5_000_000 + 5_000_000
		}
	}
}

// resident is what the process holds of the machine's memory at most (VmHWM), octets.
func resident(t testing.TB) uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte("VmHWM:"))
	var kib uint64
	_, _ = fmt.Sscan(string(rest), &kib)
	return kib << 10
}
