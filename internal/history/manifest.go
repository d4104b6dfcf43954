package history

import (
	"net/netip"
	"time"
)

// manifest reads one line of a customer's own record of what was sent: a JSON object.
// time and recipient are required; status is "sent" (the default), "deferred", "failed"
// or "received".
//
//	{"time":"2026-11-30T12:00:00Z","recipient":"a@b.example","message_id":"x@y.example",
//	 "sender":"news@y.example","customer":"acme","campaign":"spring","source":"198.51.100.7",
//	 "peer":"192.0.2.25","host":"mx.b.example","client":"10.1.0.5","user":"app",
//	 "subject":"Hello","reply":"250 ok","status":"sent","id":"1234"}
func (p *Parser) manifest(line []byte) error {
	u, r := &under{}, Record{Kind: HandedOff}
	var at time.Time
	bad := false
	err := object(line, func(name, v []byte) {
		s := str(v)
		switch string(name) {
		case "time":
			var ok bool
			at, ok = p.jsonTime(v)
			bad = bad || !ok
		case "recipient":
			r.Recipient = text(unbracket(s))
		case "message_id":
			u.MessageID = text(unbracket(s))
		case "sender":
			u.Sender = text(unbracket(s))
		case "source":
			r.Source = address(s)
		case "peer":
			if a := address(s); a.IsValid() {
				r.Peer = netip.AddrPortFrom(a, 25)
			}
		case "host":
			r.Host = text(s)
		case "client":
			u.Client = address(s)
		case "user":
			u.User = text(s)
		case "subject":
			u.Subject = text(s)
		case "reply":
			r.Reply = text(s)
		case "id":
			u.Queue = text(s)
		case "status":
			var known bool
			r.Kind, known = map[string]Kind{"sent": HandedOff, "deferred": Deferred, "failed": Failed, "received": Received}[string(s)]
			bad = bad || !known
		}
		p.extra(u, string(name), s)
	})
	if err != nil || bad || at.IsZero() || r.Recipient == "" {
		return ErrUnreadable
	}
	r.Time, u.Arrived, r.First = at, at, true
	r.Message = u.message()
	p.out = append(p.out, r)
	return nil
}
