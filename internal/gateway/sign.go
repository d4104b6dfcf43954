package gateway

import (
	"bytes"
	"slices"
	"strings"

	"postern.dev/postern/internal/dkim"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// Signing knows the keys of a configuration.
type Signing interface {
	// Forms are those in which some key signs bodies; none where there are no keys.
	Forms() []dkim.Canonicalization
	// For gives who signs a customer's message that leaves by a pool. author is the
	// domain of its From field, "" where it has not exactly one.
	For(customer, pool, author string) []*dkim.Signer
}

// hashing makes what takes the body's hash while it comes in; nil where nobody will
// sign the message.
func (m *incoming) hashing() *dkim.Body {
	signing := m.s.generation.Signing
	if signing == nil || len(signing.Forms()) == 0 {
		return nil
	}
	if origin, _, _ := m.s.origin(); origin != policy.Customer {
		return nil
	}
	return dkim.NewBody(signing.Forms()...)
}

// signatures are made once for a message, and more often only where recipients differ
// in what is signed.
type signatures struct {
	m      *incoming
	author string
	alone  bool
	made   map[string][]byte // by signer and the recipient's own fields that it covers
}

// sign signs a customer's message. It gives the fields that stand before the header of
// all recipients; where those differ, each recipient has its own. What is stamped on a
// recipient is stamped now, so that it can be signed.
func (m *incoming) sign(msg *spool.Message) ([]byte, error) {
	if m.hash == nil || m.origin != policy.Customer {
		return nil, nil
	}
	s := &signatures{m: m, author: m.author(), alone: len(msg.Recipients) == 1, made: map[string][]byte{}}
	all := make([][]byte, len(msg.Recipients))
	var common []byte
	same := true
	first := true
	for i := range msg.Recipients {
		if !leaves(&msg.Recipients[i]) {
			continue
		}
		var err error
		if all[i], err = s.recipient(msg, i); err != nil {
			return nil, err
		}
		if first {
			common, first = all[i], false
		}
		same = same && bytes.Equal(common, all[i])
	}
	s.note()
	if same {
		return common, nil
	}
	for i := range all {
		if len(all[i]) > 0 {
			msg.Recipients[i].Headers = append([]string{strings.TrimSuffix(string(all[i]), "\r\n")}, msg.Recipients[i].Headers...)
		}
	}
	return nil, nil
}

// leaves reports whether a recipient's copy may go out to the world.
func leaves(r *spool.Recipient) bool {
	return r.State != spool.Settled && r.Inside == "" && r.Reason != spool.ReasonConsume && !strings.HasPrefix(r.Reason, spool.ReasonBounce)
}

// recipient gives the signatures of one recipient's copy.
func (s *signatures) recipient(msg *spool.Message, i int) ([]byte, error) {
	m, r := s.m, &msg.Recipients[i]
	pool := r.Pool
	if pool == "" {
		pool = m.s.generation.Program.Topology.DefaultPool
	}
	signers := m.s.generation.Signing.For(m.customer, pool, s.author)
	if len(signers) == 0 {
		return nil, nil
	}
	token := m.s.gateway.o.Ring().Mint(stamp.Token{Message: m.id, Customer: stamp.CustomerTag(m.customer), Recipient: uint16(min(i, stamp.NoRecipient-1))})
	r.Headers = append(stamp.Fields(token, m.id.String(), m.customer, m.s.generation.Hostname), r.Headers...)
	var out []byte
	for _, signer := range signers {
		sig, err := s.one(signer, r)
		if err != nil {
			return nil, err
		}
		out = append(out, sig...)
	}
	return out, nil
}

// one signs with one key, or finds that it has signed the same before.
func (s *signatures) one(signer *dkim.Signer, r *spool.Recipient) ([]byte, error) {
	if s.alone {
		// One recipient has a signature of its own for nothing: it covers the recipient's
		// own identifier too (RFC 9477, section 3.1).
		with := *signer
		with.Fields = append(slices.Clip(signer.Fields), "CFBL-Feedback-ID")
		signer = &with
	}
	key := signer.Domain + " " + signer.Selector
	var fields [][]byte
	for _, h := range r.Headers {
		name, _, _ := strings.Cut(h, ":")
		if signer.Covers(strings.TrimRight(name, " \t")) {
			key += "\x00" + h
			fields = append(fields, []byte(h+"\r\n"))
		}
	}
	if sig, ok := s.made[key]; ok {
		return sig, nil
	}
	for i := range s.m.head.fields {
		fields = append(fields, s.m.head.fields[i].raw)
	}
	sig, err := signer.Sign(fields, s.m.hash.Sum(signer.Body), s.m.id.Time())
	if err != nil {
		return nil, err
	}
	s.made[key] = sig
	return sig, nil
}

// note keeps what the ledger knows signatures by.
func (s *signatures) note() {
	for _, sig := range s.made {
		f := rawField{raw: sig}
		s.m.signed = append(s.m.signed, signature(f.value()))
	}
	slices.Sort(s.m.signed)
}

// author gives the domain of the From field, "" unless there is exactly one.
func (m *incoming) author() string {
	if m.head.count("from") != 1 {
		return ""
	}
	domain := ""
	for _, a := range message.Addresses(m.head.get("from")) {
		d, err := policy.NormaliseDomain(a[strings.LastIndexByte(a, '@')+1:])
		if err != nil || domain != "" && d != domain {
			return ""
		}
		domain = d
	}
	return domain
}

// cannotSign is the reply where a key fails: the client keeps the message.
func cannotSign() *smtp.Reply {
	return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 5}, "message could not be signed, try again later")
}
