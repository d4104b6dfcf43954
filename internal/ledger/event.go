package ledger

import (
	"net/netip"
	"time"

	"postern.dev/postern/internal/smtp"
)

// Event is one fact that the ledger keeps for ever (for its retention). The set is
// closed; each kind has its struct. Events about a message carry its ID.
type Event interface {
	Kind() Kind
	When() time.Time
}

// Kind names a kind of event. Numbers are part of the stored format: append only.
type Kind uint8

// The kinds of event.
const (
	KindAccepted Kind = iota + 1
	KindRefused
	KindAttempted
	KindHandedOff
	KindBounced
	KindHeld
	KindReleased
	KindDropped
	KindReported
	KindGuardTripped
	KindIncident
	KindPolicyLoaded
	KindAdmin
)

// Path is the way that mail takes through the gateway: what an incident is about,
// what a containment holds and what an impact counts.
type Path struct {
	Listener string `json:"listener"`
	Filter   string `json:"filter"` // "" is the default at the end of the list
	Origin   string `json:"origin"`
}

type (
	// Accepted: a message was taken over, with what was decided for each recipient.
	// It is committed in one record with the message, before the 250.
	Accepted struct {
		Time      time.Time
		ID        smtp.ID
		Parent    smtp.ID // of a message that an inside host re-sent: the row it came from
		Listener  string
		Peer      netip.AddrPort
		Helo      string
		TLS       string // "TLS1.3 TLS_AES_128_GCM_SHA256", "" in clear
		AuthUser  string
		Origin    string
		Customer  string
		Sender    string   // reverse-path as given
		MessageID string   // Message-ID field without brackets; the gateway's own where the injector set none
		Subject   uint64   // SubjectHash of the Subject field, 0 where there is none
		DKIM      []uint64 // DKIMHash of the b= of each DKIM-Signature field
		Size      int64
		Policy    string // policy version
		Decisions []Decided
	}
	// Decided is the decision for one recipient of an Accepted message, by index.
	Decided struct {
		Recipient   string
		Disposition string // policy.Disposition
		Filter      string
		Line        string // "file:line" of the filter
		Pool        string
		Inside      string
		Logs        []string
		Tags        []string
	}
	// Refused: a recipient or a message was refused with a 4xx or 5xx, at RCPT or at
	// the end of DATA.
	Refused struct {
		Time      time.Time
		Listener  string
		Peer      netip.AddrPort
		Helo      string
		Origin    string
		Customer  string
		Sender    string
		Recipient string
		Filter    string
		Policy    string
		Reply     string
	}
	// Attempted: a delivery attempt that did not end in a hand-off and will be
	// repeated.
	Attempted struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		Attempt   int // 1 for the first
		Pool      string
		Source    netip.Addr
		Peer      netip.AddrPort // zero where no connection came about
		Host      string
		Reply     string // the peer's reply, or the cause in our words
		Next      time.Time
	}
	// HandedOff: the peer took over one recipient. It carries its whole path, so that
	// an impact can be counted from these rows alone.
	HandedOff struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		Address   string // the recipient
		Domain    string // its domain, normal form
		Path      Path
		Policy    string
		Customer  string
		Pool      string
		Source    netip.Addr
		Peer      netip.AddrPort
		Host      string
		TLS       string
		Reply     string
		Attempt   int
		Seconds   float64 // from acceptance to hand-off
	}
	// Bounced: delivery was given up, and a DSN sent where one was due.
	Bounced struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		Path      Path
		Source    netip.Addr
		Peer      netip.AddrPort
		Host      string
		Reply     string
		DSN       smtp.ID // the DSN's own message, zero where none was due
	}
	// Held: a recipient is kept back.
	Held struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		Path      Path
		Reason    string
		Incident  string // "" where a filter or an operator held it
	}
	// Released: a held recipient goes back to the queue.
	Released struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		By        string
	}
	// Dropped: a recipient was discarded after acceptance by an operator.
	Dropped struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		By        string
		Reason    string
	}
	// Reported: a complaint or bounce came in and was judged.
	Reported struct {
		Time     time.Time
		ID       smtp.ID // the report's own message; zero for a report from a file
		Identity string  // of the report, for telling duplicates
		Provider string
		Format   string
		Verdict  string
		Grade    string
		Keys     []string // "stamp", "received-id=...": what decided
		Subject  smtp.ID  // the message that it is about; zero where unknown
		Rcpt     int      // recipient index of Subject, -1 where unknown
		Customer string
		Path     Path // of Subject
		SourceIP netip.Addr
		Arrived  time.Time // arrival of the offending mail as the report has it
	}
	// GuardTripped: a stranger's message was about to be relayed.
	GuardTripped struct {
		Time      time.Time
		ID        smtp.ID
		Recipient int
		Address   string
		Path      Path
		Peer      netip.Addr // of the session it came from
		Policy    string
		Observed  bool   // the guard only watches: the message went on
		Host      string // where it was about to go
	}
	// IncidentChanged: an incident was opened or moved on. The incident is the sum of
	// these events.
	IncidentChanged struct {
		Time     time.Time
		Incident string // "INC-2026-0001"
		State    string // open, contained, repaired, closed, false-alarm
		By       string // "postern" or the operator's name
		Note     string
		Trigger  string // of the opening: leaked, bypassed, guard
		Path     Path   // of the opening
		Peer     netip.Addr
		Policy   string
		Pool     string
		Source   netip.Addr
		Message  smtp.ID       // the message that opened it
		Report   string        // identity of the report that opened it
		Contain  []Containment // of the containment: what is now held; replaces the former list
	}
	// PolicyLoaded: a policy came into force.
	PolicyLoaded struct {
		Time    time.Time
		Policy  string
		By      string
		Files   []string
		Filters int
		Guard   string
		Reason  string
	}
	// Admin: an operator did something to the queue or the node.
	Admin struct {
		Time   time.Time
		By     string
		Action string
		Object string
		Note   string
	}
)

// Containment is one thing that is held back while an incident lasts. Exactly one
// of its parts is set.
type Containment struct {
	Path   *Path        `json:"path,omitempty"`
	Source netip.Prefix `json:"source,omitzero"` // peers whose mail is held
	Pool   string       `json:"pool,omitempty"`
}
