package asyncos

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// listener is a listener with its two tables.
type listener struct {
	pos    policy.Pos
	name   string
	on     string // its interface
	public bool
	groups []group // of the HAT
	hat    bool    // there is one
	rat    []ratEntry
	hasRAT bool
}

// group is a sender group of a HAT with the access rule of its mail flow policy.
type group struct {
	pos    policy.Pos
	name   string
	items  []string
	action string // ACCEPT, RELAY, REJECT, TCPREFUSE, CONTINUE; a $POLICY that nobody defined
}

type ratEntry struct {
	pos    policy.Pos
	addr   string
	accept bool
}

// route is an SMTP route: next hops of a domain. USEDNS and /dev/null are hosts too.
type route struct {
	pos   policy.Pos
	dom   string
	hosts []string
}

// mapping is a line of the alias table or of a domain map.
type mapping struct {
	pos policy.Pos
	key string
	to  []string
}

// config is all that there is of a configuration.
type config struct {
	listeners  []listener
	hats       map[string][]group // by listener, "" for all
	rats       map[string][]ratEntry
	filters    []*filter
	routes     []route
	aliases    []mapping
	domains    []mapping
	interfaces []string // known where the whole configuration is
	gaps       []dialect.Gap
	faults     dialect.Faults
}

func (c *config) fault(pos policy.Pos, format string, args ...any) {
	if len(c.faults) < 100 {
		c.faults = append(c.faults, dialect.Fault{Pos: pos, Message: fmt.Sprintf(format, args...)})
	}
}

// line is a line of a table without its comment.
type line struct {
	pos  policy.Pos
	text string
}

// tableLines gives the lines of a table that say something. at is where it begins.
func tableLines(src string, at policy.Pos) []line {
	var out []line
	for l := range strings.Lines(strings.TrimPrefix(src, "\ufeff")) {
		s := strings.TrimSpace(l)
		if s != "" && s[0] != '#' {
			pos := at
			pos.Column += strings.Index(l, s[:1])
			out = append(out, line{pos: pos, text: s})
		}
		at.Line, at.Column = at.Line+1, 1
	}
	return out
}

// listenerLines reads what listenerconfig lists: "1. Inbound (on Public, 192.0.2.1) SMTP
// Port 25 Public".
func (c *config) listenerLines(src string, at policy.Pos) {
	for _, l := range tableLines(src, at) {
		head, rest, found := strings.Cut(l.text, "(on ")
		on, kind, closed := strings.Cut(rest, ")")
		words := strings.Fields(head)
		kind = strings.ToLower(kind)
		if !found || !closed || len(words) == 0 || !strings.Contains(kind, "public") && !strings.Contains(kind, "private") {
			c.fault(l.pos, "%.60q: a listener is NUMBER. NAME (on INTERFACE, ADDRESS) SMTP Port 25 Public or Private", l.text)
			continue
		}
		on, _, _ = strings.Cut(on, ",")
		c.listeners = append(c.listeners, listener{pos: l.pos, name: words[len(words)-1], on: strings.TrimSpace(on), public: strings.Contains(kind, "public")})
	}
}

// ratLines reads a Recipient Access Table: "domain ACCEPT ...".
func (c *config) ratLines(src string, at policy.Pos) []ratEntry {
	out := []ratEntry{}
	for _, l := range tableLines(src, at) {
		words := strings.Fields(l.text)
		accept := len(words) > 1 && strings.EqualFold(words[1], "ACCEPT")
		if !accept && (len(words) < 2 || !strings.EqualFold(words[1], "REJECT")) {
			c.fault(l.pos, "%.60q: a line of the RAT is RECIPIENT ACCEPT or RECIPIENT REJECT", l.text)
			continue
		}
		for _, a := range strings.Split(words[0], ",") {
			if !named(a) {
				c.fault(l.pos, "%.60q is no recipient of the RAT", a)
				continue
			}
			out = append(out, ratEntry{pos: l.pos, addr: strings.ToLower(a), accept: accept})
		}
	}
	return out
}

// routeLines reads SMTP routes: "domain host, host".
func (c *config) routeLines(src string, at policy.Pos) {
	for _, l := range tableLines(src, at) {
		words := strings.FieldsFunc(l.text, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
		if len(words) < 2 {
			c.fault(l.pos, "%.60q: an SMTP route is DOMAIN HOST, ...", l.text)
			continue
		}
		dom := strings.ToLower(strings.TrimSuffix(words[0], ":"))
		if dom != "." && !named(dom) {
			c.fault(l.pos, "%.60q is no domain", dom)
			continue
		}
		c.routes = append(c.routes, route{pos: l.pos, dom: dom, hosts: words[1:]})
	}
}

// aliasLines reads the alias table: "alias: destination, ..." below lines "[domain, ...]"
// that say for which domains.
func (c *config) aliasLines(src string, at policy.Pos) {
	context := []string{""}
	for _, l := range tableLines(src, at) {
		if inner, is := strings.CutPrefix(l.text, "["); is {
			context = splitList(strings.TrimSuffix(inner, "]"))
			continue
		}
		key, to, found := strings.Cut(l.text, ":")
		if !found {
			c.fault(l.pos, "%.60q: an alias is NAME: DESTINATION, ...", l.text)
			continue
		}
		for _, d := range context {
			k := strings.TrimSpace(key)
			if !strings.Contains(k, "@") {
				k += "@" + d
			}
			if !named(k) {
				c.fault(l.pos, "%.60q is no alias", k)
				continue
			}
			c.aliases = append(c.aliases, mapping{pos: l.pos, key: strings.ToLower(k), to: splitList(to)})
		}
	}
}

// domainLines reads a domain map: "domain domain".
func (c *config) domainLines(src string, at policy.Pos) {
	for _, l := range tableLines(src, at) {
		words := strings.Fields(strings.ReplaceAll(l.text, ",", " "))
		if len(words) != 2 || !named(words[0]) {
			c.fault(l.pos, "%.60q: a line of a domain map is DOMAIN DOMAIN", l.text)
			continue
		}
		c.domains = append(c.domains, mapping{pos: l.pos, key: strings.TrimPrefix(strings.ToLower(words[0]), "@"), to: words[1:]})
	}
}

// sourceLines checks an altsrchost table: it tells from which address mail goes, not where
// to, so nothing of it is modelled.
func (c *config) sourceLines(src string, at policy.Pos) {
	for _, l := range tableLines(src, at) {
		if len(strings.Fields(l.text)) < 2 {
			c.fault(l.pos, "%.60q: a line of altsrchost is SENDER INTERFACE", l.text)
		}
	}
}

// named reports what a table can have for recipients: see pattern.
func named(s string) bool {
	local, domain, at := strings.Cut(s, "@")
	if !at {
		domain = local
	}
	if domain == "" {
		return at && local != ""
	}
	_, err := policy.NormaliseDomain(strings.TrimPrefix(domain, "."))
	return err == nil && !strings.Contains(domain, "@")
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == '\r' })
}

// hatWords divides a HAT into words: comments in brackets, what braces hold and lines
// that begin with # are left out.
func hatWords(src string, at policy.Pos) []line {
	var out []line
	for _, l := range tableLines(src, at) {
		depth, from := 0, -1
		cut := func(i int) {
			if from >= 0 {
				pos := l.pos
				pos.Column += from
				out, from = append(out, line{pos: pos, text: l.text[from:i]}), -1
			}
		}
		for i := range len(l.text) {
			switch c := l.text[i]; {
			case c == '(':
				cut(i)
				depth++
			case c == ')' && depth > 0:
				depth--
			case depth > 0:
			case c == '{' || c == '}':
				cut(i)
				out = append(out, line{pos: l.pos, text: l.text[i : i+1]})
			case c == ' ' || c == '\t' || c == ',':
				cut(i)
			case from < 0:
				from = i
			}
		}
		if depth == 0 {
			cut(len(l.text))
		}
	}
	return out
}

var accessRules = []string{"ACCEPT", "RELAY", "REJECT", "TCPREFUSE", "CONTINUE"}

// policies are what the policies do that every appliance comes with.
func policies() map[string]string {
	return map[string]string{"$ACCEPTED": "ACCEPT", "$TRUSTED": "ACCEPT", "$THROTTLED": "ACCEPT", "$BLOCKED": "REJECT", "$RELAYED": "RELAY"}
}

// hatText reads a Host Access Table: policies "$NAME ACCEPT {...}", and sender groups
// "NAME: host ... $POLICY".
func (c *config) hatText(src string, at policy.Pos) []group {
	out, known := []group{}, policies()
	var g *group
	defining, depth := "", 0
	for _, w := range hatWords(src, at) {
		rule := strings.ToUpper(strings.TrimPrefix(w.text, "="))
		switch {
		case w.text == "{":
			depth++
		case w.text == "}":
			depth = max(depth-1, 0)
		case depth > 0 || rule == "":
		case defining != "" && slices.Contains(accessRules, rule):
			known[defining], defining = rule, ""
		case g != nil && (w.text[0] == '$' || slices.Contains(accessRules, rule)):
			g.action = rule
			out, g = append(out, *g), nil
		case w.text[0] == '$':
			defining = rule
		case strings.HasSuffix(w.text, ":") && !strings.HasSuffix(w.text, "::"):
			if g != nil {
				c.fault(g.pos, "sender group %s has no policy", g.name)
			}
			g = &group{pos: w.pos, name: strings.TrimSuffix(w.text, ":")}
		default:
			if g == nil {
				g = &group{pos: w.pos, name: w.text}
			}
			g.items = append(g.items, w.text)
		}
	}
	if g != nil {
		c.fault(g.pos, "sender group %s has no policy", g.name)
	}
	for i := range out {
		if rule, is := known[out[i].action]; is {
			out[i].action = rule
		}
	}
	return out
}

// hostRange reads an address, a network in CIDR form, "10.1." or "10.1.2.3-9".
func hostRange(s string) ([]netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return []netip.Prefix{p.Masked()}, true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, true
	}
	if parts := strings.Split(strings.TrimSuffix(s, "."), "."); strings.HasSuffix(s, ".") && len(parts) < 4 {
		padded := strings.Join(append(parts, "0", "0", "0", "0")[:4], ".")
		if a, err := netip.ParseAddr(padded); err == nil {
			return []netip.Prefix{netip.PrefixFrom(a, 8*len(parts))}, true
		}
	}
	first, last, found := strings.Cut(s, "-")
	from, err := netip.ParseAddr(first)
	if !found || err != nil || !from.Is4() {
		return nil, false
	}
	if !strings.Contains(last, ".") {
		last = first[:strings.LastIndexByte(first, '.')+1] + last
	}
	to, err := netip.ParseAddr(last)
	if err != nil || to.Less(from) {
		return nil, false
	}
	var out []netip.Prefix
	for a := from; ; a = a.Next() {
		if out = append(out, netip.PrefixFrom(a, 32)); a == to || len(out) > 1024 {
			return out, a == to
		}
	}
}
