package dkim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Signer signs with one key for one domain. It may be used from any goroutine.
type Signer struct {
	Domain   string
	Selector string
	Identity string // i=; "" leaves it out
	Key      *Key
	Header   Canonicalization
	Body     Canonicalization
	Fields   []string // names of the fields to sign where they are there; each Signable
	Oversign []string // names that are signed once more than they are there: nobody can add one
	Expire   time.Duration
}

// Signable reports whether a header field of that name can be signed: it is made of
// letters, digits, hyphens, underscores and full stops, as names in use are. RFC 5322,
// section 3.6.8, lets a name hold any printable character but a colon. Two of them do
// harm in h=: a semicolon ends the list of names (RFC 6376, section 3.2), and an equals
// sign looks like the begin of a tag, so that verifiers which blank the signature by
// searching for "b=" blank the name b= as well. Of the others nobody makes use, and how
// every verifier reads them is not known.
func Signable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

// StandardFields are signed where nothing else is said: what RFC 6376, section 5.4.1,
// names, and what feedback loops go by (RFC 9477, section 3.1). Trace fields, and what
// other servers put in, stay out.
func StandardFields() []string {
	return []string{"From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
		"Content-ID", "Content-Description", "In-Reply-To", "References", "List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe",
		"List-Post", "List-Owner", "List-Archive", "Feedback-ID", "CFBL-Address"}
}

// StandardOversigned are signed once more than they are there where nothing else is
// said: what readers are shown, and what changes how a body is read.
func StandardOversigned() []string {
	return []string{"From", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc", "MIME-Version", "Content-Type"}
}

// Sign gives the DKIM-Signature field, with its CRLF, to put before a header. fields
// are the header's fields from the top, each with its line ends; body is the body's
// hash in the signer's form. Several signers may sign the same header: none signs
// another's signature.
func (s *Signer) Sign(fields [][]byte, body []byte, now time.Time) ([]byte, error) {
	h, hashed := s.choose(fields)
	var b bytes.Buffer
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=%s; c=%s/%s; d=%s; s=%s;\r\n\tt=%d;", s.Key.Algorithm, s.Header, s.Body, s.Domain, s.Selector, now.Unix())
	if s.Expire > 0 {
		fmt.Fprintf(&b, " x=%d;", now.Add(s.Expire).Unix())
	}
	if s.Identity != "" {
		fmt.Fprintf(&b, " i=%s;", s.Identity)
	}
	foldNames(&b, h)
	b.WriteString("\r\n\tbh=" + base64.StdEncoding.EncodeToString(body) + ";\r\n\tb=")
	sum := sha256.New()
	for _, f := range hashed {
		sum.Write(s.canonical(f, true))
	}
	sum.Write(s.canonical(b.Bytes(), false))
	sig, err := s.Key.sign(sum.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("sign for %s with selector %s: %w", s.Domain, s.Selector, err)
	}
	foldBase64(&b, base64.StdEncoding.EncodeToString(sig))
	return b.Bytes(), nil
}

// sign signs a SHA-256 hash. Ed25519 takes the hash for its message (RFC 8463, section
// 3).
func (k *Key) sign(sum []byte) ([]byte, error) {
	if k.Algorithm == Ed25519 {
		return k.signer.Sign(rand.Reader, sum, crypto.Hash(0))
	}
	return k.signer.Sign(rand.Reader, sum, crypto.SHA256)
}

// choose gives the names for h= and the fields that they mean, in that order: of a
// name's fields the lowest is taken first (RFC 6376, section 5.4.2).
func (s *Signer) choose(fields [][]byte) (names []string, chosen [][]byte) {
	var seen []string
	for _, name := range append(append([]string(nil), s.Fields...), s.Oversign...) {
		if containsFold(seen, name) {
			continue
		}
		seen = append(seen, name)
		for i := len(fields) - 1; i >= 0; i-- {
			if isNamed(fields[i], name) {
				names, chosen = append(names, name), append(chosen, fields[i])
			}
		}
		if containsFold(s.Oversign, name) {
			names = append(names, name)
		}
	}
	return names, chosen
}

// Covers tells whether a field of this name is signed.
func (s *Signer) Covers(name string) bool {
	return containsFold(s.Fields, name) || containsFold(s.Oversign, name)
}

func containsFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

// isNamed reports whether a field has a name, obsolete white space before the colon
// included (RFC 5322, section 4.5).
func isNamed(field []byte, name string) bool {
	i := bytes.IndexByte(field, ':')
	return i >= len(name) && strings.EqualFold(string(bytes.TrimRight(field[:i], " \t")), name)
}

// canonical gives a field in the signed form (section 3.4), with or without its CRLF.
func (s *Signer) canonical(f []byte, end bool) []byte {
	f = bytes.TrimSuffix(f, crlf)
	if s.Header == Relaxed {
		f = relaxedField(f)
	}
	if end {
		return append(f[:len(f):len(f)], '\r', '\n')
	}
	return f
}

// relaxedField: the name in lower case, lines unfolded, runs of white space as one
// space, none at the end nor around the colon (section 3.4.2).
func relaxedField(f []byte) []byte {
	name, value, _ := bytes.Cut(f, []byte(":"))
	out := append(bytes.ToLower(bytes.TrimRight(name, " \t")), ':')
	start := len(out)
	blank := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == ' ' || c == '\t':
			blank = true
		case c == '\r' && i+1 < len(value) && value[i+1] == '\n':
			i++
		default:
			if blank && len(out) > start {
				out = append(out, ' ')
			}
			blank = false
			out = append(out, c)
		}
	}
	return out
}

// lineLength is where lines are folded.
const lineLength = 76

// foldNames writes h= over as many lines as it needs.
func foldNames(b *bytes.Buffer, names []string) {
	b.WriteString("\r\n\th=")
	column := 10
	for i, n := range names {
		if i > 0 {
			b.WriteByte(':')
			column++
		}
		if column+len(n)+1 > lineLength {
			b.WriteString("\r\n\t ")
			column = 9
		}
		b.WriteString(n)
		column += len(n)
	}
	b.WriteByte(';')
}

// foldBase64 writes the signature, and ends the field.
func foldBase64(b *bytes.Buffer, s string) {
	for n := lineLength - 10; len(s) > n; n = lineLength - 8 {
		b.WriteString(s[:n] + "\r\n\t ")
		s = s[n:]
	}
	b.WriteString(s + "\r\n")
}
