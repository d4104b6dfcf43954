package demo

import "fmt"

// Wrong says what did not go as it must, "" where all did.
func (r *Result) Wrong() string {
	i := &r.Incident
	switch {
	case i.OpenedAtComplaint != i.FirstLeaked:
		return fmt.Sprintf("the incident opened at complaint %d, the first leaked one was %d", i.OpenedAtComplaint, i.FirstLeaked)
	case i.Impact != r.StrangerDelivered:
		return fmt.Sprintf("impact counts %d, the providers %d", i.Impact, r.StrangerDelivered)
	case i.Filter != "aol-range":
		return fmt.Sprintf("the incident names filter %q", i.Filter)
	case r.WrongVerdicts > 0:
		return fmt.Sprintf("%d verdicts are wrong", r.WrongVerdicts)
	case r.HeldByContainment == 0:
		return "the containment held nothing"
	case r.AfterRepair > 0:
		return fmt.Sprintf("%d of the stranger's messages arrived after the repair", r.AfterRepair)
	case r.CustomerAfter == 0:
		return "no customer's mail arrived after the repair"
	}
	return ""
}
