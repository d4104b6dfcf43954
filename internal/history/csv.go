package history

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
)

// columns says which column of an accounting file stands where; 0 is nowhere, others
// are one more than their index. The header line decides (PowerMTA User's Guide,
// accounting files); without one the default columns are assumed.
type columns struct {
	line string
	want []int // of Options.Fields

	kind, logged, queued, orig, rcpt, status, diag, dsnMta, srcMta, source, peer, size, job, env, mid, subject int
	feedback, agent, reporting                                                                                 int
}

// defaultColumns are those of an accounting file whose header line is missing, as of a
// pipe.
const defaultColumns = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool"

// set reads a header line. Names are compared without regard to case.
func (c *columns) set(header []byte, fields []string) {
	names, ok := cells(header, nil)
	if !ok {
		return
	}
	*c = columns{line: string(header), want: make([]int, len(fields))}
	known := c.known()
	for i, n := range names {
		name := strings.ToLower(string(n))
		for _, k := range known {
			if k.name == name {
				*k.at = i + 1
			}
		}
		for f := range fields {
			if strings.EqualFold(fields[f], name) {
				c.want[f] = i + 1
			}
		}
	}
}

// column is a column that is read, and where its place is kept.
type column struct {
	name string
	at   *int
}

func (c *columns) known() []column {
	return []column{{"type", &c.kind}, {"timelogged", &c.logged}, {"timequeued", &c.queued}, {"orig", &c.orig}, {"rcpt", &c.rcpt}, {"dsnstatus", &c.status},
		{"dsndiag", &c.diag}, {"dsnmta", &c.dsnMta}, {"srcmta", &c.srcMta}, {"dlvsourceip", &c.source}, {"dlvdestinationip", &c.peer}, {"dlvsize", &c.size},
		{"jobid", &c.job}, {"envid", &c.env}, {"header_message-id", &c.mid}, {"header_subject", &c.subject},
		{"feedbacktype", &c.feedback}, {"useragent", &c.agent}, {"reportingmta", &c.reporting}}
}

// row is one line, by column.
type row struct {
	c     *columns
	cells [][]byte
}

func (r *row) get(at int) []byte {
	if at == 0 || at > len(r.cells) {
		return nil
	}
	return r.cells[at-1]
}

// powermta reads one line of an accounting file.
func (p *Parser) powermta(line []byte) error {
	line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(line, []byte("type,")) || bytes.HasPrefix(line, []byte("\"type\",")) {
		p.columns.set(line, p.o.Fields)
		return nil
	}
	if p.columns.line == "" {
		p.columns.set([]byte(defaultColumns), p.o.Fields)
	}
	var room [48][]byte
	cs, ok := cells(line, room[:0])
	if !ok || len(cs) < 3 {
		return ErrUnreadable
	}
	r := row{&p.columns, cs}
	at, ok := p.clock.cached(r.get(r.c.logged), p.clock.iso)
	if !ok {
		return ErrUnreadable
	}
	switch string(r.get(r.c.kind)) {
	case "r":
		p.row(&r, at, Received)
	case "d":
		p.row(&r, at, HandedOff)
	case "t", "tq":
		p.row(&r, at, Deferred)
	case "b":
		p.row(&r, at, Failed)
	case "rb":
		p.returned(&r, at, Bounced)
	case "f":
		p.returned(&r, at, Complained)
	}
	return nil // other records, such as rs, tell nothing of a message
}

// row makes the record of a line about a message. An accounting file has no id of the
// message in each line, so it is known by what stands in all of its lines.
func (p *Parser) row(r *row, at time.Time, kind Kind) {
	rcpt := r.get(r.c.rcpt)
	if len(rcpt) == 0 {
		return // tq: of a queue, without a recipient
	}
	queued := r.get(r.c.queued)
	if len(queued) == 0 && kind == Received {
		queued = r.get(r.c.logged)
	}
	key := hash64(queued, r.get(r.c.orig), rcpt, r.get(r.c.job), r.get(r.c.env), r.get(r.c.mid))
	u := p.open.get(key)
	final := kind == HandedOff || kind == Failed
	if u == nil {
		u = &under{}
		u.Queue = string(key)
		r.fill(u, at, p)
		if !final {
			p.open.put(u)
			p.open.changed(u)
		}
	}
	rec := Record{Kind: kind, Time: at, Recipient: text(rcpt), Source: address(r.get(r.c.source)), Status: statusWord(r.get(r.c.status))}
	rec.Host, rec.Peer = r.peer()
	if diag := r.get(r.c.diag); len(diag) > 0 {
		if _, v, typed := bytes.Cut(diag, []byte(";")); typed && bytes.HasPrefix(diag, []byte("smtp")) {
			diag = v
		}
		rec.Reply = text(diag)
	}
	if !final {
		p.record(u, rec)
		return
	}
	rec.First, rec.Message = len(u.Done) == 0, u.message()
	p.out = append(p.out, rec)
	if len(u.Done) > 0 {
		p.open.end(u)
	}
}

// fill takes what a line tells of the message itself.
func (r *row) fill(u *under, at time.Time, p *Parser) {
	u.Arrived = at
	if t, ok := p.clock.iso(string(r.get(r.c.queued))); ok {
		u.Arrived = t
	}
	u.Sender, u.MessageID, u.Subject = text(unbracket(r.get(r.c.orig))), text(unbracket(r.get(r.c.mid))), text(r.get(r.c.subject))
	u.Size = number(r.get(r.c.size))
	if src := r.get(r.c.srcMta); len(src) > 0 {
		name, rest, _ := bytes.Cut(src, []byte(" ("))
		u.Helo, u.Client = text(name), address(bytes.TrimSuffix(rest, []byte(")")))
	}
	if len(r.c.want) > 0 {
		u.Extra = make([]string, len(r.c.want))
		for i, c := range r.c.want {
			u.Extra[i] = text(r.get(c))
		}
	}
}

// peer reads "host (address)" of dsnMta, or the destination's own column.
func (r *row) peer() (name string, at netip.AddrPort) {
	n, rest, _ := bytes.Cut(r.get(r.c.dsnMta), []byte(" ("))
	a := address(bytes.TrimSuffix(rest, []byte(")")))
	if d := address(r.get(r.c.peer)); d.IsValid() {
		a = d
	}
	if a.IsValid() {
		at = netip.AddrPortFrom(a, 25)
	}
	return text(n), at
}

// returned makes the record of a complaint or a late bounce.
func (p *Parser) returned(r *row, at time.Time, kind Kind) {
	u := &under{}
	r.fill(u, at, p)
	rec := Record{Kind: kind, Time: at, Message: u.message(), Recipient: text(r.get(r.c.rcpt)), Source: address(r.get(r.c.source)), Status: statusWord(r.get(r.c.status)),
		Feedback: text(r.get(r.c.feedback)), Reporter: text(r.get(r.c.agent))}
	if rec.Reporter == "" {
		rec.Reporter = text(r.get(r.c.reporting))
	}
	rec.Reply = text(bytes.TrimPrefix(r.get(r.c.diag), []byte("smtp;")))
	p.out = append(p.out, rec)
}

// statusWord takes the status off "5.1.1 (bad destination mailbox address)".
func statusWord(b []byte) string {
	w, _, _ := bytes.Cut(b, []byte(" "))
	return text(w)
}

// hash64 names what stands in some cells: FNV-1a in 16 hexadecimal digits.
func hash64(parts ...[]byte) []byte {
	h := uint64(14695981039346656037)
	for _, p := range parts {
		for _, c := range p {
			h = (h ^ uint64(c)) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	var out [16]byte
	for i := range out {
		out[i] = "0123456789abcdef"[h>>(60-4*i)&15]
	}
	return out[:]
}

// cells splits a line (RFC 4180). Quotes inside a quoted cell are doubled; the cells
// share the line's memory where they can.
func cells(line []byte, out [][]byte) ([][]byte, bool) {
	for {
		if len(line) > 0 && line[0] == '"' {
			cell, rest, ok := quoted(line)
			if !ok {
				return out, false
			}
			out = append(out, cell)
			if len(rest) == 0 {
				return out, true
			}
			if rest[0] != ',' {
				return out, false
			}
			line = rest[1:]
			continue
		}
		i := bytes.IndexByte(line, ',')
		if i < 0 {
			return append(out, line), true
		}
		out = append(out, line[:i])
		line = line[i+1:]
	}
}

func quoted(line []byte) (cell, rest []byte, ok bool) {
	body := line[1:]
	i := bytes.IndexByte(body, '"')
	if i < 0 {
		return nil, nil, false
	}
	if i+1 >= len(body) || body[i+1] != '"' {
		return body[:i], body[i+1:], true
	}
	for {
		cell = append(cell, body[:i]...)
		if i+1 >= len(body) || body[i+1] != '"' {
			return cell, body[i+1:], true
		}
		cell = append(cell, '"')
		body = body[i+2:]
		if i = bytes.IndexByte(body, '"'); i < 0 {
			return nil, nil, false
		}
	}
}
