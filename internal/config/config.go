package config

import (
	"net/netip"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
)

// Config is a configuration that has been read and found sound.
type Config struct {
	Node        Node
	Listeners   []Listener
	Program     *policy.Program
	Guard       Guard
	Waivers     []Waiver
	Suppression Suppression
	Retry       Retry
	Egress      Egress
	Weights     map[string]map[netip.Addr]int // of a pool's sources, by pool; 0 is not used, and what is missing weighs 1
	Urgency     map[string]string             // of customers: high, bulk
	Providers   []Provider
	Shaping     *shaping.Rules // the shipped ones and the file's, merged
	Users       map[string]User
	LogFiles    []LogFile
	Watches     []Watch
	Intakes     []Intake
	Webhooks    []Webhook
	Signing     Signing
	TLSPolicies []TLSPolicy
	Version     string            // first 12 hexadecimal digits of the SHA-256 over all files
	Files       []string          // in the order in which they were read
	Sources     map[string][]byte // by file
}

// Topology is the program's.
func (c *Config) Topology() *policy.Topology { return c.Program.Topology }

// Node is what the machine as a whole is told.
type Node struct {
	Hostname    string
	State       string // folder
	Admin       string // address of /healthz, /readyz and /metrics; "" is off
	Socket      string // of the admin API
	Resolver    []netip.AddrPort
	SMTPPort    int
	Postmaster  smtp.Path
	ReturnPath  string // domain of stamped return paths; "" leaves the reverse-path alone
	Keys        string // file
	DefaultPool string
	// Fields of customers' messages that name the campaign and the priority; "" is none.
	CampaignHeader string
	PriorityHeader string
	LogFormat      string // text, json
	LogLevel       string // debug, info, warn, error
}

// Listener is one place where SMTP comes in.
type Listener struct {
	Name      string
	Pos       policy.Pos
	Addresses []netip.AddrPort
	From      policy.Trust
	Auth      bool
	TLS       *TLS
	ProxyFrom []netip.Prefix
	Limits    smtp.Limits
	Priority  string // high, normal, bulk; "" leaves it to the customer
}

// TLS names a certificate. The files are read by whoever listens.
type TLS struct {
	Certificate string
	Key         string
	Implicit    bool
	Min         string // 1.2, 1.3
}

// Guard says what the relay guard does with a stranger's message about to be relayed.
type Guard string

// The ways of the guard.
const (
	GuardHold    Guard = "hold"
	GuardObserve Guard = "observe"
)

// SuppressionMode says what becomes of a customer's mail to an address on the suppression
// list.
type SuppressionMode string

// The modes.
const (
	SuppressionRefuse SuppressionMode = "refuse"            // refused at RCPT; what slipped through bounces at hand-off
	SuppressionBounce SuppressionMode = "accept-and-bounce" // taken, and a DSN at hand-off
	SuppressionOff    SuppressionMode = "off"               // delivered like other mail; the list still grows
)

// Suppression says how the suppression list is used.
type Suppression struct {
	Mode      SuppressionMode
	Customers map[string]SuppressionMode // of those that have a mode of their own
	Hashed    bool                       // new entries keep the hash of the address only
}

// Of gives a customer's mode.
func (s *Suppression) Of(customer string) SuppressionMode {
	if m, own := s.Customers[customer]; own {
		return m
	}
	return s.Mode
}

// Retry is the schedule of delivery attempts.
type Retry struct {
	First       time.Duration
	Factor      float64
	Max         time.Duration
	Jitter      float64 // share of the interval, 0 to 1
	Expire      time.Duration
	DelayNotice time.Duration // 0: none
}

// Egress bounds what goes out.
type Egress struct {
	Connections int           // at once
	PerSite     int           // at once to one destination
	Messages    int           // on one connection
	Idle        time.Duration // that a connection waits for the next message
}

// Provider is a mailbox provider whose complaints are believed when they come from
// its domains (SPF or DKIM) or its networks.
type Provider struct {
	Name     string
	Domains  []string
	Networks []netip.Prefix
}

// User is somebody who can authenticate.
type User struct {
	Customer string
	Verifier smtp.Verifier
}

// Secret implements smtp.Credentials.
func (c *Config) Secret(user string) (smtp.Verifier, bool) {
	u, ok := c.Users[user]
	return u.Verifier, ok
}
