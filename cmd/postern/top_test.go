package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/app"
)

// screen remembers what each write drew.
type screen struct {
	mu     sync.Mutex
	writes []string
	drawn  chan string // each picture
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.writes = append(s.writes, string(b))
	s.mu.Unlock()
	if strings.HasPrefix(string(b), home) {
		s.drawn <- string(b)
	}
	return len(b), nil
}

// shown is what a picture leaves on the screen.
func shown(picture string) []string {
	for _, c := range []string{home, restLine, restAll, bold, inverse, plainText} {
		picture = strings.ReplaceAll(picture, c, "")
	}
	return strings.Split(picture, "\r\n")
}

// busy is a queue with so many sites.
func busy(sites int) *app.TopView {
	v := &app.TopView{Time: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Hostname: "gw.example", Waiting: 1234, Ready: 77, Rates: app.TopRates{In: 150, Out: 149.6, Deferred: 0.4}, SitesInAll: sites, PoolsInAll: 1,
		Pools: []app.TopRow{{Name: "general", Queued: 1234}}}
	for i := range sites {
		v.Sites = append(v.Sites, app.TopRow{Name: fmt.Sprintf("mx%d.example.net", i), Queued: sites - i, Last: "421 \x1b[2Jslow down"})
	}
	return v
}

// TestTopOnAScreen presses keys and changes the window's size.
func TestTopOnAScreen(t *testing.T) {
	out, keys, turned := &screen{drawn: make(chan string, 1)}, make(chan byte), make(chan os.Signal)
	var asked []string
	fail := false
	columns, lines := 100, 12
	v := &topView{o: topOptions{sort: "queued", by: "site"}, out: out, keys: keys, turn: turned, size: func() (int, int) { return columns, lines },
		ask: func(_ context.Context, o *topOptions) (*app.TopView, error) {
			asked = append(asked, fmt.Sprintf("%s %d", o.sort, o.rows))
			if fail {
				return nil, errors.New("no node answers")
			}
			return busy(40), nil
		}}
	done := make(chan error, 1)
	go func() { done <- v.run(t.Context()) }()
	first := shown(<-out.drawn)
	if len(first) != lines || !strings.Contains(first[0], "waiting 1234") || !strings.Contains(first[1], "out 150  deferred 0.4") || !strings.HasPrefix(first[topHead], "SITE") ||
		!strings.HasPrefix(first[5], "mx0.example.net") || first[10] != "and 35 more" || !strings.HasPrefix(first[11], "q quit") {
		t.Errorf("the first picture: %q", first)
	}
	if strings.Contains(first[5], "\x1b") {
		t.Errorf("a peer's reply acts on the terminal: %q", first[5])
	}
	columns, lines = 40, 8
	turned <- os.Interrupt
	for i, line := range shown(<-out.drawn) {
		if len(line) > columns || i >= lines {
			t.Errorf("line %d of a smaller window: %q", i, line)
		}
	}
	keys <- '\t'
	if p := shown(<-out.drawn); !strings.HasPrefix(p[5], "general") {
		t.Errorf("by pool: %q", p)
	}
	keys <- 's'
	if p := shown(<-out.drawn); !strings.Contains(p[len(p)-1], "(ready)") {
		t.Errorf("sorted by the next: %q", p)
	}
	fail = true
	keys <- ' '
	if p := shown(<-out.drawn); !strings.HasPrefix(p[len(p)-1], "! no node answers") || !strings.HasPrefix(p[5], "general") {
		t.Errorf("a node that is away: %q", p)
	}
	keys <- 'q'
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := []string{"queued 12", "ready 8", "ready 8"}; strings.Join(asked, ",") != strings.Join(want, ",") {
		t.Errorf("the node was asked %q, want %q: resizing and changing the view need no answer", asked, want)
	}
	if n := len(out.writes); out.writes[0] != screenOn || out.writes[n-1] != screenOff || n != 8-1 {
		t.Errorf("%d writes, %q to %q: one for each picture, and the screen given back", n, out.writes[0], out.writes[n-1])
	}
}

// TestTopFits draws on screens that are too small for anything.
func TestTopFits(t *testing.T) {
	for _, c := range []struct{ columns, lines, sites int }{{1, 1, 3}, {0, 0, 0}, {20, 5, 9}, {300, 6, 1}, {300, 7, 2}, {300, 8, 200}, {80, 24, 0}} {
		out := &screen{drawn: make(chan string, 1)}
		v := &topView{o: topOptions{sort: "queued", by: "site"}, out: out, size: func() (int, int) { return c.columns, c.lines }, last: busy(c.sites)}
		if err := v.draw(); err != nil {
			t.Fatal(err)
		}
		p := shown(<-out.drawn)
		if len(p) > max(c.lines, 2) {
			t.Errorf("%+v: %d lines", c, len(p))
		}
		for _, line := range p {
			if len([]rune(line)) > c.columns {
				t.Errorf("%+v: %q is wider than the screen", c, line)
			}
		}
	}
}

// TestTopKeyboard types on a terminal: keys come one by one, and it is as before at the end.
func TestTopKeyboard(t *testing.T) {
	person, program := terminal(t)
	keys, restore, err := keyboard(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range "sq" {
		if _, err := io.WriteString(person, string(want)); err != nil {
			t.Fatal(err)
		}
		if got := <-keys; got != byte(want) {
			t.Errorf("%q was read as %q", want, got)
		}
	}
	restore()
	if keys, _, err := keyboard(strings.NewReader("q")); keys != nil || err != nil {
		t.Errorf("keys from what is no terminal: %v", err)
	}
}

// TestTopPrints asks the program without a terminal.
func TestTopPrints(t *testing.T) {
	file, _ := gatewayConfig(t, zone(t, "peer.example", "127.0.0.1"), freePort(t, "127.0.0.1"), "")
	node := serve(t, file)
	defer node.stop(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"once", []string{"queue", "top", file}, 0, "a second:    in 0  out 0  deferred 0  failed 0"},
		{"twice", []string{"queue", "top", "-n", "2", "-every", "100ms", "-by", "pool", file}, 0, "POOL"},
		{"json", []string{"queue", "top", "-once", "-json", file}, 0, `"sites":[]`},
		{"a wrong order", []string{"queue", "top", "-sort", "size", file}, 2, "sorts by one of queued, ready"},
		{"too often", []string{"queue", "top", "-every", "1ms", file}, 2, "100ms at least"},
	} {
		stdout, stderr, code := run(t, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) || strings.Contains(stdout, "\x1b") {
			t.Errorf("%s: exit %d\n%s%s", c.name, code, stdout, stderr)
		}
	}
}
