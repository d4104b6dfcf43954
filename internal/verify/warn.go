package verify

func (v *prover) warnings(r *report) {}
