package message

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"postern.dev/postern/internal/smtp"
)

// DSN is what a delivery status notification is built from (RFC 3464). Addresses are
// spelt without brackets.
type DSN struct {
	From         string // address of the reporting system's postmaster or daemon
	To           string // the reverse-path that is told
	Date         time.Time
	MessageID    string      // with its domain, without brackets
	Boundary     string      // drawn by the caller; lengthened where the returned message holds it
	ReportingMTA string      // host name
	EnvID        string      // ENVID, xtext decoded
	Arrival      time.Time   // of the original
	Recipients   []DSNStatus // in the order of the notification
	Returned     []byte      // the message with its header, or its beginning
	HeaderOnly   bool        // RET=HDRS, or no failure (RFC 3461, section 6.3)
	EightBit     bool        // the notification travels as 8BITMIME
	UTF8         bool        // the notification travels by SMTPUTF8 (RFC 6533), which implies 8BITMIME
}

// DSNStatus is the fate of one recipient.
type DSNStatus struct {
	ORcpt       string // ORCPT as given, "rfc822;..."
	Final       string
	Action      string // failed, delayed, delivered, relayed, expanded
	Status      string // "5.1.1"
	RemoteMTA   string
	Diagnostic  string // the peer's reply
	LastAttempt time.Time
	WillRetry   time.Time // until when it will be tried; zero where it will not
}

// maxReturned bounds what goes back of a message: of one that is as long or longer, its
// header alone.
const maxReturned = 64 << 10

// dateLayout is the date-time of RFC 5322, section 3.3.
const dateLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// BuildDSN builds the notification: multipart/report with a text for people, the status
// and the message or its header. Lines end in CRLF. Without EightBit and UTF8 every
// octet is ASCII, unless To itself is not; a message whose body is not is then
// represented by its header. What peers have said cannot break out of its line.
func BuildDSN(d *DSN) []byte {
	b := &builder{boundary: uniqueBoundary(d.Boundary, d.Returned)}
	subject, replied := "Undelivered mail returned to sender", "auto-replied"
	switch d.action() {
	case "delayed":
		subject = "Delayed mail, still being tried"
	case "delivered", "relayed", "expanded":
		subject = "Mail delivered"
	}
	b.field("From", "Mail delivery <"+d.From+">")
	b.field("To", "<"+d.To+">")
	b.field("Subject", subject)
	b.field("Date", d.Date.Format(dateLayout))
	b.field("Message-ID", "<"+d.MessageID+">")
	b.field("Auto-Submitted", replied) // RFC 3834, section 5
	b.field("MIME-Version", "1.0")
	b.multipart("multipart/report; report-type=delivery-status", d.EightBit || d.UTF8)
	b.part()
	d.text(b)
	b.part()
	d.status(b)
	if len(d.Returned) > 0 {
		b.part()
		d.returned(b)
	}
	return b.close()
}

// action is the one that the notification is about: a failure before anything else.
func (d *DSN) action() string {
	action := ""
	for i := range d.Recipients {
		switch a := d.Recipients[i].Action; {
		case a == "failed":
			return a
		case action == "":
			action = a
		}
	}
	return action
}

// text is the part for people.
func (d *DSN) text(b *builder) {
	var t strings.Builder
	line := func(s ...string) {
		for _, s := range s {
			t.WriteString(oneLine(s))
		}
		t.WriteString("\r\n")
	}
	line("This is the mail system at ", d.ReportingMTA, ".")
	for i := range d.Recipients {
		r := &d.Recipients[i]
		line()
		switch r.Action {
		case "delayed":
			line("Your message to <", r.Final, "> has not been delivered yet.")
			if !r.WillRetry.IsZero() {
				line("It will be tried until ", r.WillRetry.Format(dateLayout), ".")
			}
		case "delivered":
			line("Your message to <", r.Final, "> was delivered.")
		case "relayed", "expanded":
			line("Your message to <", r.Final, "> was passed on to a system that sends no such notices.")
		default:
			line("Your message to <", r.Final, "> could not be delivered.")
		}
		if r.Diagnostic != "" {
			if r.RemoteMTA != "" {
				line("The host ", r.RemoteMTA, " said:")
			}
			line("  ", r.Diagnostic)
		}
	}
	b.text(t.String())
}

// status is the part for machines (RFC 3464, section 2). Its type is that of RFC 6533
// where an address is not ASCII and may stand as it is.
func (d *DSN) status(b *builder) {
	global := d.UTF8 && !d.ascii()
	kind := "message/delivery-status"
	if global {
		kind = "message/global-delivery-status"
	}
	b.field("Content-Type", kind)
	if global {
		b.field("Content-Transfer-Encoding", "8bit")
	}
	b.end()
	b.field("Reporting-MTA", "dns; "+asciiOnly(d.ReportingMTA))
	if d.EnvID != "" {
		b.field("Original-Envelope-Id", asciiOnly(d.EnvID))
	}
	if !d.Arrival.IsZero() {
		b.field("Arrival-Date", d.Arrival.Format(dateLayout))
	}
	for i := range d.Recipients {
		b.end()
		d.Recipients[i].group(b, global)
	}
}

// ascii reports whether all addresses of the status part are.
func (d *DSN) ascii() bool {
	for i := range d.Recipients {
		if !isASCII(d.Recipients[i].Final) || strings.HasPrefix(strings.ToLower(d.Recipients[i].ORcpt), "utf-8") {
			return false
		}
	}
	return true
}

// group writes the fields of one recipient (RFC 3464, section 2.3).
func (r *DSNStatus) group(b *builder, global bool) {
	if r.ORcpt != "" {
		b.field("Original-Recipient", originalRecipient(r.ORcpt, global))
	}
	b.field("Final-Recipient", typedAddress(r.Final, global))
	b.field("Action", r.Action)
	b.field("Status", r.Status)
	if r.RemoteMTA != "" {
		b.field("Remote-MTA", "dns; "+asciiOnly(r.RemoteMTA))
	}
	if r.Diagnostic != "" {
		b.field("Diagnostic-Code", "smtp; "+asciiOnly(r.Diagnostic))
	}
	if !r.LastAttempt.IsZero() {
		b.field("Last-Attempt-Date", r.LastAttempt.Format(dateLayout))
	}
	if !r.WillRetry.IsZero() {
		b.field("Will-Retry-Until", r.WillRetry.Format(dateLayout))
	}
}

// originalRecipient gives an ORCPT as RFC 3464, section 2.3.1, wants it: xtext decoded.
func originalRecipient(orcpt string, global bool) string {
	kind, value, ok := strings.Cut(orcpt, ";")
	if !ok {
		kind, value = "rfc822", orcpt
	}
	kind = strings.ToLower(strings.TrimSpace(asciiOnly(kind)))
	if kind == "utf-8" {
		return typedAddress(unescapeUnicode(value), global)
	}
	if v, ok := smtp.DecodeXtext(value); ok && isASCII(v) {
		value = v
	}
	return kind + "; " + asciiOnly(value)
}

// typedAddress puts the type before an address. One that is not ASCII is written in the
// form of RFC 6533, section 3, that passes everywhere, unless the part is global.
func typedAddress(address string, global bool) string {
	if isASCII(address) {
		return "rfc822; " + address
	}
	if global {
		return "utf-8; " + address
	}
	var b strings.Builder
	b.WriteString("utf-8; ")
	for _, r := range address {
		if r >= 0x80 || r <= ' ' || r == '\\' || r == '+' || r == '=' {
			fmt.Fprintf(&b, `\x{%X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// returned writes the message, or its header where the message is too long, was not
// asked for, or holds octets that cannot travel (RFC 2046, section 5.2.1, allows a
// message/rfc822 no encoding; RFC 6533, section 6, allows message/global-headers one).
func (d *DSN) returned(b *builder) {
	msg := crlf(d.Returned)
	h, body, _ := ParseHeader(msg, Limits{})
	header := msg[:len(msg)-len(body)]
	eightBit := d.EightBit || d.UTF8
	plainHeader := isASCII(string(header))
	full := !d.HeaderOnly && len(d.Returned) < maxReturned && len(h.Fields) > 0 &&
		(eightBit || (plainHeader && isASCII(string(body))))
	kind, content := "message/rfc822", msg
	if !full {
		kind, content = "text/rfc822-headers", cutFields(header)
	}
	if !plainHeader && utf8.Valid(header) {
		kind = map[bool]string{true: "message/global", false: "message/global-headers"}[full]
	}
	b.field("Content-Type", kind)
	switch {
	case isASCII(string(content)):
		b.end()
		b.write(content)
	case eightBit:
		b.field("Content-Transfer-Encoding", "8bit")
		b.end()
		b.write(content)
	default:
		b.field("Content-Transfer-Encoding", "base64")
		b.end()
		b.base64(content)
	}
}

// cutFields bounds a header at the end of a field, and takes the empty line off.
func cutFields(header []byte) []byte {
	header = bytes.TrimRight(header, "\r\n")
	if len(header) < maxReturned {
		return append(bytes.Clone(header), "\r\n"...)
	}
	end := maxReturned
	for end > 0 {
		i := bytes.LastIndexByte(header[:end], '\n')
		if i < 0 {
			return nil
		}
		if c := header[i+1]; c != ' ' && c != '\t' {
			return bytes.Clone(header[:i+1])
		}
		end = i
	}
	return nil
}
