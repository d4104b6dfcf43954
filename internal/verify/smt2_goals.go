package verify

import (
	"fmt"

	"postern.dev/postern/internal/policy"
)

// goals are the ways in which a claim can be broken by a message of the scene.
func (w *script) goals() (out []goal) {
	switch w.sc.origin {
	case policy.Stranger:
		for i := range w.p.Filters {
			f := &w.p.Filters[i]
			if g := w.relays(i); g != "" {
				out = append(out, goal{fmt.Sprintf("%s %s", RelayForStrangers, f.Name), g})
			}
			if f.Then != nil && f.Then.Kind == policy.ThenBounce {
				out = append(out, goal{fmt.Sprintf("%s %s", Backscatter, f.Name), fmt.Sprintf("(and live-%d if-%d (not (= sender.domain \"\")))", i, i)})
			}
		}
		out = append(out, w.hands("strangers")...)
	case policy.Inside:
		if w.sc.host.Resends {
			out = append(out, w.hands(w.sc.host.Name)...)
			for i := range w.p.Filters {
				if g := w.relays(i); g != "" {
					out = append(out, goal{fmt.Sprintf("%s %s by %s", RelayByInside, w.sc.host.Name, w.p.Filters[i].Name), g})
				}
			}
		}
	case policy.Customer:
		for _, c := range w.p.Topology.Customers {
			own := w.matches(c.Senders, "sender.local", "sender.domain")
			out = append(out, goal{fmt.Sprintf("%s %s", SenderBinding, c.Name),
				"(and (= customer " + smtText(c.Name) + ") (not (= sender.domain \"\")) (not " + own + "))"})
		}
	}
	for i := range w.p.Asserts {
		out = append(out, goal{fmt.Sprintf("%s %s of %s", AssertHolds, w.p.Asserts[i].Name, w.sc), w.breaks(w.p.Asserts[i].Always)})
	}
	return out
}

// relays is "filter i hands a message to the outside", "" where it never does.
func (w *script) relays(i int) string {
	f := &w.p.Filters[i]
	var ways []string
	for _, a := range f.Do {
		if a.Kind == policy.DoCopy && w.p.InsideFor(a.Rcpt) == "" && !w.p.Topology.DeclaredSink(a.Rcpt) {
			ways = append(ways, w.goesOut(i))
		}
	}
	if f.Then != nil && f.Then.Kind == policy.ThenDeliver {
		ways = append(ways, "(not "+w.matches(insidePatterns(w.p.Topology), w.after[i].local, w.after[i].domain)+")")
	}
	if len(ways) == 0 {
		return ""
	}
	return fmt.Sprintf("(and live-%d if-%d %s)", i, i, smtOr(ways))
}

// hands is, for each other inside host that resends, "a message comes to it".
func (w *script) hands(from string) (out []goal) {
	for k := range w.p.Topology.Inside {
		h := &w.p.Topology.Inside[k]
		if !h.Resends || h.Name == from || !h.Address.IsValid() {
			continue
		}
		var ways []string
		for i := range w.p.Filters {
			f := &w.p.Filters[i]
			for _, a := range f.Do {
				if a.Kind == policy.DoCopy && w.p.InsideFor(a.Rcpt) == h.Name {
					ways = append(ways, fmt.Sprintf("(and live-%d if-%d %s)", i, i, w.goesOut(i)))
				}
			}
			if f.Then != nil && f.Then.Kind == policy.ThenDeliver {
				ways = append(ways, fmt.Sprintf("(and live-%d if-%d %s)", i, i, w.toHost(h, w.after[i])))
			}
		}
		out = append(out, goal{fmt.Sprintf("%s %s to %s", RelayByInside, from, h.Name), smtOr(ways)})
	}
	return out
}

// goesOut is when a copy that filter i makes is sent: a final filter from there on
// takes the message.
func (w *script) goesOut(i int) string {
	var fs []string
	for k := i; k < len(w.p.Filters); k++ {
		if t := w.p.Filters[k].Then; t != nil && accepts(t.Kind, w.sc.origin) {
			fs = append(fs, fmt.Sprintf("(and live-%d if-%d)", k, k))
		}
	}
	return smtOr(fs)
}

// toHost is "h is the inside host of the recipient's domain": an exact domain goes
// before a suffix, and a longer suffix before a shorter one.
func (w *script) toHost(h *policy.InsideHost, at smtState) string {
	var fs []string
	for _, d := range h.Domains {
		var nearer []policy.Pattern
		for i := range w.p.Topology.Inside {
			for _, o := range w.p.Topology.Inside[i].Domains {
				if w.p.Topology.Inside[i].Name != h.Name && d.Kind == policy.MatchSuffix && (o.Kind == policy.MatchDomain || len(o.Domain) > len(d.Domain)) {
					nearer = append(nearer, o)
				}
			}
		}
		f := w.matches([]policy.Pattern{d}, at.local, at.domain)
		if len(nearer) > 0 {
			f = "(and " + f + " (not " + w.matches(nearer, at.local, at.domain) + "))"
		}
		fs = append(fs, f)
	}
	return smtOr(fs)
}

// smtDecision is a decision as an assert reads it.
type smtDecision struct{ disposition, filter, pool, inside string }

// breaks is "a message is decided so that x does not hold": by one of the final
// filters, or by default.
func (w *script) breaks(x policy.Expr) string {
	var fs []string
	for i := range w.p.Filters {
		if t := w.p.Filters[i].Then; t != nil {
			fs = append(fs, fmt.Sprintf("(and live-%d if-%d (not %s))", i, i, w.decided(x, t, w.p.Filters[i].Name, w.after[i])))
		}
	}
	end := len(w.p.Filters)
	fs = append(fs, fmt.Sprintf("(and live-%d (not %s))", end, w.decided(x, &policy.Final{Kind: policy.ThenSkip}, "", w.after[end])))
	return smtOr(fs)
}

// decided reads a condition past a decision.
func (w *script) decided(x policy.Expr, t *policy.Final, filter string, at smtState) string {
	d := &smtDecision{filter: smtText(filter), pool: at.pool, inside: `""`}
	if d.pool == "" {
		d.pool = `""`
	}
	disposition := map[policy.FinalKind]policy.Disposition{policy.ThenDeliver: policy.Deliver, policy.ThenReject: policy.Refused,
		policy.ThenDrop: policy.Drop, policy.ThenHold: policy.Hold, policy.ThenBounce: policy.Bounce, policy.ThenSkip: policy.Refused}[t.Kind]
	if t.Kind == policy.ThenSkip && w.sc.origin == policy.Customer {
		disposition = policy.Deliver
	}
	if disposition == policy.Deliver {
		d.pool, d.inside = w.over(t.Pool, at), w.into(at)
	}
	d.disposition = smtText(string(disposition))
	rl, rd, tags := w.rl, w.rd, w.tags
	w.rl, w.rd, w.tags, w.decision = at.local, at.domain, at.tags, d
	defer func() { w.rl, w.rd, w.tags, w.decision = rl, rd, tags, nil }()
	return w.cond(x)
}

// over is the pool that a delivery takes: its own, else the last one set, else the
// customer's, else the default.
func (w *script) over(own string, at smtState) string {
	if own != "" {
		return smtText(own)
	}
	base := smtText(w.p.Topology.DefaultPool)
	if w.sc.origin == policy.Customer {
		for _, c := range w.p.Topology.Customers {
			if c.Pool != "" {
				base = "(ite (= customer " + smtText(c.Name) + ") " + smtText(c.Pool) + " " + base + ")"
			}
		}
	}
	if at.pool == "" {
		return base
	}
	return "(ite (= " + at.pool + ` "") ` + base + " " + at.pool + ")"
}

// into is the inside host that a delivery goes to, "" for the outside.
func (w *script) into(at smtState) string {
	out := `""`
	for i := range w.p.Topology.Inside {
		h := &w.p.Topology.Inside[i]
		out = "(ite " + w.toHost(h, at) + " " + smtText(h.Name) + " " + out + ")"
	}
	return out
}

func (w *script) matches(ps []policy.Pattern, local, domain string) string {
	var fs []string
	for _, p := range ps {
		switch p.Kind {
		case policy.MatchAll:
			return "true"
		case policy.MatchDomain:
			fs = append(fs, "(= "+domain+" "+smtText(p.Domain)+")")
		case policy.MatchSuffix:
			fs = append(fs, fmt.Sprintf("(and %s (not (= %s %s)))", smtEnds(domain, p.Domain), domain, smtText(p.Domain)))
		case policy.MatchAddress:
			fs = append(fs, smtIs(p.Address, local, domain))
		}
	}
	return smtOr(fs)
}
