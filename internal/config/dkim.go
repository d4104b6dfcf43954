package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/dkim"
	"postern.dev/postern/internal/policy"
)

// DKIM is a key with what it signs. Whose mail it signs, the lists that name it say.
type DKIM struct {
	Name       string
	Pos        policy.Pos
	File       string
	Key        *dkim.Key // nil where the file was not there: checks need no secrets, a node does
	ThirdParty bool      // signs whatever stands in From
	Signer     dkim.Signer
}

// Signing says whose mail is signed with which keys, by name.
type Signing struct {
	Keys      []DKIM
	Node      []string
	Self      []string // mail of the node's own; nil leaves it to Node
	Customers map[string][]string
	Pools     map[string][]string
}

// Own names the keys for mail of the node's own.
func (s *Signing) Own() []string {
	if s.Self != nil {
		return s.Self
	}
	return s.Node
}

// Key gives a key by its name.
func (s *Signing) Key(name string) *DKIM {
	for i := range s.Keys {
		if s.Keys[i].Name == name {
			return &s.Keys[i]
		}
	}
	return nil
}

func dkimAttributes() []string {
	return []string{"domain", "selector", "key_file", "algorithm", "headers", "oversign", "canonicalization", "third_party", "valid_for"}
}

func (l *loader) dkim(hb *hclsyntax.Block) {
	b := l.openBlock(hb, dkimAttributes(), nil)
	b.require("domain", "selector", "key_file")
	k := DKIM{Name: b.label, Pos: position(hb.DefRange()), File: l.path(b.str("key_file", "")), ThirdParty: b.flag("third_party", false)}
	s := &k.Signer
	if a := b.attr("domain"); a != nil {
		s.Domain, _ = b.domain(item{b.str("domain", ""), a.Expr.Range()})
	}
	if a := b.attr("selector"); a != nil {
		s.Selector = b.selector(item{b.str("selector", ""), a.Expr.Range()})
	}
	form := b.oneOf("canonicalization", "relaxed/relaxed", "relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple")
	header, body, _ := strings.Cut(form, "/")
	s.Header, s.Body = dkim.Canonicalization(header), dkim.Canonicalization(body)
	s.Fields = b.fieldNames("headers", dkim.StandardFields())
	s.Oversign = b.fieldNames("oversign", dkim.StandardOversigned())
	if !s.Covers("From") {
		l.add(hb.DefRange(), fmt.Sprintf("dkim %q does not sign From, which every signature must", b.label), `oversign = ["From", ...] (RFC 6376, section 5.4)`)
	}
	s.Expire = b.duration("valid_for", 0, time.Hour, 366*24*time.Hour)
	if a := b.attr("key_file"); a != nil && k.File != "" {
		l.dkimKey(&k, a.Expr.Range(), dkim.Algorithm(b.oneOf("algorithm", "", string(dkim.RSA), string(dkim.Ed25519))))
	}
	s.Key = k.Key
	l.cfg.Signing.Keys = append(l.cfg.Signing.Keys, k)
}

// dkimKey reads the key and looks at who else can.
func (l *loader) dkimKey(k *DKIM, where hcl.Range, want dkim.Algorithm) {
	text, err := l.read(k.File)
	if errors.Is(err, fs.ErrNotExist) {
		l.warn(where, fmt.Sprintf("%s is not there: no node would start with this", k.File), "postern dkim keygen "+k.File)
		return
	}
	if err != nil {
		l.add(where, "read "+k.File+": "+cause(err), "")
		return
	}
	if k.Key, err = dkim.ParseKey(text); err != nil {
		l.add(where, fmt.Sprintf("%s is not a key to sign with: %v", k.File, err), "a private key in PEM, as postern dkim keygen makes it")
		return
	}
	if st, err := os.Stat(k.File); err == nil && st.Mode().Perm()&0o077 != 0 {
		l.add(where, fmt.Sprintf("others can read %s (mode %04o): whoever has the key signs as %s", k.File, st.Mode().Perm(), k.Signer.Domain), "chmod 600 "+k.File)
	}
	if want != "" && want != k.Key.Algorithm {
		l.add(where, fmt.Sprintf("%s is a key for %s, not %s", k.File, k.Key.Algorithm, want), "")
	}
	if k.Key.Algorithm == dkim.RSA && k.Key.Bits < dkim.GoodRSA {
		l.warn(where, fmt.Sprintf("%s is an RSA key of %d bits", k.File, k.Key.Bits), fmt.Sprintf("%d bits are wanted (RFC 8301, section 3.2)", dkim.GoodRSA))
	}
}

// selector reads labels of a domain name.
func (b *block) selector(it item) string {
	for label := range strings.SplitSeq(it.text, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || bad {
			b.l.add(it.where, fmt.Sprintf("%q is not a selector", it.text), "letters, digits and hyphens: it is a part of the name SELECTOR._domainkey.DOMAIN")
			return ""
		}
	}
	return it.text
}

// fieldNames reads a list of header field names.
func (b *block) fieldNames(name string, def []string) (out []string) {
	if b.attr(name) == nil {
		return def
	}
	for _, it := range b.strs(name) {
		switch {
		case !dkim.Signable(it.text):
			b.l.add(it.where, fmt.Sprintf("%q is not the name of a header field that can be signed", it.text), "letters, digits, hyphens, underscores and full stops")
		case strings.EqualFold(it.text, "DKIM-Signature"), strings.EqualFold(it.text, "Received"), strings.EqualFold(it.text, "Return-Path"):
			b.l.add(it.where, fmt.Sprintf("%s is not to be signed: servers on the way change it", it.text), "RFC 6376, section 5.4.1")
		default:
			out = append(out, it.text)
		}
	}
	return out
}

// dkimNames reads the list of keys of a customer, a pool or the node.
func (l *loader) dkimNames(b *block, attribute string) (names []string) {
	for _, it := range b.strs(attribute) {
		l.dkimRefs = append(l.dkimRefs, it)
		names = append(names, it.text)
	}
	return names
}

// signing checks that the lists name keys that there are, and each key once for each
// party, and settles whom they belong to.
func (l *loader) signing() {
	var known []string
	for i := range l.cfg.Signing.Keys {
		known = append(known, l.cfg.Signing.Keys[i].Name)
	}
	used := map[string]bool{}
	for _, r := range l.dkimRefs {
		used[r.text] = true
		if !has(known, r.text) {
			hint := didYouMean(r.text, known)
			if hint == "" {
				hint = fmt.Sprintf("dkim %q { ... }", r.text)
			}
			l.add(r.where, fmt.Sprintf("unknown dkim key %q", r.text), hint)
		}
	}
	l.selfSigning()
	for _, name := range known {
		if !used[name] {
			l.warn(l.names["dkim "+name], fmt.Sprintf("dkim %q signs nothing", name), fmt.Sprintf("name it: dkim = [%q] in a customer, a pool or the node", name))
		}
	}
}

// selfSigning warns of a key for the node's own mail whose domain it is not from.
func (l *loader) selfSigning() {
	from := l.cfg.Node.Postmaster.Domain
	for _, name := range l.cfg.Signing.Self {
		k := l.cfg.Signing.Key(name)
		if k != nil && !k.ThirdParty && from != k.Signer.Domain && !strings.HasSuffix(from, "."+k.Signer.Domain) {
			l.warn(l.names["dkim "+name], fmt.Sprintf("dkim %q signs nothing of the node's own: that is from %s, which does not lie in %s", name, from, k.Signer.Domain), "set postmaster to an address of that domain, or third_party = true")
		}
	}
}

// sign notes a party's list of keys.
func (l *loader) sign(to *map[string][]string, b *block) {
	if names := l.dkimNames(b, "dkim"); names != nil {
		if *to == nil {
			*to = map[string][]string{}
		}
		(*to)[b.label] = names
	}
}
