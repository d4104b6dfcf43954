package message

import (
	"slices"
	"strings"
)

// maxReason bounds a reason, which stands for a receiver's reply.
const maxReason = 1000

// reasons finds why each recipient did not get the mail.
func (p *prose) reasons() {
	session := p.transcript()
	for i := range p.recipients {
		t := &p.recipients[i]
		if t.line >= 0 && p.mentions[t.line].how == namesDialog {
			t.reason = p.answer(t, session)
		} else {
			t.reason = p.block(i)
		}
		if replyAt(t.reason) >= 0 && !(t.far && session.exact(t.address) != "") {
			continue
		}
		if said := session.of(t.address); said != "" {
			t.reason = said
			continue
		}
		if len(p.recipients) > 1 && statusIn(t.reason) != "" {
			continue
		}
		t.reason = p.better(t.reason, p.near(t.line))
	}
	p.share()
}

// answer gives what was said of a recipient whom a session's own words name.
func (p *prose) answer(t *told, s session) string {
	if said := s.of(t.address); said != "" {
		return said
	}
	if own := p.mentions[t.line].rest; replyAt(own) >= 0 {
		return p.onwards(own[replyAt(own):], t.line)
	}
	return ""
}

// share gives recipients that are listed together the reason that stands behind the
// list.
func (p *prose) share() {
	for i := len(p.recipients) - 2; i >= 0; i-- {
		t, next := &p.recipients[i], &p.recipients[i+1]
		if t.reason == "" {
			t.reason = next.reason
		}
	}
}

// block gives the words that belong to a recipient by their place: what stands behind
// it in its line, then the lines below it, up to the next recipient.
func (p *prose) block(i int) string {
	t := &p.recipients[i]
	if t.line < 0 {
		return ""
	}
	own := p.mentions[t.line].rest
	if at := replyAt(own); at >= 0 {
		return p.onwards(own[at:], t.line)
	}
	end := len(p.lines)
	for k := i + 1; k < len(p.recipients); k++ {
		if p.recipients[k].line > t.line {
			end = p.recipients[k].line
			break
		}
	}
	var below string
	if p.near(t.line) {
		below, _ = p.paragraph(t.line+1, end)
	} else {
		below, t.far = p.below(t.line+1, end)
	}
	if at := replyAt(below); at >= 0 {
		return clip(below[at:])
	}
	if p.mentions[t.line].above && t.line > 0 {
		own = strings.TrimSpace(p.lines[t.line-1])
		return clip(own + " " + below)
	}
	if says(own) && p.mentions[t.line].how != namesWord {
		return clip(own)
	}
	return clip(strings.TrimSpace(own + " " + below))
}

// onwards adds the lines that continue a reply to it: indented more, or the further
// lines of one of several lines.
func (p *prose) onwards(reply string, line int) string {
	for k := line + 1; k < len(p.lines) && k < line+8; k++ {
		next := p.lines[k]
		if strings.TrimSpace(next) == "" || next[0] != ' ' && next[0] != '\t' || p.mentions[k].how == namesLine {
			break
		}
		reply += " " + strings.TrimSpace(next)
	}
	return clip(reply)
}

// below joins the paragraph that says why: the first with a reply in it, else the first
// with words of failure, else the first. far tells that it stands in another section.
func (p *prose) below(from, to int) (text string, far bool) {
	first, failing, start := "", "", from
	for n := 0; from < to && n < 6; n++ {
		text, from = p.paragraph(from, to)
		switch {
		case text == "":
			continue
		case replyAt(text) >= 0:
			return text, slices.ContainsFunc(p.lines[start:min(from, to)], func(line string) bool { return ruled(strings.TrimSpace(line)) })
		case failing == "" && says(text):
			failing = text
		case first == "":
			first = text
		}
	}
	if failing != "" {
		return failing, false
	}
	return first, false
}

// paragraph joins lines up to an empty one or a line of marks.
func (p *prose) paragraph(from, to int) (text string, next int) {
	var b strings.Builder
	for ; from < to; from++ {
		line := strings.TrimSpace(p.lines[from])
		if line == "" || ruled(line) {
			if b.Len() > 0 {
				return b.String(), from + 1
			}
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(line)
		if b.Len() > 2*maxReason {
			break
		}
	}
	return b.String(), from + 1
}

// ruled reports a line that parts sections.
func ruled(line string) bool {
	for _, mark := range []string{"---", "===", "***", "___", "+++", "###", "~~~"} {
		if strings.HasPrefix(line, mark) {
			return true
		}
	}
	return false
}

// says reports words that tell of a failure.
func says(text string) bool {
	low := strings.ToLower(text)
	for _, w := range []string{"unknown", "not found", "reject", "no such", "not exist", "full", "quota", "invalid", "denied", "refused", "timed out", "timeout", "unable", "fail", "error", "not listed", "exceed", "expired", "disabled", "blocked", "unrout", "deferred", "too large", "too big", "spam", "virus", "not accept", "loop", "hop count", "could not", "cannot", "can't", "doesn't", "does not", "not recognized", "not our customer", "no mailbox", "suspend", "relay", "over ", "inactive", "unavailable", "policy"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	return false
}

// better looks beyond a recipient's own lines for a reason: a reply anywhere in the
// text, else a line with a status code, else the own words, else the first paragraph
// that tells of a failure without naming the mail.
func (p *prose) better(own string, near bool) string {
	for k, line := range p.lines {
		if p.mentions[k].how == namesLine && p.mentions[k].rest == "" {
			continue
		}
		if at := replyAt(line); at >= 0 && !preamble(line) {
			return p.onwards(line[at:], k)
		}
	}
	if own != "" && (near || says(own) || statusIn(own) != "") {
		return own
	}
	for k, line := range p.lines {
		if statusIn(line) != "" && statusIn(line)[0] != '2' {
			return p.onwards(strings.TrimSpace(line), k)
		}
	}
	if text := p.failing(); text != "" || own != "" {
		return clip(own + " " + text)
	}
	return p.opening()
}

// near reports a recipient whose next line stands directly below it, indented more: it
// is about nobody else.
func (p *prose) near(line int) bool {
	return line >= 0 && line+1 < len(p.lines) && indent(p.lines[line+1]) > indent(p.lines[line])
}

// indent counts the white space before a line's words; -1 where it has none.
func indent(line string) int {
	if t := strings.TrimLeft(line, " \t"); t != "" {
		return len(line) - len(t)
	}
	return -1
}

// opening gives the first words of a text in which nothing else was found: they may be
// in another language.
func (p *prose) opening() string {
	var b strings.Builder
	for _, line := range p.lines {
		line = strings.TrimSpace(line)
		if line == "" || ruled(line) || b.Len() >= maxReason || introduction(line) || strings.IndexByte(line, '@') >= 0 && mentioned(line).how == namesLine {
			continue
		}
		b.WriteString(line)
		b.WriteByte(' ')
	}
	return clip(b.String())
}

// preamble reports lines in which three digits are no reply.
func preamble(line string) bool {
	low := strings.ToLower(line)
	for _, w := range []string{"date:", "message-id", "received", "version", "contact", "phone", "tel", "size"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	return false
}

// failing gives the paragraphs that tell of a failure.
func (p *prose) failing() string {
	var b strings.Builder
	for from := 0; from < len(p.lines) && b.Len() < maxReason; {
		var text string
		text, from = p.paragraph(from, len(p.lines))
		if says(text) && !introduction(text) {
			b.WriteString(text)
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// introduction reports a paragraph that says that there is something to tell, and not
// what.
func introduction(text string) bool {
	low := strings.ToLower(text)
	return strings.HasSuffix(text, ":") || strings.Contains(low, "message that you sent could not be delivered") || strings.Contains(low, "automatically") ||
		(strings.Contains(low, "following recipient") || strings.Contains(low, "following address")) && !strings.Contains(low, "because")
}

func clip(s string) string {
	s = strings.TrimSpace(s)
	if n := len(s); n > 0 && (s[n-1] == ')' && strings.IndexByte(s, '(') < 0 || s[n-1] == ']' && strings.IndexByte(s, '[') < 0) {
		s = s[:n-1] // a reply was taken out of the middle of a bracket
	}
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "")
}

// session is the part of a transcript of SMTP that concerns recipients.
type session struct {
	replies []sessionReply
	last    string // the last refusal of a peer, of whatever command
}

type sessionReply struct{ address, text string }

// transcript reads the dialog of a session, as sendmail and others quote it.
func (p *prose) transcript() session {
	var s session
	asked := ""
	for k, line := range p.lines {
		t := strings.TrimSpace(line)
		low := strings.ToLower(t)
		if i := strings.Index(low, "rcpt to:"); i >= 0 && replyAt(t) < 0 {
			if a, _, _ := addressAt(strings.TrimLeft(t[i+8:], " ")); a != "" {
				asked = a
			}
			continue
		}
		command := strings.HasPrefix(t, ">>>")
		if command && replyAt(t[:min(len(t), 12)]) < 0 {
			asked = "" // another command
			continue
		}
		at := replyAt(t)
		if at < 0 || at > 12 && !strings.Contains(t[:at], "<<<") && !strings.Contains(t[:at], ">>>") {
			continue
		}
		text := p.onwards(t[at:], k)
		peer := strings.Contains(t[:at], "<<<") || strings.Contains(t[:at], ">>>")
		named := mentionedIn(text)
		switch {
		case peer && asked != "":
			s.replies = append(s.replies, sessionReply{asked, text})
		case named != "" && !(s.last != "" && !peer):
			s.replies = append(s.replies, sessionReply{named, text})
		}
		if peer {
			s.last = text
		}
	}
	return s
}

// mentionedIn gives the address in brackets at the beginning of a reply: "550 <a@b>...".
func mentionedIn(text string) string {
	i := strings.IndexByte(text[:min(len(text), 40)], '<')
	if i < 0 {
		return ""
	}
	a, _, _ := addressAt(text[i:])
	return a
}

// of gives what the peer said of a recipient, else its last refusal.
func (s session) of(address string) string {
	if said := s.exact(address); said != "" {
		return said
	}
	return s.last
}

// exact gives what the peer said of a recipient.
func (s session) exact(address string) string {
	for _, r := range s.replies {
		if strings.EqualFold(r.address, address) {
			return r.text
		}
	}
	return ""
}
