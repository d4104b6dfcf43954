package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/mailauth"
)

// authenticate settles whether the reporter is who he says: a provider that the
// operator has named, or one whose profile says what he always signs with.
func (c *trial) authenticate() {
	if c.in.Provider != "" {
		c.v.Provider, c.v.Authenticated = c.in.Provider, true
		return
	}
	for i := range c.j.o.Providers {
		if p := &c.j.o.Providers[i]; c.vouchedBy(p) {
			c.v.Provider, c.v.Authenticated = p.Name, true
			return
		}
	}
	for i := range c.j.o.Profiles {
		p := &c.j.o.Profiles[i]
		if len(p.Signs) > 0 && c.signed(p.Signs) {
			c.v.Provider, c.v.Authenticated = p.Name, true
			return
		}
	}
}

func (c *trial) vouchedBy(p *Provider) bool {
	for _, d := range c.in.Auth.Vouchers() {
		if slices.ContainsFunc(p.Domains, func(own string) bool { return within(d, own) }) {
			return true
		}
	}
	return c.in.Peer.IsValid() && slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(c.in.Peer.Unmap()) })
}

// signed reports a passing signature of one of the domains themselves.
func (c *trial) signed(domains []string) bool {
	return slices.ContainsFunc(c.in.Auth.DKIM, func(s mailauth.Signature) bool { return s.Result == "pass" && slices.Contains(domains, s.Domain) })
}

// impostor tells why a report is not from whom it says, "" where that cannot be said: one
// who always signs has not signed, or a report to a CFBL-Address lacks the signature of
// its author's domain, without which it is not to be processed (RFC 9477, section 3). A
// mail whose authentication was not checked, and one that a configured provider's host
// has brought, is not asked.
func (c *trial) impostor() string {
	if c.in.Auth.SPF == "" || c.v.Authenticated {
		return ""
	}
	if slices.ContainsFunc(c.in.Auth.DKIM, func(s mailauth.Signature) bool { return s.Result == "temperror" }) && c.mayWait() {
		c.wait = true // the key could not be asked for just now
		return ""
	}
	if p := c.profile; p != nil && len(p.Signs) > 0 && p.wrote(c.r.From) {
		return fmt.Sprintf("it says that it is from %s and is not signed by %s, who always signs", c.r.From, strings.Join(p.Signs, " or "))
	}
	if c.toCFBL() && !c.signedByAuthor() {
		return "a report to the CFBL-Address that its author's domain has not signed (RFC 9477)"
	}
	return ""
}

// toCFBL reports a report to the address that the returned mail's CFBL-Address names
// (RFC 9477, section 5).
func (c *trial) toCFBL() bool {
	if c.r.Original == nil || c.in.To.Domain == "" || c.r.Format.Bounce() {
		return false
	}
	for _, v := range c.r.Original.All("CFBL-Address") {
		address, _, _ := strings.Cut(v, ";")
		if strings.EqualFold(strings.Trim(address, "<> \t"), c.in.To.String()) {
			return true
		}
	}
	return false
}

// signedByAuthor reports a passing signature of the author's domain, or of one with the
// same organisation.
func (c *trial) signedByAuthor() bool {
	_, domain, _ := strings.Cut(strings.ToLower(c.r.From), "@")
	org := mailauth.Organisational(domain)
	return domain != "" && slices.ContainsFunc(c.in.Auth.DKIM, func(s mailauth.Signature) bool {
		return s.Result == "pass" && mailauth.Organisational(s.Domain) == org
	})
}

// weigh takes the grade down where the reporter is not authenticated: anybody can mail
// the report address. A bounce with a stamp in its recipient is from somebody who had the
// mail, which is all that it says.
func (c *trial) weigh() *Verdict {
	v := c.v
	switch {
	case v.Authenticated:
	case v.Kind == Leaked || v.Kind == Bypassed:
		v.Grade = GradeC
		v.Reason += "; the reporter is not authenticated"
	case v.Grade == GradeA && !c.r.Format.Bounce():
		v.Grade = GradeB
	}
	if c.wait && c.mayWait() {
		v.Again = c.now.Add(c.j.o.Settle)
	}
	return v
}
