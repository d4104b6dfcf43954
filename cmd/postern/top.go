package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"postern.dev/postern/internal/app"
)

// topOptions are what queue top was asked for.
type topOptions struct {
	sort  string
	by    string // "site" or "pool": what a row is
	every time.Duration
	count int // pictures; 0 for no end
	rows  int // of each picture; 0 for as many as the screen has, and all where there is none
	json  bool
}

func (o *topOptions) check() error {
	if !slices.Contains(app.TopOrders(), o.sort) {
		return usagef("queue top sorts by one of %s, not by %q", strings.Join(app.TopOrders(), ", "), o.sort)
	}
	if o.by != "site" && o.by != "pool" {
		return usagef("queue top has rows by site or by pool, not by %q", o.by)
	}
	if o.every < 100*time.Millisecond || o.count < 0 || o.rows < 0 {
		return usagef("queue top: -every is 100ms at least, -n and -rows are not below 0")
	}
	return nil
}

// topView draws the queue again and again.
type topView struct {
	o    topOptions
	out  io.Writer
	ask  func(context.Context, *topOptions) (*app.TopView, error)
	size func() (columns, lines int)
	tick <-chan time.Time
	keys <-chan byte
	turn <-chan os.Signal // the window has another size

	last *app.TopView
	err  error
}

// queueTop shows the queue until q is pressed; without a terminal, or asked for a number
// of pictures, it prints them one below the other.
func queueTop(ctx context.Context, e *env, c *app.Client, o topOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	ask := func(ctx context.Context, o *topOptions) (*app.TopView, error) {
		var v app.TopView
		q := url.Values{"sort": {o.sort}}
		if o.rows > 0 {
			q.Set("limit", fmt.Sprint(o.rows))
		}
		return &v, remote(c.Get(ctx, "/queue/top", q, &v))
	}
	out, isFile := e.stdout.(*os.File)
	screen := isFile && term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb" && !o.json && o.count == 0
	if !screen {
		o.count = max(o.count, 1)
		return topLines(ctx, e, o, ask)
	}
	v := &topView{o: o, out: out, ask: ask, size: func() (int, int) {
		w, h, err := term.GetSize(int(out.Fd()))
		if err != nil || w <= 0 || h <= 0 {
			return 80, 24
		}
		return w, h
	}}
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	v.tick, v.turn = ticker.C, resized
	keys, restore, err := keyboard(e.stdin)
	if err != nil {
		return err
	}
	defer restore()
	v.keys = keys
	return v.run(ctx)
}

// topLines prints pictures one below the other, or a line of JSON for each.
func topLines(ctx context.Context, e *env, o topOptions, ask func(context.Context, *topOptions) (*app.TopView, error)) error {
	for i := range o.count {
		if i > 0 {
			select {
			case <-time.After(o.every):
			case <-ctx.Done():
				return nil
			}
		}
		v, err := ask(ctx, &o)
		if err != nil {
			return err
		}
		if o.json {
			if err := printJSON(e, v); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(e.stdout)
		}
		for _, line := range picture(v, &o, 0) {
			fmt.Fprintln(e.stdout, strings.TrimRight(line, " "))
		}
	}
	return nil
}

// keyboard gives single keys, where standard input is a terminal, and a way back to
// lines. The reader ends with the program: nothing can break off a read of a terminal.
func keyboard(in any) (<-chan byte, func(), error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}, nil
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("keyboard: %w", err)
	}
	keys := make(chan byte, 16)
	go func() {
		b := make([]byte, 1)
		for {
			n, err := f.Read(b)
			if n == 1 {
				select {
				case keys <- b[0]:
				default: // typed ahead of what can be drawn
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return keys, func() { _ = term.Restore(int(f.Fd()), old) }, nil
}

// Control sequences (ECMA-48; ?1049 and ?25 are xterm's, which all terminals know).
const (
	screenOn  = "\x1b[?1049h\x1b[?25l"
	screenOff = "\x1b[?25h\x1b[?1049l"
	home      = "\x1b[H"
	restLine  = "\x1b[K" // clear to the end of the line
	restAll   = "\x1b[J"
	bold      = "\x1b[1m"
	inverse   = "\x1b[7m"
	plainText = "\x1b[0m"
)

// run draws until q, Ctrl-C or the end of ctx. Each picture is one write over the
// former one, so that nothing flickers.
func (v *topView) run(ctx context.Context) error {
	if _, err := io.WriteString(v.out, screenOn); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(v.out, screenOff) }()
	fresh := true
	for {
		if fresh {
			o := v.o
			if o.rows == 0 {
				_, o.rows = v.size() // no more than can be seen
			}
			if t, err := v.ask(ctx, &o); err == nil {
				v.last, v.err = t, nil
			} else {
				v.err = err // the node may come back: the last picture stays
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := v.draw(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-v.tick:
			fresh = true
		case <-v.turn:
			fresh = false
		case k := <-v.keys:
			var quit bool
			if fresh, quit = v.key(k); quit {
				return nil
			}
		}
	}
}

// key does what a key stands for: whether the node is to be asked again, or this was all.
func (v *topView) key(k byte) (again, quit bool) {
	switch k {
	case 'q', 'Q', 3: // Ctrl-C
		return false, true
	case '\t', 'p', 'b':
		v.o.by = map[string]string{"site": "pool", "pool": "site"}[v.o.by]
		return false, false
	case ' ':
		return true, false
	case '>', 's', '.':
		return v.sortBy(1), false
	case '<', 'S', ',':
		return v.sortBy(-1), false
	}
	return false, false
}

func (v *topView) sortBy(step int) bool {
	orders := app.TopOrders()
	i := slices.Index(orders, v.o.sort)
	v.o.sort = orders[(i+step+len(orders))%len(orders)]
	return true
}

// draw writes one picture.
func (v *topView) draw() error {
	columns, lines := v.size()
	var b bytes.Buffer
	b.WriteString(home)
	var text []string
	if v.last != nil {
		text = picture(v.last, &v.o, max(lines-1, 1))
	}
	for i := range max(lines-1, 1) {
		line := ""
		if i < len(text) {
			line = fit(text[i], columns)
		}
		switch i {
		case 0:
			line = bold + line + plainText
		case topHead:
			line = inverse + line + plainText
		}
		b.WriteString(line + restLine + "\r\n")
	}
	foot := "q quit  s/S sort (" + v.o.sort + ")  tab sites/pools  space now"
	if v.err != nil {
		foot = "! " + printable(v.err.Error()) + "; q quits"
	}
	b.WriteString(fit(foot, columns) + restLine + restAll)
	_, err := v.out.Write(b.Bytes())
	return err
}

// fit cuts a line to the width of the screen.
func fit(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	return string([]rune(s)[:max(columns, 0)])
}

// topHead is the line that names the columns.
const topHead = 4

// picture is the queue in lines, at most as many as there are; 0 is no limit.
func picture(v *app.TopView, o *topOptions, lines int) []string {
	out := []string{
		fmt.Sprintf("%s  %s  waiting %d  held %d  ready %d  suspended %d  connections %d", printable(v.Hostname), stampTime(v.Time), v.Waiting, v.Held, v.Ready, v.Suspended, v.Connections),
		fmt.Sprintf("a second:    in %s  out %s  deferred %s  failed %s", perSecond(v.Rates.In), perSecond(v.Rates.Out), perSecond(v.Rates.Deferred), perSecond(v.Rates.Failed)),
		fmt.Sprintf("since start: in %d  out %d  deferred %d  failed %d", v.Totals.In, v.Totals.Out, v.Totals.Deferred, v.Totals.Failed),
		"",
	}
	rows, all, head := v.Sites, v.SitesInAll, "SITE"
	if o.by == "pool" {
		rows, all, head = v.Pools, v.PoolsInAll, "POOL"
	}
	out = append(out, topColumns(head, "QUEUED", "READY", "SUSP", "CONN", "IN/S", "OUT/S", "DEFER/S", "FAIL/S", "UNTIL", "LAST REPLY"))
	for i := range rows {
		if lines > 0 && len(out) == lines-1 && i < all-1 {
			return append(out, fmt.Sprintf("and %d more", all-i))
		}
		if lines > 0 && len(out) >= lines {
			return out
		}
		r := &rows[i]
		until := "-"
		if !r.Until.IsZero() {
			until = r.Until.UTC().Format("15:04:05")
		}
		out = append(out, topColumns(printable(r.Name), fmt.Sprint(r.Queued), fmt.Sprint(r.Ready), fmt.Sprint(r.Suspended), fmt.Sprint(r.Connections),
			perSecond(r.Rates.In), perSecond(r.Rates.Out), perSecond(r.Rates.Deferred), perSecond(r.Rates.Failed), until, dash(printable(r.Last))))
	}
	if all > len(rows) {
		out = append(out, fmt.Sprintf("and %d more", all-len(rows)))
	}
	return out
}

// topColumns is one line of the table: columns of fixed width, so that nothing jumps
// from one picture to the next.
func topColumns(name string, c ...string) string {
	const width = 34
	if n := utf8.RuneCountInString(name); n > width {
		name = string([]rune(name)[:width-1]) + "~"
	}
	return fmt.Sprintf("%-*s %9s %9s %9s %5s %8s %8s %8s %8s  %-8s  %s", width, name, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9])
}

// perSecond prints a rate in few characters.
func perSecond(r float64) string {
	if r < 10 && r > 0 {
		return fmt.Sprintf("%.1f", r)
	}
	return fmt.Sprintf("%.0f", r)
}
