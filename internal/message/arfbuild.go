package message

import (
	"net/netip"
	"time"
)

// Profile is how a provider writes its complaints, and what it takes out.
type Profile string

// The profiles.
const (
	ProfileAOL      Profile = "aol"       // SComp, ARF 0.1 (to 2017): the recipient's local part redacted everywhere
	ProfileYahoo    Profile = "yahoo"     // CFL: nothing redacted, no Source-IP, an mbox From line before the original
	ProfileJMRP     Profile = "jmrp"      // Microsoft's older multipart/mixed without a report part
	ProfileJMRP2026 Profile = "jmrp-2026" // Microsoft's ARF without optional fields, header only
	ProfileValidity Profile = "validity"  // universal loop, ARF 1: local parts replaced by 32 hexadecimal digits
	ProfileComcast  Profile = "comcast"   // its own loop of 2010: Original-Message-ID, no recipient
	ProfileZoho     Profile = "zoho"      // ARF 0.1 with Source-IP and Received-Date alone
)

// Profiles lists all of them.
func Profiles() []Profile {
	return []Profile{ProfileAOL, ProfileYahoo, ProfileJMRP, ProfileJMRP2026, ProfileValidity, ProfileComcast, ProfileZoho}
}

// Complaint is what a provider's complaint is built from. Addresses are spelt without
// brackets.
type Complaint struct {
	Profile   Profile
	From, To  string
	Date      time.Time
	MessageID string     // of the complaint, without brackets
	Boundary  string     // drawn by the caller; lengthened where the original holds it
	SourceIP  netip.Addr // that handed the mail over
	Arrival   time.Time
	MailFrom  string
	Rcpt      string
	Original  []byte // as it arrived at the provider
	Key       []byte // of the provider's pseudonyms (RFC 6590, section 3); empty is a key too
}

// BuildARF builds a complaint as the provider of the profile would (RFC 5965 and what
// came before it). Lines end in CRLF. An unknown profile redacts nothing and states
// everything.
func BuildARF(c *Complaint) []byte {
	original := c.redact(c.delivered())
	b := &builder{boundary: uniqueBoundary(c.Boundary, original)}
	b.field("From", c.From)
	b.field("To", c.To)
	b.field("Date", c.Date.Format(dateLayout))
	b.field("Subject", c.subject(original))
	b.field("Message-ID", "<"+c.MessageID+">")
	b.field("MIME-Version", "1.0")
	eightBit := !isASCII(string(original))
	if c.Profile == ProfileJMRP {
		b.multipart("multipart/mixed", eightBit)
		b.part()
		b.field("Content-Type", "message/rfc822")
		b.original(original, eightBit)
		return b.close()
	}
	b.multipart("multipart/report; report-type=feedback-report", eightBit)
	b.part()
	b.text("This is an email abuse report for an email message received from IP address\r\n" +
		c.SourceIP.String() + " on " + c.Arrival.Format(dateLayout) + ".\r\n")
	b.part()
	b.field("Content-Type", "message/feedback-report")
	b.end()
	for _, f := range c.fields(original) {
		b.field(f.Name, f.Value)
	}
	b.part()
	if c.Profile == ProfileJMRP2026 {
		b.field("Content-Type", "text/rfc822-headers")
		_, body, _ := ParseHeader(original, Limits{})
		original = original[:len(original)-len(body)]
	} else {
		b.field("Content-Type", "message/rfc822")
	}
	b.field("Content-Disposition", "inline")
	b.original(original, eightBit)
	return b.close()
}

func (b *builder) original(p []byte, eightBit bool) {
	if eightBit {
		b.field("Content-Transfer-Encoding", "8bit")
	}
	b.end()
	b.write(p)
}
