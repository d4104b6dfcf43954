package message

import (
	"net/netip"
	"strings"
	"time"
)

// Format names the shape in which a report came.
type Format string

// The formats.
const (
	FormatARF  Format = "arf"  // multipart/report; report-type=feedback-report (RFC 5965 and drafts)
	FormatJMRP Format = "jmrp" // Microsoft's multipart/mixed with one message/rfc822
	FormatDSN  Format = "dsn"  // RFC 3464

	FormatBounce    Format = "bounce"     // a bounce in words alone
	FormatComplaint Format = "complaint"  // in the JSON of a provider
	FormatXARF      Format = "xarf"       // XARF 3 and 4: JSON
	FormatAutoReply Format = "auto-reply" // of somebody who is away (RFC 3834), and of the like: no report
	FormatChallenge Format = "challenge"  // a filter asks the author to confirm his mail: no report
)

// Bounce reports a format that tells what became of mail to recipients.
func (f Format) Bounce() bool { return f == FormatDSN || f == FormatBounce }

// Answer reports a format that is no report: a machine's answer to mail that arrived.
func (f Format) Answer() bool { return f == FormatAutoReply || f == FormatChallenge }

// Report is a complaint or a bounce as read, before any judgement. A field is empty
// where neither the report nor the returned original has it.
type Report struct {
	Format       Format
	From         string    // address in From of the report itself
	MessageID    string    // of the report itself
	Date         time.Time // of the report itself
	FeedbackType string    // "abuse", ...; "" for a DSN
	UserAgent    string
	Version      string
	SourceIP     netip.Addr // that the provider saw handing the mail over
	Arrival      time.Time  // Arrival-Date or Received-Date
	OriginalFrom string     // Original-Mail-From, brackets removed
	OriginalTo   []string   // Original-Rcpt-To, brackets removed; may be redacted
	OriginalEnv  string     // Original-Envelope-Id
	ReportingMTA string
	Reported     []string          // Reported-Domain
	ReportedURI  []string          `json:",omitempty"` // Reported-URI
	AuthFailure  *AuthFailure      `json:",omitempty"` // of FeedbackType "auth-failure"
	AuthResults  []string          // Authentication-Results of the report part
	Incidents    int               // 1 where not given
	Fields       []Field           // all fields of the report part, in order
	Recipients   []DSNRecipient    // of a DSN
	Original     *Original         // what was returned of the mail; nil where nothing was
	Derived      map[string]string // one of the names below -> where its value was taken from, for those not stated
	Header       []Field           // of the report itself
}

// Names of values that a report did not state and that were taken from elsewhere.
const (
	DerivedSourceIP     = "source-ip"
	DerivedArrival      = "arrival-date"
	DerivedOriginalFrom = "original-mail-from"
	DerivedOriginalTo   = "original-rcpt-to"
	DerivedStatus       = "status"
	DerivedAction       = "action"
	DerivedRecipient    = "final-recipient"
	DerivedDiagnostic   = "diagnostic-code"
	DerivedFeedbackType = "feedback-type"
)

// Field is a header field: the name as spelt, the value unfolded and trimmed.
type Field struct {
	Name  string
	Value string
}

// AuthFailure is what a report on failed authentication tells beside the rest (RFC 6591,
// section 3.2, and RFC 7489, section 7.3).
type AuthFailure struct {
	Failure           string // Auth-Failure: "adsp", "bodyhash", "revoked", "signature", "spf", "dmarc"
	DeliveryResult    string
	DKIMDomain        string
	DKIMIdentity      string
	DKIMSelector      string
	DKIMSelectorDNS   string
	DKIMHeader        []byte // canonicalised, decoded
	DKIMBody          []byte
	SPFDNS            []string
	IdentityAlignment string // "none", "spf", "dkim", ...
}

// Original is the returned mail, or its header.
type Original struct {
	Header     []Field
	HeaderOnly bool
	Body       []byte // at most the first 64 KiB
	Size       int64  // of what was returned
}

// Get gives the value of the first field of a name in the returned header.
func (o *Original) Get(name string) string { return Get(o.Header, name) }

// All gives the values of every field of a name in the returned header.
func (o *Original) All(name string) []string { return All(o.Header, name) }

// ReceivedIDs gives the ids of the Received fields that a host wrote (RFC 5321, section
// 4.4), newest first.
func (o *Original) ReceivedIDs(host string) []string {
	var ids []string
	for _, v := range o.All("Received") {
		if r := ParseReceived(v); r.ID != "" && strings.EqualFold(r.By, host) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// DSNRecipient is one per-recipient group of a DSN (RFC 3464, section 2.3).
type DSNRecipient struct {
	Original   string // Original-Recipient without its type
	Final      string // Final-Recipient without its type
	Action     string // failed, delayed, delivered, relayed, expanded
	Status     string // "5.1.1"
	RemoteMTA  string
	Diagnostic string
}

// Address gives whom a group is about: the address that was tried last, else the one
// that the author gave, where the first is no mailbox (a file, a program).
func (d *DSNRecipient) Address() string {
	if !mailbox(d.Final) && mailbox(d.Original) {
		return d.Original
	}
	return d.Final
}
