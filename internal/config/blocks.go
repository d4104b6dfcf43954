package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
)

func nodeAttributes() []string {
	return []string{"hostname", "state", "admin", "admin_public", "socket", "resolver", "smtp_port", "postmaster", "return_path", "keys", "default_pool", "log", "log_level", "campaign_header", "priority_header", "dkim", "dkim_self"}
}

func (l *loader) node(hb *hclsyntax.Block) {
	b := l.openBlock(hb, nodeAttributes(), nil)
	b.require("hostname", "state")
	n := &l.cfg.Node
	if a := b.attr("hostname"); a != nil {
		n.Hostname, _ = b.domain(item{b.str("hostname", ""), a.Expr.Range()})
	}
	n.State = l.path(b.str("state", "state"))
	n.Socket = l.path(b.str("socket", filepath.Join(n.State, "postern.sock")))
	n.Keys = l.path(b.str("keys", filepath.Join(n.State, "stamp.keys")))
	n.SMTPPort = b.count("smtp_port", 25, 1, 65535)
	n.DefaultPool = b.str("default_pool", "")
	n.CampaignHeader, n.PriorityHeader = b.field("campaign_header"), b.field("priority_header")
	l.cfg.Signing.Node = l.dkimNames(b, "dkim")
	if b.attr("dkim_self") != nil {
		l.cfg.Signing.Self = append([]string{}, l.dkimNames(b, "dkim_self")...)
	}
	n.LogFormat = b.oneOf("log", "text", "text", "json")
	n.LogLevel = b.oneOf("log_level", "info", "debug", "info", "warn", "error")
	n.Postmaster = smtp.Path{Local: "postmaster", Domain: n.Hostname}
	if a := b.attr("postmaster"); a != nil {
		l.topology.PostmasterPos = position(a.Expr.Range())
		p, err := smtp.ParseMailbox(b.str("postmaster", ""))
		if err != nil || p.Domain == "" {
			l.add(a.Expr.Range(), "postmaster is not an address", "local@domain")
		}
		n.Postmaster = p
	}
	if a := b.attr("return_path"); a != nil {
		n.ReturnPath, _ = b.domain(item{b.str("return_path", ""), a.Expr.Range()})
	}
	for _, it := range b.strs("resolver") {
		if _, err := netip.ParseAddr(it.text); err == nil {
			it.text = netip.AddrPortFrom(netip.MustParseAddr(it.text), 53).String()
		}
		if a, ok := b.addrPort(it); ok {
			n.Resolver = append(n.Resolver, a)
		}
	}
	if a := b.attr("admin"); a != nil {
		if ap, ok := b.addrPort(item{b.str("admin", ""), a.Expr.Range()}); ok {
			n.Admin = ap.String()
			if !ap.Addr().IsLoopback() && !b.flag("admin_public", false) {
				l.add(a.Expr.Range(), "admin is not a loopback address", "anybody who reaches it can read the metrics; say admin_public = true if that is meant")
			}
		}
	}
}

// path makes a name of the configuration relative to its folder.
func (l *loader) path(s string) string {
	if s == "" || filepath.IsAbs(s) || strings.HasPrefix(s, l.root+string(filepath.Separator)) {
		return s
	}
	return filepath.Join(l.root, s)
}

func limitAttributes() []string {
	return []string{"connections", "per_address", "recipients", "size", "commands", "errors", "idle", "data", "session"}
}

func egressAttributes() []string {
	return []string{"out_connections", "connections_per_site", "messages_per_connection", "connection_idle"}
}

// limits reads the limits of a listener; base is what applies where nothing is said.
func (b *block) limits(base smtp.Limits) smtp.Limits {
	base.Connections = b.count("connections", base.Connections, 1, 1_000_000)
	base.PerAddress = b.count("per_address", base.PerAddress, 1, 1_000_000)
	base.Recipients = b.count("recipients", base.Recipients, 100, 1_000_000)
	base.Size = b.size("size", base.Size)
	base.Commands = b.count("commands", base.Commands, 10, 1_000_000_000)
	base.Errors = b.count("errors", base.Errors, 1, 10_000)
	base.Idle = b.duration("idle", base.Idle, time.Second, time.Hour)
	base.Data = b.duration("data", base.Data, time.Second, 24*time.Hour)
	base.Session = b.duration("session", base.Session, time.Second, 24*time.Hour)
	return base
}

// listeners reads the listeners, once the default limits are known.
func (l *loader) listeners() {
	base := smtp.DefaultLimits()
	l.cfg.Egress = Egress{Connections: 500, PerSite: 20, Messages: 100, Idle: 2 * time.Second}
	if d := l.defaults; d != nil {
		base = d.limits(base)
		l.cfg.Egress.Connections = d.count("out_connections", 500, 1, 100_000)
		l.cfg.Egress.PerSite = d.count("connections_per_site", 20, 1, 100_000)
		l.cfg.Egress.Messages = d.count("messages_per_connection", 100, 1, 1_000_000)
		l.cfg.Egress.Idle = d.duration("connection_idle", l.cfg.Egress.Idle, time.Millisecond, 5*time.Minute)
	}
	taken := map[netip.AddrPort]string{}
	for _, hb := range l.pending {
		l.listener(hb, base, taken)
	}
	if len(l.pending)+len(l.cfg.Watches) == 0 && !l.diags.HasErrors() {
		l.add(l.beginning(), "no listener: nothing could come in", `listener "internet" { address = "0.0.0.0:25" from = "strangers" } (one attribute a line)`)
	}
}

// beginning is where what is missing as a whole is noted.
func (l *loader) beginning() hcl.Range {
	r := hcl.Range{Start: hcl.InitialPos, End: hcl.InitialPos}
	if len(l.files) > 0 {
		r.Filename = l.files[0]
	}
	return r
}

func (l *loader) listener(hb *hclsyntax.Block, base smtp.Limits, taken map[netip.AddrPort]string) {
	b := l.openBlock(hb, []string{"address", "addresses", "from", "auth", "proxy_from", "priority"}, []string{"tls", "limits"})
	b.require("from")
	if b.attr("address") == nil && b.attr("addresses") == nil {
		b.require("address")
	}
	out := Listener{Name: b.label, Pos: position(hb.DefRange()), From: policy.Trust(b.oneOf("from", "strangers", "strangers", "customers")), Auth: b.flag("auth", false), Limits: base}
	for _, it := range append(b.strs("address"), b.strs("addresses")...) {
		a, ok := b.addrPort(it)
		if !ok {
			continue
		}
		if other, twice := taken[a]; twice {
			l.add(it.where, fmt.Sprintf("%s is taken by listener %q", a, other), "")
		}
		taken[a] = b.label
		out.Addresses = append(out.Addresses, a)
	}
	out.Priority = b.priority()
	out.ProxyFrom = b.prefixes("proxy_from")
	for i, p := range out.ProxyFrom {
		if p.Bits() < 8 {
			l.add(b.strs("proxy_from")[i].where, fmt.Sprintf("a PROXY header would be believed from %s", p), "name the proxies' addresses: whoever may send this header can pretend to be any client")
		}
	}
	for _, sub := range hb.Body.Blocks {
		switch sub.Type {
		case "limits":
			out.Limits = l.openBlock(sub, limitAttributes(), nil).limits(base)
		case "tls":
			out.TLS = l.tls(sub)
		}
	}
	if out.Auth && out.TLS == nil {
		l.add(b.attr("auth").NameRange, "auth needs tls: passwords do not travel in clear text", "tls { certificate = ... key = ... } (one attribute a line)")
	}
	l.cfg.Listeners = append(l.cfg.Listeners, out)
	l.topology.Listeners = append(l.topology.Listeners, policy.Listener{Pos: out.Pos, Name: out.Name, From: out.From, Addresses: out.Addresses, Auth: out.Auth, ProxyFrom: out.ProxyFrom})
}

func (l *loader) tls(hb *hclsyntax.Block) *TLS {
	b := l.openBlock(hb, []string{"certificate", "key", "implicit", "min"}, nil)
	b.require("certificate", "key")
	return &TLS{Certificate: l.path(b.str("certificate", "")), Key: l.path(b.str("key", "")), Implicit: b.flag("implicit", false), Min: b.oneOf("min", "1.2", "1.2", "1.3")}
}

func (l *loader) retry(hb *hclsyntax.Block) {
	b := l.openBlock(hb, []string{"first", "factor", "max", "jitter", "expire", "delay_notice"}, nil)
	const least, most = time.Second, 365 * 24 * time.Hour
	r := defaultRetry()
	l.cfg.Retry = Retry{
		First: b.duration("first", r.First, least, most), Factor: b.number("factor", r.Factor, 1, 100), Max: b.duration("max", r.Max, least, most),
		Jitter: b.number("jitter", r.Jitter, 0, 1), Expire: b.duration("expire", r.Expire, least, most), DelayNotice: b.duration("delay_notice", r.DelayNotice, 0, most),
	}
	if l.cfg.Retry.Max < l.cfg.Retry.First {
		l.add(hb.DefRange(), fmt.Sprintf("retry: max %s is shorter than first %s", l.cfg.Retry.Max, l.cfg.Retry.First), "")
	}
}

func defaultRetry() Retry {
	return Retry{First: 5 * time.Minute, Factor: 2, Max: 4 * time.Hour, Jitter: 0.2, Expire: 120 * time.Hour, DelayNotice: 4 * time.Hour}
}

func (l *loader) customer(hb *hclsyntax.Block) {
	b := l.openBlock(hb, []string{"networks", "senders", "users", "pool", "priority", "dkim", "suppression"}, nil)
	c := policy.CustomerDef{Pos: position(hb.DefRange()), Name: b.label, Networks: b.prefixes("networks"), Senders: b.patterns("senders")}
	if a := b.attr("pool"); a != nil {
		c.Pool, _ = b.pool(a.Expr)
		l.poolRefs = append(l.poolRefs, item{c.Pool, a.Expr.Range()})
	}
	l.sign(&l.cfg.Signing.Customers, b)
	if p := b.priority(); p != "" {
		if l.cfg.Urgency == nil {
			l.cfg.Urgency = map[string]string{}
		}
		l.cfg.Urgency[b.label] = p
	}
	if b.attr("suppression") != nil {
		if l.cfg.Suppression.Customers == nil {
			l.cfg.Suppression.Customers = map[string]SuppressionMode{}
		}
		l.cfg.Suppression.Customers[b.label] = b.suppression()
	}
	if a := b.attr("users"); a != nil {
		c.Users = b.users(a.Expr)
	}
	if b.attr("networks") == nil && b.attr("users") == nil {
		l.warn(hb.DefRange(), fmt.Sprintf("customer %q has neither networks nor users: nobody can be it", b.label), "")
	}
	if len(c.Senders) == 0 {
		l.warn(hb.DefRange(), fmt.Sprintf("customer %q may send from any domain", b.label), `senders = ["its.domain"]`)
	}
	l.topology.Customers = append(l.topology.Customers, c)
}

func (b *block) suppression() SuppressionMode {
	modes := []string{string(SuppressionRefuse), string(SuppressionBounce), string(SuppressionOff)}
	return SuppressionMode(b.oneOf("suppression", modes[0], modes...))
}

// users reads { name = "verifier", ... }.
func (b *block) users(x hclsyntax.Expression) (names []string) {
	o, ok := x.(*hclsyntax.ObjectConsExpr)
	if !ok {
		b.l.add(x.Range(), "users is a map", `users = { app = "SCRAM-SHA-256$..." }, from postern passwd`)
		return nil
	}
	for _, it := range o.Items {
		name, named := key(it.KeyExpr)
		if !named {
			b.l.addSecret(it.KeyExpr.Range(), "a user's name is a constant string", "")
			continue
		}
		v, ok := b.text(it.ValueExpr)
		if !ok {
			continue
		}
		verifier, err := ParseVerifier(v)
		if err != nil {
			b.l.addSecret(it.KeyExpr.Range(), fmt.Sprintf("user %q: %v", name, err), "postern passwd makes one")
			continue
		}
		if other, twice := b.l.cfg.Users[name]; twice {
			b.l.addSecret(it.KeyExpr.Range(), fmt.Sprintf("user %q belongs to customer %q already", name, other.Customer), "")
			continue
		}
		if b.l.cfg.Users == nil {
			b.l.cfg.Users = map[string]User{}
		}
		b.l.cfg.Users[name] = User{Customer: b.label, Verifier: verifier}
		names = append(names, name)
	}
	return names
}

func (l *loader) inside(hb *hclsyntax.Block) {
	b := l.openBlock(hb, []string{"address", "domains", "resends"}, nil)
	b.require("address", "domains", "resends")
	h := policy.InsideHost{Pos: position(hb.DefRange()), Name: b.label, Resends: b.flag("resends", true)}
	if a := b.attr("address"); a != nil {
		h.Address, _ = b.addrPort(item{b.str("address", ""), a.Expr.Range()})
	}
	for i, p := range b.patterns("domains") {
		where := b.strs("domains")[min(i, len(b.strs("domains"))-1)].where
		if p.Kind != policy.MatchDomain && p.Kind != policy.MatchSuffix {
			l.add(where, fmt.Sprintf("%q is not a domain or .suffix", p.String()), "")
			continue
		}
		key := "domain " + p.Domain
		if first, twice := l.names[key]; twice {
			l.add(where, fmt.Sprintf("%q has an inside host already, at %s", p.Domain, position(first)), "one host for one domain")
			continue
		}
		l.names[key] = where
		h.Domains = append(h.Domains, p)
	}
	l.topology.Inside = append(l.topology.Inside, h)
}

func (l *loader) provider(hb *hclsyntax.Block) {
	b := l.openBlock(hb, []string{"domains", "networks"}, nil)
	p := Provider{Name: b.label, Networks: b.prefixes("networks")}
	for _, it := range b.strs("domains") {
		if d, ok := b.domain(it); ok {
			p.Domains = append(p.Domains, d)
		}
	}
	if len(p.Domains) == 0 && len(p.Networks) == 0 {
		l.add(hb.DefRange(), fmt.Sprintf("provider %q has neither domains nor networks", b.label), "")
	}
	l.cfg.Providers = append(l.cfg.Providers, p)
}

// maxSources bounds a pool.
const maxSources = 65536

func (l *loader) pool(hb *hclsyntax.Block) {
	b := l.openBlock(hb, []string{"sources", "weights", "dkim"}, nil)
	b.require("sources")
	p := policy.Pool{Pos: position(hb.DefRange()), Name: b.label}
	l.sign(&l.cfg.Signing.Pools, b)
	for _, it := range b.strs("sources") {
		as, err := sources(it.text)
		if err != nil {
			l.add(it.where, err.Error(), `an address, a range "192.0.2.1-192.0.2.9" or a network`)
			continue
		}
		p.Sources = append(p.Sources, as...)
	}
	if b.attr("sources") != nil && len(p.Sources) == 0 && !l.diags.HasErrors() {
		l.add(hb.DefRange(), fmt.Sprintf("pool %q is empty", b.label), "")
	}
	l.topology.Pools = append(l.topology.Pools, p)
	if a := b.attr("weights"); a != nil {
		b.weights(a.Expr, &p)
	}
}

// maxWeight bounds the weight of a source.
const maxWeight = 1000

// weights reads { "sources" = weight, ... }: each source's share of the pool's messages.
func (b *block) weights(x hclsyntax.Expression, p *policy.Pool) {
	o, ok := x.(*hclsyntax.ObjectConsExpr)
	if !ok {
		b.l.add(x.Range(), "weights is a map", `weights = { "192.0.2.1" = 3 }`)
		return
	}
	of, used := map[netip.Addr]int{}, len(p.Sources)
	its := make(map[netip.Addr]bool, len(p.Sources))
	for _, a := range p.Sources {
		its[a] = true
	}
	for _, it := range o.Items {
		name, named := key(it.KeyExpr)
		if !named {
			b.l.add(it.KeyExpr.Range(), "a source is a constant string", `weights = { "192.0.2.1" = 3 }`)
			continue
		}
		v, ok := b.constant(it.ValueExpr)
		if !ok {
			continue
		}
		n, exact := 0, false
		if v.Type() == cty.Number {
			f, _ := v.AsBigFloat().Float64()
			n = int(f)
			exact = f == float64(n) && n >= 0 && n <= maxWeight
		}
		if !exact {
			b.l.add(it.ValueExpr.Range(), fmt.Sprintf("a weight is a whole number from 0 to %d", maxWeight), "0 leaves the source out")
			continue
		}
		as, err := sources(name)
		if err != nil {
			b.l.add(it.KeyExpr.Range(), err.Error(), `an address, a range "192.0.2.1-192.0.2.9" or a network`)
			continue
		}
		for _, a := range as {
			_, twice := of[a]
			switch {
			case !its[a]:
				b.l.add(it.KeyExpr.Range(), fmt.Sprintf("%s is not a source of pool %q", a, p.Name), "")
			case twice:
				b.l.add(it.KeyExpr.Range(), fmt.Sprintf("%s has a weight already", a), "")
			}
			of[a] = n
			if n == 0 {
				used--
			}
		}
	}
	if used <= 0 && len(p.Sources) > 0 {
		b.l.add(x.Range(), fmt.Sprintf("pool %q has no source with a weight above 0", p.Name), "nothing could leave by it")
	}
	if b.l.cfg.Weights == nil {
		b.l.cfg.Weights = map[string]map[netip.Addr]int{}
	}
	b.l.cfg.Weights[p.Name] = of
}

// priority reads how urgent mail is, "" where nothing is said.
func (b *block) priority() string { return b.oneOf("priority", "", "high", "normal", "bulk") }

// field reads the name of a header field, and gives it in lower case.
func (b *block) field(name string) string {
	s := b.str(name, "")
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			b.l.add(b.attr(name).Expr.Range(), fmt.Sprintf("%q is not the name of a header field", s), `as "X-Campaign-ID"`)
			return ""
		}
	}
	return strings.ToLower(s)
}

// sources spreads an address, a range or a network.
func sources(s string) ([]netip.Addr, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		p, err := policy.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address", s)
		}
		first, last = p.Addr().String(), lastAddr(p).String()
	}
	a, err := netip.ParseAddr(first)
	z, err2 := netip.ParseAddr(last)
	if err != nil || err2 != nil || a.BitLen() != z.BitLen() || z.Less(a) {
		return nil, fmt.Errorf("%q is not a range of addresses", s)
	}
	var out []netip.Addr
	for ; ; a = a.Next() {
		if len(out) == maxSources {
			return nil, fmt.Errorf("%q has more than %d addresses", s, maxSources)
		}
		if out = append(out, a); a == z {
			return out, nil
		}
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
