package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// narrator tells the story to people; it says nothing where w is nil.
type narrator struct {
	w        io.Writer
	terminal bool
	start    time.Time
	now      func() time.Time
	drawn    bool
}

// scene begins a part of the story.
func (n *narrator) scene(title string) {
	n.clear()
	if n.w == nil {
		return
	}
	text := fmt.Sprintf("\n%5.1fs  %s\n", n.now().Sub(n.start).Seconds(), title)
	if n.terminal {
		text = fmt.Sprintf("\n\x1b[2m%5.1fs\x1b[0m  \x1b[1m%s\x1b[0m\n", n.now().Sub(n.start).Seconds(), title)
	}
	_, _ = io.WriteString(n.w, text)
}

func (n *narrator) say(format string, a ...any) {
	n.clear()
	if n.w != nil {
		fmt.Fprintln(n.w, strings.TrimRight("        "+fmt.Sprintf(format, a...), " "))
	}
}

// progress draws a bar on a terminal; elsewhere it is silent.
func (n *narrator) progress(what string, done, total int) {
	if n.w == nil || !n.terminal || total == 0 {
		return
	}
	const width = 30
	full := min(width, done*width/total)
	fmt.Fprintf(n.w, "\r        %-22s [%s%s] %d/%d", what, strings.Repeat("#", full), strings.Repeat(".", width-full), done, total)
	n.drawn = true
}

func (n *narrator) clear() {
	if n.drawn {
		_, _ = io.WriteString(n.w, "\r\x1b[K")
		n.drawn = false
	}
}

// block prints a text indented, as it would stand on the screen.
func (n *narrator) block(text string) {
	n.clear()
	if n.w == nil {
		return
	}
	for line := range strings.Lines(text) {
		if line != "\n" {
			line = "          " + line
		}
		_, _ = io.WriteString(n.w, line)
	}
}
