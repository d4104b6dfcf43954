package policy

// Disposition is what happens to one recipient of one message.
type Disposition string

// The dispositions.
const (
	Refused Disposition = "refused" // 4xx or 5xx; the client keeps the message
	Deliver Disposition = "deliver" // to the inside host of the domain, else to its MX
	Drop    Disposition = "drop"    // accepted and discarded
	Hold    Disposition = "hold"    // accepted and kept
	Bounce  Disposition = "bounce"  // accepted, and a DSN is sent
	Consume Disposition = "consume" // read by Postern itself: a report
)

// Decision is the outcome of Eval for one recipient.
type Decision struct {
	Disposition Disposition
	Filter      string // that decided; "" is the default at the end of the list
	Pos         Pos    // of that filter
	Rcpt        Address
	Rewritten   bool   // Rcpt is not the recipient that was asked about (set_rcpt)
	Pool        string // of Deliver
	Inside      string // of Deliver: the inside host that is the domain's next hop; "" is the MX
	Code        int    // of Refused
	Enhanced    [3]int
	Text        string // of Refused, Hold and Bounce
	Effects     Effects
}

// Effects is what the non-final filters above the decision have gathered.
type Effects struct {
	Logs    []string
	Tags    []string
	Headers []HeaderField // to set, in order
	Limits  []Limit
	Copies  []Copy
}

// Limit is a rate that a filter imposes.
type Limit struct {
	Filter string
	Rate   Rate
}

// Copy is a copy to a constant address that a filter asked for.
type Copy struct {
	Filter string
	Rcpt   Address
	Inside string // inside host of the copy's domain, "" for its MX
}

// Result is a filter's answer for one message: No, Yes, or Unknown when a fact it
// reads is not known (yet).
type Result int8

// The results, in the order of strong three-valued logic: No < Unknown < Yes.
const (
	No      Result = -1
	Unknown Result = 0
	Yes     Result = 1
)

// String gives "no", "yes" or "unknown".
func (r Result) String() string {
	switch r {
	case No:
		return "no"
	case Yes:
		return "yes"
	}
	return "unknown"
}

// Step is one filter's part in a decision.
type Step struct {
	Filter string
	Pos    Pos
	Result Result
	Final  bool // the filter has a final action
}

// Trace tells how a decision came about: filters in order, down to the one that
// decided. Eval leaves out those that answered no; Explain does not. It must not be
// changed: it may be shared.
type Trace []Step
