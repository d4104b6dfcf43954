package watch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/watch"
)

// onDisk is a ledger on the disk.
type onDisk struct {
	l   *ledger.Ledger
	pos uint64
}

func (s *onDisk) Commit(_ context.Context, events []ledger.Event) error {
	raw := make([][]byte, 0, len(events))
	for _, e := range events {
		raw = append(raw, ledger.Encode(e))
	}
	s.pos++
	return s.l.Apply(s.pos, raw)
}

func (s *onDisk) WatchState(ctx context.Context, w string) ([]ledger.Watched, map[string][]byte, error) {
	return s.l.WatchState(ctx, w)
}

// processor gives the processor time of the process in seconds.
func processor() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// BenchmarkWatch reads a log into a ledger on the disk: reading, joining, encoding, and
// the index with all its keys. It reports lines for each second of processor time.
func BenchmarkWatch(b *testing.B) {
	for _, c := range []struct {
		format history.Format
		line   func(i int) string
	}{
		{history.Postfix, nil},
		{history.PowerMTA, func(i int) string {
			return fmt.Sprintf("d,2026-11-30 12:00:%02d+0100,2026-11-30 12:00:00+0100,news@acme.example,u%d@aol.example,,relayed,2.0.0 (success),smtp;250 2.0.0 ok,mx.aol.example (203.0.113.25),,smtp,app (10.1.0.5),smtp,198.51.100.7,203.0.113.25,SIZE,1800,acme-1,spring,,aol.example/acme-1,acme\n", i%60, i)
		}},
	} {
		b.Run(string(c.format), func(b *testing.B) {
			n := max(b.N, 1000)
			name := filepath.Join(b.TempDir(), "log")
			var text strings.Builder
			if c.line == nil {
				for _, l := range lines(rand.New(rand.NewPCG(1, 1)), n/5+1) {
					text.WriteString(l)
				}
			} else {
				for i := range n {
					text.WriteString(c.line(i))
				}
			}
			if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			l, err := ledger.Open(filepath.Join(b.TempDir(), "ledger"), ledger.Options{})
			if err != nil {
				b.Fatal(err)
			}
			s := &onDisk{l: l}
			o := options(nil, c.format, name)
			o.Store = s
			w, err := watch.New(context.Background(), o)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			begin := processor()
			if _, err := w.Round(context.Background()); err != nil {
				b.Fatal(err)
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			st := w.State()
			b.ReportMetric(float64(st.Lines)/(processor()-begin), "lines/cpu-s")
			b.ReportMetric(float64(st.Rows)/float64(st.Lines), "rows/line")
		})
	}
}
