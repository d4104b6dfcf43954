package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/policy"
)

// LogFile is a file that machines read: every event of the ledger, or some kinds.
type LogFile struct {
	Name      string
	Format    string // jsonl, pmta-csv
	Path      string
	Events    []string // kinds or accounting records; all where empty
	Addresses string   // plain, hashed
	Rotate    Bounds   // zero is never
	Keep      Bounds   // of what was rotated; zero is for ever
	Compress  bool
	Backlog   int64 // octets of the spool that a late file may hold back
}

// Bounds are a size, an age, or both: the first that is reached counts.
type Bounds struct {
	Octets int64
	Age    time.Duration
}

// minBacklog is two segments of the spool, which goes by whole ones: the one that is
// written, and the one before it, at whose end a file may stand that is not late at all.
const minBacklog = 128 << 20

// LogEvents are the kinds of event that a jsonl file can be limited to. They are the
// ledger's names; internal/app has a test that holds them against it.
func LogEvents() []string {
	return []string{"accepted", "refused", "attempted", "handed-off", "bounced", "held", "released", "dropped", "reported", "guard-tripped", "incident", "policy-loaded", "admin", "shaping", "watched"}
}

// LogRecords are the accounting records that a pmta-csv file can be limited to.
func LogRecords() []string { return []string{"d", "b", "t", "r", "rb", "f"} }

func logFileAttributes() []string {
	return []string{"format", "path", "events", "addresses", "rotate", "keep", "compress", "backlog"}
}

func (l *loader) logFile(hb *hclsyntax.Block) {
	b := l.openBlock(hb, logFileAttributes(), nil)
	b.require("path")
	f := LogFile{Name: b.label, Format: b.oneOf("format", "jsonl", "jsonl", "pmta-csv"), Path: l.path(b.str("path", "")),
		Addresses: b.oneOf("addresses", "plain", "plain", "hashed"), Compress: b.flag("compress", false), Backlog: 8 << 30}
	if strings.ContainsAny(f.Name, "/\\") || strings.HasPrefix(f.Name, ".") {
		l.add(hb.LabelRanges[0], fmt.Sprintf("%q is not a name for a log file", f.Name), "letters, digits and hyphens: its position is kept under this name")
	}
	f.Rotate = b.bounds("rotate", Bounds{Octets: 256 << 20, Age: 24 * time.Hour})
	f.Keep = b.bounds("keep", Bounds{})
	if b.attr("backlog") != nil {
		if f.Backlog = b.size("backlog", f.Backlog); f.Backlog < minBacklog {
			l.add(b.attr("backlog").Expr.Range(), "a log file's backlog is at least 128MiB", "the spool keeps its log in segments of 64MiB, and a file that begins a segment late is not late for it")
		}
	}
	l.logEvents(b, &f)
	if a := b.attr("path"); a != nil && f.Path != "" {
		key := "log file path " + filepath.Clean(f.Path)
		if first, twice := l.names[key]; twice {
			l.add(a.Expr.Range(), fmt.Sprintf("%s is written by another log_file, at %s", f.Path, position(first)), "each needs a file of its own")
		}
		l.names[key] = a.Expr.Range()
	}
	l.cfg.LogFiles = append(l.cfg.LogFiles, f)
}

func (l *loader) logEvents(b *block, f *LogFile) {
	known := LogEvents()
	if f.Format == "pmta-csv" {
		known = LogRecords()
	}
	if a := b.attr("events"); a != nil && len(b.strs("events")) == 0 {
		l.add(a.Expr.Range(), "events is empty: nothing would be written", "leave it out for all")
	}
	for _, it := range b.strs("events") {
		if !has(known, it.text) {
			hint := didYouMean(it.text, known)
			if hint == "" {
				hint = "one of " + strings.Join(known, ", ")
			}
			l.add(it.where, fmt.Sprintf("unknown event %q in a file of format %s", it.text, f.Format), hint)
			continue
		}
		f.Events = append(f.Events, it.text)
	}
}

// bounds reads a size, an age, a list of both, or "never".
func (b *block) bounds(name string, def Bounds) (out Bounds) {
	if b.attr(name) == nil {
		return def
	}
	items := b.strs(name)
	for _, it := range items {
		if it.text == "never" && len(items) == 1 {
			return Bounds{}
		}
		if n, err := policy.ParseSize(it.text); err == nil && n >= 64<<10 {
			b.bound(&out.Octets, n, it.where)
			continue
		}
		if d, err := days(it.text); err == nil && d >= time.Minute {
			age := int64(out.Age)
			b.bound(&age, int64(d), it.where)
			out.Age = time.Duration(age)
			continue
		}
		b.l.add(it.where, fmt.Sprintf("%q is neither a size nor a time", it.text), `a size of 64KiB at least, as "256MiB", a time of a minute at least, as "24h" or "90d", a list of both, or "never"`)
	}
	return out
}

func (b *block) bound(to *int64, n int64, where hcl.Range) {
	if *to != 0 {
		b.l.add(where, "one size and one time are enough", "")
	}
	*to = n
}

// days reads a duration that may be in days.
func days(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		d, err := strconv.ParseUint(n, 10, 16)
		return time.Duration(d) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}
