package spool

import (
	"time"

	"postern.dev/postern/internal/smtp"
)

// Position is a place in the log: records are ordered by it, and it only grows. The
// zero Position is the beginning.
type Position uint64

// Message is one accepted message as the spool keeps it: everything that its
// delivery needs, so that a restart needs nothing else.
type Message struct {
	ID         smtp.ID
	Accepted   time.Time
	From       smtp.Path // reverse-path as the injector gave it
	EightBit   bool      // body may hold octets above 127
	UTF8       bool      // needs SMTPUTF8 at the next hop
	Return     string    // RET
	EnvID      string    // ENVID
	Origin     string    // policy.Origin: whose message it is
	Customer   string    // "" where there is none
	Listener   string    // where it came in; "" for mail that Postern made
	Peer       string    // address of the client that handed it over
	Policy     string    // version of the policy that decided
	Campaign   string    // of the customer, "" where there is none
	Priority   Priority
	Subject    uint64 // the ledger's hash of the Subject field, 0 where there is none
	Size       int64  // of the body in the spool, in bytes
	Recipients []Recipient
}

// Priority is how urgent a message is. The numbers are part of the stored form.
type Priority uint8

// The priorities.
const (
	Normal Priority = iota
	High            // somebody waits for it: a password reset
	Bulk
)

// String gives the name that configurations use.
func (p Priority) String() string {
	switch p {
	case High:
		return "high"
	case Bulk:
		return "bulk"
	}
	return "normal"
}

// ParsePriority reads what String gives.
func ParsePriority(s string) (Priority, bool) {
	for _, p := range []Priority{Normal, High, Bulk} {
		if s == p.String() {
			return p, true
		}
	}
	return Normal, false
}

// Recipient is one recipient of a message, with what was decided for it.
type Recipient struct {
	To      smtp.Path
	Notify  smtp.Notify
	ORcpt   string
	Filter  string   // that decided; "" is the default
	Pool    string   // "" for Postern's own choice
	Inside  string   // inside host that is the next hop; "" is the MX
	Headers []string // whole lines to put before the message at hand-off, without CRLF
	State   State    // at acceptance: Pending, Held, or Settled for what is not to be delivered
	Reason  string   // why it is held
}

// State is where a recipient stands.
type State uint8

// The states. Only Settled is final: the spool may forget the recipient.
const (
	Pending State = iota // to be delivered, now or at NotBefore
	Held                 // kept until somebody decides
	Settled              // delivered, bounced, dropped or given up
)

// Change moves one recipient to another state.
type Change struct {
	ID        smtp.ID
	Recipient int // index into Message.Recipients
	State     State
	Attempts  int       // so far
	NotBefore time.Time // of Pending: earliest next attempt; the zero time is now
	Reason    string    // of Held: why; of Pending: the last reply
}

// Batch is what one commit makes durable, all of it or none of it. Any part may be
// absent. From the commit on it belongs to the spool and is not changed any more.
type Batch struct {
	Message *Message // a message accepted
	Body    *Body    // of Message; consumed by the commit
	Changes []Change
	Events  [][]byte // the outbox: encoded ledger events, in order
}

// Entry is a live message as List gives it: with its recipients' present states.
type Entry struct {
	ID      smtp.ID
	States  []RecipientState // by recipient index
	Message *Message         // its envelope, nil where it has to be asked for; of Stock only
}

// RecipientState is the present state of one recipient.
type RecipientState struct {
	State     State
	Attempts  int
	NotBefore time.Time
	Reason    string
}

// Reasons for which a recipient is held from the moment of its acceptance until
// somebody deals with it, a crash in between included.
const (
	// ReasonConsume marks what Postern itself reads: a report. Whoever has read it
	// settles it.
	ReasonConsume = "to be read by postern"
	// ReasonBounce begins the reason of what a filter bounces; its DSN settles it. It is
	// held and not pending so that a crash cannot deliver it.
	ReasonBounce = "to be bounced"
)
