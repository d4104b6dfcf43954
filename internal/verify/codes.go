package verify

// Codes lists the claims, which a finding of keeps a policy from loading, in the
// order of their codes.
func Codes() []Code { return claims() }

// Warnings lists the codes of what is only warned of.
func Warnings() []Code {
	return []Code{DeadFilter, ShadowedFilter, RedundantOne, OrderMatters, NeverTrue, LooseRegexp}
}

// Title is a claim in words.
func (c Code) Title() string { return title(c) }
