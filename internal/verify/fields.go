package verify

import (
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
)

// kind is the type of a field, as the policy's compiler has it.
type kind uint8

const (
	kindOther kind = iota
	kindText
	kindDomain
	kindAddress
	kindIP
	kindFlag
	kindNumber
	kindTime
)

// kindOf gives the type of a field by its name.
func kindOf(name string) kind {
	switch name {
	case "listener", "origin", "customer", "auth.user", "client.helo", "tls.version", "tls.cipher", "sender.local", "rcpt.local",
		"spf", "dkim", "dmarc", "now.weekday", "decision.disposition", "decision.pool", "decision.filter", "decision.inside":
		return kindText
	case "client.name", "sender.domain", "rcpt.domain":
		return kindDomain
	case "sender", "sender.address", "rcpt", "rcpt.address", "decision.rcpt":
		return kindAddress
	case "client.address":
		return kindIP
	case "tls.on":
		return kindFlag
	case "size", "now.hour":
		return kindNumber
	case "now":
		return kindTime
	}
	return kindOther
}

// normal brings a constant into the form of what it is compared with.
func normal(name, s string) string {
	switch {
	case kindOf(name) == kindDomain && s != "":
		if d, err := policy.NormaliseDomain(s); err == nil {
			return d
		}
	case name == "client.helo", name == "sender.local", name == "rcpt.local":
		return strings.ToLower(s)
	}
	return s
}

// values gives the only values that a text field can have, nil where it can have
// any.
func values(name string) []string {
	switch name {
	case "spf", "dkim", "dmarc":
		return []string{"none", "pass", "fail", "softfail", "neutral", "temperror", "permerror", "policy", ""}
	}
	return nil
}

func sortedSet(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}
