package message

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/internal/message/xarf"
)

// ErrNotReport tells that a mail is neither a complaint nor a bounce in any shape
// that is known.
var ErrNotReport = errors.New("not a report")

// maxOriginal bounds what is kept of a returned body.
const maxOriginal = 64 << 10

// maxSearched bounds how many parts are opened in search of a report.
const maxSearched = 200

// ParseReport reads a complaint or a bounce in whatever shape it comes: ARF (RFC 5965)
// and its drafts, Microsoft's multipart/mixed, DSN (RFC 3464) with the types of RFC
// 6533, XARF, the JSON of Amazon SES, and bounces that are words alone, also where somebody
// has forwarded it as an attachment. Answers of people who are away and challenges of
// filters come with a Format of their own. Values that the report
// does not state are derived from the returned original; Derived tells from where. The
// error is nil or ErrNotReport.
func ParseReport(msg []byte) (*Report, error) {
	if r := bareDocument(msg); r != nil {
		return r, nil
	}
	root := Open(withoutMbox(msg), Limits{})
	s := find(root)
	r := s.read()
	if r == nil {
		s.outer = root
		if r = readFreeForm(root); r == nil {
			return nil, ErrNotReport
		}
	}
	h := s.outer.Header
	r.From, r.MessageID, r.Date, r.Header, r.Incidents = Address(h.Get("From")), trimID(h.Get("Message-ID")), Date(h.Get("Date")), h.Fields, max(r.Incidents, 1)
	if !r.Format.Answer() {
		r.derive(h.Get("Subject"))
	}
	return r, nil
}

// read reads a report by its parts; nil where it has none, or they tell nothing.
func (s *shape) read() *Report {
	if s.format == "" {
		return nil
	}
	r := &Report{Format: s.format, Derived: map[string]string{}}
	if s.original != nil {
		r.Original = readOriginal(s.original)
	}
	switch s.format {
	case FormatARF:
		r.readFeedback(s.reports)
		if r.Original == nil {
			r.findOriginal(s.outer)
		}
	case FormatDSN:
		r.readStatus(s.reports)
		r.supplement(s.outer)
	case FormatJMRP:
		r.FeedbackType = "abuse"
	case FormatXARF:
		return fromXARF(s.xarf)
	}
	return r
}

func trimID(s string) string { return strings.Trim(s, "<> \t") }

// shape is where the pieces of a report stand.
type shape struct {
	format   Format
	outer    *Part   // the message that is the report
	reports  []*Part // its machine-readable parts: one, as a rule
	original *Part   // what it returns
	xarf     *xarf.Report
}

// find looks for a report from the outside in, so that a report about a report is not
// taken for the inner one.
func find(root *Part) shape {
	type step struct{ part, outer *Part }
	queue := []step{{root, root}}
	for n := 0; n < len(queue) && n < maxSearched; n++ {
		p, outer := queue[n].part, queue[n].outer
		if x := readXARF(p); x != nil {
			return shape{format: FormatXARF, outer: outer, xarf: x}
		}
		if f := formatOf(p); f != "" {
			return shape{format: f, outer: outer, reports: []*Part{p}}
		}
		if s := among(p, outer); s.format != "" {
			return s
		}
		for _, sub := range p.Parts() {
			next := outer
			if strings.HasPrefix(p.Type, "message/") {
				next = sub
			}
			queue = append(queue, step{sub, next})
		}
	}
	return shape{}
}

// formatOf gives the format of a machine-readable part by its type.
func formatOf(p *Part) Format {
	switch p.Type {
	case "message/feedback-report":
		return FormatARF
	case "message/delivery-status", "message/global-delivery-status":
		return FormatDSN
	}
	return ""
}

// among looks for a report among the parts of a multipart.
func among(p, outer *Part) shape {
	if !strings.HasPrefix(p.Type, "multipart/") {
		return shape{}
	}
	s := shape{outer: outer}
	subs := p.Parts()
	for _, sub := range subs {
		if f := formatOf(sub); f != "" && (s.format == "" || s.format == f) {
			s.format, s.reports = f, append(s.reports, sub)
		}
	}
	declared := strings.ToLower(p.Params["report-type"])
	if s.reports == nil && p.Type == "multipart/report" {
		s.mislabelled(subs, declared)
	}
	for _, sub := range subs {
		if s.original == nil && returned(sub) {
			s.original = sub
		}
	}
	for i := 0; i < len(subs) && (s.format == "" || s.format == FormatARF); i++ {
		if x := readXARF(subs[i]); x != nil {
			return shape{format: FormatXARF, outer: outer, xarf: x}
		}
	}
	if s.format == "" && s.original != nil {
		switch {
		case declared == "feedback-report":
			s.format = FormatARF // its report part was lost on the way
		case jmrpSubject(outer.Header.Get("Subject")) && !headerOnly(s.original):
			s.format = FormatJMRP
		}
	}
	return s
}

// mislabelled finds the machine-readable part of a multipart/report by its first field
// where its type says something else.
func (s *shape) mislabelled(subs []*Part, declared string) {
	for _, sub := range subs {
		if sub.Type != "text/plain" && sub.Type != "application/octet-stream" {
			continue
		}
		fields, _ := ReadHeader(bytes.TrimLeft(sub.Body[:min(len(sub.Body), 4<<10)], "\r\n"))
		switch {
		case declared != "delivery-status" && Get(fields, "Feedback-Type") != "":
			s.format, s.reports = FormatARF, []*Part{sub}
			return
		case declared != "feedback-report" && Get(fields, "Reporting-MTA") != "":
			s.format, s.reports = FormatDSN, []*Part{sub}
			return
		}
	}
}

// returned reports a part that holds the original or its header.
func returned(p *Part) bool {
	switch p.Type {
	case "message/rfc822", "message/global", "message/news":
		return true
	}
	return headerOnly(p)
}

func headerOnly(p *Part) bool {
	switch p.Type {
	case "text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers", "message/global-headers":
		return true
	}
	return false
}

// readOriginal reads what was returned, as far as it goes.
func readOriginal(p *Part) *Original {
	b := withoutMbox(p.Decoded())
	o := &Original{HeaderOnly: headerOnly(p), Size: int64(len(b))}
	h, body, _ := ParseHeader(b, p.walk.limits)
	if more, rest := tornHeader(&h, body, p.walk.limits); more != nil {
		h.Fields, body = append(h.Fields, more...), rest
	}
	o.Header = h.Fields
	o.Body = bytes.Clone(body[:min(len(body), maxOriginal)])
	return o
}

// tornHeader gives the second half of a header in which somebody put an empty line:
// what names a message stands only behind it.
func tornHeader(h *Header, body []byte, l Limits) ([]Field, []byte) {
	if h.Get("Message-ID") != "" || h.Get("Date") != "" || len(h.Fields) == 0 {
		return nil, nil
	}
	more, rest, _ := ParseHeader(body, l)
	if len(more.Broken) > 0 || (more.Get("Message-ID") == "" && more.Get("Date") == "") {
		return nil, nil
	}
	return more.Fields, rest
}

// readFeedback reads the fields of ARF (RFC 5965, section 3). A block of MIME fields
// before them, as some gateways leave there, is passed over.
func (r *Report) readFeedback(parts []*Part) {
	if len(parts) == 0 {
		return
	}
	body := bytes.TrimLeft(parts[0].Decoded(), "\r\n")
	fields, rest := ReadHeader(body)
	if Get(fields, "Feedback-Type") == "" && Get(fields, "User-Agent") == "" {
		if more, _ := ReadHeader(bytes.TrimLeft(rest, "\r\n")); len(more) > 0 {
			fields = append(fields, more...)
		}
	}
	if h := &parts[0].Header; h.Get("Feedback-Type") != "" {
		fields = append(fields, h.Fields...) // the empty line behind the part's header is missing
	}
	r.Fields = fields
	for i := range fields {
		r.feedbackField(strings.ToLower(fields[i].Name), fields[i].Value)
	}
}

// feedbackField takes one field of ARF. Of those that may stand once the first counts.
func (r *Report) feedbackField(name, value string) {
	once := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	switch name {
	case "feedback-type":
		once(&r.FeedbackType, strings.ToLower(value))
	case "user-agent":
		once(&r.UserAgent, value)
	case "version":
		once(&r.Version, value)
	case "source-ip":
		if !r.SourceIP.IsValid() {
			r.SourceIP = sourceIP(value)
		}
	case "arrival-date", "received-date":
		if r.Arrival.IsZero() {
			r.Arrival = Date(value)
		}
	case "original-mail-from":
		once(&r.OriginalFrom, bare(value))
	case "original-envelope-id":
		once(&r.OriginalEnv, value)
	case "reporting-mta":
		once(&r.ReportingMTA, afterType(value))
	case "incidents":
		if n, err := strconv.Atoi(value); err == nil && n > 0 {
			r.Incidents = n
		}
	default:
		r.repeatedField(name, value)
	}
}

// repeatedField takes one field of ARF of those that may stand more than once.
func (r *Report) repeatedField(name, value string) {
	switch name {
	case "original-rcpt-to":
		if v := bare(value); v != "" && len(r.OriginalTo) < maxAddresses {
			r.OriginalTo = append(r.OriginalTo, v)
		}
	case "reported-domain":
		r.Reported = append(r.Reported, strings.ToLower(value))
	case "reported-uri":
		if len(r.ReportedURI) < maxAddresses {
			r.ReportedURI = append(r.ReportedURI, value)
		}
	case "authentication-results":
		r.AuthResults = append(r.AuthResults, value)
	default:
		r.authField(name, value)
	}
}

// sourceIP reads an address with whatever stands behind it.
func sourceIP(value string) netip.Addr {
	word, _, _ := strings.Cut(strings.TrimSpace(value), " ")
	return address(word)
}

// afterType takes the type off a value of the form "dns; name" (RFC 3464, section
// 2.1.2).
func afterType(s string) string {
	if t, v, ok := strings.Cut(s, ";"); ok && !strings.ContainsAny(strings.TrimSpace(t), "@<> \"") {
		return strings.TrimSpace(v)
	}
	return strings.TrimSpace(s)
}
