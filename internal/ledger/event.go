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
	KindShaping
	KindWatched
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
		Time      time.Time      `json:"time"`
		ID        smtp.ID        `json:"id"`
		Parent    smtp.ID        `json:"parent,omitzero"` // of a message that an inside host re-sent: the row it came from
		Listener  string         `json:"listener"`
		Peer      netip.AddrPort `json:"peer,omitzero"`
		Helo      string         `json:"helo,omitzero"`
		TLS       string         `json:"tls,omitzero"` // "TLS1.3 TLS_AES_128_GCM_SHA256", "" in clear
		AuthUser  string         `json:"auth_user,omitzero"`
		Origin    string         `json:"origin"`
		Customer  string         `json:"customer,omitzero"`
		Sender    string         `json:"sender"`                // reverse-path as given
		MessageID string         `json:"message_id,omitzero"`   // Message-ID field without brackets; the gateway's own where the injector set none
		Subject   uint64         `json:"subject_hash,omitzero"` // SubjectHash of the Subject field, 0 where there is none
		DKIM      []uint64       `json:"dkim_hashes,omitempty"` // DKIMHash of the b= of each DKIM-Signature field
		Size      int64          `json:"size"`
		Policy    string         `json:"policy"` // policy version
		Decisions []Decided      `json:"decisions"`
		Campaign  string         `json:"campaign,omitzero"` // as the header says that the configuration names
		Priority  string         `json:"priority,omitzero"` // high, bulk; "" is normal
		Watch     string         `json:"watch,omitzero"`    // of mail that another server sent: the watch that read its log
		Queue     string         `json:"queue,omitzero"`    // that server's own id of it
	}
	// Decided is the decision for one recipient of an Accepted message, by index.
	Decided struct {
		Recipient   string   `json:"recipient"`
		Disposition string   `json:"disposition"` // policy.Disposition
		Filter      string   `json:"filter"`
		Line        string   `json:"line,omitzero"` // "file:line" of the filter
		Pool        string   `json:"pool,omitzero"`
		Inside      string   `json:"inside,omitzero"`
		Logs        []string `json:"logs,omitempty"`
		Tags        []string `json:"tags,omitempty"`
	}
	// Refused: a recipient or a message was refused with a 4xx or 5xx, at RCPT or at
	// the end of DATA.
	Refused struct {
		Time      time.Time      `json:"time"`
		Listener  string         `json:"listener"`
		Peer      netip.AddrPort `json:"peer,omitzero"`
		Helo      string         `json:"helo,omitzero"`
		Origin    string         `json:"origin"`
		Customer  string         `json:"customer,omitzero"`
		Sender    string         `json:"sender"`
		Recipient string         `json:"recipient"`
		Filter    string         `json:"filter"`
		Policy    string         `json:"policy"`
		Reply     string         `json:"reply,omitzero"`
	}
	// Attempted: a delivery attempt that did not end in a hand-off and will be
	// repeated.
	Attempted struct {
		Time      time.Time      `json:"time"`
		ID        smtp.ID        `json:"id"`
		Recipient int            `json:"recipient"`
		Attempt   int            `json:"attempt"` // 1 for the first
		Pool      string         `json:"pool,omitzero"`
		Source    netip.Addr     `json:"source,omitzero"`
		Peer      netip.AddrPort `json:"peer,omitzero"` // zero where no connection came about
		Host      string         `json:"host,omitzero"`
		Reply     string         `json:"reply,omitzero"` // the peer's reply, or the cause in our words
		Next      time.Time      `json:"next,omitzero"`
		Category  string         `json:"category,omitzero"` // of the failure, as in Bounced
		Site      string         `json:"site,omitzero"`     // the destinations that share an MX set
		Provider  string         `json:"provider,omitzero"`
		Campaign  string         `json:"campaign,omitzero"`
	}
	// HandedOff: the peer took over one recipient. It carries its whole path, so that
	// an impact can be counted from these rows alone.
	HandedOff struct {
		Time      time.Time      `json:"time"`
		ID        smtp.ID        `json:"id"`
		Recipient int            `json:"recipient"`
		Address   string         `json:"address"`         // the recipient
		Domain    string         `json:"domain,omitzero"` // its domain, normal form
		Path      Path           `json:"path"`
		Policy    string         `json:"policy"`
		Customer  string         `json:"customer,omitzero"`
		Pool      string         `json:"pool,omitzero"`
		Source    netip.Addr     `json:"source,omitzero"`
		Peer      netip.AddrPort `json:"peer,omitzero"`
		Host      string         `json:"host,omitzero"`
		TLS       string         `json:"tls,omitzero"`
		Reply     string         `json:"reply,omitzero"`
		Attempt   int            `json:"attempt"`
		Seconds   float64        `json:"seconds,omitzero"` // from acceptance to hand-off
		Site      string         `json:"site,omitzero"`    // the destinations that share an MX set
		Provider  string         `json:"provider,omitzero"`
		Campaign  string         `json:"campaign,omitzero"`
		Subject   uint64         `json:"subject_hash,omitzero"` // as in Accepted
	}
	// Bounced: delivery was given up, and a DSN sent where one was due.
	Bounced struct {
		Time      time.Time      `json:"time"`
		ID        smtp.ID        `json:"id"`
		Recipient int            `json:"recipient"`
		Path      Path           `json:"path"`
		Source    netip.Addr     `json:"source,omitzero"`
		Peer      netip.AddrPort `json:"peer,omitzero"`
		Host      string         `json:"host,omitzero"`
		Reply     string         `json:"reply,omitzero"`
		DSN       smtp.ID        `json:"dsn,omitzero"`      // the DSN's own message, zero where none was due
		Category  string         `json:"category,omitzero"` // why: "suppressed", or what classification or a rule says
		Site      string         `json:"site,omitzero"`     // the destinations that share an MX set
		Provider  string         `json:"provider,omitzero"`
		Campaign  string         `json:"campaign,omitzero"`
		Customer  string         `json:"customer,omitzero"`
	}
	// Held: a recipient is kept back.
	Held struct {
		Time      time.Time `json:"time"`
		ID        smtp.ID   `json:"id"`
		Recipient int       `json:"recipient"`
		Path      Path      `json:"path"`
		Reason    string    `json:"reason,omitzero"`
		Incident  string    `json:"incident,omitzero"` // "" where a filter or an operator held it
	}
	// Released: a held recipient goes back to the queue.
	Released struct {
		Time      time.Time `json:"time"`
		ID        smtp.ID   `json:"id"`
		Recipient int       `json:"recipient"`
		By        string    `json:"by,omitzero"`
	}
	// Dropped: a recipient was discarded after acceptance by an operator.
	Dropped struct {
		Time      time.Time `json:"time"`
		ID        smtp.ID   `json:"id"`
		Recipient int       `json:"recipient"`
		By        string    `json:"by,omitzero"`
		Reason    string    `json:"reason,omitzero"`
	}
	// Reported: a complaint or bounce came in and was judged.
	Reported struct {
		Time     time.Time  `json:"time"`
		ID       smtp.ID    `json:"id"`                // the report's own message; zero for a report from a file
		Identity string     `json:"identity,omitzero"` // of the report, for telling duplicates
		Provider string     `json:"provider,omitzero"`
		Format   string     `json:"format,omitzero"`
		Verdict  string     `json:"verdict"`
		Grade    string     `json:"grade"`
		Keys     []string   `json:"keys,omitempty"`   // "stamp", "received-id=...": what decided
		Subject  smtp.ID    `json:"message,omitzero"` // the message that it is about; zero where unknown
		Rcpt     int        `json:"recipient"`        // recipient index of Subject, -1 where unknown
		Customer string     `json:"customer,omitzero"`
		Path     Path       `json:"path"` // of Subject
		SourceIP netip.Addr `json:"source_ip,omitzero"`
		Arrived  time.Time  `json:"arrived,omitzero"` // arrival of the offending mail as the report has it
		// Complainer tells those who complain apart: a hash of the recipient as the report has
		// it, which may be a pseudonym of the provider's; 0 where it has none.
		Complainer uint64 `json:"complainer,omitzero"`
		Domain     string `json:"domain,omitzero"` // of that recipient
		Campaign   string `json:"campaign,omitzero"`
		Pool       string `json:"pool,omitzero"`
	}
	// GuardTripped: a stranger's message was about to be relayed.
	GuardTripped struct {
		Time      time.Time  `json:"time"`
		ID        smtp.ID    `json:"id"`
		Recipient int        `json:"recipient"`
		Address   string     `json:"address"`
		Path      Path       `json:"path"`
		Peer      netip.Addr `json:"peer,omitzero"` // of the session it came from
		Policy    string     `json:"policy"`
		Observed  bool       `json:"observed,omitzero"` // the guard only watches: the message went on
		Host      string     `json:"host,omitzero"`     // where it was about to go
	}
	// IncidentChanged: an incident was opened or moved on. The incident is the sum of
	// these events.
	IncidentChanged struct {
		Time     time.Time     `json:"time"`
		Incident string        `json:"incident,omitzero"` // "INC-2026-0001"
		State    string        `json:"state,omitzero"`    // open, contained, repaired, closed, false-alarm
		By       string        `json:"by,omitzero"`       // "postern" or the operator's name
		Note     string        `json:"note,omitzero"`
		Trigger  string        `json:"trigger,omitzero"` // of the opening: leaked, bypassed, guard
		Path     Path          `json:"path"`             // of the opening
		Peer     netip.Addr    `json:"peer,omitzero"`
		Policy   string        `json:"policy"`
		Pool     string        `json:"pool,omitzero"`
		Source   netip.Addr    `json:"source,omitzero"`
		Message  smtp.ID       `json:"message,omitzero"`  // the message that opened it
		Report   string        `json:"report,omitzero"`   // identity of the report that opened it
		Contain  []Containment `json:"contain,omitempty"` // of the containment: what is now held; replaces the former list
	}
	// PolicyLoaded: a policy came into force.
	PolicyLoaded struct {
		Time    time.Time `json:"time"`
		Policy  string    `json:"policy"`
		By      string    `json:"by,omitzero"`
		Files   []string  `json:"files,omitempty"`
		Filters int       `json:"filters"`
		Guard   string    `json:"guard,omitzero"`
		Reason  string    `json:"reason,omitzero"`
	}
	// Admin: an operator did something to the queue or the node.
	Admin struct {
		Time   time.Time `json:"time"`
		By     string    `json:"by,omitzero"`
		Action string    `json:"action,omitzero"`
		Object string    `json:"object,omitzero"`
		Note   string    `json:"note,omitzero"`
	}
	// ShapingChanged: a rule or an operator has changed how fast mail may go where, for a
	// time, or an operator has undone it. What is in force is the sum of these events.
	ShapingChanged struct {
		Time        time.Time  `json:"time"`
		Action      string     `json:"action"`         // identity, for undoing it
		State       string     `json:"state"`          // "began", "undone"
		Does        string     `json:"does,omitzero"`  // "throttle", "backoff", "suspend"
		Rule        string     `json:"rule,omitzero"`  // "" where an operator acted
		Where       string     `json:"where,omitzero"` // file:line:column of the rule
		By          string     `json:"by,omitzero"`
		Scope       string     `json:"scope,omitzero"`  // what is bound: "source", "site" ...
		Within      string     `json:"within,omitzero"` // how far that reaches
		Site        string     `json:"site,omitzero"`
		Provider    string     `json:"provider,omitzero"`
		Domain      string     `json:"domain,omitzero"`
		MX          string     `json:"mx,omitzero"`
		Pool        string     `json:"pool,omitzero"`
		Source      netip.Addr `json:"source,omitzero"`
		Customer    string     `json:"customer,omitzero"`
		Campaign    string     `json:"campaign,omitzero"`
		From        time.Time  `json:"from,omitzero"`
		Until       time.Time  `json:"until,omitzero"`        // zero: until it is undone
		Rate        string     `json:"rate,omitzero"`         // of a throttle: "60/1m0s"
		Connections int        `json:"connections,omitempty"` // of a throttle
		Reply       string     `json:"reply,omitzero"`        // that set it off
		Count       int        `json:"count,omitempty"`       // replies that were counted
		Note        string     `json:"note,omitzero"`
	}
)

// Containment is one thing that is held back while an incident lasts. Exactly one
// of its parts is set.
type Containment struct {
	Path   *Path        `json:"path,omitempty"`
	Source netip.Prefix `json:"source,omitzero"` // peers whose mail is held
	Pool   string       `json:"pool,omitempty"`
}
