package message

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// DSN is what a delivery status notification is built from (RFC 3464).
type DSN struct {
	From         string // address of the reporting system's postmaster or daemon
	To           string // the reverse-path that is told
	Date         time.Time
	MessageID    string // with its domain, without brackets
	Boundary     string
	ReportingMTA string
	EnvID        string
	Arrival      time.Time
	Recipients   []DSNStatus
	Returned     []byte // the message, or the part of it that is returned
	HeaderOnly   bool
	UTF8         bool // RFC 6533
}

// DSNStatus is the fate of one recipient.
type DSNStatus struct {
	ORcpt       string // ORCPT as given, "rfc822;..."
	Final       string
	Action      string // failed, delayed, relayed
	Status      string // "5.1.1"
	RemoteMTA   string
	Diagnostic  string // the peer's reply on one line
	LastAttempt time.Time
	WillRetry   time.Time
}

// maxReturned bounds what goes back of a message.
const maxReturned = 64 << 10

// BuildDSN builds the notification, with CRLF line ends.
func BuildDSN(d *DSN) []byte {
	var b bytes.Buffer
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\r\n", a...) }
	subject := "Undelivered mail returned to sender"
	if len(d.Recipients) > 0 && d.Recipients[0].Action == "delayed" {
		subject = "Delayed mail, still being tried"
	}
	line("From: Mail delivery <%s>", d.From)
	line("To: <%s>", d.To)
	line("Subject: %s", subject)
	line("Date: %s", d.Date.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	line("Message-ID: <%s>", d.MessageID)
	line("Auto-Submitted: auto-replied")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"", d.Boundary)
	line("")
	line("--%s", d.Boundary)
	line("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit")
	line("")
	d.text(line)
	line("--%s", d.Boundary)
	kind := "message/delivery-status"
	if d.UTF8 {
		kind = "message/global-delivery-status"
	}
	line("Content-Type: %s", kind)
	line("")
	d.groups(line)
	line("--%s", d.Boundary)
	d.returned(&b, line)
	line("--%s--", d.Boundary)
	return b.Bytes()
}

func (d *DSN) text(line func(string, ...any)) {
	line("This is the mail system at %s.", d.ReportingMTA)
	line("")
	for _, r := range d.Recipients {
		switch r.Action {
		case "delayed":
			line("Your message to <%s> has not been delivered yet. It will be tried until %s.", r.Final, r.WillRetry.UTC().Format(time.RFC1123))
		default:
			line("Your message to <%s> could not be delivered.", r.Final)
		}
		line("%s", oneLine(r.Diagnostic))
		line("")
	}
}

func (d *DSN) groups(line func(string, ...any)) {
	line("Reporting-MTA: dns; %s", d.ReportingMTA)
	if d.EnvID != "" {
		line("Original-Envelope-Id: %s", oneLine(d.EnvID))
	}
	if !d.Arrival.IsZero() {
		line("Arrival-Date: %s", d.Arrival.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	}
	for _, r := range d.Recipients {
		line("")
		if r.ORcpt != "" {
			line("Original-Recipient: %s", oneLine(r.ORcpt))
		}
		kind := "rfc822"
		if d.UTF8 {
			kind = "utf-8"
		}
		line("Final-Recipient: %s; %s", kind, oneLine(r.Final))
		line("Action: %s", r.Action)
		line("Status: %s", r.Status)
		if r.RemoteMTA != "" {
			line("Remote-MTA: dns; %s", oneLine(r.RemoteMTA))
		}
		if r.Diagnostic != "" {
			line("Diagnostic-Code: smtp; %s", oneLine(r.Diagnostic))
		}
		if !r.LastAttempt.IsZero() {
			line("Last-Attempt-Date: %s", r.LastAttempt.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
		}
		if !r.WillRetry.IsZero() {
			line("Will-Retry-Until: %s", r.WillRetry.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
		}
	}
	line("")
}

func (d *DSN) returned(b *bytes.Buffer, line func(string, ...any)) {
	kind := "message/rfc822"
	if d.HeaderOnly {
		kind = "text/rfc822-headers"
	}
	if d.UTF8 {
		kind = strings.NewReplacer("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers").Replace(kind)
	}
	line("Content-Type: %s", kind)
	line("")
	r := d.Returned
	if d.HeaderOnly {
		if i := bytes.Index(r, []byte("\r\n\r\n")); i >= 0 {
			r = r[:i+2]
		}
	}
	r = r[:min(len(r), maxReturned)]
	b.Write(r)
	if !bytes.HasSuffix(r, []byte("\r\n")) {
		b.WriteString("\r\n")
	}
}

// oneLine keeps a peer's words within their line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 800 {
		s = s[:800]
	}
	return s
}
