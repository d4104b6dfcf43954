package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

var update = flag.Bool("update", false, "write the table of docs/verdicts.md anew (with POSTERN_SOAK)")

// TestAttribution lets a month of mail go out, with leaks of ten kinds in it, and judges
// what comes back: 20,000 messages and 1,500 complaints, and a million and 30,000 where
// POSTERN_SOAK is set. -update then writes the matrix into docs/verdicts.md.
func TestAttribution(t *testing.T) {
	seed, n, complaints := uint64(1), 20_000, 1_500
	fs := vfs.FS(vfs.NewMem())
	if os.Getenv("POSTERN_SOAK") != "" {
		n, complaints, fs = 1_000_000, 30_000, nil
	}
	if s := os.Getenv("POSTERN_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, seed, n, complaints)
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger"), ledger.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.fill(t, l)
	m := w.judge(t, l)
	t.Logf("seed %d, %d messages\n%s", seed, n, m)
	m.check(t)
	if *update && !t.Failed() {
		if n < 1_000_000 {
			t.Fatal("-update wants POSTERN_SOAK: the table is of the million")
		}
		writeMatrix(t, n, m)
	}
}

// fill puts what the ledger would have into it, but for hand-offs that are late.
func (w *world) fill(t *testing.T, l *ledger.Ledger) {
	var batch [][]byte
	pos := uint64(0)
	flush := func() {
		pos++
		if err := l.Apply(pos, batch); err != nil {
			t.Fatal(err)
		}
		batch = batch[:0]
	}
	add := func(x *letter) {
		for _, e := range w.rows(x) {
			if _, late := e.(*ledger.HandedOff); late && x.is(leakEarly) {
				continue
			}
			batch = append(batch, ledger.Encode(e))
		}
		if len(batch) > 1000 {
			flush()
		}
	}
	for i := range replays {
		add(w.base(i))
	}
	for i := range w.n {
		add(w.letter(i))
	}
	flush()
}

// judge brings the complaints in, in the order in which they come.
func (w *world) judge(t *testing.T, l *ledger.Ledger) *matrix {
	type due struct {
		i  int
		at time.Time
	}
	old := w.retired(t)
	var order []due
	for j := range w.complaints {
		x := w.letter(j * w.stride())
		p := w.deliver(x, old)
		order = append(order, due{x.i, p.reported})
	}
	slices.SortStableFunc(order, func(a, b due) int { return a.at.Compare(b.at) })
	var now time.Time
	j := report.New(report.Options{Rows: l, Index: l, Seen: l, Ring: func() *stamp.Ring { return w.ring }, Hostname: gateway, Sources: w.isOurs, Providers: w.providers(),
		Since: begin.Add(-24 * time.Hour), Now: func() time.Time { return now }})
	m := newMatrix(w.classes)
	for n, d := range order {
		x := w.letter(d.i)
		p := w.deliver(x, old)
		in := w.complain(x, &p)
		now = d.at
		v, err := j.Judge(ctx, in)
		for ; err == nil && !v.Again.IsZero(); v, err = j.Judge(ctx, in) {
			if v.Pages() {
				t.Fatalf("message %d pages while it waits", x.i)
			}
			now = v.Again
			m.waits++
			if x.is(leakEarly) { // its hand-off arrives at the index meanwhile
				apply(t, l, w.n+n, w.rows(x)[1])
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		apply(t, l, w.n+n, v.Event(smtp.ID{}, now))
		if wrong := m.add(w, x, v); wrong != "" && m.shown < 20 {
			m.shown++
			t.Logf("%s, message %d, %s: %s, grade %s: %s; %s; keys %+v", x.class.name, x.i, x.reporter.Name, v.Kind, v.Grade, v.Reason, wrong, v.Keys)
		}
	}
	return m
}

func apply(t *testing.T, l *ledger.Ledger, pos int, e ledger.Event) {
	t.Helper()
	if err := l.Apply(uint64(pos), [][]byte{ledger.Encode(e)}); err != nil {
		t.Fatal(err)
	}
}

// providers names every reporter of the world.
func (w *world) providers() (out []report.Provider) {
	for i := range w.reporters {
		from := reporterAddress(&w.reporters[i])
		out = append(out, report.Provider{Name: w.reporters[i].Name, Domains: []string{from[strings.IndexByte(from, '@')+1:]}})
	}
	return out
}

// matrix counts verdicts by class.
type matrix struct {
	classes []class
	rows    map[string]map[report.Kind]int
	grades  map[report.Grade][2]int // right, wrong
	paged   map[string]int
	blamed  int // verdicts that name a customer or a message, and the wrong one
	waits   int
	shown   int
}

func newMatrix(cs []class) *matrix {
	return &matrix{classes: cs, rows: map[string]map[report.Kind]int{}, grades: map[report.Grade][2]int{}, paged: map[string]int{}}
}

// add counts a verdict and tells what is wrong with it.
func (m *matrix) add(w *world, l *letter, v *report.Verdict) (wrong string) {
	c := l.class
	if m.rows[c.name] == nil {
		m.rows[c.name] = map[report.Kind]int{}
	}
	m.rows[c.name][v.Kind]++
	if v.Pages() {
		m.paged[c.name]++
	}
	switch {
	case v.Kind != c.want && v.Kind != c.also:
		wrong = "wrong verdict"
	case v.Kind == report.Sent && v.Customer != "" && v.Customer != l.customer, v.Kind == report.Sent && !v.Message.IsZero() && v.Message != l.id:
		wrong = "wrong customer or message"
		m.blamed++
	case v.Kind == report.Leaked && v.Message != l.id && !v.Message.IsZero():
		wrong = "wrong message"
		m.blamed++
	}
	g := m.grades[v.Grade]
	if wrong == "" {
		g[0]++
	} else {
		g[1]++
	}
	m.grades[v.Grade] = g
	return wrong
}

var kinds = []report.Kind{report.Sent, report.Leaked, report.Bypassed, report.Replayed, report.Foreign, report.Expired, report.Forged, report.Undecidable, report.Malformed, report.Duplicate}

// String gives the table in Markdown.
func (m *matrix) String() string {
	var used []report.Kind
	for _, k := range kinds {
		for _, r := range m.rows {
			if r[k] > 0 && !slices.Contains(used, k) {
				used = append(used, k)
			}
		}
	}
	var b strings.Builder
	b.WriteString("| what it was |")
	for _, k := range used {
		fmt.Fprintf(&b, " %s |", k)
	}
	b.WriteString(" pages |\n|---|" + strings.Repeat("--:|", len(used)+1) + "\n")
	for _, c := range m.classes {
		fmt.Fprintf(&b, "| %s |", c.name)
		for _, k := range used {
			cell := ""
			if n := m.rows[c.name][k]; n > 0 {
				cell = fmt.Sprint(n)
			}
			if k == c.want && cell != "" {
				cell = "**" + cell + "**"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		fmt.Fprintf(&b, " %d |\n", m.paged[c.name])
	}
	right, of := m.leaks()
	fmt.Fprintf(&b, "\nLeaks called what they are: %d of %d (%.2f %%). Verdicts that name the wrong customer or message: %d.\n", right, of, 100*float64(right)/float64(max(of, 1)), m.blamed)
	for _, g := range []report.Grade{report.GradeA, report.GradeB, report.GradeC} {
		fmt.Fprintf(&b, "Grade %s: %d right, %d wrong. ", g, m.grades[g][0], m.grades[g][1])
	}
	fmt.Fprintf(&b, "\nVerdicts that waited for a row: %d.\n", m.waits)
	return b.String()
}

func (m *matrix) leaks() (right, of int) {
	for _, c := range m.classes {
		if !c.leak {
			continue
		}
		for k, n := range m.rows[c.name] {
			of += n
			if k == c.want {
				right += n
			}
		}
	}
	return right, of
}

// check holds the promises: no customer's mail leaked or bypassed, at least 99.9 % of
// leaks called what they are, grade A only where it is right, no page on the word of
// strangers. A replay that shows a whole trace looks like forwarded mail until more than
// three complain: that many may be missed, and nothing else.
func (m *matrix) check(t *testing.T) {
	right, of := m.leaks()
	missed := of - right
	if kept := min(3, m.rows[leakKept][report.Sent]); missed-kept > 0 {
		t.Errorf("%d of %d leaks are not called what they are", missed-kept, of)
	}
	if of >= 10_000 && float64(missed) > 0.001*float64(of) {
		t.Errorf("%d of %d leaks are missed, more than 0.1 %%", missed, of)
	}
	for _, c := range m.classes {
		r := m.rows[c.name]
		if !c.leak && !c.unknown && (r[report.Leaked] > 0 || r[report.Bypassed] > 0 || m.paged[c.name] > 0) {
			t.Errorf("%s: %v, %d pages", c.name, r, m.paged[c.name])
		}
		if c.unknown && m.paged[c.name] > 0 {
			t.Errorf("%s: %d pages", c.name, m.paged[c.name])
		}
		if c.want == report.Sent && r[report.Replayed] > 0 {
			t.Errorf("%s: %d called replayed", c.name, r[report.Replayed])
		}
	}
	if m.grades[report.GradeA][1] > 0 || m.grades[report.GradeA][0] == 0 {
		t.Errorf("grade A: %v right and wrong", m.grades[report.GradeA])
	}
	if m.blamed > 0 {
		t.Errorf("%d verdicts name the wrong customer or message", m.blamed)
	}
}

// Marks between which the table stands in docs/verdicts.md.
const matrixBegin, matrixEnd = "<!-- matrix: go test ./internal/report -run TestAttribution -update, with POSTERN_SOAK=1 -->\n", "<!-- end of matrix -->\n"

func writeMatrix(t *testing.T, n int, m *matrix) {
	name := filepath.Join("..", "..", "docs", "verdicts.md")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at, end := bytes.Index(b, []byte(matrixBegin)), bytes.Index(b, []byte(matrixEnd))
	if at < 0 || end < at {
		t.Fatal("docs/verdicts.md has no place for the matrix")
	}
	text := fmt.Sprintf("%s%d messages, %d customers:\n\n%s", matrixBegin, n, customers, m)
	if err := os.WriteFile(name, append(append(b[:at:at], text...), b[end:]...), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRedactorsCoverTheProfiles: for every shipped profile there is a redactor, and what
// it writes is known again as that reporter's, read, and without what he hides.
func TestRedactorsCoverTheProfiles(t *testing.T) {
	w := newWorld(t, 3, 3000, 300)
	for i := range w.reporters {
		p := &w.reporters[i]
		if !slices.Contains(lab.Redactors(), p.Name) {
			t.Errorf("no redactor for %s", p.Name)
		}
		x := w.letter(1)
		x.class, x.reporter, x.rcpt = &w.classes[0], p, "jane.roe@"+mailboxDomain(p)
		parcel := w.deliver(x, w.ring)
		in := w.complain(x, &parcel)
		gone := p.Redacts != report.RedactsNothing || p.Name == "cfbl"
		if has := bytes.Contains(bytes.ToLower(in.Raw), []byte("jane.roe")); has == gone {
			t.Errorf("%s: the recipient stands in the report: %v", p.Name, has)
		}
		if has := bytes.Contains(in.Raw, []byte("\nSource-IP: ")); has && slices.Contains(p.Hides, "source-ip") {
			t.Errorf("%s states a source address", p.Name)
		}
	}
}
