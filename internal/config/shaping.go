package config

import (
	_ "embed" // the shipped rules
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/shaping"
)

// ShippedShaping names the file of the rules that come with the program, as positions
// show it.
const ShippedShaping = "shipped/shaping.hcl"

//go:embed shipped/shaping.hcl
var shippedShaping []byte

// ShippedRules gives the text of the rules that come with the program.
func ShippedRules() []byte { return slices.Clone(shippedShaping) }

// Shipped gives the rules that come with the program, alone.
func Shipped() *shaping.Rules {
	l := &loader{sources: map[string][]byte{}, names: map[string]hcl.Range{}, single: map[string]hcl.Range{}}
	l.shapingComplete()
	return l.cfg.Shaping
}

// shaped gathers what the files say about shaping.
type shaped struct {
	rules   shaping.Rules
	off     []item // names of shipped rules
	refs    []item // names of destinations
	sources []item // addresses of warm-ups
	owners  map[string]hcl.Range
	without bool // the shipped rules are not wanted
}

// readShipped reads the shipped rules as if they were a file. They are a constant, so
// they are read once, and never changed.
var readShipped = sync.OnceValues(func() (shaping.Rules, Diagnostics) {
	l := &loader{sources: map[string][]byte{}, names: map[string]hcl.Range{}, single: map[string]hcl.Range{}}
	f, ds := hclsyntax.ParseConfig(shippedShaping, ShippedShaping, hcl.InitialPos)
	l.addHCL(ds)
	if f != nil && !ds.HasErrors() {
		for _, hb := range f.Body.(*hclsyntax.Body).Blocks {
			if len(hb.Labels) == 1 && l.unique(hb) {
				l.shapingBlock(hb)
			}
		}
	}
	l.references(&l.shape.rules)
	return l.shape.rules, l.diags
})

func shapingAttributes() []string { return []string{"default"} }

func destinationAttributes() []string { return []string{"mx", "domains", "separate"} }

func shapeLimitAttributes() []string {
	return []string{"pools", "connections", "connections_per_source", "messages_per_connection", "idle", "connection_rate", "message_rate",
		"source_rate", "recipient_rate", "retry", "expire"}
}

func ruleAttributes() []string {
	return []string{"destinations", "code", "enhanced", "text", "stage", "threshold", "then", "after", "category", "final", "off"}
}

func warmupAttributes() []string { return []string{"sources", "start", "schedule"} }

// shapingBlock reads one of the blocks about shaping; false where it is none.
func (l *loader) shapingBlock(hb *hclsyntax.Block) bool {
	switch hb.Type {
	case "shaping":
		b := l.openBlock(hb, shapingAttributes(), nil)
		l.shape.without = !b.flag("default", true)
	case "destination":
		l.destination(hb)
	case "rule":
		l.rule(hb)
	case "warmup":
		l.warmup(hb)
	default:
		return false
	}
	return true
}

// at gives a place as explanations show it.
func at(r hcl.Range) string { p := position(r); return p.String() }

// destination reads which hosts and domains are one destination, and its limits.
func (l *loader) destination(hb *hclsyntax.Block) {
	b := l.openBlock(hb, destinationAttributes(), []string{"limits"})
	d := shaping.Definition{Name: b.label, Where: at(hb.DefRange()), Separate: b.flag("separate", false)}
	d.MX, d.Domains = b.hosts("mx"), b.hosts("domains")
	if d.Name == shaping.Everywhere && (b.attr("mx") != nil || b.attr("domains") != nil || b.attr("separate") != nil) {
		l.add(hb.DefRange(), `destination "*" is every destination: it has limits alone`, "")
	}
	for _, sub := range hb.Body.Blocks {
		if sub.Type == "limits" {
			d.Limits = append(d.Limits, l.shapeLimits(sub))
		}
	}
	if len(d.MX)+len(d.Domains)+len(d.Limits) == 0 && !l.diags.HasErrors() {
		l.add(hb.DefRange(), fmt.Sprintf("destination %q says nothing", b.label), `mx = [".mail.example"], domains = ["example.com"] or limits { ... }`)
	}
	l.shape.rules.Destinations = append(l.shape.rules.Destinations, d)
}

// hosts reads names and .suffixes that belong to one destination alone.
func (b *block) hosts(name string) (out []string) {
	for _, p := range b.patterns(name) {
		where := b.attr(name).Expr.Range()
		for _, it := range b.strs(name) {
			if it.text == p.String() {
				where = it.where
			}
		}
		if p.Kind != policy.MatchDomain && p.Kind != policy.MatchSuffix {
			b.l.add(where, fmt.Sprintf("%q is not a name or .suffix", p.String()), "")
			continue
		}
		key := name + " " + p.String()
		if first, twice := b.l.shape.owners[key]; twice {
			b.l.add(where, fmt.Sprintf("%q belongs to a destination already, at %s", p.String(), position(first)), "one destination for one name")
			continue
		}
		if b.l.shape.owners == nil {
			b.l.shape.owners = map[string]hcl.Range{}
		}
		b.l.shape.owners[key] = where
		out = append(out, p.String())
	}
	return out
}

const (
	leastWait = time.Second
	mostWait  = 366 * 24 * time.Hour
)

// shapeLimits reads limits, each with its place.
func (l *loader) shapeLimits(hb *hclsyntax.Block) shaping.LimitSet {
	if len(hb.Labels) > 0 {
		l.add(hb.DefRange(), "limits takes no name", `limits { pools = ["NAME"] ... } binds some pools`)
	}
	b := l.openBlock(hb, shapeLimitAttributes(), nil)
	s := shaping.LimitSet{Where: map[string]string{}}
	for _, it := range b.strs("pools") {
		s.Pools = append(s.Pools, it.text)
		l.poolRefs = append(l.poolRefs, it)
	}
	for _, a := range sortedAttributes(hb.Body) {
		s.Where[a.Name] = at(a.NameRange)
	}
	n := &s.Limits
	n.Connections = b.count("connections", 0, 1, 100_000)
	n.ConnectionsPerSource = b.count("connections_per_source", 0, 1, 100_000)
	n.MessagesPerConnection = b.count("messages_per_connection", 0, 1, 1_000_000)
	n.Idle = b.duration("idle", 0, time.Second, time.Hour)
	n.ConnectionRate, n.MessageRate = b.rates("connection_rate"), b.rates("message_rate")
	n.SourceRate, n.RecipientRate = b.rates("source_rate"), b.rates("recipient_rate")
	n.Expire = b.duration("expire", 0, time.Minute, mostWait)
	for _, it := range b.strs("retry") {
		if d, ok := b.wait(it); ok {
			n.Schedule = append(n.Schedule, d)
		}
	}
	b.possible(n)
	return s
}

// possible notes limits that contradict each other.
func (b *block) possible(n *shaping.Limits) {
	if n.Connections > 0 && n.ConnectionsPerSource > n.Connections {
		b.l.add(b.attr("connections_per_source").Expr.Range(), fmt.Sprintf("connections_per_source %d is more than connections %d of all sources", n.ConnectionsPerSource, n.Connections), "")
	}
	if len(n.Schedule) > 0 && n.Expire > 0 && n.Schedule[0] >= n.Expire {
		b.l.add(b.attr("retry").Expr.Range(), fmt.Sprintf("retry: the first wait %s is not shorter than expire %s: nothing would be tried twice", shaping.Span(n.Schedule[0]), shaping.Span(n.Expire)), "")
	}
	for _, r := range []struct {
		name  string
		rates []shaping.Rate
	}{{"message_rate", n.MessageRate}, {"source_rate", n.SourceRate}} {
		for _, rate := range r.rates {
			if one := rate.Per / time.Duration(rate.Count); n.Expire > 0 && one >= n.Expire {
				b.l.add(b.attr(r.name).Expr.Range(), fmt.Sprintf("%s %s is less than one message in expire %s", r.name, rate, shaping.Span(n.Expire)), "")
			}
		}
	}
	for _, s := range n.SourceRate {
		for _, m := range n.MessageRate {
			if slower(m, s) {
				b.l.warn(b.attr("source_rate").Expr.Range(), fmt.Sprintf("source_rate %s never binds: message_rate %s of all sources is not more", s, m), "")
			}
		}
	}
}

// slower reports that what keeps to a keeps to b as well.
func slower(a, b shaping.Rate) bool {
	return float64(a.Count)*float64(b.Per) <= float64(b.Count)*float64(a.Per) && max(1, a.Burst) <= max(1, b.Burst)
}

// rates reads a list of rates.
func (b *block) rates(name string) (out []shaping.Rate) {
	for _, it := range b.strs(name) {
		r, ok := shaping.ParseRate(it.text)
		if !ok {
			b.l.add(it.where, fmt.Sprintf("%s: %q is not a rate", name, it.text), `a count and a time, as "100/1m", or with a burst, as "1000/1h/50"`)
			continue
		}
		for _, o := range out {
			if slower(o, r) || slower(r, o) {
				fast, slow := r, o
				if slower(r, o) {
					fast, slow = o, r
				}
				b.l.warn(it.where, fmt.Sprintf("%s: %s never binds beside %s", name, fast, slow), "take one out, or give the slower one a burst")
			}
		}
		out = append(out, r)
	}
	return out
}

// wait reads a duration out of a list or a call.
func (b *block) wait(it item) (time.Duration, bool) {
	d, err := time.ParseDuration(it.text)
	if err != nil {
		b.l.add(it.where, fmt.Sprintf("%q is not a duration", it.text), `a number and a unit, as "30s", "5m", "4h"`)
		return 0, false
	}
	if d < leastWait || d > mostWait {
		b.l.add(it.where, fmt.Sprintf("%s is out of range: %s to %s", it.text, shaping.Span(leastWait), shaping.Span(mostWait)), "")
		return 0, false
	}
	return d, true
}

// warmup reads what new source addresses may send, day by day.
func (l *loader) warmup(hb *hclsyntax.Block) {
	b := l.openBlock(hb, warmupAttributes(), []string{"destination"})
	b.require("sources", "start", "schedule")
	w := shaping.Warmup{Name: b.label, Where: at(hb.DefRange()), Schedule: b.schedule(), Destinations: map[string][]int{}}
	for _, it := range b.strs("sources") {
		as, err := sources(it.text)
		if err != nil {
			l.add(it.where, err.Error(), `an address, a range "192.0.2.1-192.0.2.9" or a network`)
			continue
		}
		w.Sources = append(w.Sources, as...)
		for _, a := range as {
			l.shape.sources = append(l.shape.sources, item{a.String(), it.where})
		}
	}
	if a := b.attr("start"); a != nil {
		if s, ok := b.text(a.Expr); ok {
			d, err := time.Parse(time.DateOnly, s)
			if err != nil {
				l.add(a.Expr.Range(), fmt.Sprintf("start: %q is not a date", s), `as "2027-01-31": the first day of sending, in UTC`)
			}
			w.Start = d
		}
	}
	for _, sub := range hb.Body.Blocks {
		if sub.Type != "destination" {
			continue
		}
		if len(sub.Labels) != 1 {
			l.add(sub.DefRange(), "destination takes one name", `destination "gmail" { schedule = [...] }`)
			continue
		}
		in := l.openBlock(sub, []string{"schedule"}, nil)
		in.require("schedule")
		l.shape.refs = append(l.shape.refs, item{in.label, sub.LabelRanges[0]})
		w.Destinations[in.label] = in.schedule()
	}
	l.shape.rules.Warmups = append(l.shape.rules.Warmups, w)
}

// schedule reads messages a day.
func (b *block) schedule() (out []int) {
	a := b.attr("schedule")
	if a == nil {
		return nil
	}
	t, ok := a.Expr.(*hclsyntax.TupleConsExpr)
	if !ok || len(t.Exprs) == 0 {
		b.l.add(a.Expr.Range(), "schedule is a list of messages a day", "schedule = [50, 100, 500, 1000, 5000]")
		return nil
	}
	for _, x := range t.Exprs {
		n, ok := b.whole(x, 1, 1_000_000_000)
		if !ok {
			continue
		}
		if len(out) > 0 && n < out[len(out)-1] {
			b.l.warn(x.Range(), fmt.Sprintf("day %d sends %d, less than the day before (%d)", len(out)+1, n, out[len(out)-1]), "a warm-up goes up")
		}
		out = append(out, n)
	}
	return out
}

// whole reads a whole number within bounds.
func (b *block) whole(x hclsyntax.Expression, lo, hi int) (int, bool) {
	v, ok := b.constant(x)
	if !ok {
		return 0, false
	}
	n, ok := wholeNumber(v)
	if !ok {
		b.l.add(x.Range(), "a whole number is wanted here", "")
		return 0, false
	}
	if n < lo || n > hi {
		b.l.add(x.Range(), fmt.Sprintf("%d is out of range: %d to %d", n, lo, hi), "")
		return 0, false
	}
	return n, true
}

// shapingComplete puts the files' rules over the shipped ones and checks what only the
// whole shows.
func (l *loader) shapingComplete() {
	var base shaping.Rules
	if !l.shape.without {
		var ds Diagnostics
		base, ds = readShipped()
		l.diags = append(l.diags, ds...)
	}
	base.Rules = l.switchedOff(base.Rules)
	merged := mergeRules(&base, &l.shape.rules)
	l.references(merged)
	l.warmupSources()
	if len(merged.Rules) > shaping.MaxRules {
		l.add(l.beginning(), fmt.Sprintf("%d rules, and %d are the most", len(merged.Rules), shaping.MaxRules), "")
	}
	l.cfg.Shaping = merged
}

// references checks the names of destinations.
func (l *loader) references(all *shaping.Rules) {
	var names []string
	for _, d := range all.Destinations {
		names = append(names, d.Name)
	}
	for _, r := range l.shape.refs {
		if !has(names, r.text) || r.text == shaping.Everywhere {
			l.add(r.where, fmt.Sprintf("unknown destination %q", r.text), didYouMean(r.text, names))
		}
	}
}

// switchedOff gives the shipped rules without those that the files switch off.
func (l *loader) switchedOff(rules []shaping.Rule) []shaping.Rule {
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	for _, o := range l.shape.off {
		if !has(names, o.text) {
			l.add(o.where, fmt.Sprintf("there is no shipped rule %q to switch off", o.text), didYouMean(o.text, names))
			continue
		}
		rules = slices.DeleteFunc(slices.Clone(rules), func(r shaping.Rule) bool { return r.Name == o.text })
	}
	return rules
}

// warmupSources checks that each address warms up once, and is an address of a pool.
func (l *loader) warmupSources() {
	pooled := map[netip.Addr]bool{}
	for _, p := range l.topology.Pools {
		for _, a := range p.Sources {
			pooled[a.Unmap()] = true
		}
	}
	seen := map[string]hcl.Range{}
	warned := map[hcl.Range]bool{}
	for _, s := range l.shape.sources {
		if first, twice := seen[s.text]; twice {
			l.add(s.where, fmt.Sprintf("%s warms up already, at %s", s.text, position(first)), "")
			continue
		}
		seen[s.text] = s.where
		if a := netip.MustParseAddr(s.text); !pooled[a.Unmap()] && !warned[s.where] {
			warned[s.where] = true
			l.warn(s.where, fmt.Sprintf("%s is in no pool: it sends nothing", s.text), "")
		}
	}
}

// mergeRules puts the files' rules over the shipped ones: a rule of the same name
// replaces, all of them go before; a destination of the same name adds hosts and puts
// its limits over; a host that the files claim is theirs.
func mergeRules(shipped, ours *shaping.Rules) *shaping.Rules {
	out := &shaping.Rules{Warmups: ours.Warmups, Rules: slices.Clone(ours.Rules)}
	for _, r := range shipped.Rules {
		if !slices.ContainsFunc(ours.Rules, func(o shaping.Rule) bool { return o.Name == r.Name }) {
			out.Rules = append(out.Rules, r)
		}
	}
	mine := map[string]bool{}
	for _, d := range ours.Destinations {
		for _, h := range d.MX {
			mine["mx "+h] = true
		}
		for _, h := range d.Domains {
			mine["domain "+h] = true
		}
	}
	index := map[string]int{}
	for _, d := range shipped.Destinations {
		d.MX = slices.DeleteFunc(slices.Clone(d.MX), func(h string) bool { return mine["mx "+h] })
		d.Domains = slices.DeleteFunc(slices.Clone(d.Domains), func(h string) bool { return mine["domain "+h] })
		index[d.Name] = len(out.Destinations)
		out.Destinations = append(out.Destinations, d)
	}
	for _, d := range ours.Destinations {
		i, there := index[d.Name]
		if !there {
			out.Destinations = append(out.Destinations, d)
			continue
		}
		o := &out.Destinations[i]
		o.MX, o.Domains = append(o.MX, d.MX...), append(o.Domains, d.Domains...)
		o.Limits = append(slices.Clone(o.Limits), d.Limits...)
		o.Separate = o.Separate || d.Separate
	}
	return out
}
