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
	"slices"
	"strings"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/idna"
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
	Raw  []byte    // from the first octet, with the whole header
	Rest io.Reader // what follows Raw, read once; nil where nothing does
}

// maxSignatures bounds the work on a message made of signatures.
const maxSignatures = 10

// Check authenticates a message.
func Check(ctx context.Context, r Resolver, m Message) Results {
	out := Results{SPF: "none", DMARC: "none"}
	out.spf(ctx, r, m)
	out.dkim(ctx, r, m)
	if authors := authors(m.Raw); len(authors) == 1 {
		out.From = authors[0]
		out.dmarc(ctx, r)
	} else if len(authors) > 1 {
		// Which of them a reader is shown nobody knows: one that is vouched for must not
		// stand for another (RFC 7489, section 6.6.1).
		out.From, out.DMARC = authors[0], "permerror"
	}
	return out
}

// authors lists the different domains of all From fields, two at most.
func authors(raw []byte) (domains []string) {
	fields, _ := message.ReadHeader(raw)
	for _, v := range message.All(fields, "From") {
		for _, a := range message.Addresses(v) {
			d := normal(a[strings.LastIndexByte(a, '@')+1:])
			if d != "" && !slices.Contains(domains, d) {
				if domains = append(domains, d); len(domains) == 2 {
					return domains
				}
			}
		}
	}
	return domains
}

// normal gives a domain in lower-case A-labels without a trailing dot, by which
// domains are compared.
func normal(domain string) string {
	d := strings.ToLower(strings.TrimSuffix(domain, "."))
	if a, err := idna.Lookup.ToASCII(d); err == nil {
		return a
	}
	return d
}

func (out *Results) spf(ctx context.Context, r Resolver, m Message) {
	local, domain := m.From.Local, m.From.Domain
	if domain == "" {
		local, domain = "postmaster", m.Helo
	}
	// What is no domain name of at least two labels has no record (RFC 7208, section
	// 2.3 and 4.3).
	if strings.HasPrefix(domain, "[") || !strings.Contains(strings.TrimSuffix(domain, "."), ".") || !m.Peer.IsValid() {
		return
	}
	out.SPFDomain = normal(domain)
	// The library takes what follows the first @ for the domain; a quoted local part
	// may hold one.
	sender := strings.ReplaceAll(local, "@", "_") + "@" + out.SPFDomain
	res, _ := spf.CheckHostWithSender(net.IP(m.Peer.Unmap().AsSlice()), m.Helo, sender, spf.WithContext(ctx), spf.WithResolver(r))
	out.SPF = string(res)
}

// readable hides an error of reading behind an end: the library would leave
// goroutines behind that wait for the rest.
type readable struct {
	io.Reader
	err error
}

func (r *readable) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err, err = err, io.EOF
	}
	return n, err
}

func (out *Results) dkim(ctx context.Context, r Resolver, m Message) {
	lookup := func(name string) ([]string, error) { return r.LookupTXT(ctx, name) }
	rest := &readable{Reader: strings.NewReader("")}
	if m.Rest != nil {
		rest.Reader = m.Rest
	}
	// An error says that there is nothing to verify, or more than it does.
	vs, _ := dkim.VerifyWithOptions(io.MultiReader(bytes.NewReader(m.Raw), rest), &dkim.VerifyOptions{LookupTXT: lookup, MaxVerifications: maxSignatures})
	for _, v := range vs {
		s := Signature{Domain: normal(v.Domain), Result: "pass"}
		switch {
		case rest.err != nil:
			s.Result = "temperror"
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
	if org := Organisational(out.From); errors.Is(err, dmarc.ErrNoPolicy) && org != out.From {
		rec, err = dmarc.LookupWithOptions(org, &dmarc.LookupOptions{LookupTXT: lookup})
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
