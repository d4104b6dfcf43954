package history

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
)

// kumomta reads one log record of KumoMTA (reference manual, "Log Record"): an object
// of type Reception, Delivery, TransientFailure, Bounce, Expiration, AdminBounce, OOB or
// Feedback, with the message's spool id, one recipient, and times in seconds since 1970.
func (p *Parser) kumomta(line []byte) error {
	var k kumo
	err := object(line, func(name, v []byte) { k.take(p, string(name), v) })
	if err != nil || k.at.IsZero() {
		return ErrUnreadable
	}
	kind, final := k.kind()
	switch kind {
	case 0:
		return nil
	case Bounced, Complained:
		p.out = append(p.out, k.returned(p, kind))
		return nil
	}
	u := p.open.get(k.id)
	if u == nil {
		u = &under{}
		u.Queue = text(k.id)
		u.Arrived = k.created
		if !final {
			p.open.put(u)
		}
	}
	k.fill(p, u)
	r := k.record(kind)
	if !final {
		p.open.changed(u)
		p.record(u, r)
		return nil
	}
	r.First, r.Message = p.open.first(u, r.Recipient), u.message()
	p.out = append(p.out, r)
	p.open.end(u)
	return nil
}

// kumo is a log record as read.
type kumo struct {
	typ, id, sender, recipient, queue, content, source, pool []byte
	peerName, peerAddr, from                                 []byte
	code                                                     []byte
	at, created                                              time.Time
	size, attempts                                           int64
	meta, headers, feedback                                  []byte
}

func (k *kumo) take(p *Parser, name string, v []byte) {
	switch name {
	case "type":
		k.typ = str(v)
	case "id":
		k.id = str(v)
	case "sender":
		k.sender = str(v)
	case "recipient":
		if len(v) > 0 && v[0] == '[' { // newer versions can have several
			v = space(v[1:])
			if n := stringEnd(v); n > 0 {
				v = v[:n]
			}
		}
		k.recipient = str(v)
	case "queue":
		k.queue = str(v)
	case "size":
		k.size = number(v)
	case "num_attempts":
		k.attempts = number(v)
	case "timestamp":
		k.at, _ = p.jsonTime(v)
	case "created":
		k.created, _ = p.jsonTime(v)
	case "egress_source":
		k.source = str(v)
	case "egress_pool":
		k.pool = str(v)
	case "response":
		_ = object(v, func(n, v []byte) {
			switch string(n) {
			case "code":
				k.code = v
			case "content":
				k.content = str(v)
			}
		})
	case "peer_address":
		_ = object(v, func(n, v []byte) {
			switch string(n) {
			case "name":
				k.peerName = str(v)
			case "addr":
				k.peerAddr = str(v)
			}
		})
	case "source_address":
		_ = object(v, func(n, v []byte) {
			if string(n) == "address" {
				k.from = str(v)
			}
		})
	case "meta":
		k.meta = v
	case "headers":
		k.headers = v
	case "feedback_report":
		k.feedback = v
	}
}

func (k *kumo) kind() (kind Kind, final bool) {
	switch string(k.typ) {
	case "Reception":
		return Received, false
	case "Delivery":
		return HandedOff, true
	case "TransientFailure":
		return Deferred, false
	case "Bounce", "Expiration", "AdminBounce":
		return Failed, true
	case "OOB":
		return Bounced, true
	case "Feedback":
		return Complained, true
	}
	return 0, false // Rejection, Delayed, Any: no message of ours, or nothing new
}

// fill takes what a record tells of the message: the peer of a reception is who handed
// it in.
func (k *kumo) fill(p *Parser, u *under) {
	if u.Arrived.IsZero() {
		if u.Arrived = k.created; u.Arrived.IsZero() {
			u.Arrived = k.at
		}
	}
	if u.Sender == "" {
		u.Sender = text(k.sender)
	}
	if u.Size == 0 {
		u.Size = k.size
	}
	if string(k.typ) == "Reception" {
		u.Client, u.Helo = address(k.peerAddr), text(k.peerName)
		if u.Client.IsValid() && u.Client.IsLoopback() {
			u.Loopback = true
		}
	}
	k.fields(p, u)
}

// fields takes headers, meta data and the parts of the queue's name.
func (k *kumo) fields(p *Parser, u *under) {
	_ = object(k.headers, func(n, v []byte) {
		name := string(n)
		switch {
		case strings.EqualFold(name, "Message-ID"):
			p.open.named(u, text(unbracket(str(v))))
		case strings.EqualFold(name, "Subject") && u.Subject == "":
			u.Subject = text(str(v))
		}
		p.extra(u, "headers."+name, str(v))
	})
	_ = object(k.meta, func(n, v []byte) {
		if string(n) == "authn_id" && u.User == "" {
			u.User = text(str(v))
		}
		p.extra(u, "meta."+string(n), str(v))
	})
	if len(p.o.Fields) == 0 {
		return
	}
	// campaign:tenant@domain!route (reference manual, "Queues")
	if name, _, ok := bytes.Cut(k.queue, []byte("@")); ok {
		campaign, tenant, both := bytes.Cut(name, []byte(":"))
		if !both {
			campaign, tenant = nil, name
		}
		p.extra(u, "campaign", campaign)
		p.extra(u, "tenant", tenant)
	}
	p.extra(u, "egress_pool", k.pool)
	p.extra(u, "egress_source", k.source)
	p.extra(u, "sender_domain", []byte(domain(string(k.sender))))
}

func (k *kumo) record(kind Kind) Record {
	r := Record{Kind: kind, Time: k.at, Recipient: text(k.recipient), Attempt: int(min(k.attempts, 1<<20)) + 1}
	if kind == Received {
		r.Attempt = 0
		return r
	}
	r.Host = text(bytes.TrimSuffix(k.peerName, []byte(".")))
	if a := address(k.peerAddr); a.IsValid() {
		r.Peer = netip.AddrPortFrom(a, 25)
	}
	if ap, err := netip.ParseAddrPort(string(k.from)); err == nil {
		r.Source = ap.Addr().Unmap()
	}
	r.Reply = text(k.content)
	if len(k.code) > 0 && number(k.code) > 0 {
		r.Reply = text(k.code) + " " + r.Reply
	}
	return r
}

// returned makes the record of a bounce or a complaint that came back.
func (k *kumo) returned(p *Parser, kind Kind) Record {
	u := &under{}
	u.Queue, u.Arrived = "", k.at
	k.fields(p, u)
	r := Record{Kind: kind, Time: k.at, Recipient: text(k.recipient), Reply: text(k.content)}
	_ = object(k.feedback, func(n, v []byte) {
		switch string(n) {
		case "feedback_type":
			r.Feedback = text(str(v))
		case "user_agent":
			r.Reporter = text(str(v))
		case "source_ip":
			r.Source = address(str(v))
		case "original_mail_from":
			u.Sender = text(unbracket(str(v)))
		}
	})
	r.Message = u.message()
	return r
}
