//go:build postern_both

package policy

import (
	"fmt"
	"reflect"
)

// checked makes Eval and Early ask twice, with the index and without, and panic where
// the answers differ. The tests of every package can be run so:
// go test -tags postern_both ./...
const checked = true

func (p *Program) checkEval(f *Facts, d *Decision, trace Trace) {
	if f.read != nil && f.read.index == p.index && f.read.content == f.Content {
		again := *f
		p.Read(&again)
		if !reflect.DeepEqual(f.read, again.read) {
			panic(fmt.Sprintf("policy: facts were changed after Read: %+v", *f))
		}
	}
	var plain Decision
	every := p.eval(f, &plain, true)
	var applied Trace
	for _, s := range every {
		if s.Result != No {
			applied = append(applied, s)
		}
	}
	if !reflect.DeepEqual(*d, plain) || !reflect.DeepEqual(trace, applied) {
		panic(fmt.Sprintf("policy: the index says %+v %v, the plain list %+v %v, for %+v", *d, trace, plain, applied, *f))
	}
}

func (p *Program) checkEarly(f *Facts, d *Decision, decided bool) {
	plain, also := p.early(f, true)
	if also != decided || !reflect.DeepEqual(*d, plain) {
		panic(fmt.Sprintf("policy: the index says %v %+v early, the plain list %v %+v, for %+v", decided, *d, also, plain, *f))
	}
}
