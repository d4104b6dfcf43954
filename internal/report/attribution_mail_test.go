package report_test

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/stamp"
)

const dateForm = "Mon, 2 Jan 2006 15:04:05 -0700"

// parcel is a message as it lies in a mailbox.
type parcel struct {
	trace    []string // newest first
	fields   []string
	from     string // reverse-path
	to       string // envelope
	source   netip.Addr
	arrived  time.Time
	reported time.Time
}

func hop(name string, from netip.Addr, by string, at time.Time) string {
	return fmt.Sprintf("Received: from %s (%s [%s]) by %s with ESMTP id q%d; %s", name, name, from, by, at.UnixNano()%1e9, at.Format(dateForm))
}

// deliver carries a message to its mailbox, as its class says, and the reporter's mail
// about it away.
func (w *world) deliver(l *letter, old *stamp.Ring) parcel {
	mx := "mx." + mailboxDomain(l.reporter)
	p := parcel{to: l.rcpt, source: l.source, arrived: l.handed, from: "winner@spam.example"}
	ours := fmt.Sprintf("Received: from app ([10.1.0.5]) by %s (Postern) with ESMTP id %s; %s", gateway, l.id, l.at.Format(dateForm))
	p.trace = []string{hop(gateway, l.source, mx, l.handed), ours}
	p.fields = []string{"From: <news@sender.example>", "To: <" + l.rcpt + ">", "Subject: " + l.subject, "Message-ID: <" + l.mid + ">", "Date: " + l.at.Format(dateForm)}
	ring := w.ring
	switch {
	case l.is(ofRetired):
		ring = old
	case l.is(ofLost):
		ring = w.lost
	}
	if l.customer != "" {
		w.mark(l, &p, ring)
	}
	w.send(l, &p, mx)
	p.reported = p.arrived.Add(time.Duration(l.rng.IntN(40*3600)) * time.Second)
	if l.among(ofLate, leakLate) {
		p.reported = p.arrived.Add(200 * 24 * time.Hour)
	}
	if l.is(leakEarly) {
		p.reported = p.arrived.Add(10 * time.Second)
	}
	return p
}

// mark puts in what Postern puts into a customer's message.
func (w *world) mark(l *letter, p *parcel, ring *stamp.Ring) {
	token := ring.Mint(stamp.Token{Message: l.id, Customer: stamp.CustomerTag(l.customer), Recipient: 0})
	p.from = stamp.ReturnPath(token, "bounce.esp.example").String()
	p.fields = append(p.fields, stamp.Fields(token, l.id.String(), l.customer, gateway)...)
	p.fields = append(p.fields, "DKIM-Signature: v=1; a=rsa-sha256; d="+l.customer+".example; s=x; h=from:subject; bh=abc; b="+l.dkim, "List-Unsubscribe: <https://esp.example/u/"+token+">")
}

// drop takes fields out by the beginning of their names.
func (p *parcel) drop(names ...string) {
	var kept []string
	for _, f := range p.fields {
		gone := false
		for _, n := range names {
			gone = gone || strings.HasPrefix(f, n)
		}
		if !gone {
			kept = append(kept, f)
		}
	}
	p.fields = kept
}

func (p *parcel) put(name, value string) {
	p.drop(name + ":")
	p.fields = append(p.fields, name+": "+value)
}

// send is what happens on the way.
func (w *world) send(l *letter, p *parcel, mx string) {
	switch {
	case l.among(ofForwarded, leakForwarded):
		at := p.arrived.Add(5 * time.Second)
		p.trace = append([]string{hop("out.alumni.example", alumni, mx, at), hop(gateway, l.source, "mx.alumni.example", l.handed)}, p.trace[1:]...)
		p.put("To", fmt.Sprintf("<graduate%d@alumni.example>", l.i))
		p.source, p.arrived, p.from = alumni, at, "SRS0=abcd=XY="+strings.Replace(p.from, "@", "=", 1)+"@alumni.example"
	case l.among(ofList, leakList):
		at := p.arrived.Add(30 * time.Second)
		top := hop("lists.example", listing, mx, at)
		p.trace = append([]string{top, hop(gateway, l.source, "mx.lists.example", l.handed)}, p.trace[1:]...)
		if l.rng.IntN(2) == 0 {
			p.trace = []string{top} // some lists begin a new trace
		}
		p.drop("DKIM-Signature")
		p.put("Subject", "[members] "+l.subject)
		p.put("To", "<members@lists.example>")
		p.put("List-Id", "<members.lists.example>")
		p.source, p.arrived, p.from = listing, at, "members-bounces@lists.example"
	case l.among(leakReplay, leakKept):
		w.replay(l, p, mx)
	default:
		w.spoil(l, p, mx)
	}
}

// replay sends a customer's message about from elsewhere.
func (w *world) replay(l *letter, p *parcel, mx string) {
	b := w.base(l.replay)
	*p = w.deliver(b, w.ring)
	at := b.handed.Add(time.Duration(3600+l.rng.IntN(3*24*3600)) * time.Second)
	p.to, p.source, p.arrived = l.rcpt, evil, at
	p.put("To", "<"+b.rcpt+">")
	switch l.replay {
	case 0: // only what the signature covers is kept
		p.trace = nil
		p.drop("X-Postern", "CFBL", "Feedback-ID", "List-Unsubscribe")
		p.from = "winner@spam.example"
	case replays - 1: // everything, and the name of the forwarder that it is not
		p.trace = append([]string{hop("mx.mailbox.example", evil, mx, at)}, append([]string{hop(gateway, b.source, "mx.mailbox.example", b.handed)}, p.trace[1:]...)...)
		return
	default:
		p.trace = p.trace[1:]
	}
	p.trace = append([]string{hop("dsl.evil.example", evil, mx, at)}, p.trace...)
}

// spoil is the rest of what the classes say.
func (w *world) spoil(l *letter, p *parcel, mx string) {
	token := func(r *stamp.Ring) string {
		return r.Mint(stamp.Token{Message: w.letter(l.i + 1).id, Customer: stamp.CustomerTag("customer01")})
	}
	switch {
	case l.is(ofOtherID):
		p.put("Message-ID", fmt.Sprintf("<%d.made@%s>", l.rng.IntN(1e9), mx))
	case l.is(ofStripped):
		p.drop("X-Postern", "CFBL", "Feedback-ID", "List-Unsubscribe")
		p.from = "news@sender.example"
	case l.is(ofBare):
		p.trace, p.from = nil, "news@sender.example"
		p.drop("X-Postern", "CFBL", "Feedback-ID", "List-Unsubscribe", "DKIM", "Message-ID")
	case l.is(leakForged):
		bad := []byte(token(w.ring))
		bad[20+l.rng.IntN(20)] ^= 1
		p.fields = append(p.fields, "X-Postern-Stamp: "+string(bad), "CFBL-Feedback-ID: "+string(bad))
	case l.is(leakExpired):
		p.fields = append(p.fields, "X-Postern-Stamp: "+token(w.lost))
	case l.among(leakBypass, tellBypass):
		p.trace = []string{hop("host7.esp.example", l.source, mx, l.handed)}
	case l.among(notOurs, notOursMarked):
		p.trace, p.source = []string{hop("dsl.evil.example", evil, mx, l.handed)}, evil
		if l.is(notOursMarked) {
			victim := w.letter(l.i + 1)
			p.put("Message-ID", "<"+victim.mid+">")
			if l.rng.IntN(2) == 0 {
				p.fields = append(p.fields, "X-Postern-Stamp: "+w.ring.Mint(stamp.Token{Message: victim.id, Customer: stamp.CustomerTag(victim.customer)}))
			}
		}
	}
}

// reporterAddress is the author of a profile's reports.
func reporterAddress(p *report.Profile) string {
	if len(p.From) == 0 {
		return "fbl@fbl." + mailboxDomain(p)
	}
	if strings.Contains(p.From[0], "@") {
		return p.From[0]
	}
	return "feedbackloop@" + p.From[0]
}

// complain is the reporter's mail about a message.
func (w *world) complain(l *letter, p *parcel) report.Input {
	original := strings.Join(append(append([]string{}, p.trace...), p.fields...), "\r\n") + "\r\n\r\nbody\r\n"
	from := reporterAddress(l.reporter)
	domain := from[strings.IndexByte(from, '@')+1:]
	raw := lab.Redacted(l.reporter.Name, message.Complaint{From: from, To: "fbl@esp.example", Date: p.reported, MessageID: fmt.Sprintf("c%d@%s", l.i, domain), Boundary: "bound",
		SourceIP: p.source, Arrival: p.arrived, MailFrom: p.from, Rcpt: p.to, Original: []byte(original)})
	in := report.Input{Raw: raw, Received: p.reported, Auth: mailauth.Results{SPF: "pass", SPFDomain: domain, DKIM: []mailauth.Signature{{Domain: domain, Result: "pass"}}}}
	if l.class.unknown {
		in.Raw = []byte(strings.Replace(string(raw), from, "liar@liar.example", 1))
		in.Auth = mailauth.Results{SPF: "pass", SPFDomain: "liar.example"}
	}
	return in
}
