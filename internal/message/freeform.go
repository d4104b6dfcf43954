package message

import (
	"bytes"
	"slices"
	"strings"

	"postern.dev/postern/internal/message/xarf"
)

// readFreeForm reads a mail that is no report by its parts and may be one by its words:
// a bounce of qmail, Exim, Exchange, Notes and many others, an answer of somebody who is
// away, a filter's challenge. It reads forms, not products: addresses at the beginning
// of lines and behind labels, the words of SMTP, the mail that is returned below. nil
// where it is none of these.
func readFreeForm(root *Part) *Report {
	if r := readOptOut(root); r != nil {
		return r
	}
	w := readWords(root, true)
	if len(w.text) >= maxProse && jsonIn(w.text) != "" && !strings.HasPrefix(root.Type, "multipart/") {
		w.text = root.text(xarf.MaxSize)
	}
	if r := readDocument(w.text); r != nil {
		return r
	}
	w.text = unquoted(w.text)
	if r := readFields(w.text, &root.Header); r != nil {
		return r
	}
	text, inline := cutOriginal(w.text)
	if inline != nil {
		w.original = inline
	}
	r := &Report{Original: w.original, Derived: map[string]string{}}
	switch kindOf(&root.Header, w, text) {
	case maybeBounce:
		r.Format = FormatBounce
		b := readProse(text, &root.Header, w.original)
		if len(b.recipients) == 0 && len(w.text) > len(text) {
			b = readProse(w.text, &root.Header, w.original) // what looked like a header was none
		}
		if len(b.recipients) == 0 {
			return nil
		}
		r.take(b)
	case autoReply:
		r.Format = FormatAutoReply
		r.answers(root)
	case challenge:
		r.Format = FormatChallenge
		r.answers(root)
	default:
		return nil
	}
	return r
}

// readOptOut reads the mail that Apple's mail program sends for somebody who wants no more
// of a list, with a field of its own; nil where it is none.
func readOptOut(root *Part) *Report {
	if !strings.EqualFold(firstWord(root.Header.Get("X-Apple-Unsubscribe")), "true") {
		return nil
	}
	r := &Report{Format: FormatComplaint, FeedbackType: "opt-out", Derived: map[string]string{DerivedFeedbackType: "x-apple-unsubscribe"}, Arrival: Date(root.Header.Get("Date"))}
	r.answers(root)
	return r
}

// bareDocument reads a report in JSON that has no mail around it.
func bareDocument(doc []byte) *Report {
	doc = bytes.TrimLeft(doc, " \t\r\n")
	if len(doc) == 0 || doc[0] != '{' || len(doc) > xarf.MaxSize {
		return nil
	}
	r := readDocument(string(doc))
	if r != nil {
		r.Incidents = max(r.Incidents, 1)
		r.derive("")
	}
	return r
}

// readDocument reads a report that is a document, or labels and values; nil where the
// text is none.
func readDocument(text string) *Report {
	if doc := jsonIn(text); doc != "" {
		if x := parseXARF([]byte(doc)); x != nil {
			return fromXARF(x)
		}
		if r := readSES(doc); r != nil {
			return r
		}
	}
	return readFailureWords(text)
}

// answers names who answers: the recipient of the mail that is answered, as a rule.
func (r *Report) answers(root *Part) {
	if a := Address(root.Header.Get("From")); a != "" {
		r.OriginalTo, r.Derived[DerivedOriginalTo] = []string{a}, "from"
	}
}

// prose is a bounce's text taken apart.
type prose struct {
	lines      []string
	mentions   []mention
	recipients []told
	delayed    bool
	from       string // where the recipients were found, for Derived
}

// told is what the text tells of one recipient.
type told struct {
	address, original string
	line              int // that names it; -1 where none does
	reason            string
	far               bool // the reason stands in another section of the text
}

// maxLines bounds the lines of prose that are read.
const maxLines = 600

func readProse(text string, h *Header, original *Original) *prose {
	p := &prose{}
	for line := range strings.Lines(text) {
		if len(p.lines) >= maxLines {
			break
		}
		p.lines = append(p.lines, strings.TrimRight(line, " \t\r\n"))
	}
	p.mentions = make([]mention, len(p.lines))
	for i, line := range p.lines {
		p.mentions[i] = mentioned(line)
	}
	set := heard(text) | heard(h.Get("Subject"))
	p.delayed = set&saidDelayed != 0 && set&saidForGood == 0 && replyAt(text) < 0 || heard(h.Get("Subject"))&saidDelayed != 0 && set&saidForGood == 0
	p.find(h, original)
	p.reasons()
	return p
}

// find settles who the recipients are: those that the mailer lists in a field of its
// own, those of the surest kind of mention, and last whom the returned mail is for.
func (p *prose) find(h *Header, original *Original) {
	failed := Addresses(strings.Join(h.All("X-Failed-Recipients"), ","))
	for _, how := range []naming{namesLine, namesDialog, namesWord} {
		p.collect(how, h)
		if len(failed) > 0 {
			p.recipients = slices.DeleteFunc(p.recipients, func(t told) bool {
				return !slices.ContainsFunc(failed, func(f string) bool { return strings.EqualFold(f, t.address) })
			})
		}
		if len(p.recipients) > 0 {
			p.from = "text"
			break
		}
	}
	for _, f := range failed {
		if !slices.ContainsFunc(p.recipients, func(t told) bool { return strings.EqualFold(t.address, f) }) {
			p.recipients = append(p.recipients, told{address: f, line: -1})
			p.from = "x-failed-recipients"
		}
	}
	if len(p.recipients) == 0 && original != nil {
		r := Report{Original: original, Derived: map[string]string{}}
		r.deriveTo(r.hops())
		for _, a := range r.OriginalTo {
			p.recipients = append(p.recipients, told{address: a, line: -1})
			p.from = r.Derived[DerivedOriginalTo]
		}
	}
}

// collect takes the mentions of one kind, without who wrote the bounce and, where there
// are others, who gets it.
func (p *prose) collect(how naming, h *Header) {
	reporter, author := Address(h.Get("From")), Address(h.Get("To"))
	var own []told
	add := func(t told) {
		switch {
		case strings.EqualFold(t.address, reporter):
		case strings.EqualFold(t.address, author):
			own = append(own, t)
		default:
			p.add(t)
		}
	}
	for i := range p.mentions {
		m := &p.mentions[i]
		if m.how != how {
			continue
		}
		if n := len(p.recipients); m.original && n > 0 && i-p.recipients[n-1].line < 4 {
			p.recipients[n-1].original = m.address
			m.how = namesNone
			continue
		}
		add(told{address: m.address, line: i})
		for _, more := range m.more {
			add(told{address: more, line: i})
		}
		if how == namesWord && len(p.recipients) > 0 {
			return // the first sentence says it
		}
	}
	if len(p.recipients) == 0 && how == namesLine {
		for _, t := range own {
			p.add(t)
		}
	}
}

// maxTold bounds the recipients that prose names.
const maxTold = 1000

func (p *prose) add(t told) {
	for i := range p.recipients {
		if strings.EqualFold(p.recipients[i].address, t.address) {
			return
		}
	}
	if len(p.recipients) < maxTold {
		p.recipients = append(p.recipients, t)
	}
}

// take puts what prose tells into a report.
func (r *Report) take(p *prose) {
	for _, t := range p.recipients {
		d := DSNRecipient{Final: t.address, Original: t.original, Action: "failed", Diagnostic: t.reason}
		if p.delayed {
			d.Action = "delayed"
		}
		d.Status = statusOf(t.reason, d.Action)
		r.Recipients = append(r.Recipients, d)
		if t.original != "" {
			r.OriginalTo = append(r.OriginalTo, t.original)
		} else {
			r.OriginalTo = append(r.OriginalTo, t.address)
		}
	}
	r.Derived[DerivedRecipient] = p.from
	r.Derived[DerivedStatus], r.Derived[DerivedAction], r.Derived[DerivedDiagnostic] = "text", "text", "text"
}

// statusOf makes a status code of what is said: the one that stands there, else the
// class of the reply, else of what became of the mail. Mail that was tried for too long
// without a reply has met a persistent transient failure (RFC 3463, section 3.5, x.4.7).
func statusOf(reason, action string) string {
	if s := statusIn(reason); s != "" && s[0] != '2' {
		s, _ = refine(s, reason)
		return s
	}
	if i := replyAt(reason); i >= 0 {
		return reason[i:i+1] + ".0.0"
	}
	low := strings.ToLower(reason)
	switch {
	case strings.Contains(low, "retry time"), strings.Contains(low, "have been failing for a long time"):
		return "4.4.7"
	case action == "delayed":
		return "4.0.0"
	}
	return "5.0.0"
}
