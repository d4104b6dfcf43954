package report

import (
	"net/netip"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// Kind is what a report is found to be.
type Kind string

// The verdicts, in the order in which they are tried.
const (
	Malformed   Kind = "malformed"   // not a report, or without anything that could be judged
	Duplicate   Kind = "duplicate"   // judged before
	Forged      Kind = "forged"      // carries a stamp that we never minted
	Expired     Kind = "expired"     // a true stamp whose row the ledger keeps no more
	Replayed    Kind = "replayed"    // a true stamp on mail that cannot be the one it was minted for
	Sent        Kind = "sent"        // a customer sent it through us
	Leaked      Kind = "leaked"      // we emitted it, and nobody of ours sent it
	Bypassed    Kind = "bypassed"    // from an address that is ours alone, not through us
	Foreign     Kind = "foreign"     // not from us
	Undecidable Kind = "undecidable" // too little is left to tell
)

// Grade says how good the evidence is.
type Grade string

// The grades.
const (
	GradeA Grade = "A" // a stamp, or our own row by our own id, from an authenticated reporter
	GradeB Grade = "B" // other keys that agree
	GradeC Grade = "C" // weak, or from a reporter who is not authenticated: pages nobody
)

// Key is one piece of evidence.
type Key struct {
	Name     string `json:"name"` // stamp, received-id, message-id, dkim, hand-off, source-ip
	Value    string `json:"value,omitempty"`
	Supports bool   `json:"supports"` // or contradicts
}

// Verdict is a judged report.
type Verdict struct {
	Kind          Kind        `json:"verdict"`
	Grade         Grade       `json:"grade"`
	Reason        string      `json:"reason"` // one sentence, for people
	Provider      string      `json:"provider,omitempty"`
	Authenticated bool        `json:"authenticated"`
	Profile       string      `json:"profile,omitempty"` // what the report says of itself: the name of a Profile
	Way           string      `json:"way,omitempty"`     // from us to the reporter: direct, forwarded, by a list, astray; "" where there is no trace
	Format        string      `json:"format,omitempty"`
	FeedbackType  string      `json:"feedback_type,omitempty"`
	Keys          []Key       `json:"keys"`
	Message       smtp.ID     `json:"message,omitzero"`
	Recipient     int         `json:"recipient"`       // index, -1 where unknown
	Chain         []smtp.ID   `json:"chain,omitempty"` // of a message that an inside host has sent on: what it came from, nearest first
	Customer      string      `json:"customer,omitempty"`
	Campaign      string      `json:"campaign,omitempty"`
	Path          ledger.Path `json:"path,omitzero"`
	Peer          netip.Addr  `json:"peer,omitzero"` // of the session that brought the message in
	Policy        string      `json:"policy,omitempty"`
	Pool          string      `json:"pool,omitempty"`
	Source        netip.Addr  `json:"source,omitzero"` // that we handed it over from
	SourceIP      netip.Addr  `json:"source_ip,omitzero"`
	Arrived       time.Time   `json:"arrived,omitzero"`
	Identity      string      `json:"identity,omitempty"`
	Domain        string      `json:"domain,omitempty"` // of the recipient
	Again         time.Time   `json:"again,omitzero"`   // it rests on a row that may be under way: to be judged again from then on, and not to be acted on before
	Complainer    uint64      `json:"-"`

	Named    bool      `json:"-"` // Recipient is not a guess: a stamp names it, or the message has no other
	Address  string    `json:"-"` // of the recipient as the ledger has it, where Named
	Refusals []Refusal `json:"-"` // of a bounce, about that recipient
}

// Refusal is what a bounce says of the recipient.
type Refusal struct {
	Action string // RFC 3464: failed, delayed, ...
	Status string // "5.1.1", "" where there is none
	Text   string // the diagnostic
}

// Pages reports whether the verdict opens an incident: leaked or bypassed, from a
// reporter who is who he says, on evidence better than C.
func (v *Verdict) Pages() bool {
	return (v.Kind == Leaked || v.Kind == Bypassed) && v.Authenticated && v.Grade != GradeC && v.Again.IsZero()
}

// Event makes the ledger's row of the verdict. id is the report's own message.
func (v *Verdict) Event(id smtp.ID, now time.Time) *ledger.Reported {
	e := &ledger.Reported{Time: now, ID: id, Identity: v.Identity, Provider: v.Provider, Format: v.Format, Verdict: string(v.Kind), Grade: string(v.Grade),
		Subject: v.Message, Rcpt: v.Recipient, Customer: v.Customer, Path: v.Path, SourceIP: v.SourceIP, Arrived: v.Arrived, Complainer: v.Complainer, Domain: v.Domain, Campaign: v.Campaign, Pool: v.Pool}
	for _, k := range v.Keys {
		sign := "+"
		if !k.Supports {
			sign = "-"
		}
		e.Keys = append(e.Keys, sign+k.Name+"="+k.Value)
	}
	return e
}
