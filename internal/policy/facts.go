package policy

import (
	"net/netip"
	"time"
)

// Origin tells on whose behalf a message comes. It is settled before any filter
// runs; filters read it and cannot set it.
type Origin string

// The origins.
const (
	Stranger Origin = "stranger" // nobody of ours vouches for it
	Customer Origin = "customer" // AUTH, or a customer's network on a customers' listener
	Inside   Origin = "inside"   // a declared inside host
	Self     Origin = "self"     // made by Postern; does not run through filters
)

// Address is a mailbox in the normal form that filters see: local part dequoted and
// in lower case, domain in lower-case A-labels without a trailing dot. The zero
// Address is the null reverse-path. Make one with Normalise.
type Address struct {
	Local  string `json:"local"`
	Domain string `json:"domain"`
}

// String gives "local@domain", "local" without a domain, "" for the null
// reverse-path. It is for comparison and display and does not quote.
func (a Address) String() string {
	if a.Domain == "" {
		return a.Local
	}
	return a.Local + "@" + a.Domain
}

// HeaderField is one field of a message: the name in lower case, the value unfolded
// and trimmed.
type HeaderField struct {
	Name  string
	Value string
}

// Client is the peer of a session.
type Client struct {
	Address netip.Addr
	Name    string // name from reverse DNS that resolves back to the address; "" if there is none
	Helo    string // as given, lower case
}

// TLS tells how the session is protected; the zero value is clear text.
type TLS struct {
	On      bool
	Version string // "1.2", "1.3"
	Cipher  string // IANA name
}

// Facts are all that a filter may look at: one recipient of one message. What is read
// for each recipient stands first.
type Facts struct {
	Rcpt    Address
	Origin  Origin
	Content *Content // nil until the end of DATA: then what depends on it is unknown
	read    *reading // of Program.Read

	Listener string
	Client   Client
	TLS      TLS
	AuthUser string
	Customer string
	Sender   Address
	Now      time.Time
}

// Content is what is known only when the whole message is there.
type Content struct {
	Size    int64 // bytes of header and body, CRLF line ends
	Headers []HeaderField
	SPF     string // RFC 8601 results: none, pass, fail, softfail, neutral, temperror, permerror
	DKIM    string
	DMARC   string
}
