package inbox

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"postern.dev/postern/internal/message"
)

// NoticeOf takes out of a report what can be told on.
func NoticeOf(r *message.Report) *Notice {
	n := &Notice{Bounce: r.Format == message.FormatDSN, From: r.From, Time: r.Date, Sender: r.OriginalFrom, MessageID: r.OriginalMessageID(), Date: r.Arrival, SourceIP: r.SourceIP,
		Feedback: r.FeedbackType, UserAgent: r.UserAgent}
	if n.From == "" {
		n.From = "unknown.invalid"
	}
	if n.Time.IsZero() {
		n.Time = r.Arrival
	}
	if len(r.OriginalTo) > 0 {
		n.Recipient = r.OriginalTo[0]
	}
	if len(r.Recipients) > 0 {
		d := &r.Recipients[0]
		n.Recipient, n.Action, n.Status, n.Remote, n.Reason = d.Final, d.Action, d.Status, d.RemoteMTA, d.Diagnostic
	}
	if o := r.Original; o != nil {
		n.Subject = o.Get("Subject")
		var b bytes.Buffer
		for _, f := range o.Header {
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
		b.WriteString("\r\n")
		b.Write(o.Body)
		n.Original = b.Bytes()
	}
	return n
}

// xarf4 is a report of XARF 4 about mail (github.com/xarf/xarf-spec).
type xarf4 struct {
	Version   string     `json:"xarf_version"`
	ID        string     `json:"report_id"`
	Timestamp time.Time  `json:"timestamp"`
	Reporter  xarfParty  `json:"reporter"`
	Sender    xarfParty  `json:"sender"`
	Source    string     `json:"source_identifier"`
	Category  string     `json:"category"`
	Type      string     `json:"type"`
	Protocol  string     `json:"protocol"`
	SMTPFrom  string     `json:"smtp_from,omitempty"`
	SMTPTo    string     `json:"smtp_to,omitempty"`
	Subject   string     `json:"subject,omitempty"`
	MessageID string     `json:"message_id,omitempty"`
	Evidence  []xarfItem `json:"evidence,omitempty"`
}

type xarfParty struct {
	Org     string `json:"org"`
	Contact string `json:"contact"`
	Domain  string `json:"domain"`
}

type xarfItem struct {
	ContentType string `json:"content_type"`
	Description string `json:"description"`
	Payload     string `json:"payload"`
}

// XARF gives a complaint in XARF 4, for who takes reports so. ID is a UUID by which the
// receiver knows it again; by is the domain that sends it.
func (n *Notice) XARF(id, by string) ([]byte, error) {
	from := n.From
	dom := from[bytes.LastIndexByte([]byte(from), '@')+1:]
	x := xarf4{Version: "4.2.0", ID: id, Timestamp: n.Time.UTC(), Reporter: xarfParty{dom, from, dom}, Sender: xarfParty{by, "abuse@" + by, by}, Category: "messaging", Type: "spam", Protocol: "smtp",
		SMTPFrom: n.Sender, SMTPTo: n.Recipient, Subject: n.Subject, MessageID: n.MessageID}
	if n.SourceIP.IsValid() {
		x.Source = n.SourceIP.String()
	}
	if n.Original != nil {
		x.Evidence = []xarfItem{{"message/rfc822", "the mail as it was returned", base64.StdEncoding.EncodeToString(n.Original)}}
	}
	return json.Marshal(x)
}
