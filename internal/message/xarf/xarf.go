package xarf

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ErrNotXARF tells that a document is no report of this format.
var ErrNotXARF = errors.New("not an XARF report")

// ErrTooLarge tells that a document exceeds MaxSize.
var ErrTooLarge = errors.New("report too large")

// MaxSize bounds a document: a mail of 10 MB in base64, and what is said of it.
const MaxSize = 16 << 20

// maxEvidence bounds the pieces of evidence that are read (version 4: maxItems).
const maxEvidence = 50

// Report is a report of either version. Version 3's names are mapped onto version 4's,
// as its specification does.
type Report struct {
	Version        string // "3.0.0", "4.2.0"
	ID             string // report_id; "" in version 3
	Time           time.Time
	Reporter       Contact // whom the abuse has harmed
	Sender         Contact // who sends the report; the same in version 3
	Source         string  // source_identifier: an address or a name
	SourceIP       netip.Addr
	SourcePort     int
	Category       string // "messaging", ...
	Type           string // "spam", ...
	EvidenceSource string // "spamtrap", "user_complaint", ...
	Protocol       string
	MailFrom       string // smtp_from
	MailTo         string // smtp_to
	Subject        string
	MessageID      string
	Description    string
	Tags           []string
	Confidence     float64
	Evidence       []Evidence
}

// Contact is an organisation.
type Contact struct {
	Org     string `json:"org"`
	Contact string `json:"contact"`
	Domain  string `json:"domain"`
}

// Evidence is one piece of it, decoded.
type Evidence struct {
	ContentType string
	Description string
	Payload     []byte
	Hash        string // "sha256:...", as stated
}

// Mail reports a report about a message.
func (r *Report) Mail() bool { return r.Category == "messaging" }

// Message gives the evidence that is a message, or its header; nil where there is none.
func (r *Report) Message() *Evidence {
	for i := range r.Evidence {
		switch kind, _, _ := strings.Cut(r.Evidence[i].ContentType, ";"); strings.ToLower(strings.TrimSpace(kind)) {
		case "message/rfc822", "text/rfc822-headers", "message/global", "text/email", "message/rfc822-headers":
			return &r.Evidence[i]
		}
	}
	return nil
}

// Parse reads a document of version 3 or 4. What it does not know is passed over; the
// error is nil, ErrNotXARF or ErrTooLarge, possibly wrapped.
func Parse(doc []byte) (*Report, error) {
	if len(doc) > MaxSize {
		return nil, ErrTooLarge
	}
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotXARF, err)
	}
	switch {
	case d.V4.Version != "":
		return d.V4.report(), nil
	case d.V3.Report.Class != "" || d.V3.Report.Type != "" || d.V3.Version != "" && d.V3.Info.Org != "":
		return d.V3.report(), nil
	}
	return nil, ErrNotXARF
}

// document holds the names of both versions.
type document struct {
	V4 v4
	V3 v3
}

// UnmarshalJSON reads both sets of names.
func (d *document) UnmarshalJSON(b []byte) error {
	if err := lenient(b, &d.V4); err != nil {
		return fmt.Errorf("version 4: %w", err)
	}
	if d.V4.Version != "" {
		return nil
	}
	if err := lenient(b, &d.V3); err != nil {
		return fmt.Errorf("version 3: %w", err)
	}
	return nil
}

// lenient reads JSON and leaves out values of another type than the specification's.
func lenient(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var other *json.UnmarshalTypeError
	if errors.As(err, &other) {
		return nil
	}
	return err
}

type v4 struct {
	Version        string     `json:"xarf_version"`
	ID             string     `json:"report_id"`
	Time           string     `json:"timestamp"`
	Reporter       Contact    `json:"reporter"`
	Sender         Contact    `json:"sender"`
	Source         string     `json:"source_identifier"`
	Port           number     `json:"source_port"`
	Category       string     `json:"category"`
	Class          string     `json:"class"` // of 4.0
	Type           string     `json:"type"`
	EvidenceSource string     `json:"evidence_source"`
	Protocol       string     `json:"protocol"`
	From           string     `json:"smtp_from"`
	To             string     `json:"smtp_to"`
	Subject        string     `json:"subject"`
	MessageID      string     `json:"message_id"`
	Description    string     `json:"description"`
	Tags           []string   `json:"tags"`
	Confidence     float64    `json:"confidence"`
	Evidence       []evidence `json:"evidence"`
}

type evidence struct {
	ContentType string `json:"content_type"`
	Description string `json:"description"`
	Payload     string `json:"payload"`
	Hash        string `json:"hash"`
}

func (d *v4) report() *Report {
	r := &Report{Version: d.Version, ID: d.ID, Time: moment(d.Time), Reporter: d.Reporter, Sender: d.Sender, Source: d.Source, SourceIP: addr(d.Source), SourcePort: int(d.Port),
		Category: strings.ToLower(d.Category), Type: strings.ToLower(d.Type), EvidenceSource: d.EvidenceSource, Protocol: d.Protocol, MailFrom: d.From, MailTo: d.To,
		Subject: d.Subject, MessageID: strings.Trim(d.MessageID, "<> "), Description: d.Description, Tags: d.Tags, Confidence: d.Confidence}
	if r.Category == "" {
		r.Category = strings.ToLower(d.Class)
	}
	for _, e := range d.Evidence[:min(len(d.Evidence), maxEvidence)] {
		r.Evidence = append(r.Evidence, Evidence{e.ContentType, e.Description, payload(e.Payload), e.Hash})
	}
	return r
}

type v3 struct {
	Version string `json:"Version"`
	Info    struct {
		Org     string `json:"ReporterOrg"`
		Domain  string `json:"ReporterOrgDomain"`
		Email   string `json:"ReporterOrgEmail"`
		Contact string `json:"ReporterContactEmail"`
	} `json:"ReporterInfo"`
	Report struct {
		Class    string          `json:"ReportClass"`
		Type     string          `json:"ReportType"`
		Date     string          `json:"Date"`
		ID       string          `json:"ReportID"`
		Source   json.RawMessage `json:"Source"`
		SourceIP string          `json:"SourceIp"`
		Port     number          `json:"SourcePort"`
		From     string          `json:"SmtpMailFromAddress"`
		To       string          `json:"SmtpRcptToAddress"`
		Subject  string          `json:"SmtpMessageSubject"`
		Attached []v3Attachment  `json:"Attachment"`
		Samples  []v3Attachment  `json:"Samples"`
		More     v3More          `json:"AdditionalInfo"`
	} `json:"Report"`
}

type v3Attachment struct {
	ContentType string `json:"ContentType"`
	Description string `json:"Description"`
	Data        string `json:"Data"`
	Payload     string `json:"Payload"`
	Base64      *bool  `json:"Base64Encoded"`
}

type v3More struct {
	Protocol  string `json:"Protocol"`
	From      string `json:"SMTPFrom"`
	To        string `json:"SMTPTo"`
	Subject   string `json:"Subject"`
	MessageID string `json:"MessageID"`
	Method    string `json:"DetectionMethod"`
}

func (d *v3) report() *Report {
	p := &d.Report
	who := Contact{Org: d.Info.Org, Contact: first(d.Info.Contact, d.Info.Email), Domain: d.Info.Domain}
	r := &Report{Version: d.Version, ID: p.ID, Time: moment(p.Date), Reporter: who, Sender: who, Source: p.SourceIP, SourcePort: int(p.Port),
		Category: category(p.Class, p.Type), Type: strings.ToLower(p.Type), EvidenceSource: p.More.Method, Protocol: p.More.Protocol,
		MailFrom: first(p.From, p.More.From), MailTo: first(p.To, p.More.To), Subject: first(p.Subject, p.More.Subject), MessageID: strings.Trim(p.More.MessageID, "<> ")}
	var source struct {
		IP   string `json:"IP"`
		Port number `json:"Port"`
		URL  string `json:"URL"`
	}
	var name string
	switch {
	case json.Unmarshal(p.Source, &source) == nil:
		r.Source = first(r.Source, source.IP, source.URL)
		if source.Port != 0 {
			r.SourcePort = int(source.Port)
		}
	case json.Unmarshal(p.Source, &name) == nil:
		r.Source = first(r.Source, name)
	}
	r.SourceIP = addr(r.Source)
	all := append(p.Attached[:len(p.Attached):len(p.Attached)], p.Samples...)
	for _, a := range all[:min(len(all), maxEvidence)] {
		body := []byte(first(a.Data, a.Payload))
		if a.Base64 == nil || *a.Base64 {
			body = payload(string(body))
		}
		r.Evidence = append(r.Evidence, Evidence{ContentType: a.ContentType, Description: a.Description, Payload: body})
	}
	return r
}

// category maps version 3's classes onto version 4's categories.
func category(class, kind string) string {
	switch c := strings.ToLower(class); c {
	case "activity": // of the oldest documents
		if strings.EqualFold(kind, "spam") {
			return "messaging"
		}
		return "connection"
	case "network":
		return "connection"
	default:
		return c
	}
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func addr(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(s, "[] "))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// moment reads RFC 3339, with or without a zone; the zero time where it is something
// else.
func moment(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.RFC1123Z, time.RFC1123} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// payload decodes base64; what is none is taken as it stands.
func payload(s string) []byte {
	clean := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, s)
	if b, err := base64.StdEncoding.DecodeString(clean); err == nil {
		return b
	}
	if b, err := base64.RawStdEncoding.DecodeString(clean); err == nil {
		return b
	}
	return []byte(s)
}

// number reads a number that may stand in quotes.
type number int

// UnmarshalJSON implements json.Unmarshaler; what is no number is 0.
func (n *number) UnmarshalJSON(b []byte) error {
	v := 0
	if _, err := fmt.Sscanf(strings.Trim(string(b), `"`), "%d", &v); err == nil {
		*n = number(v)
	}
	return nil
}
