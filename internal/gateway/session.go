package gateway

import (
	"context"
	"strings"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// session is one client's SMTP session on one listener.
type session struct {
	gateway    *Gateway
	meter      SessionMeter
	generation *Generation
	listener   string
	auth       bool
	peer       *smtp.Peer
	name       string // forward-confirmed reverse name of the client

	// of the transaction
	from   smtp.Path
	params smtp.MailParams
	sender policy.Address
	rcpts  []recipient
}

// recipient is one accepted RCPT with every reading of its path.
type recipient struct {
	path     smtp.Path
	params   smtp.RcptParams
	readings []policy.Address
}

// origin settles whose session this is, as far as it has come.
func (s *session) origin() (policy.Origin, string, bool) {
	a := policy.Arrival{Listener: s.listener, Peer: s.peer.Addr.Addr(), AuthUser: s.peer.AuthUser}
	if a.AuthUser != "" {
		a.AuthCustomer = s.generation.CustomerOf(a.AuthUser)
	}
	return s.generation.Program.Topology.OriginOf(a)
}

// Mail implements smtp.Session.
func (s *session) Mail(_ context.Context, from smtp.Path, p smtp.MailParams) *smtp.Reply {
	if r := s.gateway.broken(); r != nil {
		return r
	}
	if _, _, ok := s.origin(); !ok {
		s.gateway.o.Meter.Refused(NoAuth)
		return smtp.NewReply(530, smtp.EnhancedCode{5, 7, 0}, "authentication required")
	}
	sender, err := policy.Normalise(s.qualified(from))
	if err != nil {
		s.gateway.o.Meter.Refused(BadAddress)
		return smtp.NewReply(553, smtp.EnhancedCode{5, 1, 7}, "reverse-path is not a valid mailbox")
	}
	s.from, s.params, s.sender, s.rcpts = from, p, sender, nil
	return nil
}

// qualified puts our host name behind a bare "postmaster" (RFC 5321, section 4.1.1.3).
func (s *session) qualified(p smtp.Path) smtp.Path {
	if p.Domain == "" && p.Local != "" {
		p.Domain = s.generation.Hostname
	}
	return p
}

// Rcpt implements smtp.Session: it refuses what the envelope alone refuses.
func (s *session) Rcpt(_ context.Context, to smtp.Path, p smtp.RcptParams) *smtp.Reply {
	path := s.qualified(to)
	if strings.HasPrefix(path.Domain, "[") {
		s.gateway.o.Meter.Refused(BadAddress)
		return smtp.NewReply(550, smtp.EnhancedCode{5, 1, 2}, "address literals are not routed")
	}
	readings, ok := policy.Readings(path)
	if !ok {
		s.gateway.o.Meter.Refused(BadAddress)
		return smtp.NewReply(553, smtp.EnhancedCode{5, 1, 3}, "forward-path is not a valid mailbox")
	}
	path.Route = ""
	origin, customer, _ := s.origin()
	if origin == policy.Customer {
		readings = readings[:1] // nobody is protected from a customer's own spelling
	}
	for _, reading := range readings {
		f := s.facts(origin, customer, reading, nil)
		if d, refused := policy.Early(s.generation.Program, f); refused {
			s.noteRefusal(origin, customer, path, d)
			return replyOf(d)
		}
	}
	if reply := s.postmasterFull(origin, readings); reply != nil {
		return reply
	}
	if origin == policy.Customer && s.gateway.o.Suppressed != nil {
		if reply := s.suppressed(customer, path, readings[0]); reply != nil {
			return reply
		}
	}
	s.rcpts = append(s.rcpts, recipient{path: path, params: p, readings: readings})
	return nil
}

// suppressed refuses a recipient on the customer's suppression list. The status says
// what is wrong with the address where that is the cause (RFC 3463, section 3.2), else
// that delivery is not authorised (section 3.8).
func (s *session) suppressed(customer string, path smtp.Path, rcpt policy.Address) *smtp.Reply {
	why, err := s.gateway.o.Suppressed(customer, rcpt)
	if err != nil {
		s.gateway.o.Log.Error("suppression list cannot be read", "err", err)
		return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 0}, "recipient cannot be checked now, try again later")
	}
	if why == nil {
		return nil
	}
	d := policy.Decision{Disposition: policy.Refused, Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "recipient is on " + whose(why) + " suppression list (" + strings.ReplaceAll(why.Reason, "-", " ") + " " + why.Since.UTC().Format("2006-01-02") + ")"}
	if why.NoSuch {
		d.Enhanced = [3]int{5, 1, 1}
	}
	s.noteRefusal(policy.Customer, customer, path, d)
	return replyOf(d)
}

func whose(s *Suppression) string {
	if s.Everyone {
		return "the"
	}
	return "your"
}

// facts gathers what the policy may look at.
func (s *session) facts(origin policy.Origin, customer string, rcpt policy.Address, content *policy.Content) *policy.Facts {
	f := &policy.Facts{
		Listener: s.listener,
		Origin:   origin,
		Client:   policy.Client{Address: s.peer.Addr.Addr().Unmap(), Name: s.name, Helo: strings.ToLower(s.peer.Helo)},
		AuthUser: s.peer.AuthUser,
		Customer: customer,
		Sender:   s.sender,
		Rcpt:     rcpt,
		Now:      s.gateway.o.Now(),
		Content:  content,
	}
	if t := s.peer.TLS; t != nil {
		f.TLS = policy.TLS{On: true, Version: tlsVersion(t.Version), Cipher: tlsCipher(t.CipherSuite)}
	}
	return f
}

// noteRefusal puts a refusal into the ledger. It does not wait for the disk: the
// client keeps the message, so nothing is lost if the note is.
func (s *session) noteRefusal(origin policy.Origin, customer string, to smtp.Path, d policy.Decision) {
	s.gateway.o.Meter.Refused(Policy)
	e := &ledger.Refused{
		Time: s.gateway.o.Now(), Listener: s.listener, Peer: s.peer.Addr, Helo: s.peer.Helo,
		Origin: string(origin), Customer: customer, Sender: s.from.String(), Recipient: to.String(),
		Filter: d.Filter, Policy: s.generation.Version, Reply: replyOf(d).String(),
	}
	if err := s.gateway.o.Store.Note(&spool.Batch{Events: [][]byte{ledger.Encode(e)}}); err != nil {
		s.gateway.o.Log.Warn("refusal not recorded", "err", err)
	}
}

func replyOf(d policy.Decision) *smtp.Reply {
	return smtp.NewReply(d.Code, smtp.EnhancedCode(d.Enhanced), "%s", d.Text)
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.from, s.params, s.sender, s.rcpts = smtp.Path{}, smtp.MailParams{}, policy.Address{}, nil
}

// Close implements smtp.Session.
func (s *session) Close() {
	s.Reset()
	s.meter.Closed()
}
