// Package policy is the filter language and its one meaning: the syntax tree, its
// types, the Program that a list of filters becomes, and [Eval], which decides what
// happens to one recipient of one message. The prover reuses this tree and asks this
// code; there is no second semantics. The package is pure: values in, values out; no
// files, no sockets, no clock. Hashes have a random seed, as a map's have; no decision
// depends on it.
package policy
