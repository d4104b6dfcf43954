package config

import "fmt"

// scanned is the fault at which a scan ended.
type scanned struct {
	line, column int
	message      string
}

// scanner looks at a file before the parser does, for what would cost the parser its
// stack or minutes: nesting without end, brackets that do not fit, octets of no text.
// It stops at the first, where the parser would note millions.
type scanner struct {
	src          []byte
	at           int
	line, column int
	open         []byte // brackets to be closed
	run          int    // of ! and -, which nest without brackets
	loose        bool   // only depth counts: it is not known any more what is text
	cuts         []cut  // where a line begins outside of all blocks, a chunk apart or more
}

// strictFrom is the size of a file from which brackets are matched. Of a smaller one
// the parser tells what is wrong, and tells it better.
const strictFrom = 1 << 20

// scan gives the first such fault, nil if there is none, and where the file can be cut
// into parts that are parsed each by itself.
func scan(src []byte) (*scanned, []cut) {
	s := &scanner{src: src, line: 1, column: 1, loose: len(src) < strictFrom}
	last := 0
	for s.at < len(s.src) {
		if s.column == 1 && s.at-last >= chunk && len(s.open) == 0 && !s.loose {
			last = s.at
			s.cuts = append(s.cuts, cut{s.at, s.line})
		}
		if f := s.step(); f != nil {
			return f, nil
		}
	}
	return nil, s.cuts
}

func (s *scanner) fault(format string, args ...any) *scanned {
	return &scanned{line: s.line, column: s.column, message: fmt.Sprintf(format, args...)}
}

// step takes one token, or as much of one as matters.
func (s *scanner) step() *scanned {
	c := s.src[s.at]
	switch {
	case c == 0:
		return s.fault("octet NUL: this is no text")
	case s.loose:
	case c == '#', s.begins("//"):
		s.until("\n")
		return nil
	case s.begins("/*"):
		s.until("*/")
		return nil
	case c == '"':
		s.text()
		return nil
	case s.begins("<<"):
		s.loose = true // a heredoc, which the language has no use for: the parser will say so
	}
	f := s.bracket(c)
	s.next()
	return f
}

func (s *scanner) bracket(c byte) *scanned {
	switch c {
	case '(':
		s.open = append(s.open, ')')
	case '[':
		s.open = append(s.open, ']')
	case '{':
		s.open = append(s.open, '}')
	case ')', ']', '}':
		n := len(s.open)
		if s.loose {
			s.open = s.open[:max(0, n-1)]
			return nil
		}
		if n == 0 {
			return s.fault("%q closes nothing", c)
		}
		if s.open[n-1] != c {
			return s.fault("%q where %q is missing", c, s.open[n-1])
		}
		s.open = s.open[:n-1]
	case '!', '-':
		s.run++
	case '\n':
		s.run = 0
	}
	if len(s.open) > maxDepth || s.run > 10*maxDepth {
		return s.fault("brackets are nested deeper than %d", maxDepth)
	}
	return nil
}

func (s *scanner) begins(prefix string) bool {
	return s.at+len(prefix) <= len(s.src) && string(s.src[s.at:s.at+len(prefix)]) == prefix
}

// next moves on by an octet. Columns count characters.
func (s *scanner) next() {
	switch c := s.src[s.at]; {
	case c == '\n':
		s.line, s.column = s.line+1, 1
	case c&0xC0 != 0x80:
		s.column++
	}
	s.at++
}

// until moves behind the next end, or to the end of the file.
func (s *scanner) until(end string) {
	for s.at < len(s.src) {
		if s.begins(end) {
			for range end {
				s.next()
			}
			return
		}
		s.next()
	}
}

// text moves behind a quoted string. One with a template in it may hold quotes again:
// from there on it is not known what is text.
func (s *scanner) text() {
	s.next()
	for s.at < len(s.src) {
		switch c := s.src[s.at]; {
		case c == '"':
			s.next()
			return
		case c == '\n':
			return // it does not end: the parser will say so
		case c == '\\' && s.at+1 < len(s.src):
			s.next()
		case s.begins("${"), s.begins("%{"):
			s.loose = true
			return
		}
		s.next()
	}
}
