package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// Waiver is the operator's word that a finding of the prover shall not keep the
// policy from loading, with the reason and an end.
type Waiver struct {
	Pos    policy.Pos  `json:"pos"`
	Code   verify.Code `json:"code"`
	Filter string      `json:"filter,omitempty"` // "": whatever filter is to blame
	Reason string      `json:"reason"`
	Until  time.Time   `json:"until"` // it counts before that moment, the end of the day that the file names
}

// Counts reports whether the waiver has not expired at a time.
func (w *Waiver) Counts(now time.Time) bool { return now.Before(w.Until) }

// maxWaiver is how far ahead a waiver may end.
const maxWaiver = 400 * 24 * time.Hour

func waiverAttributes() []string { return []string{"filter", "reason", "until"} }

// waive reads a waiver. The name of its filter is looked at when all are known.
func (l *loader) waive(hb *hclsyntax.Block) {
	b := l.openBlock(hb, waiverAttributes(), nil)
	b.require("reason", "until")
	w := Waiver{Pos: position(hb.DefRange()), Code: verify.Code(b.label), Filter: b.str("filter", ""), Reason: strings.TrimSpace(b.str("reason", ""))}
	known := l.waivable(w.Code, hb.LabelRanges[0])
	if a := b.attr("reason"); a != nil && w.Reason == "" {
		l.add(a.Expr.Range(), "a waiver without a reason", "say who accepts this, and why: it is logged at every start")
	}
	if a := b.attr("until"); a != nil {
		w.Until = b.day(a.Expr, "until")
	}
	if a := b.attr("filter"); a != nil {
		l.waived = append(l.waived, item{w.Filter, a.Expr.Range()})
	}
	key := "waive " + b.label + " " + w.Filter
	if first, twice := l.names[key]; twice {
		l.add(hb.DefRange(), fmt.Sprintf("second waiver of %s for the same; the first is at %s", b.label, position(first)), "")
		return
	}
	l.names[key] = hb.DefRange()
	if known {
		l.cfg.Waivers = append(l.cfg.Waivers, w)
	}
}

// waivable notes a code that is none, or that needs no waiver.
func (l *loader) waivable(c verify.Code, where hcl.Range) bool {
	var names []string
	for _, k := range verify.Codes() {
		if k == c {
			return true
		}
		names = append(names, string(k))
	}
	for _, k := range verify.Warnings() {
		if k == c {
			l.add(where, fmt.Sprintf("%s is a warning: it keeps no policy from loading", c), "take the waiver out")
			return false
		}
	}
	hint := didYouMean(string(c), names)
	if hint == "" {
		hint = "one of " + strings.Join(names, ", ")
	}
	l.add(where, fmt.Sprintf("unknown code %q", c), hint)
	return false
}

// day reads a date and gives the end of that day in UTC. One that has passed, or is
// too far ahead, is a fault.
func (b *block) day(x hclsyntax.Expression, name string) time.Time {
	s, ok := b.text(x)
	if !ok {
		return time.Time{}
	}
	d, err := time.Parse(time.DateOnly, s)
	if err != nil {
		b.l.add(x.Range(), fmt.Sprintf("%s: %q is not a date", name, s), `as "2027-01-31"`)
		return time.Time{}
	}
	end, now := d.AddDate(0, 0, 1), b.l.now()
	switch {
	case b.l.anyDay:
	case !now.Before(end):
		b.l.add(x.Range(), fmt.Sprintf("the waiver ended on %s, in the past", s), "repair what it waived; or decide anew, with a new date")
	case end.Sub(now) > maxWaiver:
		b.l.add(x.Range(), fmt.Sprintf("the waiver would last until %s, more than 400 days ahead", s), "a waiver is looked at again once a year")
	}
	return end
}

// waivedFilters checks the names of the filters that waivers are for.
func (l *loader) waivedFilters() {
	names := make([]string, 0, len(l.filters))
	for i := range l.filters {
		names = append(names, l.filters[i].Name)
	}
	for _, w := range l.waived {
		if !has(names, w.text) {
			l.add(w.where, fmt.Sprintf("unknown filter %q", w.text), didYouMean(w.text, names))
		}
	}
}
