package message

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the real providers' pseudonyms are MD5
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Profile is how a provider writes its complaints, and what it takes out.
type Profile string

// The profiles.
const (
	ProfileAOL      Profile = "aol"      // ARF 0.1, recipient redacted everywhere (2017 and before)
	ProfileYahoo    Profile = "yahoo"    // CFL: nothing redacted, an mbox From line before the original
	ProfileJMRP     Profile = "jmrp"     // Microsoft's older multipart/mixed without a report part
	ProfileValidity Profile = "validity" // ARF 1, local parts replaced by 32 hexadecimal digits
)

// Complaint is what a provider's complaint is built from.
type Complaint struct {
	Profile   Profile
	From, To  string
	Date      time.Time
	MessageID string
	Boundary  string
	SourceIP  netip.Addr
	Arrival   time.Time
	MailFrom  string
	Rcpt      string
	Original  []byte // as it arrived at the provider
}

// BuildARF builds a complaint as the provider of the profile would, with CRLF line
// ends.
func BuildARF(c *Complaint) []byte {
	var b bytes.Buffer
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\r\n", a...) }
	original := c.redact(c.Original)
	line("From: %s\r\nTo: %s\r\nDate: %s\r\nMessage-ID: <%s>\r\nMIME-Version: 1.0", c.From, c.To, c.Date.Format("Mon, 2 Jan 2006 15:04:05 -0700"), c.MessageID)
	if c.Profile == ProfileJMRP {
		line("Subject: complaint about message from %s", c.SourceIP)
		line("Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n--%s\r\nContent-Type: message/rfc822\r\n", c.Boundary, c.Boundary)
		line("X-HmXmrOriginalRecipient: %s", c.Rcpt)
		b.Write(original)
		line("\r\n--%s--", c.Boundary)
		return b.Bytes()
	}
	line("Subject: FW: complaint\r\nContent-Type: multipart/report; report-type=feedback-report;\r\n\tboundary=\"%s\"\r\n", c.Boundary)
	line("--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThis is a complaint about a message from %s.\r\n", c.Boundary, c.SourceIP)
	line("--%s\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse", c.Boundary)
	when := c.Arrival.Format("Mon, 2 Jan 2006 15:04:05 -0700")
	switch c.Profile {
	case ProfileAOL:
		line("User-Agent: AOL SComp\r\nVersion: 0.1\r\nReceived-Date: %s\r\nSource-IP: %s\r\nReported-Domain: %s\r\nRedacted-Address: redacted", when, c.SourceIP, domainOf(c.MailFrom))
	case ProfileYahoo:
		line("User-Agent: Yahoo!-Mail-Feedback/2.0\r\nVersion: 0.1\r\nOriginal-Mail-From: <%s>\r\nOriginal-Rcpt-To: %s\r\nReceived-Date: %s\r\nReported-Domain: %s", c.MailFrom, c.Rcpt, when, domainOf(c.MailFrom))
	default:
		line("User-Agent: ReturnPathFBL/2.0\r\nVersion: 1\r\nAbuse-Type: complaint\r\nOriginal-Mail-From: <%s>\r\nOriginal-Rcpt-To: %s\r\nArrival-Date: %s\r\nSource-IP: %s", c.redactText(c.MailFrom), c.redactText(c.Rcpt), when, c.SourceIP)
	}
	line("\r\n--%s\r\nContent-Type: message/rfc822\r\n", c.Boundary)
	if c.Profile == ProfileYahoo {
		line("From %s %s", c.MailFrom, c.Arrival.Format(time.ANSIC))
	}
	b.Write(original)
	line("\r\n--%s--", c.Boundary)
	return b.Bytes()
}

// redact takes the recipient out of the original, as the profile does.
func (c *Complaint) redact(b []byte) []byte { return []byte(c.redactText(string(b))) }

func (c *Complaint) redactText(s string) string {
	local, domain, ok := strings.Cut(c.Rcpt, "@")
	if !ok {
		return s
	}
	switch c.Profile {
	case ProfileAOL:
		return strings.ReplaceAll(strings.ReplaceAll(s, c.Rcpt, "redacted@"+domain), local, "redacted")
	case ProfileValidity:
		sum := md5.Sum([]byte(local)) //nolint:gosec // a pseudonym, as the real ones
		return strings.ReplaceAll(s, local, hex.EncodeToString(sum[:]))
	}
	return s
}
