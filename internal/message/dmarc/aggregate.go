package dmarc

import (
	"net/netip"
	"time"
)

// Aggregate is what one organisation saw of mail in a domain's name in a period.
type Aggregate struct {
	Namespace  string // of the XML; "" where there is none
	Version    string
	Org        string
	Email      string
	Contact    string // extra_contact_info
	ID         string
	Generator  string
	Begin, End time.Time
	Errors     []string
	Policy     Policy
	Records    []Record // empty where they were given to a function
	Repaired   bool     // it was no well-formed XML
	Truncated  bool     // it breaks off, or has more records than the limit
}

// Policy is the policy that was published.
type Policy struct {
	Domain          string
	DKIM, SPF       string // alignment: "r", "s"
	P, SP, NP       string // "none", "quarantine", "reject"
	Percent         int    // -1 where not stated
	FailureOptions  string
	Testing         string // "y", "n" (of the successor)
	DiscoveryMethod string // "psl", "treewalk" (of the successor)
}

// Record counts messages that came from one address and fared alike.
type Record struct {
	Source       netip.Addr
	Count        int64
	Disposition  string // "none", "quarantine", "reject", "pass"
	DKIM, SPF    string // aligned result: "pass", "fail"
	Reasons      []Reason
	EnvelopeTo   string
	EnvelopeFrom string
	HeaderFrom   string
	DKIMResults  []DKIMResult
	SPFResults   []SPFResult
}

// Reason is why a policy was not applied.
type Reason struct{ Type, Comment string }

// DKIMResult is the result of one signature.
type DKIMResult struct{ Domain, Selector, Result, Human string }

// SPFResult is the result of one identity.
type SPFResult struct{ Domain, Scope, Result, Human string }

// Messages counts the messages of all records that are kept.
func (a *Aggregate) Messages() int64 {
	var n int64
	for i := range a.Records {
		n += a.Records[i].Count
	}
	return n
}
