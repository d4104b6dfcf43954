// Package proof joins what the prover found with the configuration that it is about:
// which findings the operator has waived, what to print for people and machines, and
// how a repair changes the files. It writes to what it is given and nowhere else.
package proof
