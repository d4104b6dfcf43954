package message

import (
	"encoding/json"
	"strings"
)

// sesNotice is what Amazon SES tells of a bounce or a complaint, as SNS or a
// configuration set's events hand it on (docs.aws.amazon.com: Amazon SNS notification
// contents for Amazon SES).
type sesNotice struct {
	Type    string `json:"Type"` // of the envelope of SNS
	Message string `json:"Message"`

	Notification string `json:"notificationType"`
	Event        string `json:"eventType"`
	Bounce       *struct {
		Type         string         `json:"bounceType"`
		Recipients   []sesRecipient `json:"bouncedRecipients"`
		Feedback     string         `json:"feedbackId"`
		ReportingMTA string         `json:"reportingMTA"`
		RemoteMTA    string         `json:"remoteMtaIp"`
	} `json:"bounce"`
	Complaint *struct {
		Recipients []sesRecipient `json:"complainedRecipients"`
		ID         string         `json:"feedbackId"`
		Feedback   string         `json:"complaintFeedbackType"`
		UserAgent  string         `json:"userAgent"`
		Arrival    string         `json:"arrivalDate"`
	} `json:"complaint"`
	Mail sesMail `json:"mail"`
}

type sesRecipient struct {
	Address    string `json:"emailAddress"`
	Action     string `json:"action"`
	Status     string `json:"status"`
	Diagnostic string `json:"diagnosticCode"`
}

type sesMail struct {
	Timestamp string `json:"timestamp"`
	Source    string `json:"source"`
	SourceIP  string `json:"sourceIp"`
	ID        string `json:"messageId"`
	Headers   []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"headers"`
	Common map[string]any `json:"commonHeaders"`
}

// readSES reads a notice of Amazon SES, in the envelope of SNS or without; nil where
// the text is none.
func readSES(text string) *Report {
	if !strings.Contains(text, "notificationType") && !strings.Contains(text, "eventType") {
		return nil
	}
	n := decodeSES(text)
	if n != nil && n.Message != "" && n.Bounce == nil && n.Complaint == nil {
		n = decodeSES(n.Message)
	}
	switch {
	case n == nil:
		return nil
	case n.Bounce != nil:
		return n.bounce()
	case n.Complaint != nil:
		return n.complaint()
	}
	return nil
}

// decodeSES reads JSON, also where a mailer has broken its lines.
func decodeSES(text string) *sesNotice {
	for _, t := range []string{text, strings.NewReplacer("!\n ", "", "\r", "", "\n", "").Replace(text)} {
		var n sesNotice
		// What stands behind the value is the signature of SNS.
		if err := json.NewDecoder(strings.NewReader(t)).Decode(&n); err == nil {
			return &n
		}
	}
	return nil
}

// jsonIn gives a text from its first brace on, where nothing but a few words stands
// before it.
func jsonIn(text string) string {
	if i := strings.IndexByte(text[:min(len(text), 400)], '{'); i >= 0 {
		return text[i:]
	}
	return ""
}

func (n *sesNotice) bounce() *Report {
	r := &Report{Format: FormatBounce, MessageID: n.Bounce.Feedback, Derived: map[string]string{}, ReportingMTA: afterType(n.Bounce.ReportingMTA), Original: n.Mail.original()}
	for _, to := range n.Bounce.Recipients {
		d := DSNRecipient{Final: bare(to.Address), Action: strings.ToLower(to.Action), Status: statusCode(to.Status), Diagnostic: afterType(to.Diagnostic), RemoteMTA: n.Bounce.RemoteMTA}
		if d.Action == "" {
			if d.Action, r.Derived[DerivedAction] = "failed", "bounce-type"; strings.EqualFold(n.Bounce.Type, "Transient") {
				d.Action = "delayed"
			}
		}
		if d.Status == "" && d.Diagnostic == "" {
			if d.Status, r.Derived[DerivedStatus] = "5.0.0", "bounce-type"; d.Action == "delayed" {
				d.Status = "4.0.0"
			}
		}
		r.Recipients = append(r.Recipients, d)
	}
	r.settle()
	r.originalTo()
	n.Mail.about(r)
	return r
}

func (n *sesNotice) complaint() *Report {
	r := &Report{Format: FormatComplaint, MessageID: n.Complaint.ID, Derived: map[string]string{}, FeedbackType: strings.ToLower(n.Complaint.Feedback), UserAgent: n.Complaint.UserAgent,
		Arrival: Date(n.Complaint.Arrival), Original: n.Mail.original()}
	if r.FeedbackType == "" {
		r.FeedbackType = "abuse"
	}
	for _, to := range n.Complaint.Recipients {
		r.OriginalTo = append(r.OriginalTo, bare(to.Address))
	}
	n.Mail.about(r)
	return r
}

// about takes what the notice says of the mail.
func (m *sesMail) about(r *Report) {
	r.OriginalFrom, r.SourceIP = bare(m.Source), sourceIP(m.SourceIP)
	if r.Arrival.IsZero() {
		r.Arrival, r.Derived[DerivedArrival] = Date(m.Timestamp), "mail.timestamp"
	}
}

// original gives the header that the notice holds; where it holds none, the id by
// which SES knows the mail.
func (m *sesMail) original() *Original {
	o := &Original{HeaderOnly: true}
	for _, h := range m.Headers {
		o.Header = append(o.Header, Field{h.Name, h.Value})
	}
	if len(o.Header) > 0 {
		return o
	}
	for _, name := range []string{"from", "to", "date", "subject", "messageId"} {
		value := ""
		switch v := m.Common[name].(type) {
		case string:
			value = v
		case []any:
			var all []string
			for _, one := range v {
				if s, ok := one.(string); ok {
					all = append(all, s)
				}
			}
			value = strings.Join(all, ", ")
		}
		if value != "" {
			o.Header = append(o.Header, Field{map[string]string{"from": "From", "to": "To", "date": "Date", "subject": "Subject", "messageId": "Message-ID"}[name], value})
		}
	}
	if m.ID == "" && len(o.Header) == 0 {
		return nil
	}
	o.Header = append(o.Header, Field{"X-SES-Message-ID", m.ID})
	return o
}
