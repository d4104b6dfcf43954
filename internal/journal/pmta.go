package journal

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"postern.dev/postern/internal/bounce"
	"postern.dev/postern/internal/ledger"
)

// columns are those of PowerMTA's accounting files (User's Guide, accounting records)
// for which a gateway knows something, in their usual order: one header line, and all
// columns of all records in every file.
const columns = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp," +
	"dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool,feedbackType,format,reportingMta,reportedDomain"

// record is one row, by column.
type record struct {
	kind                              string
	logged, queued                    time.Time
	orig, rcpt                        string
	action, status, diag, mta, bounce string
	srcMta                            string
	delivered                         bool // the dlv columns apply
	source                            netip.Addr
	peer                              netip.Addr
	size                              int64
	pool, job, env, queue             string
	feedback, format, reported        string
	reporter                          string
}

// accounting writes PowerMTA's records.
type accounting struct {
	wanted map[string]bool
	known  *envelopes
	mask   *masker
}

func newAccounting(o Options) *accounting {
	return &accounting{wanted: o.Records, known: newEnvelopes(o.Rows), mask: newMasker(o.Key)}
}

func (w *accounting) header() []byte { return []byte(columns + "\r\n") }

// gap writes nothing: an accounting file has no record for it.
func (w *accounting) gap(b []byte, _ *place) []byte { return b }

func (w *accounting) wants(kind string) bool { return w.wanted == nil || w.wanted[kind] }

func (w *accounting) lines(ctx context.Context, b []byte, _ uint64, e ledger.Event, _ []byte) ([]byte, error) {
	switch e := e.(type) {
	case *ledger.Accepted:
		m := w.known.learn(e)
		if w.wants("r") {
			for i := range m.rcpts {
				r := w.base("r", e, m, i)
				r.queued, r.pool = e.Time, m.pools[i]
				b = w.row(b, r)
			}
		}
		return b, nil
	case *ledger.HandedOff, *ledger.Attempted, *ledger.Bounced, *ledger.Reported:
		return w.later(ctx, b, e)
	}
	return b, nil
}

// later writes a record of a message that is under way.
func (w *accounting) later(ctx context.Context, b []byte, e ledger.Event) ([]byte, error) {
	kind := kindOf(e)
	if !w.wants(kind) {
		return b, nil
	}
	id, i := about(e)
	m, err := w.known.find(ctx, id)
	if err != nil {
		return b, err
	}
	r := w.base(kind, e, m, i)
	if !id.IsZero() {
		r.queued = id.Time()
	}
	switch e := e.(type) {
	case *ledger.HandedOff:
		r.delivery("relayed", "2.0.0", e.Reply, e.Host, e.Peer.Addr(), e.Source)
		r.pool, r.rcpt = e.Pool, e.Address
		r.queue = e.Domain
	case *ledger.Attempted:
		r.delivery("delayed", "4.0.0", e.Reply, e.Host, e.Peer.Addr(), e.Source)
		r.pool = e.Pool
		r.classified(e.Category)
	case *ledger.Bounced:
		r.delivery("failed", "5.0.0", e.Reply, e.Host, e.Peer.Addr(), e.Source)
		r.classified(e.Category)
	case *ledger.Reported:
		r.report(e)
	}
	return w.row(b, r), nil
}

func kindOf(e ledger.Event) string {
	switch e := e.(type) {
	case *ledger.HandedOff:
		return "d"
	case *ledger.Attempted:
		return "t"
	case *ledger.Bounced:
		return "b"
	case *ledger.Reported:
		if e.Format == "dsn" {
			return "rb"
		}
		return "f"
	}
	return ""
}

// base fills what the message itself gives.
func (w *accounting) base(kind string, e ledger.Event, m *message, rcpt int) *record {
	r := &record{kind: kind, logged: e.When()}
	if id, _ := about(e); !id.IsZero() {
		r.env = id.String()
	}
	if a, ok := e.(*ledger.Accepted); ok {
		r.env = a.ID.String()
	}
	if m == nil {
		return r
	}
	r.orig, r.rcpt, r.job, r.size = m.from, m.rcpt(rcpt), m.customer, m.size
	if m.peer != "" {
		r.srcMta = m.helo + " (" + m.peer + ")"
	}
	if rcpt >= 0 && rcpt < len(m.pools) {
		r.pool = m.pools[rcpt]
	}
	return r
}

// delivery fills what an attempt gives.
func (r *record) delivery(action, status, reply, host string, peer, source netip.Addr) {
	r.delivered, r.action, r.status = true, action, status
	if s := statusOf(reply); s != "" {
		r.status = s
	}
	r.diag = "smtp;" + reply
	if host != "" {
		r.mta = host
		if peer.IsValid() {
			r.mta += " (" + peer.Unmap().String() + ")"
		}
	}
	r.peer, r.source = peer.Unmap(), source.Unmap()
	if action != "relayed" {
		r.bounce = category(r.status, reply)
	}
}

// classified puts PowerMTA's name for the category of the event in place of what the
// status code tells alone. A category of the operator's own has none.
func (r *record) classified(category string) {
	if c, known := bounce.Parse(category); known {
		r.bounce = c.PowerMTA()
	}
}

// report fills what a complaint or a bounce from afar gives.
func (r *record) report(e *ledger.Reported) {
	r.format, r.reporter = e.Format, e.Provider
	if r.job == "" {
		r.job = e.Customer
	}
	if r.kind == "rb" {
		r.action = "failed"
		return
	}
	r.feedback = "abuse"
	if i := strings.LastIndexByte(r.orig, '@'); i >= 0 {
		r.reported = strings.ToLower(strings.TrimSuffix(r.orig[i+1:], ">"))
	}
}

// row appends one row (RFC 4180).
func (w *accounting) row(b []byte, r *record) []byte {
	if r.queue == "" {
		if i := strings.LastIndexByte(r.rcpt, '@'); i >= 0 {
			r.queue = strings.ToLower(strings.TrimSuffix(r.rcpt[i+1:], ">"))
		}
	}
	if r.queue != "" && r.pool != "" {
		r.queue += "/" + r.pool
	}
	b = append(b, r.kind...)
	b = stamped(b, r.logged)
	b = stamped(b, r.queued)
	b = field(b, w.mask.address(r.orig))
	b = field(b, w.mask.address(r.rcpt))
	b = append(b, ',') // orcpt: the ledger has none
	b = field(b, r.action)
	b = field(b, r.status)
	b = field(b, w.mask.text(r.diag))
	b = field(b, r.mta)
	b = field(b, r.bounce)
	b = field(b, when(r.srcMta != "", "smtp"))
	b = field(b, r.srcMta)
	b = field(b, when(r.delivered, "smtp"))
	b = address(b, r.source)
	b = address(b, r.peer)
	b = append(b, ',') // dlvEsmtpAvailable: not kept
	b = append(b, ',')
	if r.size > 0 {
		b = strconv.AppendInt(b, r.size, 10)
	}
	b = field(b, r.pool)
	b = field(b, r.job)
	b = field(b, r.env)
	b = field(b, r.queue)
	b = field(b, r.pool)
	b = field(b, r.feedback)
	b = field(b, r.format)
	b = field(b, r.reporter)
	b = field(b, r.reported)
	return append(b, "\r\n"...)
}

func when(holds bool, s string) string {
	if holds {
		return s
	}
	return ""
}

// stamped appends a time as PowerMTA writes it.
func stamped(b []byte, t time.Time) []byte {
	b = append(b, ',')
	if t.IsZero() {
		return b
	}
	return t.UTC().AppendFormat(b, "2006-01-02 15:04:05-0700")
}

func address(b []byte, a netip.Addr) []byte {
	b = append(b, ',')
	if !a.IsValid() {
		return b
	}
	return a.AppendTo(b)
}

// field appends one value. It is quoted where it must be (RFC 4180, section 2). What a
// terminal may act on becomes a question mark, and what a spreadsheet takes for a
// formula gets an apostrophe before it.
func field(b []byte, s string) []byte {
	b = append(b, ',')
	if s == "" {
		return b
	}
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == ',' {
			plain = false
			break
		}
	}
	formula := strings.IndexByte("=+-@\t\r", s[0]) >= 0
	if plain && !formula {
		return append(b, s...)
	}
	b = append(b, '"')
	if formula {
		b = append(b, '\'')
	}
	for _, r := range s {
		switch {
		case r == '"':
			b = append(b, `""`...)
		case r == unicode.ReplacementChar, unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			b = append(b, '?')
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}

// statusOf gives the enhanced status code of a reply (RFC 3463): the second word.
func statusOf(reply string) string {
	_, rest, ok := strings.Cut(reply, " ")
	if !ok {
		return ""
	}
	code, _, _ := strings.Cut(rest, " ")
	if len(code) < 5 || len(code) > 9 || code[1] != '.' || strings.IndexByte("245", code[0]) < 0 {
		return ""
	}
	for _, c := range code[2:] {
		if c != '.' && (c < '0' || c > '9') {
			return ""
		}
	}
	return code
}

// category names the likely cause of a failure in PowerMTA's words, by the enhanced
// status code alone.
func category(status, reply string) string {
	if strings.HasPrefix(reply, "given up after ") {
		return "message-expired"
	}
	_, detail, _ := strings.Cut(status, ".")
	switch detail {
	case "1.1", "1.3", "1.6":
		return "bad-mailbox"
	case "1.2", "1.10":
		return "bad-domain"
	case "1.7", "1.8":
		return "invalid-sender"
	case "2.1":
		return "inactive-mailbox"
	case "2.2":
		return "quota-issues"
	case "4.1":
		return "no-answer-from-host"
	case "4.2":
		return "bad-connection"
	case "4.3", "4.4", "4.6":
		return "routing-errors"
	case "4.7":
		return "message-expired"
	}
	switch {
	case strings.HasPrefix(detail, "5."):
		return "protocol-errors"
	case strings.HasPrefix(detail, "6."):
		return "content-related"
	case strings.HasPrefix(detail, "7."):
		return "policy-related"
	}
	return "other"
}
