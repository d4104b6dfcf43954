package history

import (
	"bytes"
	"net/netip"
	"time"
)

// The main log of Exim (specification, chapter "Log files"):
//
//	TIME ID <= SENDER H=NAME (HELO) [ADDRESS]:PORT P=esmtpsa A=plain:USER S=SIZE id=MESSAGE-ID T="SUBJECT"
//	TIME ID => RCPT <ORIGINAL> R=ROUTER T=TRANSPORT H=HOST [ADDRESS]:PORT I=[LOCAL]:PORT C="REPLY"
//	TIME ID -> RCPT ...        another recipient of the same delivery
//	TIME ID == RCPT R=... T=... defer (N): REASON
//	TIME ID ** RCPT R=... T=...: REASON
//	TIME ID Completed

// exim reads one line of the main log.
func (p *Parser) exim(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return nil // the line before goes on
	}
	if len(line) < 20 || line[4] != '-' || line[10] != ' ' {
		return ErrUnreadable
	}
	end := 19
	for end < len(line) && line[end] != ' ' {
		end++ // milliseconds
	}
	if end+1 < len(line) && (line[end+1] == '+' || line[end+1] == '-') && end+6 < len(line) && line[end+6] == ' ' {
		end += 6 // the zone, by log_timezone
	}
	at, ok := p.clock.cached(line[:end], p.clock.iso)
	if !ok || end+1 >= len(line) {
		return ErrUnreadable
	}
	b := line[end+1:]
	if b[0] == '[' { // the process, by +pid
		_, b, _ = bytes.Cut(b, []byte("] "))
	}
	id, b, _ := bytes.Cut(b, []byte(" "))
	if !eximID(id) || len(b) < 2 {
		return nil
	}
	if string(b) == "Completed" {
		p.open.end(p.open.get(id))
		return nil
	}
	if len(b) < 4 || b[2] != ' ' {
		return nil
	}
	switch string(b[:2]) {
	case "<=":
		p.eximArrival(p.started(id, at), b[3:])
	case "=>", "->", ">>":
		p.eximDelivery(id, at, HandedOff, b[3:])
	case "==":
		p.eximDelivery(id, at, Deferred, b[3:])
	case "**":
		p.eximDelivery(id, at, Failed, b[3:])
	}
	return nil
}

// eximID reports an id of Exim: 6-6-2 characters, or 6-11-4 since 4.97.
func eximID(b []byte) bool {
	switch len(b) {
	case 16:
		return b[6] == '-' && b[13] == '-'
	case 23:
		return b[6] == '-' && b[18] == '-'
	}
	return false
}

// eximFields calls fn for each "NAME=value" of a line. A value runs to the next space,
// or to its closing quote; what is quoted inside is not read.
func eximFields(b []byte, fn func(name string, value, rest []byte)) {
	for len(b) > 0 {
		word := b
		if i := bytes.IndexByte(b, ' '); i >= 0 {
			word = b[:i]
		}
		eq := bytes.IndexByte(word, '=')
		if eq < 1 || eq > 3 {
			b = b[min(len(word)+1, len(b)):]
			continue
		}
		name, value := string(word[:eq]), b[eq+1:]
		if len(value) > 0 && value[0] == '"' {
			n := closing(value)
			fn(name, value[1:max(n, 1)], value[min(n+1, len(value)):])
			b = value[min(n+1, len(value)):]
			continue
		}
		fn(name, word[eq+1:], b[len(word):])
		b = b[min(len(word)+1, len(b)):]
	}
}

// closing gives the index of the quote that closes a value, or its length.
func closing(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}

// eximHost reads what follows "H=name": " (helo) [address]:port".
func eximHost(rest []byte) (helo []byte, at netip.AddrPort) {
	rest = bytes.TrimLeft(rest, " ")
	if len(rest) > 0 && rest[0] == '(' {
		if i := bytes.IndexByte(rest, ')'); i > 0 {
			helo, rest = rest[1:i], bytes.TrimLeft(rest[i+1:], " ")
		}
	}
	if len(rest) > 0 && rest[0] == '[' {
		_, at = host(rest)
	}
	return helo, at
}

func (p *Parser) eximArrival(u *under, b []byte) {
	sender, b, _ := bytes.Cut(b, []byte(" "))
	if string(sender) != "<>" {
		u.Sender = text(sender)
	}
	local := false
	eximFields(b, func(name string, v, rest []byte) {
		switch name {
		case "H":
			helo := v
			if len(v) > 0 && (v[0] == '[' || v[0] == '(') { // a client without a name
				rest = append(append([]byte(nil), v...), rest...)
				helo = nil
			}
			said, at := eximHost(rest)
			if said != nil {
				helo = said
			}
			u.Client, u.Helo = at.Addr(), text(helo)
		case "A":
			if _, user, ok := bytes.Cut(v, []byte(":")); ok {
				u.User = text(user)
				p.extra(u, "user", user)
			}
		case "P":
			local = string(v) == "local" || bytes.HasPrefix(v, []byte("local-"))
		case "S":
			u.Size = number(v)
		case "id":
			p.open.named(u, text(v))
		case "T":
			u.Subject = text(v)
		case "R":
			u.Own = true // the message that this one bounces
		}
	})
	u.Own = u.Own || (local && !u.Client.IsValid())
	u.Loopback = u.Client.IsLoopback()
	p.extra(u, "sender_domain", []byte(domain(u.Sender)))
	p.sameAsFiltered(u)
	p.open.changed(u)
}

func (p *Parser) eximDelivery(id []byte, at time.Time, kind Kind, b []byte) {
	r := Record{Kind: kind, Time: at}
	head := b
	if i := bytes.Index(b, []byte(" R=")); i >= 0 {
		head, b = b[:i], b[i+1:]
	} else if word, rest, ok := bytes.Cut(b, []byte(" ")); ok {
		head, b = word, rest
	}
	r.Recipient = eximRecipient(head)
	remote := false
	eximFields(b, func(name string, v, rest []byte) {
		switch name {
		case "H":
			_, r.Peer = eximHost(rest)
			r.Host, remote = text(v), true
		case "I":
			_, local := host(v)
			r.Source = local.Addr()
		case "C":
			r.Reply = text(v)
		}
	})
	r.Inside = kind == HandedOff && (!remote || r.Peer.Addr().IsLoopback())
	if kind != HandedOff {
		r.Reply = eximReason(b)
	}
	u := p.open.get(id)
	if u == nil {
		p.counts.Orphans++
		u = p.started(id, at)
	}
	p.record(u, r)
}

// eximRecipient reads "local@domain" or "local@domain <original>": the former is where
// it goes; a local part alone has the address in brackets.
func eximRecipient(b []byte) string {
	first, rest, _ := bytes.Cut(b, []byte(" "))
	if bytes.IndexByte(first, '@') < 0 {
		if o := bytes.TrimSuffix(bytes.TrimPrefix(bytes.TrimSpace(rest), []byte("<")), []byte(">")); bytes.IndexByte(o, '@') >= 0 {
			return text(o)
		}
	}
	return text(bytes.TrimSuffix(unbracket(first), []byte(":")))
}

// eximReason gives what a failed delivery says at its end.
func eximReason(b []byte) string {
	for _, mark := range []string{": SMTP error", " defer (", ": "} {
		if i := bytes.Index(b, []byte(mark)); i >= 0 {
			b = bytes.TrimLeft(b[i:], ": ")
			break
		}
	}
	// The peer's own words stand behind the command that they answer.
	if i := bytes.LastIndex(b, []byte(">: ")); i >= 0 && i+3 < len(b) && b[i+3] >= '2' && b[i+3] <= '5' {
		b = b[i+3:]
	}
	return text(b)
}
