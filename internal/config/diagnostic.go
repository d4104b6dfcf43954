package config

import (
	"bytes"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"postern.dev/postern/internal/policy"
)

// Diagnostic is one fault or warning at its place.
type Diagnostic struct {
	Pos     policy.Pos `json:"pos"`
	Length  int        `json:"length,omitempty"` // characters to underline
	Warning bool       `json:"warning,omitempty"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
	line    string     // source line
	secret  bool       // the line holds a secret and is not shown
}

// Error gives "file:line:column: message".
func (d *Diagnostic) Error() string { return d.Pos.String() + ": " + d.Message }

// Diagnostics are all faults and warnings of one run, in the order of their places.
type Diagnostics []Diagnostic

// HasErrors reports whether something is not a mere warning.
func (ds Diagnostics) HasErrors() bool {
	for i := range ds {
		if !ds[i].Warning {
			return true
		}
	}
	return false
}

// Count says how many there are: "2 errors, 1 warning".
func (ds Diagnostics) Count() string {
	e, w := 0, 0
	for i := range ds {
		if ds[i].Warning {
			w++
		} else {
			e++
		}
	}
	var parts []string
	for _, c := range []struct {
		n    int
		word string
	}{{e, "error"}, {w, "warning"}} {
		if c.n == 1 {
			parts = append(parts, "1 "+c.word)
		} else if c.n > 1 {
			parts = append(parts, fmt.Sprintf("%d %ss", c.n, c.word))
		}
	}
	return strings.Join(parts, ", ")
}

// Write prints each as file:line:column with its line and an underline.
func (ds Diagnostics) Write(w io.Writer, colour bool) {
	paint := func(code, s string) string {
		if !colour {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	for i := range ds {
		d := &ds[i]
		word := paint("31;1", "error")
		if d.Warning {
			word = paint("33;1", "warning")
		}
		if d.Pos.Line == 0 { // about a file as a whole, which the message names
			fmt.Fprintf(w, "%s: %s\n", word, d.Message)
		} else {
			fmt.Fprintf(w, "%s: %s: %s\n", paint("1", d.Pos.String()), word, d.Message)
		}
		if d.line != "" {
			fmt.Fprintf(w, "  %s\n  %s\n", d.line, paint("31", underline(d)))
		}
		if d.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", d.Hint)
		}
	}
}

// underline keeps tabs, so that the mark stands under what it marks.
func underline(d *Diagnostic) string {
	var b strings.Builder
	runes := []rune(d.line)
	for i := 0; i < d.Pos.Column-1 && i < len(runes); i++ {
		if runes[i] == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteByte('^')
	if d.Length > 1 {
		b.WriteString(strings.Repeat("~", min(d.Length, max(1, len(runes)-d.Pos.Column+1))-1))
	}
	return b.String()
}

// add notes a fault; where is its range in the source.
func (l *loader) add(where hcl.Range, message, hint string) { l.note(where, false, message, hint) }

func (l *loader) warn(where hcl.Range, message, hint string) { l.note(where, true, message, hint) }

// addSecret notes a fault on a line that must not be shown.
func (l *loader) addSecret(where hcl.Range, message, hint string) {
	l.note(where, false, message, hint)
	l.diags[len(l.diags)-1].secret = true
}

func (l *loader) note(where hcl.Range, warning bool, message, hint string) {
	d := Diagnostic{Pos: position(where), Warning: warning, Message: message, Hint: hint, Length: 1}
	if where.Start.Line == where.End.Line {
		d.Length = max(1, where.End.Column-where.Start.Column)
	}
	l.diags = append(l.diags, d)
}

func position(r hcl.Range) policy.Pos {
	return policy.Pos{File: r.Filename, Line: r.Start.Line, Column: r.Start.Column}
}

// addHCL takes over what the HCL parser found.
func (l *loader) addHCL(ds hcl.Diagnostics) {
	for _, d := range ds {
		where := hcl.Range{}
		if d.Subject != nil {
			where = *d.Subject
		}
		message := lowerFirst(strings.TrimSuffix(d.Summary, "."))
		if d.Detail != "" {
			message += ": " + lowerFirst(strings.TrimSuffix(d.Detail, "."))
		}
		l.note(where, d.Severity == hcl.DiagWarning, message, "")
	}
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// addProblems takes over what the policy found. The policy knows the text, not its
// length in the source.
func (l *loader) addProblems(ps []policy.Problem) {
	for _, p := range ps {
		d := Diagnostic{Pos: p.Pos, Warning: p.Warning, Message: p.Message, Hint: p.Hint, Length: max(1, len([]rune(p.Text)))}
		l.diags = append(l.diags, d)
	}
}

// finish sorts by place and adds the source lines. Lines that hold secrets are left
// out.
func (l *loader) finish() Diagnostics {
	order := map[string]int{}
	for i, f := range l.files {
		order[f] = i
	}
	sort.SliceStable(l.diags, func(i, j int) bool {
		a, b := l.diags[i].Pos, l.diags[j].Pos
		if a.File != b.File {
			return order[a.File] < order[b.File]
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	lines, of := [][]byte(nil), "" // of the file that the last one was about
	for i := range l.diags {
		d := &l.diags[i]
		if d.Pos.File != of || lines == nil {
			lines, of = bytes.Split(l.sources[d.Pos.File], []byte("\n")), d.Pos.File
		}
		if d.Pos.Line > 0 && d.Pos.Line <= len(lines) {
			d.line = strings.TrimRight(string(lines[d.Pos.Line-1]), "\r")
			if d.secret || strings.Contains(d.line, "SCRAM-SHA-256$") {
				d.line = ""
			}
			if r := []rune(d.line); len(r) > 200 {
				d.line = string(r[:200])
			}
		}
	}
	return l.diags
}
