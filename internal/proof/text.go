package proof

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// Writer prints an outcome for people.
type Writer struct {
	W      io.Writer
	Colour bool
	Config *config.Config

	starts map[string][]int // of the lines, by file
}

func (w *Writer) paint(code, s string) string {
	if !w.Colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (w *Writer) line(format string, a ...any) { fmt.Fprintf(w.W, format+"\n", a...) }

// Findings prints each finding: where, what, the message that shows it and what
// becomes of it, what would have stopped it, the repair and its price.
func (w *Writer) Findings(o *Outcome) {
	var last *verify.Repair
	for i := range o.Result.Findings {
		f := &o.Result.Findings[i]
		w.Finding(f, o.Waived[i], f.Repair != nil && f.Repair == last)
		if f.Repair != nil {
			last = f.Repair
		}
	}
}

// Finding prints one finding; waived is its waiver, or nil. again tells that its
// repair stands above already.
func (w *Writer) Finding(f *verify.Finding, waived *config.Waiver, again bool) {
	w.head(f, waived)
	if f.Severity == verify.Warning && f.Witness == nil {
		if f.Hint != "" {
			w.line("  hint: %s", f.Hint)
		}
		w.line("")
		return
	}
	w.source(f.Pos)
	if f.Witness != nil {
		w.witness(f.Witness)
	}
	w.blockers(f.Blockers)
	if f.Hint != "" && f.Repair == nil {
		w.line("\n  hint: %s", f.Hint)
	}
	if f.Repair != nil && again {
		w.line("\n  repair: the same as above")
	} else if f.Repair != nil {
		w.repair(f.Repair)
	}
	w.line("")
}

func (w *Writer) head(f *verify.Finding, waived *config.Waiver) {
	word := w.paint("31;1", "error")
	switch {
	case f.Severity == verify.Warning:
		word = w.paint("33;1", "warning")
	case waived != nil:
		word = w.paint("33;1", "waived")
	case f.Status == verify.Unknown:
		word = w.paint("31;1", "not proven")
	}
	w.line("%s: %s %s: %s", w.paint("1", f.Pos.String()), word, f.Code, f.Message)
	if waived != nil {
		w.line("  waived until %s at %s: %s", lastDay(waived), waived.Pos, waived.Reason)
	}
}

// lastDay is the day that a waiver names.
func lastDay(v *config.Waiver) string { return v.Until.Add(-time.Second).UTC().Format(time.DateOnly) }

// maxBlock bounds how many lines of a block are printed.
const maxBlock = 12

// source prints the block that begins at a place, with its line numbers.
func (w *Writer) source(at policy.Pos) {
	if w.Config == nil {
		return
	}
	src, starts := w.Config.Sources[at.File], w.lines(at.File)
	if at.Line < 1 || at.Line > len(starts) {
		return
	}
	w.line("")
	for i := at.Line - 1; i < len(starts) && i < at.Line-1+maxBlock; i++ {
		one, _, _ := bytes.Cut(src[starts[i]:], []byte("\n"))
		text := strings.Map(printable, strings.TrimRight(string(one), "\r"))
		if strings.Contains(text, "SCRAM-SHA-256$") {
			text = "  ..." // a verifier is not for the screen
		}
		w.line("  %s  %s", w.paint("2", fmt.Sprintf("%4d", i+1)), text)
		if strings.HasPrefix(text, "}") || (i == at.Line-1 && strings.HasSuffix(strings.TrimSpace(text), "}")) {
			break
		}
	}
}

// lines gives the offset of each line of a file. A large one is gone through once.
func (w *Writer) lines(file string) []int {
	if starts, ok := w.starts[file]; ok {
		return starts
	}
	if w.starts == nil {
		w.starts = map[string][]int{}
	}
	starts := []int{0}
	for i, c := range w.Config.Sources[file] {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	w.starts[file] = starts
	return starts
}

func (w *Writer) witness(v *verify.Witness) {
	for i := range v.Hops {
		f, d := &v.Hops[i], &v.Decisions[i]
		who := Who(f)
		if i == 0 {
			w.line("\n  %s:", upper(who))
		} else {
			w.line("\n  The host that was given it sends on, as %s:", who)
		}
		for _, s := range Dialogue(w.Config.Program, f, d) {
			if strings.HasPrefix(s, "C:") {
				s = w.paint("1", s)
			}
			w.line("    %s", s)
		}
		if c := f.Content; c != nil && (c.SPF != "" || c.DKIM != "" || c.DMARC != "") {
			w.line("  where SPF gives %s, DKIM %s, DMARC %s,", orNone(c.SPF), orNone(c.DKIM), orNone(c.DMARC))
		}
		if f.Client.Name != "" {
			w.line("  where the client's name is %s,", f.Client.Name)
		}
		w.line("  and it is %s.", Fate(d))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (w *Writer) blockers(bs []verify.Blocker) {
	if len(bs) == 0 {
		return
	}
	w.line("\n  Had it come first, it would have been stopped by")
	for _, b := range bs {
		w.line("    %s: filter %s", b.Pos, b.Filter)
	}
}

func (w *Writer) repair(r *verify.Repair) {
	w.line("\n  %s %s", w.paint("32;1", "repair:"), r)
	edited, err := Edit(w.Config, r)
	if err != nil {
		w.line("    %v: make it by hand", err)
	} else {
		w.Diff(Patch(w.Config, edited))
	}
	w.line("  price: %s", Price(r))
	for i := range r.Changes {
		w.Change(&r.Changes[i], "    ")
	}
}

// Price says in words how many other kinds of messages a repair touches.
func Price(r *verify.Repair) string {
	s := fmt.Sprintf("%d other kinds of messages change their fate", len(r.Changes))
	switch len(r.Changes) {
	case 0:
		s = "nothing else changes its fate"
	case 1:
		s = "one other kind of message changes its fate"
	}
	if r.Partial {
		s += ", as far as was looked: the search was cut short"
	}
	return s
}

// Diff prints a unified difference, indented.
func (w *Writer) Diff(text string) {
	for s := range strings.Lines(text) {
		s = strings.TrimRight(s, "\r\n")
		switch {
		case strings.HasPrefix(s, "+"):
			s = w.paint("32", s)
		case strings.HasPrefix(s, "-"):
			s = w.paint("31", s)
		}
		w.line("    %s", s)
	}
}

// Change prints one class of messages whose fate changes, with one of them.
func (w *Writer) Change(c *verify.Change, indent string) {
	w.line("%s%s", indent, Class(&c.Facts))
	w.line("%s  - %s", indent, Fate(&c.Old))
	w.line("%s  + %s", indent, Fate(&c.New))
}

// EffectText names an effect with one of its values.
func EffectText(e *verify.Effect, value string) string {
	name := string(e.Kind)
	if e.Name != "" {
		name += " " + fmt.Sprintf("%q", e.Name)
	}
	if value == "" {
		value = "no"
	}
	return name + ": " + value
}

// Class tells a message in a line: whose, from, to, and the header that counts.
func Class(f *policy.Facts) string {
	s := fmt.Sprintf("%s: from <%s> to <%s>", Who(f), Path(f.Sender), Path(f.Rcpt))
	if f.Content == nil {
		return s
	}
	var hs []string
	for _, h := range f.Content.Headers {
		hs = append(hs, h.Name+": "+h.Value)
	}
	if len(hs) > 0 {
		s += " (" + strings.Map(printable, strings.Join(hs, "; ")) + ")"
	}
	return s
}

// width is how long the lines of running text become.
const width = 100

// Assumptions prints what the claims that hold take for granted, and an empty line.
func (w *Writer) Assumptions(o *Outcome) {
	said := false
	for i := range o.Result.Claims {
		c := &o.Result.Claims[i]
		for _, a := range c.Assumptions {
			if !said {
				w.line("taken for granted:")
				said = true
			}
			for k, s := range wrap(a, width-len("  PV001  ")) {
				code := string(c.Code)
				if k > 0 {
					code = ""
				}
				w.line("  %-5s  %s", code, s)
			}
		}
	}
	if said {
		w.line("")
	}
}

// Cut says which warnings were not looked for in all filters.
func (w *Writer) Cut(o *Outcome) {
	for _, c := range o.Result.Cut {
		w.line("%s (%s) was looked for in the first %d of %s only: the time for warnings was up", c.Code, c.Code.Title(), c.Seen, plural(o.Result.Stats.Filters, "filter"))
	}
	if len(o.Result.Cut) > 0 {
		w.line("")
	}
}

// wrap breaks a text into lines of at most n octets, but for longer words.
func wrap(text string, n int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > n:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// Summary is the last line: the status, the counts, the time.
func Summary(o *Outcome, took time.Duration) string {
	held := 0
	for _, c := range o.Result.Claims {
		if c.Status == verify.Closed {
			held++
		}
	}
	faults, waived, warnings := o.Count()
	parts := []string{fmt.Sprintf("%d of %d claims hold", held, len(o.Result.Claims)), plural(faults, "finding")}
	if waived > 0 {
		parts = append(parts, fmt.Sprintf("%d waived", waived))
	}
	if warnings > 0 {
		parts = append(parts, plural(warnings, "warning"))
	}
	return fmt.Sprintf("%s: %s; %s, %s, %s", word(o.Status), strings.Join(parts, ", "), plural(o.Result.Stats.Filters, "filter"), plural2(o.Result.Stats.Queries, "query", "queries"), seconds(took))
}

// seconds writes a time as people read it: 0.4 ms, 37 ms, 2.31 s.
func seconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func word(s verify.Status) string {
	if s == verify.Unknown {
		return "cannot tell"
	}
	return string(s)
}

func plural(n int, noun string) string { return plural2(n, noun, noun+"s") }

func plural2(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	if n == 0 {
		return "no " + many
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Repairs lists the different repairs of the findings that count, in their order.
func (o *Outcome) Repairs() []*verify.Repair {
	var out []*verify.Repair
	for i := range o.Result.Findings {
		f := &o.Result.Findings[i]
		if f.Severity == verify.Fault && f.Repair != nil && o.Waived[i] == nil && !slices.Contains(out, f.Repair) {
			out = append(out, f.Repair)
		}
	}
	return out
}
