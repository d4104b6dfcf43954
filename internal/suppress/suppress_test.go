package suppress_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/suppress"
)

var day = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// list opens a list in memory whose clock stands at *now.
func list(t testing.TB, now *time.Time, o suppress.Options) *suppress.Store {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	if o.Key == "" {
		o.Key = filepath.Join(t.TempDir(), "key")
	}
	o.Now = func() time.Time { return *now }
	o.Cache = 8 << 20
	s, err := suppress.Open("list", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// find looks up and tells the reason, "" where there is none.
func find(t testing.TB, s *suppress.Store, customer, address string) string {
	t.Helper()
	a, err := suppress.Normalise(address)
	if err != nil {
		t.Fatal(err)
	}
	e, found, err := s.Find(customer, a)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return ""
	}
	return e.Reason.String()
}

// TestListsAreKnown: an entry is found by whichever way it came onto a list that was
// empty, at once and after a restart, be there few lists or more than are kept apart.
func TestListsAreKnown(t *testing.T) {
	for _, c := range []struct {
		name      string
		customers int
	}{{"none", 0}, {"one", 1}, {"many", 5000}} {
		t.Run(c.name, func(t *testing.T) {
			now := day
			o := suppress.Options{FS: vfs.NewMem(), Key: filepath.Join(t.TempDir(), "key")}
			s := list(t, &now, o)
			var entries []suppress.Entry
			for i := range c.customers {
				entries = append(entries, suppress.Entry{Customer: fmt.Sprintf("c%d", i), Address: "a@b.example"})
			}
			if err := s.Add(entries...); err != nil {
				t.Fatal(err)
			}
			if _, err := s.AddNew(suppress.Entry{Customer: "new", Address: "n@b.example"}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Import(t.Context(), strings.NewReader("i@b.example\n"), suppress.ImportOptions{Customer: "imported"}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for i := range c.customers {
					if name := fmt.Sprintf("c%d", i); find(t, s, name, "a@b.example") == "" || find(t, s, name, "n@b.example") != "" {
						t.Fatalf("%s: %q, %q", name, find(t, s, name, "a@b.example"), find(t, s, name, "n@b.example"))
					}
				}
				if find(t, s, "new", "n@b.example") == "" || find(t, s, "imported", "i@b.example") == "" || find(t, s, "stranger", "a@b.example") != "" {
					t.Error("an entry that was added is not found, or one of another list is")
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = list(t, &now, o)
			}
			if err := s.Add(suppress.Entry{Address: "all@b.example"}); err != nil {
				t.Fatal(err)
			}
			if find(t, s, "anybody", "all@b.example") == "" {
				t.Error("an entry for everybody is not found")
			}
			s.Close()
		})
	}
}

func TestScopes(t *testing.T) {
	now := day
	s := list(t, &now, suppress.Options{})
	defer s.Close()
	if err := s.Add(suppress.Entry{Customer: "acme", Address: "One@Example.COM", Reason: suppress.HardBounce, Detail: "bad-mailbox", Source: "06h0zy32ne1vrrs81m00"},
		suppress.Entry{Address: "all@example.com", Reason: suppress.Complaint},
		suppress.Entry{Customer: "acme", Address: "soon@example.com", Reason: suppress.HardBounce, Expires: day.Add(time.Hour)},
		suppress.Entry{Customer: "ac", Address: "me@b\u00fccher.example"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ customer, address, want string }{
		{"acme", "one@example.com", "hard-bounce"},
		{"acme", "ONE@example.com.", "hard-bounce"},
		{"acme", `<"one"@example.com>`, "hard-bounce"},
		{"globex", "one@example.com", ""},
		{"", "one@example.com", ""},
		{"acme", "one+tag@example.com", ""},
		{"acme", "all@example.com", "complaint"},
		{"globex", "all@example.com", "complaint"},
		{"", "all@example.com", "complaint"},
		{"acme", "soon@example.com", "hard-bounce"},
		{"ac", "me@xn--bcher-kva.example", "manual"},
		{"acme", "me@xn--bcher-kva.example", ""},
	} {
		if got := find(t, s, c.customer, c.address); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.customer, c.address, got, c.want)
		}
	}
	a, _ := suppress.Normalise("one@example.com")
	e, _, _ := s.Find("acme", a)
	if e.Address != "one@example.com" || e.Detail != "bad-mailbox" || !e.Created.Equal(day) || e.Source != "06h0zy32ne1vrrs81m00" {
		t.Errorf("kept %+v", e)
	}
	now = now.Add(2 * time.Hour)
	if got := find(t, s, "acme", "soon@example.com"); got != "" {
		t.Errorf("beyond its time: %q", got)
	}
	if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	counted, err := s.Count(t.Context(), suppress.Query{All: true})
	if err != nil || len(counted) != 3 || counted[0].Customer != "" || counted[0].Entries != 1 || counted[2].ByReason[suppress.HardBounce] != 1 {
		t.Errorf("counted %+v, %v", counted, err)
	}
	if ok, err := s.Remove("globex", a); ok || err != nil {
		t.Errorf("another customer's is removed: %v, %v", ok, err)
	}
	if ok, err := s.Remove("acme", a); !ok || err != nil || find(t, s, "acme", "one@example.com") != "" {
		t.Errorf("not removed: %v, %v", ok, err)
	}
}

// TestSweepSparesTheRenewed: an entry written anew with more time outlives its first.
func TestSweepSparesTheRenewed(t *testing.T) {
	now := day
	s := list(t, &now, suppress.Options{})
	defer s.Close()
	for _, until := range []time.Duration{time.Hour, 100 * time.Hour} {
		if err := s.Add(suppress.Entry{Address: "a@example.com", Expires: day.Add(until)}); err != nil {
			t.Fatal(err)
		}
	}
	now = day.Add(2 * time.Hour)
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil || find(t, s, "", "a@example.com") == "" {
		t.Errorf("swept %d, %v", n, err)
	}
}

func TestFollowOnce(t *testing.T) {
	now := day
	fs, key := vfs.NewMem(), filepath.Join(t.TempDir(), "key")
	s := list(t, &now, suppress.Options{FS: fs, Key: key})
	bounce := func() []suppress.Entry {
		return []suppress.Entry{{Customer: "acme", Address: "gone@example.com", Reason: suppress.HardBounce}}
	}
	if n, err := s.Follow(10, bounce()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	a, _ := suppress.Normalise("gone@example.com")
	if ok, _ := s.Remove("acme", a); !ok {
		t.Fatal("not removed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = list(t, &now, suppress.Options{FS: fs, Key: key})
	defer s.Close()
	if n, err := s.Follow(10, bounce()); n != 0 || err != nil || s.Position() != 10 {
		t.Errorf("the same events again: %d, %v, position %d", n, err, s.Position())
	}
	if find(t, s, "acme", "gone@example.com") != "" {
		t.Error("what an operator removed came back")
	}
	if n, err := s.Follow(11, bounce()); n != 1 || err != nil {
		t.Errorf("a new bounce: %d, %v", n, err)
	}
	if n, err := s.Follow(12, []suppress.Entry{{Customer: "acme", Address: "gone@example.com", Reason: suppress.Complaint}}); n != 0 || err != nil || find(t, s, "acme", "gone@example.com") != "hard-bounce" {
		t.Errorf("what was known first is replaced: %d, %v", n, err)
	}
}

func TestErase(t *testing.T) {
	dir := t.TempDir()
	o := suppress.Options{FS: vfs.Default, Key: filepath.Join(dir, "key")}
	s, err := suppress.Open(filepath.Join(dir, "list"), o)
	if err != nil {
		t.Fatal(err)
	}
	const who = "erika.mustermann@example.com"
	if err := s.Add(suppress.Entry{Customer: "acme", Address: who, Detail: "said " + who}, suppress.Entry{Customer: "globex", Address: who, Source: who},
		suppress.Entry{Address: "other@example.com"}); err != nil {
		t.Fatal(err)
	}
	a, _ := suppress.Normalise(who)
	if n, err := s.Erase(t.Context(), a, false); n != 2 || err != nil {
		t.Fatalf("erased %d, %v", n, err)
	}
	if find(t, s, "acme", who) == "" || find(t, s, "globex", who) == "" {
		t.Error("an erased address can be mailed again")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "list", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, f := range tables {
		if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, []byte("mustermann")) {
			t.Errorf("%s still tells of the address (%v)", f, err)
		}
	}
	if s, err = suppress.Open(filepath.Join(dir, "list"), o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Erase(t.Context(), a, true); n != 2 || err != nil || find(t, s, "acme", who) != "" {
		t.Errorf("erased entirely %d, %v", n, err)
	}
	if n, err := s.Erase(t.Context(), a, true); n != 0 || err != nil {
		t.Errorf("erased again %d, %v", n, err)
	}
}

func TestHashedOnly(t *testing.T) {
	now := day
	s := list(t, &now, suppress.Options{Hashed: true})
	defer s.Close()
	if err := s.Add(suppress.Entry{Customer: "acme", Address: "secret@example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), strings.NewReader("also@example.com\n"), suppress.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := s.Export(t.Context(), &b, suppress.Query{All: true}); n != 2 || err != nil || strings.Contains(b.String(), "example.com") {
		t.Fatalf("%d, %v: %s", n, err, b.String())
	}
	// A list of hashes goes back where it came from, and nowhere else.
	for _, name := range []string{"secret@example.com", "also@example.com"} {
		a, _ := suppress.Normalise(name)
		if n, err := s.Erase(t.Context(), a, true); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if out, err := s.Import(t.Context(), bytes.NewReader(b.Bytes()), suppress.ImportOptions{}); err != nil || out.Entries != 2 || find(t, s, "acme", "secret@example.com") == "" {
		t.Errorf("imported %+v, %v", out, err)
	}
	other := list(t, &now, suppress.Options{})
	defer other.Close()
	if out, err := other.Import(t.Context(), bytes.NewReader(b.Bytes()), suppress.ImportOptions{}); err != nil || out.Bad != 2 || out.Faults[0].Text != "hash was made with another key" {
		t.Errorf("elsewhere %+v, %v", out, err)
	}
}

func TestKeyAndListBelongTogether(t *testing.T) {
	now := day
	fs, dir := vfs.NewMem(), t.TempDir()
	s := list(t, &now, suppress.Options{FS: fs, Key: filepath.Join(dir, "key")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open := func(key string) error {
		s, err := suppress.Open("list", suppress.Options{FS: fs, Key: key})
		if err == nil {
			_ = s.Close()
		}
		return err
	}
	for name, prepare := range map[string]func(string) error{
		"it is gone":          func(string) error { return nil },
		"hexadecimal":         func(f string) error { return os.WriteFile(f, []byte("rubbish\n"), 0o600) },
		"another one":         func(f string) error { return os.WriteFile(f, []byte(strings.Repeat("ab", 32)+"\n"), 0o600) },
		"others can read it ": func(f string) error { return os.WriteFile(f, []byte(strings.Repeat("ab", 32)+"\n"), 0o644) },
	} {
		f := filepath.Join(dir, strings.ReplaceAll(name, " ", ""))
		if err := prepare(f); err != nil {
			t.Fatal(err)
		}
		if err := open(f); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open(filepath.Join(dir, "key")); err != nil {
		t.Error(err)
	}
}

func TestImport(t *testing.T) {
	now := day
	packed := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
		return b.String()
	}
	long := strings.Repeat("x", 600<<10)
	for _, c := range []struct {
		name, text string
		o          suppress.ImportOptions
		want       suppress.Imported
		found      map[string]string // "customer address" -> reason
	}{
		{name: "one a line", text: "a@x.example\r\n\n# said nobody\nB@X.example", o: suppress.ImportOptions{Customer: "acme", Reason: suppress.Unsubscribe},
			want: suppress.Imported{Lines: 4, Entries: 2}, found: map[string]string{"acme a@x.example": "unsubscribe", "acme b@x.example": "unsubscribe", " b@x.example": ""}},
		{name: "named columns", text: "\xef\xbb\xbfcreated;E-Mail;type;customer;what\n2026-01-02;\"a@x.example\";spam;acme;\"he said \"\"no; never\"\"\"\n1767312000;b@x.example;;;\n",
			want: suppress.Imported{Lines: 3, Entries: 2}, found: map[string]string{"acme a@x.example": "complaint", "globex a@x.example": "", "globex b@x.example": "manual"}},
		{name: "packed", text: packed("email\na@x.example\n"), want: suppress.Imported{Lines: 2, Entries: 1}, found: map[string]string{" a@x.example": "manual"}},
		{name: "beyond its time", text: "address,expires\na@x.example,2020-01-01\n", want: suppress.Imported{Lines: 2, Entries: 1}, found: map[string]string{" a@x.example": ""}},
		{name: "rubbish", text: "\x00\x01\nno address here\na@x.example\n" + long + "\n<b@x.example>\n\xff@x.example\n\"c@x.example\nd@x.example,acme,why\ne@x.example,\"a\"b\nf@@x\ng@x.example,a,manual,,,,,,,\nh@x..y\nacme\n,acme\ni@x.example,acme,,,yesterday\nj@x.example",
			want: suppress.Imported{Lines: 16, Entries: 3, Bad: 13, Faults: []suppress.Fault{
				{1, 1, "neither an address nor the names of columns"}, {2, 1, "neither an address nor the names of columns"}, {4, 1, "line has more than 4096 octets"}, {6, 1, "address is not UTF-8"},
				{7, 1, "quote without its end"}, {8, 18, "reason is none of hard-bounce, complaint, manual, unsubscribe"}, {9, 13, "quote without its end"}, {10, 1, "not an address"},
				{11, 26, "10 fields where 7 are expected"}, {12, 1, "not a domain name behind the @"}, {13, 1, "an address without a domain"}, {14, 1, "no address"}, {15, 20, "not a time such as 2026-11-01T12:00:00Z"},
			}}, found: map[string]string{" a@x.example": "manual", " b@x.example": "manual", " j@x.example": "manual"}},
		{name: "too much of it", text: "a@x.example\n" + strings.Repeat("rubbish\n", 50), o: suppress.ImportOptions{MaxBad: 2},
			want:  suppress.Imported{Lines: 4, Entries: 1, Bad: 3, Stopped: "line 4: more than 2 bad lines", Faults: []suppress.Fault{{2, 1, "an address without a domain"}, {3, 1, "an address without a domain"}, {4, 1, "an address without a domain"}}},
			found: map[string]string{" a@x.example": "manual"}},
		{name: "a customer's own", text: "a@x.example,acme\nb@x.example,globex\nc@x.example\n", o: suppress.ImportOptions{Customer: "acme", Own: true},
			want:  suppress.Imported{Lines: 3, Entries: 2, Bad: 1, Faults: []suppress.Fault{{2, 13, "another customer than the import is for"}}},
			found: map[string]string{"acme a@x.example": "manual", "globex b@x.example": "", "acme c@x.example": "manual"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := list(t, &now, suppress.Options{})
			defer s.Close()
			got, err := s.Import(t.Context(), strings.NewReader(c.text), c.o)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
			for where, want := range c.found {
				customer, address, _ := strings.Cut(where, " ")
				if got := find(t, s, customer, address); got != want {
					t.Errorf("%s: %q, want %q", where, got, want)
				}
			}
		})
	}
}

// TestImportBreaks: what cannot be read on is told with its line, and nothing of it is on
// the list.
func TestImportBreaks(t *testing.T) {
	now := day
	s := list(t, &now, suppress.Options{})
	defer s.Close()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte("a@x.example\nb@x.example\n"))
	_ = z.Close()
	broken := b.Bytes()[:b.Len()-6]
	out, err := s.Import(t.Context(), bytes.NewReader(broken), suppress.ImportOptions{})
	if err == nil || !strings.HasPrefix(err.Error(), "import suppression list: line 2: ") || out.Entries != 0 || find(t, s, "", "b@x.example") != "" {
		t.Errorf("%+v, %v", out, err)
	}
	pr := &stuck{begun: make(chan struct{}), end: make(chan struct{})}
	done := make(chan error)
	go func() { _, err := s.Import(t.Context(), pr, suppress.ImportOptions{}); done <- err }()
	<-pr.begun
	if _, err := s.Import(t.Context(), strings.NewReader(""), suppress.ImportOptions{}); !errors.Is(err, suppress.ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	close(pr.end)
	if err := <-done; err == nil {
		t.Error("a broken reader passes")
	}
}

// stuck is a reader that waits, then breaks.
type stuck struct {
	begun, end chan struct{}
	once       sync.Once
}

func (r *stuck) Read([]byte) (int, error) {
	r.once.Do(func() { close(r.begun) })
	<-r.end
	return 0, errors.New("the line is dead")
}

// TestExportGoesBack: what is exported and imported elsewhere is the same list.
func TestExportGoesBack(t *testing.T) {
	now := day
	a, b := list(t, &now, suppress.Options{}), list(t, &now, suppress.Options{})
	defer a.Close()
	defer b.Close()
	random := rand.New(rand.NewPCG(7, 7))
	for i := range 300 {
		e := suppress.Entry{Customer: []string{"", "acme", "globex"}[random.IntN(3)], Address: addressOf(i).String(), Reason: suppress.Reason(1 + random.IntN(4)), Created: day.Add(time.Duration(random.IntN(1e6)) * time.Second)}
		e.Detail = []string{"", "plain", "a, \"b\"; c\td\r\ne"}[random.IntN(3)]
		if random.IntN(2) == 0 {
			e.Expires = day.Add(time.Duration(1+random.IntN(1e6)) * time.Second)
		}
		if err := a.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	var one, two bytes.Buffer
	if n, err := a.Export(t.Context(), &one, suppress.Query{All: true}); n != 300 || err != nil {
		t.Fatal(n, err)
	}
	if out, err := b.Import(t.Context(), bytes.NewReader(one.Bytes()), suppress.ImportOptions{}); err != nil || out.Entries != 300 || out.Bad != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := b.Export(t.Context(), &two, suppress.Query{All: true}); err != nil {
		t.Fatal(err)
	}
	sorted := func(b *bytes.Buffer) map[string]int {
		m := map[string]int{}
		for line := range strings.Lines(b.String()) {
			m[line]++
		}
		return m
	}
	if !reflect.DeepEqual(sorted(&one), sorted(&two)) {
		t.Error("the lists differ")
	}
}

// FuzzImport: whatever a file holds, every line is counted, taken or told of.
func FuzzImport(f *testing.F) {
	f.Add([]byte("email,reason\na@b.example,spam\n\"x"))
	f.Add([]byte("a@b.example\thash:\t\xff\n"))
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0})
	now := day
	s := list(f, &now, suppress.Options{})
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := s.Import(t.Context(), bytes.NewReader(b), suppress.ImportOptions{MaxBad: -1})
		if out == nil {
			return // not even unpacked
		}
		if out.Entries+out.Bad > out.Lines || (out.Bad > 0) != (len(out.Faults) > 0) || (err == nil && out.Lines < int64(bytes.Count(b, []byte("\n"))) && b[0] != 0x1f) {
			t.Fatalf("%+v, %v", out, err)
		}
		for _, f := range out.Faults {
			if f.Line < 1 || f.Line > out.Lines || f.Column < 1 || f.Text == "" {
				t.Fatalf("%+v", f)
			}
		}
	})
}
