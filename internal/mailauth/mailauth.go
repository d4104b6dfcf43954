// Package mailauth authenticates a message that came in: SPF (RFC 7208), DKIM (RFC
// 6376) and DMARC (RFC 7489), with the words of RFC 8601 for the results. It asks the
// DNS only through the Resolver that it is given.
package mailauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/publicsuffix"

	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

// Resolver asks the DNS.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Signature is one DKIM signature and its result.
type Signature struct {
	Domain string
	Result string
}

// Results are what a message shows of who sent it.
type Results struct {
	SPF       string
	SPFDomain string // that SPF was asked for
	DKIM      []Signature
	DMARC     string
	From      string // domain of the From field
}

// Message is what is authenticated.
type Message struct {
	Peer netip.Addr
	Helo string
	From smtp.Path
	Raw  []byte // at most the first few MiB; a body hash over more fails
}

// maxSignatures bounds the work on a message made of signatures.
const maxSignatures = 10

// Check authenticates a message.
func Check(ctx context.Context, r Resolver, m Message) Results {
	out := Results{SPF: "none", DMARC: "none"}
	fields, _ := message.ReadHeader(m.Raw)
	_, from, _ := strings.Cut(message.Address(message.Get(fields, "From")), "@")
	out.From = strings.ToLower(strings.TrimSuffix(from, "."))
	out.spf(ctx, r, m)
	out.dkim(ctx, r, m.Raw)
	out.dmarc(ctx, r)
	return out
}

func (out *Results) spf(ctx context.Context, r Resolver, m Message) {
	sender, domain := m.From.String(), m.From.Domain
	if domain == "" {
		sender, domain = "postmaster@"+m.Helo, m.Helo
	}
	if domain == "" || !m.Peer.IsValid() {
		return
	}
	out.SPFDomain = strings.ToLower(strings.TrimSuffix(domain, "."))
	res, _ := spf.CheckHostWithSender(net.IP(m.Peer.Unmap().AsSlice()), m.Helo, sender, spf.WithContext(ctx), spf.WithResolver(r))
	out.SPF = string(res)
}

func (out *Results) dkim(ctx context.Context, r Resolver, raw []byte) {
	lookup := func(name string) ([]string, error) { return r.LookupTXT(ctx, name) }
	vs, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &dkim.VerifyOptions{LookupTXT: lookup, MaxVerifications: maxSignatures})
	if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) && !errors.Is(err, io.ErrUnexpectedEOF) && len(vs) == 0 {
		return
	}
	for _, v := range vs {
		s := Signature{Domain: strings.ToLower(v.Domain), Result: "pass"}
		switch {
		case v.Err == nil:
		case dkim.IsTempFail(v.Err):
			s.Result = "temperror"
		case dkim.IsPermFail(v.Err):
			s.Result = "permerror"
		default:
			s.Result = "fail"
		}
		out.DKIM = append(out.DKIM, s)
	}
}

// dmarc judges alignment with the From domain's record, or its organisational
// domain's.
func (out *Results) dmarc(ctx context.Context, r Resolver) {
	if out.From == "" {
		return
	}
	lookup := func(name string) ([]string, error) { return r.LookupTXT(ctx, name) }
	rec, err := dmarc.LookupWithOptions(out.From, &dmarc.LookupOptions{LookupTXT: lookup})
	if errors.Is(err, dmarc.ErrNoPolicy) {
		rec, err = dmarc.LookupWithOptions(Organisational(out.From), &dmarc.LookupOptions{LookupTXT: lookup})
	}
	switch {
	case errors.Is(err, dmarc.ErrNoPolicy):
		return
	case err != nil && dmarc.IsTempFail(err):
		out.DMARC = "temperror"
		return
	case err != nil:
		out.DMARC = "permerror"
		return
	}
	out.DMARC = "fail"
	if out.SPF == "pass" && aligned(out.SPFDomain, out.From, rec.SPFAlignment == dmarc.AlignmentStrict) {
		out.DMARC = "pass"
	}
	for _, s := range out.DKIM {
		if s.Result == "pass" && aligned(s.Domain, out.From, rec.DKIMAlignment == dmarc.AlignmentStrict) {
			out.DMARC = "pass"
		}
	}
}

func aligned(a, b string, strict bool) bool {
	return a == b || (!strict && Organisational(a) == Organisational(b))
}

// Organisational gives the domain under its public suffix (RFC 7489, section 3.2).
func Organisational(domain string) string {
	d, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return d
}

// BestDKIM gives one word for all signatures: pass if one passes, else the first
// result, else none.
func (out *Results) BestDKIM() string {
	for _, s := range out.DKIM {
		if s.Result == "pass" {
			return "pass"
		}
	}
	if len(out.DKIM) > 0 {
		return out.DKIM[0].Result
	}
	return "none"
}

// Vouchers lists the domains that answer for the message: those of passing
// signatures, and SPF's.
func (out *Results) Vouchers() (domains []string) {
	for _, s := range out.DKIM {
		if s.Result == "pass" {
			domains = append(domains, s.Domain)
		}
	}
	if out.SPF == "pass" {
		domains = append(domains, out.SPFDomain)
	}
	return domains
}
