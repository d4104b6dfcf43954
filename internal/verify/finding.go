package verify

import "postern.dev/postern/internal/policy"

// Code names a claim or a warning. Codes are append-only: one never changes its
// meaning and none is used again.
type Code string

// The claims, which must hold, and the warnings.
const (
	RelayForStrangers Code = "PV001" // no relay for strangers
	RelayByInside     Code = "PV002" // nor by way of an inside host that sends on
	Backscatter       Code = "PV003" // no stranger makes mail go to an address of his choosing
	SharedTrust       Code = "PV004" // nothing is trusted that others can send from
	SenderBinding     Code = "PV005" // customers send from their own domains only
	AssertHolds       Code = "PV006" // every assert holds for every message
	AddressReadings   Code = "PV007" // every reading of a constant address is acceptable
	Unmodelled        Code = "PV008" // every part of the policy is understood

	DeadFilter     Code = "PV101" // never applies
	ShadowedFilter Code = "PV102" // earlier filters take all that it would
	RedundantOne   Code = "PV103" // without it every message has the same fate
	OrderMatters   Code = "PV104" // two neighbours decide differently where both apply
	NeverTrue      Code = "PV105" // a condition that no message can fulfil
	LooseRegexp    Code = "PV106" // an expression that matches more than it seems to
)

// Status is what the prover knows of a claim, and of a policy as a whole.
type Status string

// The statuses. What could not be decided within the budget is Unknown, never Closed.
const (
	Closed  Status = "closed"
	Open    Status = "open"
	Unknown Status = "unknown"
)

// Severity tells findings that keep a policy from loading from those that do not.
type Severity string

// The severities.
const (
	Fault   Severity = "error"
	Warning Severity = "warning"
)

// Claim is one claim with its status and what the proof takes for granted about the
// world outside.
type Claim struct {
	Code        Code     `json:"code"`
	Title       string   `json:"title"`
	Status      Status   `json:"status"`
	Assumptions []string `json:"assumptions"`
}

// Finding is a claim that does not hold at one place of the policy, or could not be
// shown to, or a warning.
type Finding struct {
	Code     Code
	Severity Severity
	Status   Status // Open, or Unknown where it could not be decided; Open for warnings
	Filter   string // the filter to blame, "" where it is not a filter
	Assert   string // of AssertHolds
	Pos      policy.Pos
	Message  string // lower case, one line
	Hint     string
	Witness  *Witness
	Blockers []Blocker
	Repair   *Repair
}

// Witness is a message that shows a finding. It has been replayed through Eval: for
// Hops[i], Eval gives Decisions[i]. There is one hop, or for RelayByInside the
// stranger's message to the inside host and then what the host sends on.
type Witness struct {
	Hops      []policy.Facts
	Decisions []policy.Decision
}

// Blocker is a filter below the guilty one that would have caught the witness, had
// it come first.
type Blocker struct {
	Filter string
	Pos    policy.Pos
}

// Repair is a change to the order or the conditions after which the claim holds; it
// has been proved again.
type Repair struct {
	Moves   []Move
	Guards  []Guard
	Filters []policy.Filter // the list as it should be
	Changes []Change        // messages, other than the leak, whose fate the repair changes
	Partial bool            // Changes is not complete: the budget ended the search

	program *policy.Program // of Filters
}

// Move takes a filter to a place before another.
type Move struct {
	Filter string
	Before string
}

// Guard is a clause to be joined by && to a filter's condition.
type Guard struct {
	Filter string
	Clause string
}

// Change is a class of messages whose fate differs between two policies, with one of
// them and its two decisions.
//
// Where Effect is set the fate is the same, and what differs is that.
type Change struct {
	Facts    policy.Facts
	Old, New policy.Decision
	Effect   *Effect
}

// Effect is something that filters do to a message beside deciding. Its value under a
// policy is "" where it is not done.
type Effect struct {
	Kind     EffectKind
	Name     string // the log, the tag, the header, the filter that limits, where a copy goes
	Old, New string // "yes" of a log, tag or copy; the header's value, the rate, the recipient of held mail
}

// EffectKind is the sort of an effect.
type EffectKind string

// The sorts of effects. A log or tag counts for every message, a header and a limit
// for what is delivered or held, a copy for what is accepted and not bounced.
const (
	EffectLog    EffectKind = "log"
	EffectTag    EffectKind = "tag"
	EffectHeader EffectKind = "header"
	EffectLimit  EffectKind = "limit"
	EffectCopy   EffectKind = "copy"
	EffectHeld   EffectKind = "held recipient" // whom held mail goes to when it is released
)

// Stats tells what a proof took.
type Stats struct {
	Filters int
	Queries int // to the solver
	Covered int // settled without it
}

// Result is what the prover found. Status is Closed if every claim is, Open if one
// is open, else Unknown.
type Result struct {
	Status   Status
	Claims   []Claim
	Findings []Finding
	Cut      []Cut // warnings that were not looked for in all filters
	Stats    Stats
}

// Cut tells among how many filters, from the first, a warning was looked for: not
// among all, for want of time.
type Cut struct {
	Code Code
	Seen int
}

// Gap is a part of a configuration that could not be modelled. Dialects list them;
// with one, nothing is called closed.
type Gap struct {
	Pos  policy.Pos
	Text string
	Why  string
}

// Options bound and direct a proof. The zero value is good.
type Options struct {
	Conflicts int64 // of the solver in one query; 0 is 20,000
	States    int   // of an automaton product; 0 is 20,000
	Gaps      []Gap
	// NoWarnings leaves out PV101 to PV106; NoRepairs the search for repairs.
	NoWarnings, NoRepairs bool
	// Enough is asked between filters whether the search for warnings has gone on long
	// enough. Where it is nil, the search for PV101, PV102 and PV105 leaves out lists of
	// more than 1,000 filters, that for PV103 and PV104 those of more than 200.
	Enough func() bool
	// Late is asked often whether the proof has taken too long, and must not take back
	// what it has said. From then on nothing more is proved: each claim that is not
	// settled is Unknown, with a finding at the filter where it stopped. Nil is never late.
	Late func() bool
	// Progress is told, now and then, how far a proof has come.
	Progress func(done, total int)
}

// title is the claim in words.
func title(c Code) string {
	switch c {
	case RelayForStrangers:
		return "no relay for strangers"
	case RelayByInside:
		return "no relay for strangers by way of an inside host"
	case Backscatter:
		return "no stranger makes mail go to an address of his choosing"
	case SharedTrust:
		return "nothing is trusted that others can send from"
	case SenderBinding:
		return "customers send from their own domains only"
	case AssertHolds:
		return "every assert holds"
	case AddressReadings:
		return "every reading of a constant address is acceptable"
	case Unmodelled:
		return "every part of the policy is understood"
	}
	return string(c)
}

// claims lists the claims in the order of their codes.
func claims() []Code {
	return []Code{RelayForStrangers, RelayByInside, Backscatter, SharedTrust, SenderBinding, AssertHolds, AddressReadings, Unmodelled}
}
