package message

import (
	"bytes"
	"html"
	"io"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"
)

// maxProse bounds the words of a report that are read.
const maxProse = 32 << 10

// words is what a report says to people, and what hangs on it of the mail it is about.
type words struct {
	text     string // UTF-8, line ends as they came
	original *Original
}

// readWords reads the text parts of a report, up to what it returns. Where a text comes
// in several forms the plain one counts. Of a mail that does not say what it is made
// of, whole takes all as one text: what looks like parts belongs to the mail that is
// returned in it.
func readWords(p *Part, whole bool) words {
	c := wordCollector{whole: whole && p.Header.Get("Content-Type") == ""}
	c.part(p)
	if strings.TrimSpace(c.plain.String()) == "" {
		return words{c.html.String(), c.original}
	}
	return words{c.plain.String(), c.original}
}

type wordCollector struct {
	plain, html strings.Builder
	original    *Original
	whole       bool
}

func (c *wordCollector) part(p *Part) {
	switch {
	case p.Depth == 0 && c.whole:
		c.plainPart(p)
	case strings.HasPrefix(p.Type, "multipart/"):
		for _, sub := range p.Parts() {
			c.part(sub)
		}
	case returned(p):
		if c.original == nil {
			c.original = readOriginal(p)
		}
	case p.Type == "text/html":
		if c.html.Len() < maxProse {
			c.html.WriteString(withoutTags(p.text(4 * maxProse)))
		}
	case p.Type == "text/plain" || p.Type == "text/enriched":
		c.plainPart(p)
	}
}

// plainPart takes a part of text, which may be what is returned: with a message's
// header in place of a part's, or as a file.
func (c *wordCollector) plainPart(p *Part) {
	if c.original == nil && p.Depth > 0 {
		if namesMessage(p.Header.Fields) {
			c.original = &Original{Header: p.Header.Fields, Body: bytes.Clone(p.Body[:min(len(p.Body), maxOriginal)]), Size: int64(len(p.Body))}
			return
		}
		if c.plain.Len() > 0 {
			if o := inlineOriginal(p.text(maxOriginal)); o != nil {
				c.original = o
				return
			}
		}
	}
	if c.plain.Len() < maxProse {
		if c.plain.Len() > 0 {
			c.plain.WriteByte('\n')
		}
		c.plain.WriteString(p.text(maxProse))
	}
}

// text gives a part's body in UTF-8, at most limit octets of it before conversion.
func (p *Part) text(limit int) string {
	b := p.Decoded()
	b = b[:min(len(b), limit)]
	charset := strings.ToLower(strings.TrimSpace(p.Params["charset"]))
	switch {
	case bytes.Contains(b, []byte("\x1b$")):
		charset = "iso-2022-jp" // whatever it is called
	case charset == "" || charset == "utf-8" || charset == "us-ascii" || charset == "ascii" || isASCII(string(b)):
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	e, err := htmlindex.Get(charset)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	out, err := io.ReadAll(io.LimitReader(transform.NewReader(bytes.NewReader(b), e.NewDecoder()), int64(4*limit)))
	if err != nil && len(out) == 0 {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(out)
}

// withoutTags gives the words of HTML, with line ends where blocks end. What a browser
// does not show is left out.
func withoutTags(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			b.WriteString(strings.Join(strings.Fields(s), " "))
			break
		}
		writeFolded(&b, s[:i])
		s = s[i:]
		if !isTag(s) {
			b.WriteByte('<')
			s = s[1:]
			continue
		}
		end := strings.IndexByte(s, '>')
		if end < 0 {
			break
		}
		tag := tagName(s[1:end])
		s = s[end+1:]
		switch tag {
		case "style", "script", "head", "title":
			s = behind(s, "</"+tag)
		case "br", "p", "/p", "div", "/div", "tr", "/tr", "li", "/li", "h1", "/h1", "h2", "/h2", "h3", "/h3", "table", "/table", "pre", "/pre", "blockquote":
			b.WriteByte('\n')
		case "td", "/td":
			b.WriteByte(' ')
		}
	}
	return html.UnescapeString(b.String())
}

// writeFolded writes text between tags, its line ends taken for blanks.
func writeFolded(b *strings.Builder, s string) {
	blank := false
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t', '\r', '\n':
			if !blank {
				b.WriteByte(' ')
			}
			blank = true
		default:
			b.WriteByte(s[i])
			blank = false
		}
	}
}

func isTag(s string) bool {
	return len(s) > 1 && (s[1] == '/' || s[1] == '!' || s[1]|0x20 >= 'a' && s[1]|0x20 <= 'z') && !strings.Contains(s[:min(len(s), 80)][:tagEnd(s)], "@")
}

// tagEnd gives where what may be a tag ends, so that "<a@b.example>" is none.
func tagEnd(s string) int {
	if i := strings.IndexByte(s[:min(len(s), 80)], '>'); i >= 0 {
		if j := strings.IndexAny(s[:i], " \t\n="); j >= 0 {
			return j
		}
		return i
	}
	return 0
}

func tagName(s string) string {
	if i := strings.IndexAny(s, " \t\r\n"); i >= 0 {
		s = s[:i]
	}
	return strings.ToLower(strings.TrimSuffix(s, "/"))
}

// behind gives what follows the tag that begins with mark; nothing where there is
// none.
func behind(s, mark string) string {
	for at := 0; at < len(s); {
		i := strings.IndexByte(s[at:], '<')
		if i < 0 {
			return ""
		}
		at += i
		if len(s)-at >= len(mark) && strings.EqualFold(s[at:at+len(mark)], mark) {
			if end := strings.IndexByte(s[at:], '>'); end >= 0 {
				return s[at+end+1:]
			}
			return ""
		}
		at++
	}
	return ""
}
