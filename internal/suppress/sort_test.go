package suppress

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSorter holds sorted runs against a map and a sorted list, from one buffer to more
// runs than may be open at once.
func TestSorter(t *testing.T) {
	for _, c := range []struct{ keys, different, most int }{{0, 1, 100}, {1, 1, 100}, {500, 100, 1 << 20}, {500, 400, 1 << 20}, {3000, 1000, 2 << 10}, {20_000, 12_000, 600}, {40, 1, 64}, {50, 50, 1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(c.keys), 1))
			s := &sorter{fs: vfs.NewMem(), dir: "d", most: c.most}
			if err := s.fs.MkdirAll("d", 0o700); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for i := range c.keys {
				k := "e" + strings.Repeat("customer", random.IntN(2)) + fmt.Sprint(random.IntN(c.different))
				v := strings.Repeat("v", random.IntN(20)) + fmt.Sprint(i)
				want[k] = v
				if err := s.add([]byte(k), []byte(v)); err != nil {
					t.Fatal(err)
				}
			}
			var keys []string
			if err := s.sorted(func(k, v []byte) error {
				if want[string(k)] != string(v) {
					t.Errorf("%s: %s, want %s", k, v, want[string(k)])
				}
				keys = append(keys, string(k))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(keys) != len(want) || !slices.IsSorted(keys) {
				t.Errorf("%d keys of %d, sorted %v", len(keys), len(want), slices.IsSorted(keys))
			}
			if len(s.runs) > maxRuns+1 {
				t.Errorf("%d runs", len(s.runs))
			}
		})
	}
}

// TestSorterNotices a run that is not as it was written.
func TestSorterNotices(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"a bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"the end", func(b []byte) []byte { return b[:len(b)-3] }},
		{"a record", func(b []byte) []byte { return b[:len(b)-(4+6+1)] }},
		{"all", func([]byte) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := &sorter{fs: fs, dir: "", most: 200}
			for i := range 200 {
				if err := s.add(fmt.Appendf(nil, "key%03d", i), []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
			f, err := fs.Open(s.runs[1].name)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4096)
			n, _ := f.Read(b)
			_ = f.Close()
			w, err := fs.Create(s.runs[1].name, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(c.change(b[:n])); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			if err := s.sorted(func(_, _ []byte) error { return nil }); err == nil {
				t.Error("nobody notices")
			}
		})
	}
}
