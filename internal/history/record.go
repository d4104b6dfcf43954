package history

import (
	"errors"
	"net/netip"
	"time"
)

// Format names what writes the lines.
type Format string

// The formats.
const (
	PowerMTA Format = "powermta-csv"  // accounting files; the header line names the columns
	KumoMTA  Format = "kumomta-jsonl" // log records, one JSON object a line
	Postfix  Format = "postfix"       // syslog or maillog_file
	Exim     Format = "exim"          // mainlog
	Haraka   Format = "haraka"        // the log at level NOTICE, better INFO
	Manifest Format = "manifest"      // JSON objects of a customer's own, one a line
)

// Formats lists all of them.
func Formats() []Format { return []Format{PowerMTA, KumoMTA, Postfix, Exim, Haraka, Manifest} }

// Kind is what became of a recipient.
type Kind uint8

// The kinds of record.
const (
	Received   Kind = iota + 1 // taken in, nothing tried yet
	HandedOff                  // the next host took it over
	Deferred                   // an attempt failed, another will follow
	Failed                     // given up, by a refusal or at the end of its time
	Bounced                    // a bounce came back after the hand-off
	Complained                 // a complaint came back
)

// String names the kind.
func (k Kind) String() string {
	names := [...]string{"unknown", "received", "handed-off", "deferred", "failed", "bounced", "complained"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// Message is what the lines tell of a message before it went anywhere. It is not
// changed once a Record points to it.
type Message struct {
	Queue     string     `json:"q,omitempty"` // the server's own id of it; "" where its log has none
	MessageID string     `json:"m,omitempty"` // without brackets
	Sender    string     `json:"s,omitempty"` // reverse-path without brackets
	Subject   string     `json:"t,omitempty"`
	Client    netip.Addr `json:"c,omitzero"` // that handed it in
	Helo      string     `json:"h,omitempty"`
	User      string     `json:"u,omitempty"` // that authenticated
	Size      int64      `json:"z,omitempty"`
	Arrived   time.Time  `json:"a,omitzero"`
	Own       bool       `json:"o,omitempty"` // made by the server itself: a bounce, local mail
	Loopback  bool       `json:"l,omitempty"` // came back from a filter on the same host
	Extra     []string   `json:"x,omitempty"` // values of Options.Fields, in their order
	Rcpts     []string   `json:"r,omitempty"` // accepted, where the log names them apart from their deliveries
}

// Record is one thing that became of one recipient of a message.
type Record struct {
	Kind      Kind
	Time      time.Time
	Message   *Message
	First     bool // of this recipient
	Recipient string
	Inside    bool       // delivered on the same host, or to a filter there: left it not
	Source    netip.Addr // that it went out from
	Peer      netip.AddrPort
	Host      string
	Reply     string
	Attempt   int

	// Of Bounced and Complained: what the report said, as far as the log tells.
	Feedback string // "abuse"
	Reporter string // user agent, or the reporting host
	Status   string
}

// ErrUnreadable tells that a line is not of the format that it should be.
var ErrUnreadable = errors.New("line of another format")

// Options are what a Parser is made of.
type Options struct {
	Format   Format
	Location *time.Location // of times without a zone; UTC where nil
	// Reference is a time soon after the newest line, for dates without a year; lines
	// are of the year before it.
	Reference time.Time
	Fields    []string // whose values Message.Extra is to have
	MaxOpen   int      // messages that are under way at once; 200,000 where zero
}

// Counts are what a Parser has seen.
type Counts struct {
	Lines      int64
	Unreadable int64
	Orphans    int64 // deliveries of messages whose beginning is not in the log
	Forgotten  int64 // messages under way that found no room
}

// Parser reads the lines of one server, in order, and joins those of one message.
type Parser struct {
	o      Options
	counts Counts
	read   func(p *Parser, line []byte) error
	out    []Record
	open   table
	clock  clock

	columns columns // of accounting files
}

// New makes a Parser.
func New(o Options) *Parser {
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = 200_000
	}
	p := &Parser{o: o, open: newTable(o.MaxOpen)}
	p.clock = clock{location: o.Location, reference: o.Reference}
	switch o.Format {
	case PowerMTA:
		p.read = (*Parser).powermta
	case KumoMTA:
		p.read = (*Parser).kumomta
	case Exim:
		p.read = (*Parser).exim
	case Haraka:
		p.read = (*Parser).haraka
	case Manifest:
		p.read = (*Parser).manifest
	default:
		p.read = (*Parser).postfix
	}
	return p
}

// Line reads one line, with or without its end. The records are valid until the next
// call; what they point to stays.
func (p *Parser) Line(line []byte) []Record {
	for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
		line = line[:n-1]
	}
	p.out = p.out[:0]
	if len(line) == 0 {
		return nil
	}
	p.counts.Lines++
	if err := p.read(p, line); err != nil {
		p.counts.Unreadable++
	}
	return p.out
}

// Counts gives what was seen until now.
func (p *Parser) Counts() Counts {
	c := p.counts
	c.Forgotten = p.open.forgotten
	return c
}

// Refer moves the reference for dates without a year: for the next file.
func (p *Parser) Refer(t time.Time) { p.clock = clock{location: p.o.Location, reference: t} }

// Head is what the parser knows from the beginning of a file, for one that goes on in
// its middle: the header line of an accounting file.
func (p *Parser) Head() string { return p.columns.line }

// SetHead takes up what Head gave.
func (p *Parser) SetHead(s string) {
	if s != "" && p.o.Format == PowerMTA && s != p.columns.line {
		p.columns.set([]byte(s), p.o.Fields)
	}
}
