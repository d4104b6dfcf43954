package policy

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// kind is the type of an expression.
type kind uint8

const (
	kindBool kind = iota + 1
	kindString
	kindDomain
	kindAddress
	kindIP
	kindInt
	kindTime
	kindHeader // every occurrence of a header field; a test holds if it holds for one
	kindList
)

func (k kind) String() string {
	return [...]string{"nothing", "a condition", "a string", "a domain", "an address", "an IP address",
		"a number", "a time", "a header", "a list"}[k]
}

// textual reports the kinds whose value is text.
func (k kind) textual() bool {
	return k == kindString || k == kindDomain || k == kindAddress || k == kindHeader
}

// fieldDef is one fact: its type and how it is read. Exactly one getter is set, the
// one of its kind.
type fieldDef struct {
	kind    kind
	enum    string // "listener", "pool", ...: literals compared with it must be names of that sort
	content bool   // unknown until the end of DATA
	rcpt    bool   // unknown where the recipient may have been rewritten
	assert  bool   // only in an assert
	lower   bool   // the fact is held in lower case, so constants are brought to it

	text func(*env) string
	addr func(*env) Address
	ip   func(*env) netip.Addr
	num  func(*env) int64
	flag func(*env) bool
	time func(*env) time.Time
}

// fieldTable gives the definitions of all facts by their dotted names.
func fieldTable() map[string]fieldDef {
	all := sessionFields()
	maps.Copy(all, messageFields())
	maps.Copy(all, decisionFields())
	return all
}

func sessionFields() map[string]fieldDef {
	return map[string]fieldDef{
		"listener":       {kind: kindString, enum: "listener", text: func(e *env) string { return e.facts.Listener }},
		"origin":         {kind: kindString, enum: "origin", text: func(e *env) string { return string(e.facts.Origin) }},
		"client.address": {kind: kindIP, ip: func(e *env) netip.Addr { return e.facts.Client.Address }},
		"client.name":    {kind: kindDomain, text: func(e *env) string { return e.facts.Client.Name }},
		"client.helo":    {kind: kindString, lower: true, text: func(e *env) string { return e.facts.Client.Helo }},
		"tls.on":         {kind: kindBool, flag: func(e *env) bool { return e.facts.TLS.On }},
		"tls.version":    {kind: kindString, text: func(e *env) string { return e.facts.TLS.Version }},
		"tls.cipher":     {kind: kindString, text: func(e *env) string { return e.facts.TLS.Cipher }},
		"auth.user":      {kind: kindString, text: func(e *env) string { return e.facts.AuthUser }},
		"customer":       {kind: kindString, enum: "customer", text: func(e *env) string { return e.facts.Customer }},
		"now":            {kind: kindTime, time: func(e *env) time.Time { return e.facts.Now }},
		"now.hour":       {kind: kindInt, num: func(e *env) int64 { return int64(e.facts.Now.UTC().Hour()) }},
		"now.weekday":    {kind: kindString, enum: "weekday", text: func(e *env) string { return e.facts.Now.UTC().Weekday().String() }},
	}
}

func messageFields() map[string]fieldDef {
	sender := func(e *env) Address { return e.facts.Sender }
	rcpt := func(e *env) Address { return e.rcpt }
	return map[string]fieldDef{
		"sender":         {kind: kindAddress, addr: sender},
		"sender.address": {kind: kindAddress, addr: sender},
		"sender.domain":  {kind: kindDomain, text: func(e *env) string { return e.facts.Sender.Domain }},
		"sender.local":   {kind: kindString, lower: true, text: func(e *env) string { return e.facts.Sender.Local }},
		"rcpt":           {kind: kindAddress, rcpt: true, addr: rcpt},
		"rcpt.address":   {kind: kindAddress, rcpt: true, addr: rcpt},
		"rcpt.domain":    {kind: kindDomain, rcpt: true, text: func(e *env) string { return e.rcpt.Domain }},
		"rcpt.local":     {kind: kindString, lower: true, rcpt: true, text: func(e *env) string { return e.rcpt.Local }},
		"size":           {kind: kindInt, content: true, num: func(e *env) int64 { return e.facts.Content.Size }},
		"spf":            {kind: kindString, enum: "result", content: true, text: func(e *env) string { return e.facts.Content.SPF }},
		"dkim":           {kind: kindString, enum: "result", content: true, text: func(e *env) string { return e.facts.Content.DKIM }},
		"dmarc":          {kind: kindString, enum: "result", content: true, text: func(e *env) string { return e.facts.Content.DMARC }},
	}
}

func decisionFields() map[string]fieldDef {
	return map[string]fieldDef{
		"decision.disposition": {kind: kindString, enum: "disposition", assert: true,
			text: func(e *env) string { return string(e.decision.Disposition) }},
		"decision.pool":   {kind: kindString, enum: "pool", assert: true, text: func(e *env) string { return e.decision.Pool }},
		"decision.filter": {kind: kindString, enum: "filter", assert: true, text: func(e *env) string { return e.decision.Filter }},
		"decision.inside": {kind: kindString, enum: "inside", assert: true, text: func(e *env) string { return e.decision.Inside }},
		"decision.rcpt": {kind: kindAddress, assert: true,
			addr: func(e *env) Address { return e.decision.Rcpt }},
	}
}

// FieldNames lists the facts that a condition can read, sorted.
func FieldNames() []string {
	names := slices.Sorted(maps.Keys(fieldTable()))
	return names
}

// FunctionNames lists the functions of the language, sorted.
func FunctionNames() []string {
	return []string{"ends_with", "glob", "has_header", "header", "in", "matches", "tag", "within"}
}

// results are the words of RFC 8601 for spf, dkim and dmarc.
func results() []string {
	return []string{"none", "pass", "fail", "softfail", "neutral", "temperror", "permerror", "policy"}
}

// names gives the literals that an enumeration allows; nil allows any.
func (t *Topology) names(enum string, filters []Filter) []string {
	var out []string
	switch enum {
	case "listener":
		for _, l := range t.Listeners {
			out = append(out, l.Name)
		}
	case "customer":
		for _, c := range t.Customers {
			out = append(out, c.Name)
		}
	case "pool":
		for _, p := range t.Pools {
			out = append(out, p.Name)
		}
	case "inside":
		for _, h := range t.Inside {
			out = append(out, h.Name)
		}
	case "filter":
		for _, f := range filters {
			out = append(out, f.Name)
		}
	case "origin":
		out = []string{string(Stranger), string(Customer), string(Inside)}
	case "disposition":
		out = []string{string(Refused), string(Deliver), string(Drop), string(Hold), string(Bounce), string(Consume)}
	case "result":
		out = results()
	case "weekday":
		for d := time.Sunday; d <= time.Saturday; d++ {
			out = append(out, d.String())
		}
	}
	return out
}
