package shaping

import (
	"net/netip"
	"regexp"
	"time"
)

// Rules are what a configuration says about shaping, checked and with its places. The
// order of the Rules is theirs: the first one that matches a reply decides.
type Rules struct {
	Destinations []Definition
	Rules        []Rule
	Warmups      []Warmup
}

// Everywhere names the definition whose limits bind every destination, as far as the
// destination's own say nothing.
const Everywhere = "*"

// Definition says which destinations are one provider, and what binds them.
type Definition struct {
	Name     string
	Where    string     // file:line:column
	MX       []string   // hosts: a name, or ".suffix"
	Domains  []string   // recipient domains: a name, or ".suffix"
	Separate bool       // each MX set stays a site of its own
	Limits   []LimitSet // in the order of the file; later ones go before
}

// LimitSet binds the traffic of some pools, or all.
type LimitSet struct {
	Pools  []string // none: every pool
	Limits Limits
	Where  map[string]string // by attribute: file:line:column
}

// Rule says what a reply sets off.
type Rule struct {
	Name      string
	Where     string
	Providers []string         // none: every destination
	Codes     []CodeRange      // none: every failure
	Enhanced  []Enhanced       // none: every one, and none
	Text      []*regexp.Regexp // one of them; none: every text
	Stages    []string         // none: every stage
	Threshold Threshold
	Then      []Effect
	Fate      Fate
	Suppress  bool
	After     time.Duration
	Category  string
	GoOn      bool // rules further down may speak too
}

// CodeRange is a range of reply codes. 0 is an attempt that had no reply.
type CodeRange struct{ From, To int }

// Enhanced is a pattern of an enhanced status code (RFC 3463); -1 stands for any
// number.
type Enhanced [3]int

// Threshold lets a rule act when it has matched Count times Within a time. The zero
// Threshold acts at once.
type Threshold struct {
	Count  int
	Within time.Duration
}

// Effect is an action that a rule brings into force.
type Effect struct {
	Kind        string // "throttle", "backoff", "suspend"
	Scope       string // as in Block
	Within      string // "site", "provider", "everywhere": how far it reaches
	For         time.Duration
	Most        time.Duration // of a backoff: it doubles up to this
	Rate        *Rate         // of a throttle
	Connections int           // of a throttle, 0 leaves them alone
}

// Warmup raises what new source addresses send, day by day.
type Warmup struct {
	Name         string
	Where        string
	Sources      []netip.Addr
	Start        time.Time // midnight UTC of the first day
	Schedule     []int     // messages a day, for each source to each site
	Destinations map[string][]int
}

// Scopes are what an action can bind, in the order in which people are told.
func Scopes() []string {
	return []string{"site", "provider", "domain", "mx", "source", "pool", "customer", "campaign"}
}

// Reaches are how far an action on a source, pool, customer or campaign can reach.
func Reaches() []string { return []string{"site", "provider", "everywhere"} }

// Stages are the places in a session at which a reply can come.
func Stages() []string { return []string{"connect", "tls", "helo", "mail", "rcpt", "data", "end"} }
