// Package lang decides conjunctions of conditions on one string: is there a string
// on which these regular expressions, globs and comparisons hold and those do not?
// The prover asks it whether an assignment that treats the conditions on a header or
// a domain as independent can come true, and for the string that goes into a witness.
//
// The answer None is a proof. Each condition becomes a deterministic automaton that
// is built as far as it is walked; the product of all is searched in order of length.
// The letters of the alphabet are strings: one character for each class of characters
// that some condition can tell apart, and one octet that is not UTF-8 (Go's regexp
// reads each such octet as U+FFFD). That the letters stand for every string, however
// broken its encoding, is argued at [alphabet].
package lang
