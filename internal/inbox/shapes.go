package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/message/xarf"
)

// maxNotices bounds the reports of one request.
const maxNotices = 10_000

// decode reads one JSON value. Members that are not known are passed over: providers add
// some at any time.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}
	return nil
}

// moment is a time in RFC 3339, in mail's own form, or in seconds since 1970, as a number
// or as text.
type moment struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler. What is no time is the zero one.
func (m *moment) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	var f float64
	if json.Unmarshal([]byte(s), &f) == nil && f > 0 && f < 1<<40 {
		sec, frac := math.Modf(f)
		m.Time = time.Unix(int64(sec), int64(frac*1e9)).UTC()
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.000-0700", "2006-01-02 15:04:05 -0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			m.Time = t
			return nil
		}
	}
	m.Time = message.Date(s)
	return nil
}

// text is a string, or a number as one.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	} else if len(b) > 0 && b[0] != '{' && b[0] != '[' && string(b) != "null" {
		*t = text(b)
	}
	return nil
}

func address(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

func bare(s string) string { return strings.Trim(strings.TrimSpace(s), "<>") }

// status finds a status code of RFC 3463 in one of some texts; a bounce has one always.
func status(permanent bool, texts ...string) string {
	for _, s := range texts {
		for w := range strings.FieldsSeq(s) {
			w = strings.Trim(w, "();:,#")
			if p := strings.Split(w, "."); len(p) == 3 && len(p[0]) == 1 && p[0] >= "2" && p[0] <= "5" && len(w) <= 9 && strings.Trim(w, "0123456789.") == "" {
				return w
			}
		}
	}
	if permanent {
		return "5.0.0"
	}
	return "4.0.0"
}

func actionOf(permanent bool) string {
	if permanent {
		return "failed"
	}
	return "delayed"
}

// readSES reads a notification of Amazon SES, by SNS or raw (Amazon SES Developer Guide,
// "Amazon SNS notification contents"). A subscription has to be confirmed by the
// operator: its address stands in the log.
func (h *Hook) readSES(b []byte) ([]*Notice, error) {
	var sns struct {
		Type, Message, SubscribeURL, TopicArn string
	}
	if err := decode(b, &sns); err != nil {
		return nil, err
	}
	switch sns.Type {
	case "SubscriptionConfirmation":
		h.Log.Warn("SNS asks for the subscription to be confirmed: open its address once", "intake", h.Name, "topic", sns.TopicArn, "url", sns.SubscribeURL)
		return nil, nil
	case "UnsubscribeConfirmation":
		return nil, nil
	case "Notification":
		b = []byte(sns.Message)
	}
	var v sesEvent
	if err := decode(b, &v); err != nil {
		return nil, err
	}
	return v.notices()
}

// sesEvent is a notification of SES.
type sesEvent struct {
	NotificationType string `json:"notificationType"`
	EventType        string `json:"eventType"`
	Mail             struct {
		Timestamp     moment `json:"timestamp"`
		Source        string `json:"source"`
		MessageID     string `json:"messageId"`
		Headers       []struct{ Name, Value string }
		CommonHeaders struct {
			MessageID, Subject, Date string
		} `json:"commonHeaders"`
	} `json:"mail"`
	Bounce struct {
		BounceType        string `json:"bounceType"`
		BouncedRecipients []struct {
			EmailAddress, Action, Status, DiagnosticCode string
		} `json:"bouncedRecipients"`
		Timestamp moment `json:"timestamp"`
	} `json:"bounce"`
	Complaint struct {
		ComplainedRecipients  []struct{ EmailAddress string } `json:"complainedRecipients"`
		Timestamp             moment                          `json:"timestamp"`
		UserAgent             string                          `json:"userAgent"`
		ComplaintFeedbackType string                          `json:"complaintFeedbackType"`
		ArrivalDate           moment                          `json:"arrivalDate"`
	} `json:"complaint"`
}

func (v *sesEvent) notices() (out []*Notice, err error) {
	n := Notice{From: "amazonses.com", Sender: bare(v.Mail.Source), MessageID: bare(v.Mail.CommonHeaders.MessageID), Subject: v.Mail.CommonHeaders.Subject, Date: v.Mail.Timestamp.Time}
	if n.MessageID == "" && v.Mail.MessageID != "" {
		n.MessageID = v.Mail.MessageID + "@email.amazonses.com"
	}
	for _, h := range v.Mail.Headers {
		n.Header = append(n.Header, message.Field{Name: h.Name, Value: h.Value})
	}
	kind := v.NotificationType
	if kind == "" {
		kind = v.EventType
	}
	switch kind {
	case "Bounce":
		for _, r := range v.Bounce.BouncedRecipients {
			m, permanent := n, v.Bounce.BounceType != "Transient"
			m.Bounce, m.Time, m.Recipient, m.Reason, m.Status, m.Action = true, v.Bounce.Timestamp.Time, bare(r.EmailAddress), r.DiagnosticCode, r.Status, r.Action
			if m.Status == "" {
				m.Status = status(permanent, r.DiagnosticCode)
			}
			if m.Action == "" {
				m.Action = actionOf(permanent)
			}
			out = append(out, &m)
		}
	case "Complaint":
		for _, r := range v.Complaint.ComplainedRecipients {
			m := n
			m.Time, m.Recipient, m.Feedback, m.UserAgent = v.Complaint.Timestamp.Time, bare(r.EmailAddress), v.Complaint.ComplaintFeedbackType, v.Complaint.UserAgent
			out = append(out, &m)
		}
	case "":
		return nil, errors.New("neither notificationType nor eventType")
	}
	return out, nil
}

// readSendGrid reads a list of events (Twilio SendGrid documentation, "Event Webhook
// Reference").
func readSendGrid(b []byte) (out []*Notice, err error) {
	var vs []struct {
		Email, Event, Reason, Type string
		Status                     text
		Timestamp                  moment
		SMTPID                     string `json:"smtp-id"`
		IP                         string
	}
	if err := decode(b, &vs); err != nil {
		return nil, err
	}
	if len(vs) > maxNotices {
		return nil, fmt.Errorf("%d events", len(vs))
	}
	for _, v := range vs {
		n := &Notice{From: "sendgrid.net", Time: v.Timestamp.Time, Recipient: bare(v.Email), MessageID: bare(v.SMTPID), SourceIP: address(v.IP), Reason: v.Reason}
		switch v.Event {
		case "spamreport":
		case "bounce":
			permanent := v.Type != "blocked"
			n.Bounce, n.Status, n.Action = true, status(permanent, string(v.Status), v.Reason), "failed"
		default:
			continue // delivered, open, click ..., and dropped, which never left
		}
		out = append(out, n)
	}
	return out, nil
}

// readMailgun reads an event (Mailgun documentation, "Webhooks", "Event Structure").
func readMailgun(b []byte) ([]*Notice, error) {
	var v struct {
		Data struct {
			Event, Severity, Recipient string
			Timestamp                  moment
			Message                    struct {
				Headers map[string]text
			}
			DeliveryStatus struct {
				Message, Description string
				MXHost               string `json:"mx-host"`
				Enhanced             text   `json:"enhanced-code"`
			} `json:"delivery-status"`
			Envelope struct {
				Sender    string
				SendingIP string `json:"sending-ip"`
			}
		} `json:"event-data"`
	}
	if err := decode(b, &v); err != nil {
		return nil, err
	}
	d := &v.Data
	n := &Notice{From: "mailgun.org", Time: d.Timestamp.Time, Recipient: bare(d.Recipient), Sender: bare(d.Envelope.Sender), MessageID: bare(string(d.Message.Headers["message-id"])),
		Subject: string(d.Message.Headers["subject"]), SourceIP: address(d.Envelope.SendingIP), Remote: d.DeliveryStatus.MXHost, Reason: d.DeliveryStatus.Message}
	switch d.Event {
	case "complained":
	case "failed":
		permanent := d.Severity != "temporary"
		if n.Reason == "" {
			n.Reason = d.DeliveryStatus.Description
		}
		n.Bounce, n.Action, n.Status = true, actionOf(permanent), status(permanent, string(d.DeliveryStatus.Enhanced), n.Reason)
	case "":
		return nil, errors.New("no event-data")
	default:
		return nil, nil
	}
	return []*Notice{n}, nil
}

// readPostmark reads a bounce or a complaint (Postmark developer documentation, "Bounce
// webhook", "Spam complaint webhook").
func readPostmark(b []byte) ([]*Notice, error) {
	var v struct {
		RecordType, Type, MessageID, Email, From, Subject, Details, Description string
		BouncedAt                                                               moment
	}
	if err := decode(b, &v); err != nil {
		return nil, err
	}
	n := &Notice{From: "postmarkapp.com", Time: v.BouncedAt.Time, Recipient: bare(v.Email), Sender: bare(v.From), Subject: v.Subject, Reason: v.Details}
	if v.MessageID != "" {
		n.MessageID = v.MessageID + "@mtasv.net"
	}
	switch v.RecordType {
	case "SpamComplaint":
	case "Bounce":
		permanent := map[string]bool{"HardBounce": true, "BadEmailAddress": true, "ManuallyDeactivated": true, "Unsubscribe": true}[v.Type]
		if v.Type == "SpamComplaint" {
			return []*Notice{n}, nil
		}
		if n.Reason == "" {
			n.Reason = v.Description
		}
		n.Bounce, n.Action, n.Status = true, actionOf(permanent), status(permanent, v.Details)
	case "":
		return nil, errors.New("no RecordType")
	default:
		return nil, nil
	}
	return []*Notice{n}, nil
}

// readSparkPost reads a list of events (SparkPost API reference, "Event Webhooks").
func readSparkPost(b []byte) (out []*Notice, err error) {
	var vs []struct {
		Msys map[string]struct {
			Type, Subject, FBType string
			RcptTo                string `json:"rcpt_to"`
			MsgFrom               string `json:"msg_from"`
			Reason                string `json:"raw_reason"`
			ReportBy              string `json:"report_by"`
			SendingIP             string `json:"sending_ip"`
			BounceClass           text   `json:"bounce_class"`
			Timestamp             moment
			Injection             moment `json:"injection_time"`
			Header                string `json:"msg_id_header"`
		} `json:"msys"`
	}
	if err := decode(b, &vs); err != nil {
		return nil, err
	}
	if len(vs) > maxNotices {
		return nil, fmt.Errorf("%d events", len(vs))
	}
	for i := range vs {
		for kind, v := range vs[i].Msys {
			if kind != "message_event" {
				continue
			}
			n := &Notice{From: "sparkpost.com", Time: v.Timestamp.Time, Date: v.Injection.Time, Recipient: bare(v.RcptTo), Sender: bare(v.MsgFrom), Subject: v.Subject, SourceIP: address(v.SendingIP),
				Reason: v.Reason, MessageID: bare(v.Header)}
			switch v.Type {
			case "spam_complaint":
				n.Feedback = v.FBType
			case "bounce", "out_of_band":
				// Of the bounce classes 10, 25, 30 and 90 are hard (documentation, "Bounce
				// Classification Codes").
				permanent := map[text]bool{"10": true, "25": true, "30": true, "90": true}[v.BounceClass]
				n.Bounce, n.Action, n.Status = true, actionOf(permanent), status(permanent, v.Reason)
			default:
				continue
			}
			out = append(out, n)
		}
	}
	return out, nil
}

// readXARF reads a report of XARF, version 4 or 3. Of attacks, content and the like,
// which are about no mail, none is made.
func readXARF(b []byte) ([]*Notice, error) {
	x, err := xarf.Parse(b)
	if err != nil || !x.Mail() {
		return nil, err
	}
	n := &Notice{Feedback: "abuse", Time: x.Time, Date: x.Time, SourceIP: x.SourceIP, Sender: bare(x.MailFrom), Recipient: bare(x.MailTo), MessageID: bare(x.MessageID), Subject: x.Subject}
	n.From = anyOf(x.Reporter.Domain, x.Reporter.Contact, "xarf.invalid")
	if e := x.Message(); e != nil && LooksLikeMail(e.Payload) {
		n.Original = e.Payload
	}
	return []*Notice{n}, nil
}

func anyOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
