package message

import (
	"bytes"

	"postern.dev/postern/internal/message/xarf"
)

// readXARF reads a part that is a document of XARF; nil where it is none.
func readXARF(p *Part) *xarf.Report {
	switch p.Type {
	case "application/json", "application/xarf+json", "text/json":
	case "text/plain", "application/octet-stream":
		if p.Header.Get("X-XARF") == "" && p.Params["name"] != "xarf.json" {
			return nil
		}
	default:
		return nil
	}
	return parseXARF(p.Decoded())
}

// parseXARF reads a document that has the names of XARF in it.
func parseXARF(doc []byte) *xarf.Report {
	if !bytes.Contains(doc, []byte("xarf_version")) && !bytes.Contains(doc, []byte("ReporterInfo")) {
		return nil
	}
	x, err := xarf.Parse(doc)
	if err != nil {
		return nil
	}
	return x
}

// fromXARF makes a report of a document. Of one that is not about mail there is little
// more than its type and source.
func fromXARF(x *xarf.Report) *Report {
	r := &Report{Format: FormatXARF, Derived: map[string]string{}, FeedbackType: x.Type, Version: x.Version, MessageID: x.ID, SourceIP: x.SourceIP, Arrival: x.Time.UTC(),
		OriginalFrom: bare(x.MailFrom), ReportingMTA: x.Reporter.Domain}
	if x.Time.IsZero() {
		r.Arrival = x.Time
	}
	switch {
	case x.Category == "messaging" && (x.Type == "spam" || x.Type == "bulk_messaging"):
		r.FeedbackType = "abuse"
	case x.Type == "phishing" || x.Type == "fraud":
		r.FeedbackType = "fraud"
	}
	if to := bare(x.MailTo); to != "" {
		r.OriginalTo = []string{to}
	}
	if e := x.Message(); e != nil {
		o := inlineMessage(string(e.Payload[:min(len(e.Payload), maxOriginal)]))
		o.Size = int64(len(e.Payload))
		r.Original = o
	}
	for _, f := range []Field{{"Subject", x.Subject}, {"Message-ID", x.MessageID}} {
		if f.Value != "" {
			r.Fields = append(r.Fields, f)
		}
	}
	if r.Original == nil && len(r.Fields) > 0 {
		r.Original = &Original{HeaderOnly: true, Header: r.Fields}
	}
	return r
}
