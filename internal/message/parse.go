package message

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// ErrNotReport tells that a mail is neither a complaint nor a bounce in any shape
// that is known.
var ErrNotReport = errors.New("not a report")

// maxOriginal bounds what is kept of a returned body.
const maxOriginal = 64 << 10

// ParseReport reads a complaint or a bounce in whatever shape it comes. Values that
// the report does not state are derived from the returned original; Derived tells
// from where.
func ParseReport(msg []byte) (*Report, error) {
	top, _ := ReadHeader(msg)
	r := &Report{From: Address(Get(top, "From")), MessageID: trimID(Get(top, "Message-ID")), Date: Date(Get(top, "Date")), Incidents: 1, Derived: map[string]string{}}
	s := &shape{report: r}
	Walk(msg, s.part)
	kind, _ := mediaType(Get(top, "Content-Type"))
	switch {
	case r.Format != "":
	case s.messages > 0 && kind != "message/rfc822" && jmrpSubject.MatchString(Get(top, "Subject")):
		r.Format = FormatJMRP
		r.FeedbackType = "abuse"
	default:
		return nil, ErrNotReport
	}
	r.derive(Get(top, "Subject"))
	return r, nil
}

// jmrpSubject is how Microsoft's older complaints tell the address.
var jmrpSubject = regexp.MustCompile(`(?i)complaint about message(?:s)? from\s+\[?([0-9a-f.:]+)`)

// shape gathers what the parts show.
type shape struct {
	report   *Report
	messages int
}

func (s *shape) part(p *Part) bool {
	switch p.Type {
	case "message/feedback-report":
		s.report.Format = FormatARF
		s.report.Fields, _ = ReadHeader(p.Body)
		s.report.feedback()
	case "message/delivery-status", "message/global-delivery-status":
		if s.report.Format == "" {
			s.report.Format = FormatDSN
			s.report.status(p.Body)
		}
	case "message/rfc822", "message/global":
		s.messages++
		s.original(p.Body, false)
	case "text/rfc822-headers", "message/rfc822-headers", "message/global-headers":
		s.original(p.Body, true)
	}
	return true
}

func (s *shape) original(b []byte, headerOnly bool) {
	if s.report.Original != nil || len(strings.TrimSpace(string(b[:min(len(b), 64)]))) == 0 {
		return
	}
	o := &Original{HeaderOnly: headerOnly, Size: int64(len(b))}
	b = []byte(strings.TrimLeft(string(b), "\r\n"))
	var body []byte
	o.Header, body = ReadHeader(b)
	o.Body = body[:min(len(body), maxOriginal)]
	s.report.Original = o
}

// feedback reads the fields of ARF (RFC 5965, section 3).
func (r *Report) feedback() {
	get := func(name string) string { return Get(r.Fields, name) }
	r.FeedbackType = strings.ToLower(get("Feedback-Type"))
	r.UserAgent, r.Version = get("User-Agent"), get("Version")
	for _, name := range []string{"Source-IP", "Source"} {
		if a, err := netip.ParseAddr(strings.Trim(get(name), "[] ")); err == nil && !r.SourceIP.IsValid() {
			r.SourceIP = a.Unmap()
		}
	}
	for _, name := range []string{"Arrival-Date", "Received-Date"} {
		if r.Arrival.IsZero() {
			r.Arrival = Date(get(name))
		}
	}
	r.OriginalFrom = strings.Trim(get("Original-Mail-From"), "<> ")
	for _, v := range All(r.Fields, "Original-Rcpt-To") {
		r.OriginalTo = append(r.OriginalTo, strings.Trim(v, "<> "))
	}
	r.OriginalEnv = get("Original-Envelope-Id")
	r.ReportingMTA = afterType(get("Reporting-MTA"))
	r.Reported = All(r.Fields, "Reported-Domain")
	r.AuthResults = All(r.Fields, "Authentication-Results")
	if n, err := strconv.Atoi(get("Incidents")); err == nil && n > 0 {
		r.Incidents = n
	}
}

// afterType takes the "dns;" or "rfc822;" off a DSN's value.
func afterType(s string) string {
	if t, v, ok := strings.Cut(s, ";"); ok && !strings.ContainsAny(t, "@ ") {
		return strings.TrimSpace(v)
	}
	return strings.TrimSpace(s)
}

// status reads a message/delivery-status part: groups of fields, the first for the
// message (RFC 3464, section 2.1). Some mailers leave out the empty line between.
func (r *Report) status(body []byte) {
	var group []Field
	first := true
	flush := func() {
		if len(group) == 0 {
			return
		}
		if first && Get(group, "Final-Recipient") == "" && Get(group, "Original-Recipient") == "" {
			r.ReportingMTA = afterType(Get(group, "Reporting-MTA"))
			r.OriginalEnv = Get(group, "Original-Envelope-Id")
			r.Arrival = Date(Get(group, "Arrival-Date"))
		} else {
			r.recipient(group)
		}
		r.Fields = append(r.Fields, group...)
		group, first = nil, false
	}
	for len(body) > 0 {
		var fields []Field
		before := len(body)
		fields, body = ReadHeader(body)
		for _, f := range fields {
			if strings.EqualFold(f.Name, "Final-Recipient") && Get(group, "Final-Recipient") != "" {
				flush()
			}
			group = append(group, f)
		}
		flush()
		if len(body) == before {
			_, body = cutLine(body)
		}
	}
}

func (r *Report) recipient(g []Field) {
	if r.ReportingMTA == "" {
		r.ReportingMTA = afterType(Get(g, "Reporting-MTA"))
	}
	d := DSNRecipient{
		Original: afterType(Get(g, "Original-Recipient")), Final: afterType(Get(g, "Final-Recipient")),
		Action: strings.ToLower(Get(g, "Action")), RemoteMTA: afterType(Get(g, "Remote-MTA")), Diagnostic: afterType(Get(g, "Diagnostic-Code")),
	}
	d.Status, _, _ = strings.Cut(Get(g, "Status"), " ")
	if d.Final == "" && d.Original == "" {
		return
	}
	r.Recipients = append(r.Recipients, d)
	if d.Original != "" {
		r.OriginalTo = append(r.OriginalTo, d.Original)
	} else {
		r.OriginalTo = append(r.OriginalTo, d.Final)
	}
}

// derive fills in what the original shows.
func (r *Report) derive(subject string) {
	if m := jmrpSubject.FindStringSubmatch(subject); m != nil && !r.SourceIP.IsValid() {
		if a, err := netip.ParseAddr(m[1]); err == nil {
			r.SourceIP, r.Derived["source-ip"] = a.Unmap(), "subject"
		}
	}
	if r.Original == nil {
		return
	}
	h := r.Original.Header
	if r.OriginalFrom == "" {
		if v := Get(h, "Return-Path"); v != "" {
			r.OriginalFrom, r.Derived["original-mail-from"] = strings.Trim(v, "<> "), "return-path"
		}
	}
	if len(r.OriginalTo) == 0 {
		for _, name := range []string{"X-HmXmrOriginalRecipient", "Delivered-To", "X-Original-To", "To"} {
			if v := Get(h, name); v != "" {
				r.OriginalTo, r.Derived["original-rcpt-to"] = []string{Address(v)}, strings.ToLower(name)
				break
			}
		}
	}
	if trace := All(h, "Received"); len(trace) > 0 {
		top := ParseReceived(trace[0])
		if r.Arrival.IsZero() && !top.Date.IsZero() {
			r.Arrival, r.Derived["arrival-date"] = top.Date, "received"
		}
		if !r.SourceIP.IsValid() && top.FromAddr.IsValid() {
			r.SourceIP, r.Derived["source-ip"] = top.FromAddr, "received"
		}
	}
	if r.Arrival.IsZero() {
		if t := Date(Get(h, "Date")); !t.IsZero() {
			r.Arrival, r.Derived["arrival-date"] = t, "date"
		}
	}
}

func trimID(s string) string { return strings.Trim(s, "<> ") }

// Identity names a report, so that one that comes twice is counted once: its own
// Message-ID with its sender, else what it says of the mail it is about.
func (r *Report) Identity() string {
	h := sha256.New()
	write := func(ss ...string) {
		for _, s := range ss {
			h.Write([]byte(s))
			h.Write([]byte{0})
		}
	}
	_, domain, _ := strings.Cut(r.From, "@")
	write(string(r.Format), strings.ToLower(domain))
	if r.MessageID != "" {
		write("id", r.MessageID)
	} else {
		write("about", r.SourceIP.String(), r.Arrival.String(), r.OriginalFrom, strings.Join(r.OriginalTo, ","))
		if r.Original != nil {
			write(Get(r.Original.Header, "Message-ID"), Get(r.Original.Header, "Date"), Get(r.Original.Header, "Subject"))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
