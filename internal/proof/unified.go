package proof

import (
	"bytes"
	"fmt"
	"strings"
)

// context is how many unchanged lines stand around a change.
const context = 3

// maxEdits bounds the search for the shortest difference; past it everything between
// the first and the last changed line counts as changed.
const maxEdits = 500

// change is one line of a difference: kept, taken out or put in.
type change struct {
	op   byte // ' ', '-', '+'
	text string
}

// Unified writes the difference of two texts in the unified format, as diff -u and
// patch know it; "" where there is none.
func Unified(oldName, newName string, old, next []byte) string {
	if bytes.Equal(old, next) {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
	hunks(&b, changes(split(old), split(next)))
	return b.String()
}

// split keeps the line ends.
func split(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	lines := strings.SplitAfter(string(b), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// changes lists all lines with what became of them.
func changes(a, b []string) []change {
	var out []change
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		out = append(out, change{' ', a[head]})
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	out = append(out, shortest(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, s := range a[len(a)-tail:] {
		out = append(out, change{' ', s})
	}
	return out
}

// shortest is Myers' greedy search for the fewest insertions and deletions.
func shortest(a, b []string) []change {
	n, m := len(a), len(b)
	v := map[int]int{1: 0}
	var trace []map[int]int
	for d := 0; d <= min(n+m, maxEdits); d++ {
		next := make(map[int]int, d+2)
		for k := -d; k <= d; k += 2 {
			x := 0
			if k == -d || (k != d && v[k-1] < v[k+1]) {
				x = v[k+1]
			} else {
				x = v[k-1] + 1
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			next[k] = x
			if x >= n && x-k >= m {
				return walkBack(a, b, append(trace, v), d)
			}
		}
		trace = append(trace, v)
		v = next
	}
	var out []change
	for _, s := range a {
		out = append(out, change{'-', s})
	}
	for _, s := range b {
		out = append(out, change{'+', s})
	}
	return out
}

// walkBack reads the way off the recorded search, from the end.
func walkBack(a, b []string, trace []map[int]int, d int) []change {
	var back []change
	x, y := len(a), len(b)
	for ; d >= 0; d-- {
		v, k := trace[d], x-y
		from := k - 1
		if k == -d || (k != d && v[k-1] < v[k+1]) {
			from = k + 1
		}
		px := v[from]
		py := px - from
		for x > px && y > py && x > 0 && y > 0 {
			x, y = x-1, y-1
			back = append(back, change{' ', a[x]})
		}
		if d == 0 {
			break
		}
		if x == px {
			y--
			back = append(back, change{'+', b[y]})
		} else {
			x--
			back = append(back, change{'-', a[x]})
		}
	}
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return back
}

// hunks writes the changes with their surroundings.
func hunks(b *strings.Builder, cs []change) {
	oldLine, newLine := 1, 1
	for i := 0; i < len(cs); {
		if cs[i].op == ' ' {
			oldLine, newLine, i = oldLine+1, newLine+1, i+1
			continue
		}
		begin, end := max(0, i-context), i
		for j := i; j < len(cs) && j <= end+2*context; j++ {
			if cs[j].op != ' ' {
				end = j
			}
		}
		end = min(len(cs), end+context+1)
		oldLine, newLine = oldLine-(i-begin), newLine-(i-begin)
		oldLine, newLine = hunk(b, cs[begin:end], oldLine, newLine)
		i = end
	}
}

func hunk(b *strings.Builder, cs []change, oldLine, newLine int) (afterOld, afterNew int) {
	var o, n int
	var text strings.Builder
	for _, c := range cs {
		if c.op != '+' {
			o++
		}
		if c.op != '-' {
			n++
		}
		text.WriteByte(c.op)
		text.WriteString(c.text)
		if !strings.HasSuffix(c.text, "\n") {
			text.WriteString("\n\\ No newline at end of file\n")
		}
	}
	fmt.Fprintf(b, "@@ -%s +%s @@\n%s", span(oldLine, o), span(newLine, n), text.String())
	return oldLine + o, newLine + n
}

// span is a line and a count; an empty one stands behind the line before it.
func span(line, count int) string {
	if count == 0 {
		line--
	}
	if count == 1 {
		return fmt.Sprint(line)
	}
	return fmt.Sprintf("%d,%d", line, count)
}
