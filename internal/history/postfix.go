package history

import (
	"bytes"
	"strconv"
	"time"
)

// The lines of Postfix, as its daemons write them (postconf(5), maillog_file; the manual
// pages of smtpd(8), cleanup(8), qmgr(8), smtp(8), bounce(8)):
//
//	TIME HOST postfix/smtpd[PID]: QUEUE: client=NAME[ADDRESS], sasl_username=USER
//	TIME HOST postfix/cleanup[PID]: QUEUE: message-id=<ID>
//	TIME HOST postfix/qmgr[PID]: QUEUE: from=<SENDER>, size=N, nrcpt=N (queue active)
//	TIME HOST postfix/smtp[PID]: QUEUE: to=<RCPT>, relay=HOST[ADDRESS]:PORT, delay=S, ..., dsn=N.N.N, status=sent (REPLY)
//	TIME HOST postfix/bounce[PID]: QUEUE: sender non-delivery notification: QUEUE
//	TIME HOST postfix/qmgr[PID]: QUEUE: removed

// postfix reads one line of syslog.
func (p *Parser) postfix(line []byte) error {
	at, rest, ok := p.clock.syslog(line)
	if !ok {
		return ErrUnreadable
	}
	daemon, body, ok := postfixTag(rest)
	if !ok {
		return nil // of another program
	}
	queue, body, ok := queueID(body)
	if !ok {
		return nil
	}
	switch {
	case bytes.HasPrefix(body, []byte("to=<")):
		return p.postfixDelivery(at, daemon, queue, body)
	case bytes.HasPrefix(body, []byte("client=")):
		p.postfixClient(p.started(queue, at), body[len("client="):])
	case bytes.HasPrefix(body, []byte("message-id=")):
		u := p.started(queue, at)
		p.open.named(u, text(unbracket(body[len("message-id="):])))
		p.sameAsFiltered(u)
	case bytes.HasPrefix(body, []byte("from=<")):
		p.postfixQueued(queue, at, body)
	case bytes.HasPrefix(body, []byte("uid=")):
		u := p.started(queue, at)
		u.Own = true
		p.open.changed(u)
	case string(body) == "removed":
		p.open.end(p.open.get(queue))
	case bytes.HasPrefix(body, []byte("milter-reject: END-OF-MESSAGE")), bytes.HasPrefix(body, []byte("milter-discard: END-OF-MESSAGE")):
		p.open.end(p.open.get(queue))
	default:
		p.postfixOther(daemon, queue, at, body)
	}
	return nil
}

// postfixTag takes host and program off: "mx1 postfix/smtpd[12]: ", also of an instance
// or a service of another name ("postfix-out/smtp", "postfix/submission/smtpd"), and of
// RFC 5424 ("mx1 postfix/smtpd 12 - - ").
func postfixTag(b []byte) (daemon, body []byte, ok bool) {
	_, b, ok = bytes.Cut(b, []byte(" "))
	if !ok || !bytes.HasPrefix(b, []byte("postfix")) {
		return nil, nil, false
	}
	end := bytes.IndexAny(b, "[ :")
	if end < 0 {
		return nil, nil, false
	}
	tag := b[:end]
	slash := bytes.LastIndexByte(tag, '/')
	if slash < 0 {
		return nil, nil, false
	}
	daemon = tag[slash+1:]
	if b[end] == ' ' {
		_, body, ok = bytes.Cut(b[end:], []byte(" - - "))
		return daemon, body, ok
	}
	_, body, ok = bytes.Cut(b[end:], []byte(": "))
	return daemon, body, ok
}

// queueID takes a queue id off: hexadecimal digits, or the letters and digits of a long
// one (enable_long_queue_ids), which has no vowels in its second half.
func queueID(b []byte) (queue, body []byte, ok bool) {
	colon := bytes.IndexByte(b, ':')
	if colon < 5 || colon > 20 || len(b) < colon+2 || b[colon+1] != ' ' {
		return nil, nil, false
	}
	digits := false
	for _, c := range b[:colon] {
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case c >= 'A' && c <= 'Z':
			digits = digits || colon >= 10
		case c >= 'a' && c <= 'z':
		default:
			return nil, nil, false
		}
	}
	if !digits {
		return nil, nil, false // "warning: ", "statistics: ", "connect"
	}
	return b[:colon], b[colon+2:], true
}

// started finds a message under way and makes it if need be; at is then the time of its
// first line.
func (p *Parser) started(queue []byte, at time.Time) *under {
	u := p.open.begin(queue)
	if u.Arrived.IsZero() {
		u.Arrived = at
		p.open.changed(u)
	}
	return u
}

// postfixClient reads what follows "client=".
func (p *Parser) postfixClient(u *under, b []byte) {
	first, rest, _ := bytes.Cut(b, []byte(", "))
	name, at := host(first)
	for part := range bytes.SplitSeq(rest, []byte(", ")) {
		if v, ok := after(part, "sasl_username="); ok {
			u.User = text(v)
			p.extra(u, "sasl_username", v)
		}
		if v, ok := after(part, "orig_client="); ok { // by XFORWARD, of a filter before the queue
			name, at = host(v)
		}
	}
	u.Client, u.Helo = at.Addr(), name
	u.Loopback = at.Addr().IsLoopback()
	p.open.changed(u)
}

// sameAsFiltered gives a message that came back from a filter on the same host whose it
// was before.
func (p *Parser) sameAsFiltered(u *under) {
	if !u.Loopback {
		return
	}
	if first := p.open.byID[u.MessageID]; first != nil && first != u {
		u.inherit(first)
		p.open.changed(u)
	}
}

// inherit takes over who handed a message in.
func (u *under) inherit(from *under) {
	u.Client, u.Helo, u.User, u.Own, u.Loopback = from.Client, from.Helo, from.User, from.Own, from.Loopback
	if u.Extra == nil {
		u.Extra = from.Extra
	}
}

// postfixQueued reads "from=<SENDER>, size=N, nrcpt=N (queue active)".
func (p *Parser) postfixQueued(queue []byte, at time.Time, b []byte) {
	end := bytes.Index(b, []byte(">, "))
	if end < 0 {
		return
	}
	if bytes.HasPrefix(b[end+3:], []byte("status=")) { // expired; the recipients' lines say so too
		return
	}
	u := p.open.get(queue)
	if u != nil && u.Size != 0 {
		return // active again after a deferral
	}
	u = p.started(queue, at)
	u.Sender = text(b[len("from=<"):end])
	if v, ok := after(b[end+3:], "size="); ok {
		n, _, _ := bytes.Cut(v, []byte(","))
		u.Size = number(n)
	}
	p.extra(u, "sender_domain", []byte(domain(u.Sender)))
	if u.Sender == "" && !u.Client.IsValid() {
		u.Own = true
	}
	p.open.changed(u)
}

// postfixOther reads the rarer lines: subjects that header_checks log, and bounces.
func (p *Parser) postfixOther(daemon, queue []byte, at time.Time, b []byte) {
	switch string(daemon) {
	case "cleanup":
		i := bytes.Index(b, []byte(": header Subject: "))
		if i < 0 || i > 10 {
			return
		}
		v := b[i+len(": header Subject: "):]
		if j := bytes.LastIndex(v, []byte("; from=<")); j >= 0 {
			v = v[:j]
		}
		if j := bytes.LastIndex(v, []byte(" from ")); j >= 0 {
			v = v[:j]
		}
		u := p.started(queue, at)
		u.Subject = text(v)
		p.open.changed(u)
	case "bounce":
		if i := bytes.LastIndex(b, []byte("notification: ")); i >= 0 {
			u := p.started(b[i+len("notification: "):], at)
			u.Own = true
			p.open.changed(u)
		}
	}
}

// postfixDelivery reads "to=<RCPT>, ..., relay=..., delay=..., dsn=..., status=WORD (REPLY)".
func (p *Parser) postfixDelivery(at time.Time, daemon, queue, b []byte) error {
	end := bytes.Index(b, []byte(">, "))
	if end < 0 {
		return ErrUnreadable
	}
	r := Record{Time: at, Recipient: text(b[len("to=<"):end])}
	status := bytes.Index(b[end:], []byte("status="))
	if status < 0 {
		return nil // a trace or a warning
	}
	var delay []byte
	for part := range bytes.SplitSeq(b[end+3:end+status], []byte(", ")) {
		if v, ok := after(part, "relay="); ok {
			r.Host, r.Peer = host(v)
		} else if v, ok := after(part, "delay="); ok {
			delay = v
		} else if v, ok := after(part, "dsn="); ok {
			r.Status = text(v)
		}
	}
	word, reply, _ := bytes.Cut(b[end+status+len("status="):], []byte(" "))
	if n := len(reply); n >= 2 && reply[0] == '(' && reply[n-1] == ')' {
		reply = reply[1 : n-1]
	}
	r.Reply = text(reply)
	switch string(word) {
	case "sent":
		r.Kind = HandedOff
	case "deferred":
		r.Kind = Deferred
	case "bounced", "expired":
		r.Kind = Failed
	default:
		return nil // deliverable, undeliverable: a probe
	}
	// What does not leave by smtp(8) stays; so does what goes to a filter on this host.
	r.Inside = r.Kind == HandedOff && (!r.Peer.IsValid() || r.Peer.Addr().IsLoopback() || string(daemon) == "lmtp")
	u := p.open.get(queue)
	if u == nil {
		p.counts.Orphans++
		u = p.started(queue, at.Add(-seconds(delay)))
	}
	p.record(u, r)
	return nil
}

// seconds reads a delay such as "12.3", at most a year.
func seconds(b []byte) time.Duration {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || f < 0 || f > 365*24*3600 {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
