package history

import (
	"bytes"
	"time"
)

// Guess tells the format of a log by its beginning, "" where it is none that is known.
func Guess(head []byte) Format {
	if bytes.HasPrefix(head, []byte("type,")) || bytes.HasPrefix(head, []byte(`"type",`)) {
		return PowerMTA
	}
	best, most := Format(""), 0
	for _, f := range Formats() {
		p := New(Options{Format: f, Reference: time.Unix(1<<32, 0)})
		n := 0
		for line := range bytes.Lines(head) {
			if p.counts.Lines >= 200 {
				break
			}
			before := len(p.open.newer)
			unread := p.counts.Unreadable
			records := p.Line(line)
			switch {
			case p.counts.Unreadable > unread:
				n--
			case len(records) > 0 || len(p.open.newer) > before:
				n += 2
			}
		}
		if n > most {
			best, most = f, n
		}
	}
	return best
}
