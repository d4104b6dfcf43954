package asyncos

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// kind tells tokens of the filter language apart.
type kind uint8

const (
	end kind = iota
	word
	text   // a quoted string, without quotes and escapes
	number // as it is written
	mark   // an operator or a bracket
)

type token struct {
	kind kind
	text string
	pos  policy.Pos
}

// lexer divides filters into tokens. What it cannot read is a fault.
type lexer struct {
	src       string
	at        int
	pos       policy.Pos
	lineStart bool
}

func (l *lexer) step() {
	r, n := utf8.DecodeRuneInString(l.src[l.at:])
	l.at += n
	l.pos.Column++
	if r == '\n' {
		l.pos.Line, l.pos.Column, l.lineStart = l.pos.Line+1, 1, true
	}
}

// blank skips white space and comments: lines that begin with #.
func (l *lexer) blank() {
	for l.at < len(l.src) {
		switch c := l.src[l.at]; {
		case c == '#' && l.lineStart:
			for l.at < len(l.src) && l.src[l.at] != '\n' {
				l.step()
			}
		case c == ' ', c == '\t', c == '\r', c == '\n':
			l.step()
		case strings.HasPrefix(l.src[l.at:], "\ufeff") && l.at == 0:
			l.step()
		default:
			l.lineStart = false
			return
		}
	}
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '$' || c == '*' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

func (l *lexer) next() (token, error) {
	l.blank()
	t := token{pos: l.pos}
	if l.at >= len(l.src) {
		return t, nil
	}
	c := l.src[l.at]
	start := l.at
	switch {
	case c == '"' || c == '\'':
		return l.quoted(c)
	case letter(c):
		for l.at < len(l.src) && (letter(l.src[l.at]) || digit(l.src[l.at]) || l.src[l.at] == '-' || l.src[l.at] == '.') {
			l.step()
		}
		t.kind, t.text = word, l.src[start:l.at]
	case digit(c) || c == '-' && l.at+1 < len(l.src) && digit(l.src[l.at+1]):
		l.step()
		for l.at < len(l.src) && (digit(l.src[l.at]) || letter(l.src[l.at]) || strings.IndexByte("./-", l.src[l.at]) >= 0) {
			l.step()
		}
		t.kind, t.text = number, l.src[start:l.at]
	default:
		n := 1
		if strings.IndexByte("=!<>", c) >= 0 && l.at+1 < len(l.src) && l.src[l.at+1] == '=' {
			n = 2
		}
		if n == 1 && strings.IndexByte("<>(){};,:!", c) < 0 {
			return t, dialect.Fault{Pos: l.pos, Message: fmt.Sprintf("%q has no meaning in a message filter", l.src[l.at:l.at+1])}
		}
		for range n {
			l.step()
		}
		t.kind, t.text = mark, l.src[start:l.at]
	}
	return t, nil
}

// quoted reads a string. The filter parser takes one of two backslashes and those before
// quotes; the others are the expression's.
func (l *lexer) quoted(quote byte) (token, error) {
	t := token{kind: text, pos: l.pos}
	l.step()
	var b strings.Builder
	for l.at < len(l.src) && l.src[l.at] != quote {
		if l.src[l.at] == '\\' && l.at+1 < len(l.src) && strings.IndexByte(`\"'`, l.src[l.at+1]) >= 0 {
			l.step()
		}
		from := l.at
		l.step()
		b.WriteString(l.src[from:l.at])
	}
	if l.at >= len(l.src) {
		return t, dialect.Fault{Pos: t.pos, Message: "the string is not closed"}
	}
	l.step()
	t.text = b.String()
	return t, nil
}
