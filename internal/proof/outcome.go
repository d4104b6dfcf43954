package proof

import (
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/verify"
)

// Outcome is a result with the operator's waivers applied.
type Outcome struct {
	Result *verify.Result
	// Status is that of the policy when waived findings do not count.
	Status verify.Status
	// Waived has, for each finding, the waiver that covers it, or nil.
	Waived []*config.Waiver
}

// Apply says which findings the waivers cover at a time, and what status is left. An
// expired waiver covers nothing. A claim is closed by waivers only if they cover
// every one of its findings; what the prover left undecided without a finding stays
// so, but where the only cause were waived gaps (PV008).
func Apply(r *verify.Result, ws []config.Waiver, now time.Time) *Outcome {
	o := &Outcome{Result: r, Status: verify.Closed, Waived: make([]*config.Waiver, len(r.Findings))}
	covered, bare := map[verify.Code]int{}, map[verify.Code]int{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Severity != verify.Fault {
			continue
		}
		if o.Waived[i] = cover(ws, f, now); o.Waived[i] != nil {
			covered[f.Code]++
		} else {
			bare[f.Code]++
		}
	}
	for i := range r.Claims {
		c := &r.Claims[i]
		switch {
		case c.Status == verify.Closed, covered[c.Code] > 0 && bare[c.Code] == 0:
		case c.Status == verify.Unknown && covered[c.Code]+bare[c.Code] == 0 && covered[verify.Unmodelled] > 0 && bare[verify.Unmodelled] == 0:
		default:
			o.Status = worse(o.Status, c.Status)
		}
	}
	for i := range r.Findings { // a fault keeps the policy out, whatever its claim says
		if f := &r.Findings[i]; f.Severity == verify.Fault && o.Waived[i] == nil {
			o.Status = worse(o.Status, f.Status)
		}
	}
	return o
}

// worse gives the status of two together; what is neither open nor closed is not
// known.
func worse(a, b verify.Status) verify.Status {
	switch {
	case a == verify.Open || b == verify.Open:
		return verify.Open
	case a == verify.Closed && b == verify.Closed:
		return verify.Closed
	}
	return verify.Unknown
}

func cover(ws []config.Waiver, f *verify.Finding, now time.Time) *config.Waiver {
	for i := range ws {
		w := &ws[i]
		if w.Code == f.Code && (w.Filter == "" || w.Filter == f.Filter) && w.Counts(now) {
			return w
		}
	}
	return nil
}

// Count tells the findings that count: faults, those of them that are waived, and
// warnings.
func (o *Outcome) Count() (faults, waived, warnings int) {
	for i := range o.Result.Findings {
		switch {
		case o.Result.Findings[i].Severity != verify.Fault:
			warnings++
		case o.Waived[i] != nil:
			waived++
		default:
			faults++
		}
	}
	return faults, waived, warnings
}

// Idle lists the waivers that cover no finding at a time: they can go.
func (o *Outcome) Idle(ws []config.Waiver) []*config.Waiver {
	var out []*config.Waiver
	for i := range ws {
		used := false
		for _, w := range o.Waived {
			used = used || w == &ws[i]
		}
		if !used {
			out = append(out, &ws[i])
		}
	}
	return out
}
