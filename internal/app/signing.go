package app

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/dkim"
)

// signing chooses keys as the configuration says.
type signing struct {
	cfg   *config.Signing
	forms []dkim.Canonicalization
}

// newSigning fails where a key is not there.
func newSigning(cfg *config.Signing) (*signing, error) {
	s := &signing{cfg: cfg}
	for i := range cfg.Keys {
		k := &cfg.Keys[i]
		if k.Key == nil {
			return nil, fmt.Errorf("%s: dkim %q: %s is not there", k.Pos, k.Name, k.File)
		}
		if !slices.Contains(s.forms, k.Signer.Body) {
			s.forms = append(s.forms, k.Signer.Body)
		}
	}
	return s, nil
}

// Forms implements gateway.Signing.
func (s *signing) Forms() []dkim.Canonicalization { return s.forms }

// For implements gateway.Signing: the keys of the customer, or the node's where it has
// none, and those of the pool. A key signs what its domain, or one below it, stands in
// From of, unless it is a third party's.
func (s *signing) For(customer, pool, author string) (out []*dkim.Signer) {
	names, own := s.cfg.Customers[customer]
	if !own {
		names = s.cfg.Node
	}
	for _, list := range [][]string{names, s.cfg.Pools[pool]} {
		for _, n := range list {
			k := s.cfg.Key(n)
			if k != nil && (k.ThirdParty || aligned(author, k.Signer.Domain)) && !slices.Contains(out, &k.Signer) {
				out = append(out, &k.Signer)
			}
		}
	}
	return out
}

// self gives what signs the node's own mail from a domain, nil where no key does.
func (s *signing) self(author string) func([]byte, time.Time) ([][]byte, []string, error) {
	var signers []*dkim.Signer
	for _, n := range s.cfg.Own() {
		if k := s.cfg.Key(n); k != nil && (k.ThirdParty || aligned(author, k.Signer.Domain)) {
			signers = append(signers, &k.Signer)
		}
	}
	if len(signers) == 0 {
		return nil
	}
	return func(message []byte, now time.Time) (fields [][]byte, marks []string, err error) {
		if fields, err = dkim.SignWhole(message, now, signers...); err != nil {
			return nil, nil, err
		}
		for _, f := range fields {
			marks = append(marks, dkim.Mark(f))
		}
		return fields, marks, nil
	}
}

// aligned reports whether a domain is another or lies below it.
func aligned(author, domain string) bool {
	return author == domain || strings.HasSuffix(author, "."+domain)
}
