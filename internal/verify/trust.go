package verify

func (v *prover) trust(r *report)    {}
func (v *prover) binding(r *report)  {}
func (v *prover) asserts(r *report)  {}
func (v *prover) readings(r *report) {}
func (v *prover) warnings(r *report) {}
