package asyncos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/audit"
	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/dialect/asyncos"
	"postern.dev/postern/internal/verify"
)

// configuration reads a folder: the model, and the findings that its files ask for: a line
// with "want STATUS below" stands above the guilty one.
func configuration(t *testing.T, dir string) (*dialect.Model, []string) {
	t.Helper()
	src := asyncos.Source{Read: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, e := range entries {
		src.Files = append(src.Files, e.Name())
		b, err := src.Read(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range strings.Split(string(b), "\n") {
			for _, s := range []verify.Status{verify.Open, verify.Unknown} {
				if strings.Contains(l, fmt.Sprintf("want %s below", s)) {
					want = append(want, fmt.Sprintf("%s:%d %s", e.Name(), i+2, s))
				}
			}
		}
	}
	m, err := asyncos.Model(src)
	if err != nil {
		t.Fatal(err)
	}
	return m, want
}

func TestConfigurations(t *testing.T) {
	dirs, _ := filepath.Glob(filepath.Join("testdata", "*"))
	for _, dir := range dirs {
		if filepath.Base(dir) == "fuzz" {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m, want := configuration(t, dir)
			r := audit.Run(m, verify.Options{})
			got := []string{}
			for _, s := range r.Services {
				for _, f := range s.Findings {
					got = append(got, fmt.Sprintf("%s:%d %s", f.File, f.Line, f.Status))
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				var b strings.Builder
				r.Text(&b, dir)
				t.Errorf("found %q, want %q\n%s", got, want, b.String())
			}
		})
	}
}

// FuzzModel: whatever stands in the files is a fault or a model, and never a defect of
// the reader.
func FuzzModel(f *testing.F) {
	f.Add("a: if (rcpt-to == \"@aol\\\\.com$\") and not valid { deliver(); } else { drop(); }", "L:\n 10.0.0.0/8 $RELAYED\nALL $ACCEPTED", "a.example ACCEPT\nALL REJECT", "a.example 10.0.0.1\nALL USEDNS")
	f.Add("b! if true {c: if header('X') != '.' { strip_header('X'); bcc('$EnvelopeFrom'); } elif rcpt-count < 3 { quarantine('q'); }}", "X:\n sbrs[-1:2], .h.example (c) $T\n$T\n = ACCEPT {a=1}", "u@ ACCEPT\n.x REJECT", ".x h/pri=1")
	f.Add("x: if remote-ip == '10.1.1.2-9' or body-size > 5M or recv-listener == 'gone' { alt-rcpt-to('a@$b'); encrypt('x'); }", "ALL RELAY {}", "[192.0.2.1] ACCEPT", "all /dev/null")
	f.Fuzz(func(t *testing.T, filters, hat, rat, routes string) {
		files := map[string]string{"filters.txt": filters, "hat.txt": hat, "rat.txt": rat, "smtproutes.txt": routes,
			"listeners.txt": "1. In (on P, 192.0.2.1) SMTP TCP Port 25 Public"}
		src := asyncos.Source{Read: func(name string) ([]byte, error) { return []byte(files[name]), nil }}
		for name := range files {
			src.Files = append(src.Files, name)
		}
		slices.Sort(src.Files)
		built(t, src)
		src.Files = []string{"c.xml"}
		files["c.xml"] = "<config><listeners><listener><name>In</name><type>public</type><hat>" + hat + "</hat><rat>" + rat + "</rat></listener></listeners><message_filters>" + filters + "</message_filters></config>"
		built(t, src)
	})
}

func built(t *testing.T, src asyncos.Source) {
	t.Helper()
	m, err := asyncos.Model(src)
	if err != nil && strings.HasPrefix(err.Error(), "model ") {
		t.Fatalf("the reader made a program that does not build: %v", err)
	}
	if err == nil && (m == nil || len(m.Services) == 0) {
		t.Fatalf("neither an error nor a service: %+v", m)
	}
}
