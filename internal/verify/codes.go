package verify

// Codes lists the claims, in the order of their codes. A finding of one keeps a policy
// from loading.
func Codes() []Code { return claims() }

// Warnings lists the codes of what is only warned of.
func Warnings() []Code {
	return []Code{DeadFilter, ShadowedFilter, RedundantOne, OrderMatters, NeverTrue, LooseRegexp}
}

// Title is a claim, or a warning, in words.
func (c Code) Title() string {
	switch c {
	case DeadFilter:
		return "filter never applies"
	case ShadowedFilter:
		return "earlier filters take all that the filter would"
	case RedundantOne:
		return "without the filter every message has the same fate"
	case OrderMatters:
		return "two neighbours decide differently where both apply"
	case NeverTrue:
		return "condition that no message can fulfil"
	case LooseRegexp:
		return "expression that matches more than it seems to"
	}
	return title(c)
}
