package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/message"
)

// Mail is a report as it is handed on.
type Mail struct {
	Raw  []byte
	From string // reverse-path without brackets; "" is the null one, or unknown
	To   string // envelope recipient; "" is unknown
}

// Deliver makes a report durable. What it gives an error for stays where it was.
type Deliver func(ctx context.Context, m *Mail) error

// Notice is a report that came in another shape than mail: a provider's webhook, XARF,
// or a line of a log. Addresses have no brackets; what is not known is empty.
type Notice struct {
	Bounce    bool   // or else a complaint
	From      string // domain or address of who reports
	Time      time.Time
	Recipient string
	Sender    string // reverse-path of the mail it is about
	MessageID string
	Subject   string
	Date      time.Time // of the mail it is about
	SourceIP  netip.Addr
	Feedback  string // "abuse" where empty
	UserAgent string
	Action    string          // of a bounce: "failed" where empty
	Status    string          // "5.1.1"
	Remote    string          // host that refused
	Reason    string          // its reply
	Header    []message.Field // of the mail it is about
	Original  []byte          // the mail itself, where it was returned
}

// Mail makes a report of RFC 5965 or RFC 3464 of it, so that it is read and judged like
// one that came by mail. The same notice makes the same mail: its Message-ID is made of
// what it says.
func (n *Notice) Mail(to string) *Mail {
	from := n.From
	if !strings.Contains(from, "@") {
		from = "reports@" + from
	}
	original := n.Original
	if original == nil {
		original = n.header()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%v|%s|%d|%s|%s|%s|%s|%s|%s|%x", n.Bounce, from, n.Time.UnixNano(), n.Recipient, n.Sender, n.MessageID, n.Feedback, n.Status, n.Reason, sha256.Sum256(original)))
	name := hex.EncodeToString(sum[:12])
	id := name + "@" + from[strings.LastIndexByte(from, '@')+1:]
	if n.Bounce {
		action := n.Action
		if action == "" {
			action = "failed"
		}
		raw := message.BuildDSN(&message.DSN{From: from, To: to, Date: n.Time, MessageID: id, Boundary: "b" + name, ReportingMTA: from[strings.LastIndexByte(from, '@')+1:], Arrival: n.Date,
			Recipients: []message.DSNStatus{{Final: n.Recipient, Action: action, Status: n.Status, RemoteMTA: n.Remote, Diagnostic: n.Reason}}, Returned: original, HeaderOnly: n.Original == nil})
		return &Mail{Raw: raw, To: to}
	}
	raw := message.BuildARF(&message.Complaint{From: from, To: to, Date: n.Time, MessageID: id, Boundary: "b" + name, SourceIP: n.SourceIP, Arrival: n.arrival(), MailFrom: n.Sender, Rcpt: n.Recipient, Original: original})
	if f := n.Feedback; f != "" && f != "abuse" {
		raw = []byte(strings.Replace(string(raw), "Feedback-Type: abuse", "Feedback-Type: "+word(f), 1))
	}
	return &Mail{Raw: raw, From: from, To: to}
}

// word keeps what a field of one word may hold.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') {
			return r
		}
		return -1
	}, s)
}

// arrival is when the mail arrived, as far as that is known.
func (n *Notice) arrival() time.Time {
	if n.Date.IsZero() {
		return n.Time
	}
	return n.Date
}

// header makes the header of the mail that the notice is about, of what is known of it.
func (n *Notice) header() []byte {
	var b strings.Builder
	have := map[string]bool{}
	put := func(name, value string) {
		value = strings.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == 0 {
				return ' '
			}
			return r
		}, value)
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		have[strings.ToLower(name)] = true
	}
	for _, f := range n.Header {
		if word(strings.ReplaceAll(f.Name, "_", "-")) == strings.ReplaceAll(f.Name, "_", "-") && f.Name != "" && len(f.Value) < 10_000 {
			put(f.Name, f.Value)
		}
	}
	if n.MessageID != "" && !have["message-id"] {
		put("Message-ID", "<"+n.MessageID+">")
	}
	if n.Recipient != "" && !have["to"] {
		put("To", "<"+n.Recipient+">")
	}
	if n.Subject != "" && !have["subject"] {
		put("Subject", n.Subject)
	}
	if !n.Date.IsZero() && !have["date"] {
		put("Date", n.Date.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	}
	if b.Len() == 0 {
		put("X-Reported", "nothing was returned of it")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}
