package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Algorithm is a signing algorithm.
type Algorithm string

// The algorithms (RFC 6376, section 3.3; RFC 8463, section 3).
const (
	RSA     Algorithm = "rsa-sha256"
	Ed25519 Algorithm = "ed25519-sha256"
)

// The sizes of RSA keys: verifiers need not take smaller ones than the first (RFC 8301,
// section 3.2), and signers ought to have the second at least.
const (
	LeastRSA = 1024
	GoodRSA  = 2048
)

// Key is a private key.
type Key struct {
	Algorithm Algorithm
	Bits      int
	signer    crypto.Signer
}

// ParseKey reads a private key in PEM: PKCS #8, or PKCS #1 for RSA.
func ParseKey(b []byte) (*Key, error) {
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("more than one PEM block")
	}
	var k any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("the key is encrypted")
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		err = fmt.Errorf("a %s is no private key", strings.ToLower(block.Type))
	default:
		err = fmt.Errorf("%q is no private key", block.Type)
	}
	if err != nil {
		return nil, err
	}
	return newKey(k)
}

func newKey(k any) (*Key, error) {
	switch k := k.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < LeastRSA {
			return nil, fmt.Errorf("an RSA key of %d bits: verifiers take none below %d", k.N.BitLen(), LeastRSA)
		}
		return &Key{Algorithm: RSA, Bits: k.N.BitLen(), signer: k}, nil
	case ed25519.PrivateKey:
		return &Key{Algorithm: Ed25519, Bits: 256, signer: k}, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot sign DKIM", k)
}

// Generate makes a key; bits count for RSA only.
func Generate(a Algorithm, bits int, random io.Reader) (*Key, error) {
	if a == Ed25519 {
		_, k, err := ed25519.GenerateKey(random)
		if err != nil {
			return nil, err
		}
		return newKey(k)
	}
	k, err := rsa.GenerateKey(random, bits)
	if err != nil {
		return nil, err
	}
	return newKey(k)
}

// PEM gives the key as PKCS #8.
func (k *Key) PEM() ([]byte, error) {
	b, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), nil
}

// public gives the p= of the key's record: the DER of an RSA key, and the octets of
// another (RFC 8463, section 4).
func (k *Key) public() ([]byte, error) {
	if p, ok := k.signer.Public().(ed25519.PublicKey); ok {
		return p, nil
	}
	return x509.MarshalPKIXPublicKey(k.signer.Public())
}

// Record is the text of the TXT record that publishes the key.
func (k *Key) Record() (string, error) {
	p, err := k.public()
	if err != nil {
		return "", err
	}
	kind := "rsa"
	if k.Algorithm == Ed25519 {
		kind = "ed25519"
	}
	return "v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(p), nil
}

// RecordName is the name of that record.
func RecordName(selector, domain string) string { return selector + "._domainkey." + domain }

// TXT looks up TXT records, each as one string.
type TXT interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// ErrNotPublished tells that the DNS does not have the key, or another one.
var ErrNotPublished = errors.New("the key is not published")

// Published looks whether the DNS publishes the key under a name.
func (k *Key) Published(ctx context.Context, dns TXT, name string) error {
	records, err := dns.LookupTXT(ctx, name)
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	want, err := k.public()
	if err != nil {
		return err
	}
	why := "no TXT record"
	for _, r := range records {
		if why = k.differs(r, want); why == "" {
			break
		}
	}
	switch {
	case len(records) > 1:
		return fmt.Errorf("%w: %s has %d TXT records, and verifiers take any of them", ErrNotPublished, name, len(records))
	case why != "":
		return fmt.Errorf("%w: %s: %s", ErrNotPublished, name, why)
	}
	return nil
}

// differs says why a record does not publish the key, "" where it does.
func (k *Key) differs(record string, want []byte) string {
	tags, ok := parseTags(record)
	if !ok {
		return "the record is no list of tags"
	}
	kind := "rsa"
	if t, there := tags["k"]; there {
		kind = t
	}
	switch v, there := tags["v"]; {
	case there && v != "DKIM1":
		return fmt.Sprintf("v=%s, DKIM1 is wanted", v)
	case !strings.HasPrefix(string(k.Algorithm), kind+"-"):
		return fmt.Sprintf("k=%s, the key is for %s", kind, k.Algorithm)
	}
	if h, there := tags["h"]; there && !strings.Contains(":"+h+":", ":sha256:") {
		return fmt.Sprintf("h=%s leaves out sha256", h)
	}
	p, there := tags["p"]
	if !there {
		return "the record has no p="
	}
	if p == "" {
		return "the key is revoked (an empty p=)"
	}
	der, err := base64.StdEncoding.DecodeString(p)
	if err != nil {
		return "its p= is not base64"
	}
	if !bytes.Equal(der, want) {
		return "the record has another key"
	}
	return ""
}

// parseTags reads a list of tags (RFC 6376, section 3.2), without the white space that
// may stand in values.
func parseTags(s string) (map[string]string, bool) {
	out := map[string]string{}
	for tag := range strings.SplitSeq(s, ";") {
		if strings.TrimSpace(tag) == "" {
			continue
		}
		name, value, ok := strings.Cut(tag, "=")
		if !ok {
			return nil, false
		}
		out[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
	}
	return out, true
}
