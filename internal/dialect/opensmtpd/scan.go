// Package opensmtpd reads OpenSMTPD's smtpd.conf (6.8) into a dialect.Model.
package opensmtpd

import (
	"strings"

	"postern.dev/postern/internal/policy"
)

// word is a token of smtpd.conf. A newline ends a statement and is no word.
type word struct {
	text   string
	quoted bool
	pos    policy.Pos
}

func (w word) is(s string) bool { return !w.quoted && w.text == s }

// scan splits a file into statements, with its macros replaced.
func scan(file, text string, macros map[string]string) [][]word {
	var out [][]word
	var cur []word
	line, depth, start := 1, 0, 0
	flush := func() {
		if len(cur) > 2 && cur[1].is("=") {
			macros[cur[0].text] = cur[2].text
		} else if len(cur) > 0 {
			out = append(out, cur)
		}
		cur = nil
	}
	for i := 0; i < len(text); {
		pos := policy.Pos{File: file, Line: line, Column: i - start + 1}
		switch c := text[i]; {
		case c == '\n':
			line, i, start = line+1, i+1, i+1
			if depth == 0 {
				flush()
			}
		case c == '\\' && i+1 < len(text) && text[i+1] == '\n':
			line, i, start = line+1, i+2, i+2
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '"':
			end := i + 1
			for end < len(text) && text[end] != '"' && text[end] != '\n' {
				end++
			}
			cur = append(cur, word{text[i+1 : end], true, pos})
			i = min(end+1, len(text))
		case strings.IndexByte("{}=!,", c) >= 0:
			depth = max(0, depth+strings.Count("{", string(c))-strings.Count("}", string(c)))
			cur, i = append(cur, word{string(c), false, pos}), i+1
		case c == ' ' || c == '\t' || c == '\r':
			i++
		default:
			end := i + 1
			for end < len(text) && strings.IndexByte(" \t\r\n\"{}=!,#", text[end]) < 0 {
				end++
			}
			w := word{text[i:end], false, pos}
			if v, is := macros[strings.TrimPrefix(w.text, "$")]; is && w.text[0] == '$' {
				w.text, w.quoted = v, true
			}
			cur, i = append(cur, w), end
		}
	}
	flush()
	return out
}
