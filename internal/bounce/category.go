package bounce

// Category is what a refusal is about.
type Category uint8

// The categories. Each maps onto one of the 17 that PowerMTA has; where several of ours
// share one of those, they call for different acts.
const (
	Other           Category = iota
	BadMailbox               // the domain has no such mailbox
	InactiveMailbox          // there is one, and it takes no mail: disabled, expired, frozen
	BadDomain                // the domain does not exist or takes no mail
	MailboxFull              // the recipient's quota
	Blocklisted              // the source address, its network or the sender's domain has a bad name
	Spam                     // the message is taken for spam
	Virus                    // the message is taken for harmful
	Content                  // something else in the message: format, attachment, header
	TooLarge                 // the message or a part of it
	Authentication           // SPF, DKIM, DMARC, reverse DNS
	TLS                      // encryption is wanted, or failed
	RateLimited              // too much, too fast, too many at once
	Greylisted               // come again, on purpose
	Policy                   // any other rule of the receiver
	Relaying                 // the host does not take mail for this recipient
	InvalidSender            // the reverse-path or its domain
	Protocol                 // commands, their order or their arguments
	Routing                  // loops, and names that do not lead anywhere at present
	NoAnswer                 // no host could be connected to
	Connection               // a connection broke
	RemoteSystem             // the receiving system is out of order, or out of room
	Expired                  // it was tried for as long as it may be
	Suppressed               // it stands on a suppression list
	last
)

// spelling is our name of a category, and PowerMTA's.
type spelling struct{ ours, powermta string }

func spell(c Category) spelling {
	return [last]spelling{
		Other:           {"other", "other"},
		BadMailbox:      {"bad-mailbox", "bad-mailbox"},
		InactiveMailbox: {"inactive-mailbox", "inactive-mailbox"},
		BadDomain:       {"bad-domain", "bad-domain"},
		MailboxFull:     {"mailbox-full", "quota-issues"},
		Blocklisted:     {"blocklisted", "spam-related"},
		Spam:            {"spam", "spam-related"},
		Virus:           {"virus", "virus-related"},
		Content:         {"content", "content-related"},
		TooLarge:        {"too-large", "content-related"},
		Authentication:  {"authentication", "policy-related"},
		TLS:             {"tls", "policy-related"},
		RateLimited:     {"rate-limited", "policy-related"},
		Greylisted:      {"greylisted", "policy-related"},
		Policy:          {"policy", "policy-related"},
		Relaying:        {"relaying", "relaying-issues"},
		InvalidSender:   {"invalid-sender", "invalid-sender"},
		Protocol:        {"protocol", "protocol-errors"},
		Routing:         {"routing", "routing-errors"},
		NoAnswer:        {"no-answer", "no-answer-from-host"},
		Connection:      {"connection", "bad-connection"},
		RemoteSystem:    {"remote-system", "bad-configuration"},
		Expired:         {"expired", "message-expired"},
		Suppressed:      {"suppressed", "policy-related"},
	}[c%last]
}

// String gives our name, "bad-mailbox".
func (c Category) String() string { return spell(c).ours }

// PowerMTA gives the name of PowerMTA's category (bounceCat in its accounting files)
// that comes nearest.
func (c Category) PowerMTA() string { return spell(c).powermta }

// Categories lists them all, in order.
func Categories() []Category {
	out := make([]Category, last)
	for i := range out {
		out[i] = Category(i)
	}
	return out
}

// Parse finds a category by our name.
func Parse(name string) (Category, bool) {
	for _, c := range Categories() {
		if c.String() == name {
			return c, true
		}
	}
	return Other, false
}

// aboutAddress reports the categories that say that the address itself is no good.
func (c Category) aboutAddress() bool {
	return c == BadMailbox || c == InactiveMailbox || c == BadDomain
}
