package lab

import (
	"bytes"
	"regexp"
	"strings"

	"postern.dev/postern/internal/message"
)

// redactor writes a complaint as a reporter does.
type redactor struct {
	like   message.Profile // BuildARF's that comes nearest
	agent  string          // User-Agent in place of that profile's
	change func([]byte) []byte
}

var (
	pseudonym = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	agentLine = regexp.MustCompile(`(?m)^User-Agent: .*\r$`)
	rcptLine  = regexp.MustCompile(`(?m)^Original-Rcpt-To: .*\r\n`)
)

// redactors are those of the profiles that the report package ships, by name.
func redactors() map[string]redactor {
	validity := redactor{like: message.ProfileValidity}
	return map[string]redactor{
		"yahoo": {like: message.ProfileYahoo}, "aol": {like: message.ProfileAOL}, "jmrp": {like: message.ProfileJMRP}, "jmrp-2026": {like: message.ProfileJMRP2026},
		"validity": validity, "fastmail": validity, "opensrs": validity, "bluetie": validity,
		"rackspace": {like: message.ProfileValidity, agent: "ReturnPathFBL/1.0"},
		"comcast":   {like: message.ProfileComcast}, "zoho": {like: message.ProfileZoho},
		"mailru":      {agent: "Mail.Ru-FBL/1.0"},
		"spamexperts": {agent: "SpamExperts/1.0", change: withEnvelopeID},
		"synacor":     {like: message.ProfileValidity, change: bracketed},
		"cfbl":        {like: message.ProfileJMRP2026, agent: "CFBL/1.0", change: identifiersAlone},
	}
}

// Redactors lists the reporters that Redacted knows.
func Redactors() (names []string) {
	for n := range redactors() {
		names = append(names, n)
	}
	return names
}

// Redacted builds a complaint as the reporter of a profile writes it, with what he takes
// out. A reporter who is not known takes nothing out.
func Redacted(name string, c message.Complaint) []byte {
	r := redactors()[name]
	c.Profile = r.like
	b := message.BuildARF(&c)
	if r.agent != "" {
		b = agentLine.ReplaceAll(b, []byte("User-Agent: "+r.agent+"\r"))
	}
	if r.change != nil {
		b = r.change(b)
	}
	return b
}

// bracketed puts a word where others put a pseudonym, and states no recipient.
func bracketed(b []byte) []byte {
	return pseudonym.ReplaceAll(rcptLine.ReplaceAll(b, nil), []byte("[redacted]"))
}

// withEnvelopeID states an Original-Envelope-Id that is the reporter's own queue id.
func withEnvelopeID(b []byte) []byte {
	return bytes.Replace(b, []byte("\r\nSource-IP: "), []byte("\r\nOriginal-Envelope-Id: 1abCDe-000000-FG\r\nSource-IP: "), 1)
}

// identifiersAlone leaves what a report to a CFBL-Address must have of the message (RFC
// 9477, section 3): its Message-ID and its CFBL-Feedback-ID.
func identifiersAlone(b []byte) []byte {
	at := bytes.Index(b, []byte("text/rfc822-headers"))
	if at < 0 {
		return b
	}
	start := at + bytes.Index(b[at:], []byte("\r\n\r\n")) + 4
	end := start + bytes.LastIndex(b[start:], []byte("\r\n--"))
	fields, _ := message.ReadHeader(b[start:end])
	var kept strings.Builder
	for _, f := range fields {
		if strings.EqualFold(f.Name, "Message-ID") || strings.EqualFold(f.Name, "CFBL-Feedback-ID") {
			kept.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	}
	return append(append(bytes.Clone(b[:start]), kept.String()...), b[end:]...)
}
