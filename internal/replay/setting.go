package replay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/miekg/dns"

	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
)

// setting is what the world must look like for one message of a witness to come out as
// the witness says: records in the DNS, a signature, a cipher.
type setting struct {
	p      *policy.Program
	facts  policy.Facts // as the gateway will see them
	zone   map[string]string
	broken []string // names whose DNS fails

	from   string // domain of a From field to be added, "" adds none
	signer string // domain that signs, "" signs not
	spoil  bool   // the text is changed once it is signed
	key    ed25519.PrivateKey
	text   []byte
	suite  uint16 // of TLS 1.2, 0 for whatever comes
	rsa    bool   // the suite needs an RSA certificate
}

// anything is a result that the policy does not look at.
const anything = ""

// Names of the lab's own that no witness is likely to use.
const (
	authorDomain = "author.lab.example"
	signerDomain = "signer.other-lab.example"
	brokenDomain = "broken.third-lab.example"
	selector     = "lab"
)

// arrange gives the setting for a message, or says what of it cannot be had.
func arrange(p *policy.Program, f *policy.Facts, d *policy.Decision, key ed25519.PrivateKey) (s *setting, reason string) {
	s = &setting{p: p, facts: *f, zone: map[string]string{}, key: key}
	for _, step := range []func() string{s.name, s.protection, s.authentication, s.write} {
		if reason = step(); reason != "" {
			return nil, reason
		}
	}
	if !s.altered(f) {
		return s, ""
	}
	if got, _ := policy.Eval(p, &s.facts); !same(&got, d) {
		return nil, "the message that would show it has a From field, a signature or a cipher that the policy looks at, and is " + proof.Fate(&got)
	}
	return s, ""
}

// altered reports that the gateway will see other facts than the witness has.
func (s *setting) altered(f *policy.Facts) bool {
	if s.from != "" || s.signer != "" || s.facts.TLS != f.TLS {
		return true
	}
	a, b := s.facts.Content, f.Content
	return a != nil && (a.SPF != b.SPF || a.DKIM != b.DKIM || a.DMARC != b.DMARC)
}

// same reports two decisions that have the same outcome.
func same(a, b *policy.Decision) bool {
	return a.Disposition == b.Disposition && a.Filter == b.Filter && a.Rcpt == b.Rcpt && a.Pool == b.Pool && a.Inside == b.Inside && slices.Equal(a.Effects.Copies, b.Effects.Copies)
}

// record sets a TXT, PTR or address record.
func (s *setting) record(name, kind, data string) {
	if kind == "TXT" {
		data = `"` + data + `"`
	}
	s.zone[dns.Fqdn(name)+" "+kind] = fmt.Sprintf("%s 60 IN %s %s", dns.Fqdn(name), kind, data)
}

// name makes the client's name resolve, there and back.
func (s *setting) name() string {
	name, addr := s.facts.Client.Name, s.facts.Client.Address
	if name == "" {
		return ""
	}
	if d, err := policy.NormaliseDomain(name); err != nil || d != name || strings.HasPrefix(name, "[") {
		return fmt.Sprintf("no host can be called %q in the DNS", name)
	}
	reverse, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return err.Error()
	}
	kind := "A"
	if addr.Is6() {
		kind = "AAAA"
	}
	s.record(reverse, "PTR", dns.Fqdn(name))
	s.record(name, kind, addr.String())
	return ""
}

// protection settles whether the connection is TLS and what is negotiated. Of TLS 1.3 the
// suite is the library's choice.
func (s *setting) protection() string {
	t := &s.facts.TLS
	if t.Version != "" || t.Cipher != "" || s.facts.AuthUser != "" {
		t.On = true // these two and AUTH are of a protected connection only
	}
	if !t.On || !s.p.Mentions("tls.cipher", "tls.version") {
		return ""
	}
	first := tls.CipherSuiteName(tls.TLS_AES_128_GCM_SHA256)
	for _, c := range tls.CipherSuites() {
		if c.Name == t.Cipher && slices.Contains(c.SupportedVersions, tls.VersionTLS12) && t.Version != "1.3" {
			s.suite, s.rsa = c.ID, strings.Contains(c.Name, "_RSA_")
			t.Version = "1.2"
			return ""
		}
	}
	if t.Version == "1.2" {
		c := tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
		s.suite, t.Cipher = c, tls.CipherSuiteName(c)
		return ""
	}
	if t.Cipher != first && t.Cipher != "" {
		return fmt.Sprintf("it needs a connection over %q, which cannot be asked for", t.Cipher)
	}
	if t.Version != "" && t.Version != "1.3" {
		return fmt.Sprintf("no connection has TLS version %q here", t.Version)
	}
	t.Version, t.Cipher = "1.3", first
	return ""
}

// authentication plans SPF, DKIM and DMARC so that each gives what the witness says.
func (s *setting) authentication() string {
	c := s.facts.Content
	if c == nil || !s.p.Mentions("spf", "dkim", "dmarc") {
		return ""
	}
	want := func(field, is string) string {
		switch {
		case !s.p.Mentions(field):
			return anything
		case is == "":
			return "none"
		}
		return is
	}
	spf, dkim, dmarc := want("spf", c.SPF), want("dkim", c.DKIM), want("dmarc", c.DMARC)
	switch {
	case dmarc != "pass":
	case dkim == anything:
		dkim = "pass" // the author's own domain can always sign
	case dkim != "pass" && spf == anything:
		spf = "pass"
	case dkim != "pass" && spf != "pass":
		return fmt.Sprintf("DMARC cannot pass where SPF gives %s and DKIM %s", spf, dkim)
	}
	content := *c
	s.facts.Content = &content
	spfDomain, reason := s.spf(orNone(spf))
	if reason == "" {
		reason = s.author(spfDomain, orNone(spf), orNone(dkim), dmarc)
	}
	content.SPF, content.DKIM, content.DMARC = orNone(spf), orNone(dkim), orNone(dmarc)
	return reason
}

func orNone(s string) string {
	if s == anything {
		return "none"
	}
	return s
}

// spf makes the sender's record, or that of the name in EHLO for the null reverse-path.
func (s *setting) spf(want string) (domain, reason string) {
	domain = s.facts.Sender.Domain
	if domain == "" {
		domain = s.facts.Client.Helo
	}
	policies := map[string]string{"pass": "ip4:" + s.facts.Client.Address.String() + " -all", "fail": "-all", "softfail": "~all", "neutral": "?all",
		"permerror": "no-such-mechanism:x -all", "temperror": "include:" + brokenDomain + " -all"}
	if s.facts.Client.Address.Is6() {
		policies["pass"] = "ip6:" + s.facts.Client.Address.String() + " -all"
	}
	record, known := policies[want]
	switch {
	case want == "none":
		return domain, ""
	case !known:
		return "", fmt.Sprintf("SPF never gives %q", want)
	case !strings.Contains(domain, ".") || strings.HasPrefix(domain, "["):
		return "", fmt.Sprintf("SPF gives %s for a domain only, and the sender <%s> from host %q has none", want, proof.Path(s.facts.Sender), s.facts.Client.Helo)
	}
	if d, err := policy.NormaliseDomain(domain); err != nil || d != domain {
		return "", fmt.Sprintf("%q can have no record in the DNS", domain)
	}
	s.record(domain, "TXT", "v=spf1 "+record)
	if want == "temperror" {
		s.broken = append(s.broken, brokenDomain)
	}
	return domain, ""
}

// author plans the From field, the signature and the DMARC record, which hang together:
// DMARC passes where a domain that answers for the message is the author's.
func (s *setting) author(spfDomain, spf, dkim, dmarc string) string {
	var authors []string
	has := false
	for _, h := range s.facts.Content.Headers {
		if h.Name == "from" {
			has = true
			for _, a := range message.Addresses(h.Value) {
				if d, err := policy.NormaliseDomain(a[strings.LastIndexByte(a, '@')+1:]); err == nil && !slices.Contains(authors, d) {
					authors = append(authors, d)
				}
			}
		}
	}
	needs := dkim != "none" || dmarc != anything && dmarc != "none"
	author := ""
	switch {
	case len(authors) == 1:
		author = authors[0]
	case has && dmarc != anything && dmarc != "none":
		return fmt.Sprintf("DMARC gives %s for one author only, and the From field of the witness has %d", dmarc, len(authors))
	case !has && needs:
		s.from = authorDomain
		if dmarc == "pass" && dkim != "pass" {
			s.from = spfDomain
		}
		author = s.from
	}
	if reason := s.sign(dkim, dmarc, author); reason != "" {
		return reason
	}
	return s.dmarc(dmarc, author, spf == "pass" && aligned(spfDomain, author), dkim == "pass" && aligned(s.signer, author))
}

func aligned(a, b string) bool {
	return a == b || mailauth.Organisational(a) == mailauth.Organisational(b)
}

// sign plans the signature: by the author's domain only where DMARC is to pass by it.
func (s *setting) sign(want, dmarc, author string) string {
	signer := signerDomain
	if want == "pass" && dmarc == "pass" {
		signer = author
	}
	public := base64.StdEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey))
	switch want {
	case "none":
		return ""
	case "pass", "fail":
		s.record(selector+"._domainkey."+signer, "TXT", "v=DKIM1; k=ed25519; p="+public)
	case "permerror": // no key
	case "temperror":
		s.broken = append(s.broken, selector+"._domainkey."+signer)
	default:
		return fmt.Sprintf("DKIM never gives %q here", want)
	}
	s.signer, s.spoil = signer, want == "fail"
	return ""
}

// dmarc makes the author's record.
func (s *setting) dmarc(want, author string, bySPF, byDKIM bool) string {
	name := "_dmarc." + author
	switch want {
	case anything, "none":
	case "pass":
		if !bySPF && !byDKIM {
			return "DMARC cannot pass: neither the domain of SPF nor that of the signature is the author's, " + author
		}
		s.record(name, "TXT", "v=DMARC1; p=none")
	case "fail":
		if bySPF || byDKIM {
			return "DMARC cannot fail: a domain that answers for the message is the author's, " + author
		}
		s.record(name, "TXT", "v=DMARC1; p=none")
	case "permerror":
		s.record(name, "TXT", "v=DMARC1; p=no-such-policy")
	case "temperror":
		s.broken = append(s.broken, name)
	default:
		return fmt.Sprintf("DMARC never gives %q", want)
	}
	return ""
}

// write makes the message. Where the policy looks at its size, the padding gives way to
// what is added.
func (s *setting) write() string {
	text, err := s.compose(&s.facts)
	if err != nil {
		return "it cannot be signed: " + err.Error()
	}
	if c := s.facts.Content; c != nil && s.p.Mentions("size") && int64(len(text)) != c.Size && c.Size > 0 {
		less, content := s.facts, *c
		less.Content, content.Size = &content, max(1, 2*c.Size-int64(len(text)))
		if shorter, err := s.compose(&less); err == nil && int64(len(shorter)) == c.Size {
			text = shorter
		}
	}
	s.text = text
	if s.facts.Content == nil {
		return ""
	}
	content := *s.facts.Content
	content.Size = int64(len(text))
	if s.from != "" {
		content.Headers = append([]policy.HeaderField{{Name: "from", Value: "<a@" + s.from + ">"}}, content.Headers...)
	}
	if s.signer != "" {
		value, _, _ := strings.Cut(strings.TrimPrefix(string(text), "DKIM-Signature:"), "\r\n")
		content.Headers = append([]policy.HeaderField{{Name: "dkim-signature", Value: strings.TrimSpace(value)}}, content.Headers...)
	}
	s.facts.Content = &content
	return ""
}

func (s *setting) compose(f *policy.Facts) ([]byte, error) {
	text := proof.Message(s.p, f)
	if s.from != "" {
		text = append([]byte("From: <a@"+s.from+">\r\n"), text...)
	}
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(text, "\r\n"...)
	}
	if s.signer == "" {
		return text, nil
	}
	var b bytes.Buffer
	err := dkim.Sign(&b, bytes.NewReader(text), &dkim.SignOptions{Domain: s.signer, Selector: selector, Signer: s.key,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed})
	if err != nil {
		return nil, err
	}
	out := b.Bytes()
	if s.spoil {
		at := bytes.Index(out, []byte("\r\n\r\n")) + 4
		if at >= len(out) || out[at] == '\r' {
			return append(out, "x\r\n"...), nil
		}
		out[at] ^= 0x20
	}
	return out, nil
}
