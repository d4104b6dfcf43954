package proof

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// ErrCannotEdit tells that a repair cannot be made in the files as they stand.
var ErrCannotEdit = errors.New("the repair cannot be written into the files")

// Edit makes a repair in the sources of a configuration and gives the files that
// change, whole. Filter blocks move with the comments that stand right above them,
// into another file if need be; a clause is joined to a filter's condition, in
// parentheses where it must be. cfg is not changed.
func Edit(cfg *config.Config, r *verify.Repair) (map[string][]byte, error) {
	e := &editor{files: map[string][]byte{}, known: map[string]*outline{}}
	for _, name := range cfg.Files {
		e.files[name] = cfg.Sources[name]
	}
	for _, m := range r.Moves {
		if err := e.move(cfg.Files, m); err != nil {
			return nil, err
		}
	}
	if err := e.guards(cfg.Files, r.Guards); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, text := range e.files {
		if !bytes.Equal(text, cfg.Sources[name]) {
			out[name] = text
		}
	}
	return out, nil
}

// Patch writes edited files as one unified difference, in the order of their names.
func Patch(cfg *config.Config, edited map[string][]byte) string {
	var names []string
	for n := range edited {
		names = append(names, n)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		b.WriteString(Unified(n, n, cfg.Sources[n], edited[n]))
	}
	return b.String()
}

// editor holds the files as they are now, and what it knows of those that have not
// changed since it looked.
type editor struct {
	files map[string][]byte
	known map[string]*outline
}

// outline is where a file's filters and comments stand.
type outline struct {
	filters  map[string]*hclsyntax.Block
	comments map[int]bool
}

// outline reads a file, if it has changed since it was last read.
func (e *editor) outline(file string) (*outline, error) {
	if o := e.known[file]; o != nil {
		return o, nil
	}
	f, ds := hclsyntax.ParseConfig(e.files[file], file, hcl.InitialPos)
	if ds.HasErrors() {
		return nil, fmt.Errorf("edit %s: %s: %w", file, ds.Error(), ErrCannotEdit)
	}
	o := &outline{filters: map[string]*hclsyntax.Block{}, comments: commentLines(e.files[file], file)}
	for _, b := range f.Body.(*hclsyntax.Body).Blocks {
		if b.Type == "filter" && len(b.Labels) == 1 && o.filters[b.Labels[0]] == nil {
			o.filters[b.Labels[0]] = b
		}
	}
	e.known[file] = o
	return o, nil
}

// put gives a file another text.
func (e *editor) put(file string, text []byte) {
	e.files[file] = text
	delete(e.known, file)
}

// place is where a filter's block stands: whole lines, from the first comment above
// it to the end of its last line.
type place struct {
	file       string
	begin, end int
	block      *hclsyntax.Block
}

// find looks for a filter in the files as they are now.
func (e *editor) find(files []string, name string) (*place, error) {
	for _, file := range files {
		o, err := e.outline(file)
		if err != nil {
			return nil, err
		}
		if b := o.filters[name]; b != nil {
			return e.lines(file, b, o.comments)
		}
	}
	return nil, fmt.Errorf("edit filter %q: it stands in no file: %w", name, ErrCannotEdit)
}

func (e *editor) lines(file string, b *hclsyntax.Block, comments map[int]bool) (*place, error) {
	src := e.files[file]
	p := &place{file: file, block: b, begin: b.TypeRange.Start.Byte, end: b.CloseBraceRange.End.Byte}
	lineStart := 1 + bytes.LastIndexByte(src[:p.begin], '\n')
	if len(bytes.TrimSpace(src[lineStart:p.begin])) > 0 {
		return nil, fmt.Errorf("edit filter %q: something stands before it on its line: %w", b.Labels[0], ErrCannotEdit)
	}
	p.begin = lineStart
	if i := bytes.IndexByte(src[p.end:], '\n'); i >= 0 {
		p.end += i + 1
	} else {
		p.end = len(src)
	}
	for p.begin > 0 {
		above := 1 + bytes.LastIndexByte(src[:p.begin-1], '\n')
		if !comments[above] {
			break
		}
		p.begin = above
	}
	return p, nil
}

// commentLines gives the offsets of the lines that hold nothing but a comment. A
// block comment counts with all its lines.
func commentLines(src []byte, file string) map[int]bool {
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos)
	out := map[int]bool{}
	for _, t := range tokens {
		if t.Type != hclsyntax.TokenComment {
			continue
		}
		begin := 1 + bytes.LastIndexByte(src[:t.Range.Start.Byte], '\n')
		if len(bytes.TrimSpace(src[begin:t.Range.Start.Byte])) > 0 {
			continue // behind something else on its line
		}
		end := t.Range.End.Byte
		if rest, _, _ := bytes.Cut(src[end:], []byte("\n")); !bytes.HasSuffix(src[:end], []byte("\n")) && len(bytes.TrimSpace(rest)) > 0 {
			continue
		}
		for at := begin; at < end; {
			out[at] = true
			i := bytes.IndexByte(src[at:], '\n')
			if i < 0 {
				break
			}
			at += i + 1
		}
	}
	return out
}

// move takes a block to the place before another, with one empty line between them
// and none left behind.
func (e *editor) move(files []string, m verify.Move) error {
	p, err := e.find(files, m.Filter)
	if err != nil {
		return err
	}
	src := e.files[p.file]
	text := strings.TrimRight(string(src[p.begin:p.end]), "\r\n")
	nl := lineEnd(src)
	before, after := src[:p.begin], src[p.end:]
	if blank := leadingBlank(after); blank > 0 && (len(before) == 0 || endsBlank(before)) {
		after = after[blank:]
	} else if len(bytes.TrimSpace(after)) == 0 && endsBlank(before) {
		before = append(bytes.TrimRight(before, "\r\n \t"), nl...)
	}
	e.put(p.file, append(append([]byte{}, before...), after...))
	q, err := e.find(files, m.Before)
	if err != nil {
		return err
	}
	dst := e.files[q.file]
	if other := lineEnd(dst); other != nl {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", other)
		nl = other
	}
	var b bytes.Buffer
	b.Write(dst[:q.begin])
	b.WriteString(text + nl + nl)
	b.Write(dst[q.begin:])
	e.put(q.file, b.Bytes())
	return nil
}

func lineEnd(src []byte) string {
	if i := bytes.IndexByte(src, '\n'); i > 0 && src[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// leadingBlank is the length of an empty line at the beginning.
func leadingBlank(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 && len(bytes.TrimSpace(b[:i])) == 0 {
		return i + 1
	}
	return 0
}

// endsBlank reports an empty line at the end.
func endsBlank(b []byte) bool {
	b, ok := bytes.CutSuffix(b, []byte("\n"))
	return ok && len(bytes.TrimSpace(b[1+bytes.LastIndexByte(b, '\n'):])) == 0
}

// guards joins clauses to conditions, from the end of each file on, so that what has
// been found stays where it is. Several clauses of one filter keep their order.
func (e *editor) guards(files []string, gs []verify.Guard) error {
	type joined struct {
		place *place
		texts []string
	}
	var all []*joined
	byName := map[string]*joined{}
	for _, g := range gs {
		j := byName[g.Filter]
		if j == nil {
			p, err := e.find(files, g.Filter)
			if err != nil {
				return err
			}
			j = &joined{place: p}
			byName[g.Filter] = j
			all = append(all, j)
		}
		j.texts = append(j.texts, g.Clause)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].place.begin > all[j].place.begin })
	for _, j := range all {
		if err := e.guard(j.place, j.texts); err != nil {
			return err
		}
	}
	return nil
}

// guard joins clauses to the condition of one filter.
func (e *editor) guard(p *place, clauses []string) error {
	a := p.block.Body.Attributes["if"]
	if a == nil {
		return fmt.Errorf("edit filter %q: it has no condition: %w", p.block.Labels[0], ErrCannotEdit)
	}
	x := a.Expr.Range()
	src := e.files[p.file]
	open, shut := "", ""
	if binds(a.Expr) {
		open, shut = "(", ")"
	}
	var b bytes.Buffer
	b.Write(src[:x.Start.Byte])
	b.WriteString(open)
	b.Write(src[x.Start.Byte:x.End.Byte])
	b.WriteString(shut)
	for _, clause := range clauses {
		if c, ds := hclsyntax.ParseExpression([]byte(clause), "", hcl.InitialPos); ds.HasErrors() || binds(c) {
			clause = "(" + clause + ")"
		}
		b.WriteString(" && " + clause)
	}
	b.Write(src[x.End.Byte:])
	e.put(p.file, b.Bytes())
	return nil
}

// binds reports an expression that && would tear apart.
func binds(x hclsyntax.Expression) bool {
	switch x := x.(type) {
	case *hclsyntax.BinaryOpExpr:
		return x.Op == hclsyntax.OpLogicalOr
	case *hclsyntax.ConditionalExpr:
		return true
	}
	return false
}

// Reread loads a configuration again with some of its files edited, without writing
// them.
func Reread(path string, edited map[string][]byte, o config.Options, read func(string) ([]byte, error)) (*config.Config, config.Diagnostics) {
	o.ReadFile = func(name string) ([]byte, error) {
		if b, ok := edited[name]; ok {
			return b, nil
		}
		return read(name)
	}
	return config.Load(path, o)
}

// Same reports two lists of filters with the same names in the same order and the same
// conditions: that edited files say what the repair says.
func Same(a, b []policy.Filter) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || verify.Spell(a[i].If) != verify.Spell(b[i].If) {
			return false
		}
	}
	return true
}
