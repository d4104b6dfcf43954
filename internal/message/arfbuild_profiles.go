package message

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // the providers' pseudonyms have the form of MD5
	"encoding/hex"
	"regexp"
	"strings"
	"time"
)

// subject gives the subject of a complaint.
func (c *Complaint) subject(original []byte) string {
	switch c.Profile {
	case ProfileAOL:
		return "Email Feedback Report for IP " + c.SourceIP.String()
	case ProfileJMRP:
		return "complaint about message from " + c.SourceIP.String()
	case ProfileValidity, ProfileComcast:
		return "Abuse report"
	}
	fields, _ := ReadHeader(withoutMbox(original))
	return "FW:" + Get(fields, "Subject")
}

// fields gives the fields of the report part, by profile.
func (c *Complaint) fields(original []byte) []Field {
	when := c.Arrival.Format(dateLayout)
	ip, domain := c.SourceIP.String(), domainOf(c.MailFrom)
	head := func(agent, version string) []Field {
		return []Field{{"Feedback-Type", "abuse"}, {"User-Agent", agent}, {"Version", version}}
	}
	switch c.Profile {
	case ProfileAOL:
		return append(head("AOL SComp", "0.1"), Field{"Received-Date", when}, Field{"Source-IP", ip},
			Field{"Reported-Domain", domain}, Field{"Redacted-Address", "redacted"}, Field{"Redacted-Address", "redacted@"})
	case ProfileYahoo:
		return append(head("Yahoo!-Mail-Feedback/2.0", "0.1"), Field{"Original-Mail-From", "<" + c.MailFrom + ">"},
			Field{"Original-Rcpt-To", c.Rcpt}, Field{"Received-Date", when}, Field{"Reported-Domain", domain},
			Field{"Authentication-Results", "authentication result string is not available"})
	case ProfileJMRP2026:
		return head("JMRP/1.0", "1")
	case ProfileValidity:
		return append(head("ReturnPathFBL/2.0", "1"), Field{"Abuse-Type", "complaint"}, Field{"Arrival-Date", when},
			Field{"Original-Mail-From", c.redactText(c.MailFrom)}, Field{"Original-Rcpt-To", c.redactText(c.Rcpt)},
			Field{"Reported-Domain", domain}, Field{"Source", "Lab"}, Field{"Source-IP", ip},
			Field{"Subscription-Link", "https://fbl.example/manage/subscriptions/1"})
	case ProfileComcast:
		header, _ := ReadHeader(original)
		return append(head("Feedback-Loop/1.0", "0.1"), Field{"Arrival-Date", when}, Field{"Original-Mail-From", "<" + c.redactText(c.MailFrom) + ">"},
			Field{"Original-Message-ID", Get(header, "Message-ID")}, Field{"Reported-Domain", domain}, Field{"Source-IP", ip})
	case ProfileZoho:
		return append(head("Zoho Mail Feedback/1.0", "0.1"), Field{"Received-Date", when}, Field{"Source-IP", ip})
	}
	return append(head("Feedback/1.0", "1"), Field{"Original-Mail-From", "<" + c.MailFrom + ">"}, Field{"Original-Rcpt-To", "<" + c.Rcpt + ">"},
		Field{"Arrival-Date", when}, Field{"Source-IP", ip}, Field{"Reported-Domain", domain})
}

// delivered gives the original with what the provider's own hosts put before it at
// final delivery (RFC 5321, section 4.4), where it does not have that yet.
func (c *Complaint) delivered() []byte {
	original := crlf(c.Original)
	fields, _ := ReadHeader(original)
	var b strings.Builder
	add := func(name, value string) {
		if Get(fields, name) == "" {
			b.WriteString(name + ": " + oneLine(value) + "\r\n")
		}
	}
	switch c.Profile {
	case ProfileYahoo:
		b.WriteString("From " + oneLine(c.MailFrom) + " " + c.Arrival.Format(time.ANSIC) + "\r\n")
		add("X-Apparently-To", c.Rcpt+"; "+c.Arrival.Format(dateLayout))
		add("X-Originating-IP", "["+c.SourceIP.String()+"]")
	case ProfileJMRP:
		add("X-HmXmrOriginalRecipient", c.Rcpt)
	case ProfileJMRP2026:
		add("Received-SPF", "Pass (protection.example: domain of "+domainOf(c.MailFrom)+" designates "+c.SourceIP.String()+
			" as permitted sender) receiver=protection.example; client-ip="+c.SourceIP.String()+"; helo="+domainOf(c.MailFrom)+";")
	case ProfileValidity, ProfileZoho:
		add("Delivered-To", c.Rcpt)
	}
	add("Return-Path", "<"+c.MailFrom+">")
	return append([]byte(b.String()), original...)
}

// redact takes the recipient out of the original, as the profile does.
func (c *Complaint) redact(b []byte) []byte { return []byte(c.redactText(string(b))) }

// redactText replaces the recipient's local part wherever the address stands: as it is,
// and as return paths and URLs spell it ("local=domain", "local%40domain").
func (c *Complaint) redactText(s string) string {
	var pseudonym string
	at := strings.LastIndexByte(c.Rcpt, '@')
	switch c.Profile {
	case ProfileAOL, ProfileComcast:
		pseudonym = "redacted"
	case ProfileValidity:
		m := hmac.New(md5.New, c.Key)
		_, _ = m.Write([]byte(strings.ToLower(c.Rcpt)))
		pseudonym = hex.EncodeToString(m.Sum(nil))
	}
	if pseudonym == "" || at <= 0 {
		return s
	}
	address, err := regexp.Compile(`(?i)(^|[^a-z0-9._])` + regexp.QuoteMeta(c.Rcpt[:at]) + `(@|=|%40|=40)` + regexp.QuoteMeta(c.Rcpt[at+1:]))
	if err != nil {
		return s // an address that is not UTF-8 stands nowhere
	}
	return address.ReplaceAllString(s, "${1}"+pseudonym+"${2}"+c.Rcpt[at+1:])
}
