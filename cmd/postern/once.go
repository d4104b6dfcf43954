package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	logs "postern.dev/postern/internal/history"
	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/stamp"
	"postern.dev/postern/internal/watch"
)

type onceOptions struct {
	config, format, customer, zone string
	json                           bool
}

// tally is what a first look at history finds.
type tally struct {
	Files      int            `json:"files"`
	Lines      int64          `json:"lines"`
	Unreadable int64          `json:"unreadable"`
	Orphans    int64          `json:"orphans"` // deliveries whose message began before the log
	Messages   int64          `json:"messages"`
	HandedOff  int64          `json:"handed_off"`
	Deferred   int64          `json:"deferred"`
	Failed     int64          `json:"failed"`
	Strangers  int64          `json:"handed_off_for_strangers"`
	From       time.Time      `json:"from,omitzero"`
	To         time.Time      `json:"to,omitzero"`
	Customers  map[string]int `json:"customers"` // hand-offs
	Domains    map[string]int `json:"domains"`
	Reports    int            `json:"reports"`
	Verdicts   map[string]int `json:"verdicts"`
	Judged     []judged       `json:"judged,omitempty"` // the leaked and the bypassed

	watched map[string]*logs.Parser
}

// onceLook is a first look under way: a ledger that lasts as long.
type onceLook struct {
	e       *env
	o       *onceOptions
	cfg     *config.Config // nil where none is given
	zone    *time.Location
	ledger  *ledger.Ledger
	pos     uint64
	batch   [][]byte
	sum     tally
	reports []saved
	events  []ledger.Event
	last    time.Time // of the progress
}

// saved is a report that waits until all logs are read.
type saved struct {
	name string
	raw  []byte
}

func watchOnce(ctx context.Context, e *env, o *onceOptions, files []string) (err error) {
	x := &onceLook{e: e, o: o, sum: tally{Customers: map[string]int{}, Domains: map[string]int{}, Verdicts: map[string]int{}, watched: map[string]*logs.Parser{}}}
	if x.zone, err = zoneOf(o.zone); err != nil {
		return err
	}
	if o.config != "" {
		if x.cfg, err = loadConfig(e, o.config, false, nil); err != nil {
			return err
		}
	}
	if o.format != "" && !slices.Contains(logs.Formats(), logs.Format(o.format)) {
		return &exitError{code: exitUsage, text: fmt.Sprintf("unknown format %q", o.format), hint: "one of " + strings.Trim(fmt.Sprint(logs.Formats()), "[]")}
	}
	dir, err := os.MkdirTemp("", "postern-watch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if x.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.ledger.Close()) }()
	bad := false
	for _, name := range ordered(files) {
		if err := x.file(ctx, name); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintf(e.stderr, "postern: %s: %v\n", name, err)
			bad = true
		}
	}
	if err := x.flush(); err != nil {
		return err
	}
	if err := x.judge(ctx); err != nil {
		return err
	}
	if err := x.print(); err != nil {
		return err
	}
	switch {
	case bad:
		return &exitError{code: exitUsage}
	case len(x.sum.Judged) > 0:
		return &exitError{code: exitNo}
	}
	return nil
}

// ordered spreads folders (maildirs too) and puts files into the order in which they
// were written.
func ordered(names []string) []string {
	var all []string
	at := map[string]time.Time{}
	for _, n := range names {
		err := filepath.WalkDir(n, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if st, err := d.Info(); err == nil {
				at[name] = st.ModTime()
			}
			all = append(all, name)
			return nil
		})
		if err != nil && !slices.Contains(all, n) {
			all = append(all, n) // it is told of when it is opened
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return at[a].Compare(at[b]) })
	return all
}

// opened opens a file, decompressed.
func opened(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<20))
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return both{z, f}, nil
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return both{z, closing{z, f}}, nil
	}
	return f, nil
}

// both reads from one and closes another.
type both struct {
	io.Reader
	io.Closer
}

type closing struct {
	z *zstd.Decoder
	f *os.File
}

// Close implements io.Closer.
func (c closing) Close() error { c.z.Close(); return c.f.Close() }

// maxSaved bounds a saved report.
const maxSaved = 64 << 20

// file reads one file, whatever it is.
func (x *onceLook) file(ctx context.Context, name string) error {
	r, err := opened(name)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "open "+name+": "))
	}
	defer r.Close()
	b := bufio.NewReaderSize(r, 1<<20)
	head, err := b.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	x.sum.Files++
	format := logs.Format(x.o.format)
	if looks := logs.Guess(head); looks != "" && format == "" {
		format = looks
	}
	if format != "" && !inbox.LooksLikeMail(head) {
		return x.log(ctx, name, format, b)
	}
	raw, err := io.ReadAll(io.LimitReader(b, maxSaved))
	if err != nil {
		return err
	}
	mails := inbox.SplitMbox(raw)
	if len(mails) == 0 || !inbox.LooksLikeMail(raw) {
		return errors.New("neither a log of a known format nor saved mail; say -format")
	}
	for i, m := range mails {
		n := name
		if len(mails) > 1 {
			n = fmt.Sprintf("%s, mail %d", name, i+1)
		}
		x.reports = append(x.reports, saved{n, bytes.Clone(m)})
	}
	return nil
}

// watchFor gives the watch of the configuration that a file belongs to, or one made of
// the flags.
func (x *onceLook) watchFor(name string, format logs.Format) *config.Watch {
	if x.cfg != nil {
		abs, _ := filepath.Abs(name)
		for i := range x.cfg.Watches {
			w := &x.cfg.Watches[i]
			for _, p := range w.Files {
				if ok, _ := filepath.Match(p, name); ok && w.Format == string(format) {
					return w
				}
				if ok, _ := filepath.Match(p, abs); ok && w.Format == string(format) {
					return w
				}
			}
		}
	}
	return &config.Watch{Name: string(format), Format: string(format), Location: x.zone, Customer: config.Value{Field: x.o.customer}}
}

// log reads a log into the ledger. Files of one watch are one history.
func (x *onceLook) log(ctx context.Context, name string, format logs.Format, r *bufio.Reader) error {
	w := x.watchFor(name, format)
	rows := app.WatchRows(x.cfg, w)
	p := x.sum.watched[w.Name]
	if p == nil {
		p = logs.New(app.HistoryOptions(w))
		x.sum.watched[w.Name] = p
	}
	p.Refer(time.Now())
	if st, err := os.Stat(name); err == nil {
		p.Refer(st.ModTime())
	}
	before := p.Counts()
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			if err := x.line(rows, p.Line(line)); err != nil {
				return err
			}
		}
		if n%65536 == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			x.progress(name, x.sum.Lines+p.Counts().Lines-before.Lines)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // a line too long goes on as another
			return err
		}
	}
	c := p.Counts()
	x.sum.Lines += c.Lines - before.Lines
	x.sum.Unreadable += c.Unreadable - before.Unreadable
	x.sum.Orphans += c.Orphans - before.Orphans
	return nil
}

// line takes the records of one line.
func (x *onceLook) line(rows *watch.Rows, records []logs.Record) error {
	for i := range records {
		r := &records[i]
		if r.Kind > logs.Failed {
			x.reports = append(x.reports, saved{"the log, " + r.Time.UTC().Format(time.RFC3339), app.LogNotice(r).Mail("reports@postern.invalid").Raw})
			continue
		}
		x.events = rows.Events(x.events[:0], r)
		for _, e := range x.events {
			x.count(e)
			x.batch = append(x.batch, ledger.Encode(e))
		}
	}
	if len(x.batch) >= 8192 {
		return x.flush()
	}
	return nil
}

func (x *onceLook) flush() error {
	if len(x.batch) == 0 {
		return nil
	}
	x.pos++
	err := x.ledger.Apply(x.pos, x.batch)
	x.batch = x.batch[:0]
	return err
}

func (x *onceLook) count(e ledger.Event) {
	s := &x.sum
	switch e := e.(type) {
	case *ledger.Accepted:
		s.Messages++
	case *ledger.HandedOff:
		s.HandedOff++
		who := e.Customer
		if who == "" {
			who = "(" + e.Path.Origin + ")"
		}
		s.Customers[who]++
		s.Domains[e.Domain]++
		if e.Path.Origin == "stranger" {
			s.Strangers++
		}
	case *ledger.Attempted:
		s.Deferred++
	case *ledger.Bounced:
		s.Failed++
	}
	at := e.When()
	if s.From.IsZero() || at.Before(s.From) {
		s.From = at
	}
	if at.After(s.To) {
		s.To = at
	}
}

// progress tells a terminal how far it is.
func (x *onceLook) progress(name string, lines int64) {
	now := time.Now()
	if !isTerminal(x.e.stderr) || now.Sub(x.last) < 500*time.Millisecond {
		return
	}
	x.last = now
	fmt.Fprintf(x.e.stderr, "\r%s: %d lines ", filepath.Base(name), lines)
}

// judge gives the saved reports their verdicts.
func (x *onceLook) judge(ctx context.Context) error {
	ring, err := stamp.NewRing([]stamp.Key{{Secret: make([]byte, 32), Created: time.Unix(0, 0)}})
	if err != nil {
		return err
	}
	o := report.Options{Rows: x.ledger, Index: x.ledger, Seen: x.ledger, Ring: func() *stamp.Ring { return ring }, Watched: x.ledger, Since: x.sum.From, Sources: func(netip.Addr) bool { return false }}
	if x.cfg != nil {
		app.JudgeOptions(x.cfg, &o)
	}
	j := report.New(o)
	for i := range x.reports {
		v, err := j.Judge(ctx, report.Input{Raw: x.reports[i].raw})
		if err != nil {
			return err
		}
		x.sum.Reports++
		x.sum.Verdicts[string(v.Kind)]++
		if v.Kind == report.Leaked || v.Kind == report.Bypassed {
			x.sum.Judged = append(x.sum.Judged, judged{File: x.reports[i].name, Verdict: v})
		}
		id, now := v.Message, time.Now()
		x.batch = append(x.batch, ledger.Encode(v.Event(id, now)))
		if err := x.flush(); err != nil { // the next may be its duplicate
			return err
		}
	}
	return nil
}

func (x *onceLook) print() error {
	s := &x.sum
	if isTerminal(x.e.stderr) {
		fmt.Fprint(x.e.stderr, "\r\x1b[K")
	}
	if x.o.json {
		return printJSON(x.e, s)
	}
	w := table(x.e)
	fmt.Fprintf(w, "files\t%d\nlines\t%d, %d unreadable\nperiod\t%s to %s\nmessages\t%d recipients", s.Files, s.Lines, s.Unreadable, stampTime(s.From), stampTime(s.To), s.Messages)
	if s.Orphans > 0 {
		fmt.Fprintf(w, ", %d deliveries whose beginning is not in the log", s.Orphans)
	}
	fmt.Fprintf(w, "\nhanded off\t%d\ndeferred\t%d times\nfailed\t%d\n", s.HandedOff, s.Deferred, s.Failed)
	for i, c := range most(s.Customers, 10) {
		fmt.Fprintf(w, "%s\t%7d  %s\n", first(i, "by customer"), s.Customers[c], printable(c))
	}
	for i, d := range most(s.Domains, 10) {
		fmt.Fprintf(w, "%s\t%7d  %s\n", first(i, "by domain"), s.Domains[d], printable(d))
	}
	fmt.Fprintf(w, "reports\t%d\n", s.Reports)
	for i, v := range most(s.Verdicts, 20) {
		fmt.Fprintf(w, "%s\t%7d  %s\n", first(i, "by verdict"), s.Verdicts[v], v)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range s.Judged {
		if err := printJudged(x.e, &s.Judged[i], false); err != nil {
			return err
		}
	}
	return nil
}

func first(i int, title string) string {
	if i == 0 {
		return title
	}
	return ""
}

// most lists the keys with the highest counts.
func most(m map[string]int, n int) []string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if c := cmp.Compare(m[b], m[a]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	return keys[:min(n, len(keys))]
}
