// Package dialect is what the readers of other servers' configurations have in common:
// a Model, which is what such a configuration may relay, in the terms of the prover, and
// what of it could not be modelled. Each reader is a package below this one. All of them
// are pure: files come through a function, models go out.
package dialect

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"postern.dev/postern/internal/policy"
)

// ErrNotFound is what Read gives for a file that is not there.
var ErrNotFound = errors.New("no such file")

// Read gives a file of a configuration, by the name that the configuration has for it.
type Read func(name string) ([]byte, error)

// GapHeader begins the name of the header field that stands for a gap in Maybe: its
// number, from 1, follows. No condition of a real configuration asks for it.
const GapHeader = "x-unmodelled-"

// Header fields that stand for what a sender does, and that no message has: CompanionHeader
// holds the other recipients that he names; ChosenHeader and a number, from 1, stand for
// one of a service's Choices.
const (
	CompanionHeader = "x-other-recipient"
	ChosenHeader    = "x-chosen-"
)

// Gap is a part of a configuration that could not be modelled: what it is, where, and
// why. It is taken to permit whatever it could.
type Gap struct {
	Pos  policy.Pos
	Text string
	Why  string
}

// Service is one way in: a listener with what decides about the mail that comes there.
type Service struct {
	Name string
	Pos  policy.Pos
	// Sure has only what is certain to permit; what it relays, the server relays.
	Sure *policy.Program
	// Maybe permits all that a gap could, too; what it does not relay, the server does not.
	// Nil where there is no gap that could permit anything.
	Maybe *policy.Program
	Gaps  []Gap // by the numbers that Maybe's conditions have for them
	// Choices are conditions that the sender makes true as he likes, in words.
	Choices []string
	// Repairs gives changes that may close the service, the smallest first. Nil: none are known.
	Repairs iter.Seq[Repair]
	// Note says why nobody outside reaches the service, where that is so; then there are
	// no programs.
	Note string
}

// Repair is a change of a configuration, in its own words, and what the service then is.
type Repair struct {
	Text    []string
	Service Service
}

// Model is a configuration in the terms of the prover.
type Model struct {
	Dialect     string
	Services    []Service
	Gaps        []Gap
	Notes       []Gap    // what to look at although it relays nothing: filters that are skipped, backscatter
	Assumptions []string // about the world outside, one line each
}

// Fault is something wrong with a configuration, at its place.
type Fault struct {
	Pos     policy.Pos
	Message string // lower case
}

// Error gives "file:line:column: message".
func (f Fault) Error() string { return f.Pos.String() + ": " + f.Message }

// Faults are all faults of a configuration. As an error it reads as their lines.
type Faults []Fault

// Error gives a fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Program builds a program of filters that a reader made. That one does not build is a
// defect of the reader; it is told as a fault, so that nothing is called closed.
func Program(filters []policy.Filter, t *policy.Topology) (*policy.Program, error) {
	p, problems := policy.New(filters, nil, t)
	if p == nil {
		for _, pr := range problems {
			if !pr.Warning {
				return nil, fmt.Errorf("model %s: %s", pr.Pos, pr.Message)
			}
		}
		return nil, errors.New("model: no program")
	}
	return p, nil
}
