package shaping

import (
	"net/netip"
	"time"
)

// Destination is where a recipient domain's mail goes.
type Destination struct {
	Domain   string // the recipient domain, normal form
	Site     string // the destinations that share an MX set; pinned by a provider's rules
	Provider string // "" where no provider's rules match
}

// Traffic is what one attempt is about. Zero parts are unknown.
type Traffic struct {
	Destination
	MX       string // host name of the mail exchanger
	Pool     string
	Source   netip.Addr
	Customer string
	Campaign string
}

// Rate is at most Count in each Per, evenly spread (GCRA) with a burst of Burst.
type Rate struct {
	Count int
	Per   time.Duration
	Burst int // at least 1; 0 means 1
}

// Limits bind one destination. Zero parts bind nothing.
type Limits struct {
	Connections           int // to the site, all sources together
	ConnectionsPerSource  int
	MessagesPerConnection int
	Idle                  time.Duration   // a connection may wait for the next message for so long
	ConnectionRate        []Rate          // new connections to the site, for each source
	MessageRate           []Rate          // messages to the site, all sources together
	SourceRate            []Rate          // messages to the site, for each source: warm-up, or a provider's wish
	RecipientRate         []Rate          // recipients to the site, all sources together
	Schedule              []time.Duration // waits before the attempts after the first; the last one repeats
	Expire                time.Duration
}

// Block is a reason not to send at present.
type Block struct {
	Until  time.Time // zero: until an operator lifts it
	Scope  string    // "site", "source", "pool", "customer", "campaign", "domain", "provider", "message"
	Reason string    // in words: the rule that acted, or the operator's note
	Action string    // identity of the action, for undoing it
}

// Reply is what an attempt came to.
type Reply struct {
	Code     int    // SMTP reply code; 0 where there was none
	Enhanced string // "4.7.28", "" where there was none
	Text     string // the whole reply, or the cause in our words
	Stage    string // "connect", "tls", "helo", "mail", "rcpt", "data", "end"
}

// Fate is what a rule says about the recipient at hand, beyond what the reply itself
// says (RFC 5321, section 4.2.1).
type Fate uint8

// The fates.
const (
	AsReplied Fate = iota // 4xx is tried again, 5xx is a failure
	TryAgain              // defer, even on a 5xx
	Bounce                // fail, even on a 4xx
	Elsewhere             // at once from another source of the pool, if there is one
)

// Judgement is the answer to an outcome.
type Judgement struct {
	Fate     Fate
	Suppress bool          // put the recipient on the customer's suppression list
	After    time.Duration // earliest next attempt; 0 leaves it to the schedule
	Category string        // bounce category, "" where no rule names one
	Rule     string        // name of the rule that decided the fate
	Actions  []Action      // that came into force by it
}

// Action is an automatic change that is in force for a time.
type Action struct {
	ID      string  // identity, for undoing it
	Rule    string  // name of the rule, "" where an operator acted
	Kind    string  // "throttle", "backoff", "suspend"
	Traffic Traffic // what it binds: the parts that Scope names are set
	Scope   string  // as in Block
	From    time.Time
	Until   time.Time // zero: until an operator lifts it
	Rate    *Rate     // of a throttle
	Reply   string    // the reply that set it off
	Count   int       // replies that were counted up to the threshold

	Within      string // how far it reaches: "site", "provider", "everywhere"; "" is the scope itself
	Connections int    // of a throttle: at most so many, 0 leaves them alone
	By          string // the operator, "" where a rule acted
	Reason      string // the operator's note
	Where       string // file:line:column of the rule

	said  string        // the reason in words, made once
	moved time.Duration // since it was put on record: the clock was set
	gate  *gate         // of a throttle that is no limit of a site
}
