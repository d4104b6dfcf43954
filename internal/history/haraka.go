package history

import (
	"bytes"
	"net/netip"
	"time"
)

// The log of Haraka (core documentation, "Logging" and "Outbound"): a level, the uuid of
// the connection with the transaction's number behind a dot, and the plugin, each in
// brackets; before them the time, where log.ini has timestamps or a supervisor adds it.
//
//	TIME [NOTICE] [UUID] [core] connect ip=ADDRESS ...
//	TIME [INFO] [UUID.1] [core] hook=mail plugin=... params="<SENDER>" retval=OK ...
//	TIME [INFO] [UUID.1] [core] hook=rcpt plugin=... params="<RCPT>" retval=OK ...
//	TIME [NOTICE] [UUID.1] [core] message mid="<ID>" size=N rcpts=1/0/0 ...
//	TIME [NOTICE] [UUID.1.1] [outbound] delivered file=... domain=D host=H ip=A port=N response="R" delay=S ...
//	TIME [INFO] [UUID.1.1] [outbound] Temp failing ... / bouncing ...

// haraka reads one line.
func (p *Parser) haraka(line []byte) error {
	open := bytes.IndexByte(line, '[')
	if open < 0 {
		return ErrUnreadable
	}
	at, ok := p.harakaTime(line[:open])
	if !ok {
		return ErrUnreadable
	}
	var head [3][]byte
	b := line[open:]
	for i := range head {
		b = bytes.TrimLeft(b, " ")
		end := bytes.IndexByte(b, ']')
		if len(b) == 0 || b[0] != '[' || end < 0 {
			return ErrUnreadable
		}
		head[i], b = b[1:end], b[end+1:]
	}
	uuid, plugin := head[1], string(head[2])
	if len(uuid) < 36 {
		return nil
	}
	b = bytes.TrimLeft(b, " ")
	switch plugin {
	case "outbound":
		p.harakaOutbound(uuid, at, b)
	case "core":
		p.harakaCore(uuid, at, b)
	default:
		if v, ok := value(b, "user="); ok && bytes.Contains(b, []byte("auth")) {
			p.harakaUser(uuid, at, v)
		}
	}
	return nil
}

// harakaTime reads what stands before the first bracket: a time of ISO 8601, or of
// syslog with host and program.
func (p *Parser) harakaTime(b []byte) (time.Time, bool) {
	b = bytes.TrimRight(b, " ")
	if len(b) == 0 {
		return p.clock.at, !p.clock.at.IsZero() // a line that goes on
	}
	if b[0] >= '0' && b[0] <= '9' {
		return p.clock.cached(b, p.clock.iso)
	}
	at, _, ok := p.clock.syslog(append(b[:len(b):len(b)], ' '))
	return at, ok
}

// value gives the value behind "name=", to the next space or closing quote.
func value(b []byte, name string) ([]byte, bool) {
	for {
		i := bytes.Index(b, []byte(name))
		if i < 0 {
			return nil, false
		}
		v := b[i+len(name):]
		if i > 0 && b[i-1] != ' ' {
			b = v
			continue
		}
		if len(v) > 0 && v[0] == '"' {
			return v[1:max(1, closing(v))], true
		}
		if j := bytes.IndexByte(v, ' '); j >= 0 {
			v = v[:j]
		}
		return v, true
	}
}

// transaction gives the uuid of the transaction: "UUID.1" of "UUID.1.2".
func transaction(uuid []byte) []byte {
	rest := uuid[36:]
	if len(rest) == 0 || rest[0] != '.' {
		return uuid
	}
	if i := bytes.IndexByte(rest[1:], '.'); i >= 0 {
		return uuid[:36+1+i]
	}
	return uuid
}

// harakaTransaction finds a message under way; it has what its connection has.
func (p *Parser) harakaTransaction(uuid []byte, at time.Time) *under {
	u := p.started(transaction(uuid), at)
	if c := p.open.get(uuid[:36]); c != nil && c != u && !u.Client.IsValid() {
		u.inherit(c)
		p.open.changed(u)
	}
	return u
}

func (p *Parser) harakaUser(uuid []byte, at time.Time, user []byte) {
	u := p.started(uuid[:36], at)
	u.User = text(user)
	p.extra(u, "user", user)
	p.open.changed(u)
}

func (p *Parser) harakaCore(uuid []byte, at time.Time, b []byte) {
	word, _, _ := bytes.Cut(b, []byte(" "))
	switch string(word) {
	case "connect":
		if v, ok := value(b, "ip="); ok {
			u := p.started(uuid[:36], at)
			u.Client = address(v)
			u.Loopback = u.Client.IsValid() && u.Client.IsLoopback()
			p.open.changed(u)
		}
	case "disconnect":
		p.open.end(p.open.get(uuid[:36]))
	case "message":
		u := p.harakaTransaction(uuid, at)
		if v, ok := value(b, "mid="); ok {
			p.open.named(u, text(unbracket(v)))
		}
		if v, ok := value(b, "size="); ok {
			u.Size = number(v)
		}
		p.open.changed(u)
	case "hook=mail", "hook=rcpt":
		v, _ := value(b, "params=")
		ret, _ := value(b, "retval=")
		if string(ret) == "DENY" || len(v) < 2 || v[0] != '<' {
			return
		}
		v, _, _ = bytes.Cut(v, []byte(">"))
		v = v[1:]
		u := p.harakaTransaction(uuid, at)
		if string(word) == "hook=mail" {
			u.Sender = text(v)
			p.extra(u, "sender_domain", []byte(domain(u.Sender)))
		} else if rcpt := text(v); len(u.Rcpts) < maxRcpts && !has(u.Rcpts, rcpt) {
			u.Rcpts = append(u.Rcpts, rcpt)
		}
		p.open.changed(u)
	}
}

// maxRcpts bounds the recipients that are kept of one message.
const maxRcpts = 1000

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// harakaOutbound reads what became of a message at one domain: each of its recipients
// there has a record. Where the log does not name them, the domain stands for them.
func (p *Parser) harakaOutbound(uuid []byte, at time.Time, b []byte) {
	r := Record{Time: at}
	switch {
	case bytes.HasPrefix(b, []byte("delivered ")):
		r.Kind = HandedOff
	case bytes.HasPrefix(b, []byte("bounce")):
		r.Kind = Failed
	case bytes.HasPrefix(b, []byte("Temp failing")), bytes.HasPrefix(b, []byte("temp fail")):
		r.Kind = Deferred
	default:
		return
	}
	dom, _ := value(b, "domain=")
	h, _ := value(b, "host=")
	ip, _ := value(b, "ip=")
	reply, ok := value(b, "response=")
	if !ok {
		reply = b
	}
	r.Host, r.Reply = text(h), text(reply)
	if a := address(ip); a.IsValid() {
		r.Peer = netip.AddrPortFrom(a, 25)
	}
	r.Inside = r.Kind == HandedOff && (!r.Peer.IsValid() || r.Peer.Addr().IsLoopback())
	q := transaction(uuid)
	u := p.open.get(q)
	if u == nil {
		p.counts.Orphans++
		u = p.started(q, at)
	}
	named := false
	for _, to := range u.Rcpts {
		if len(dom) == 0 || domain(to) == string(dom) {
			r.Recipient, named = to, true
			p.record(u, r)
		}
	}
	if !named {
		r.Recipient = "@" + text(dom)
		p.record(u, r)
	}
}
