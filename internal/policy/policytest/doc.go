// Package policytest grows small random policies and the transactions that tell their
// filters apart, for tests that compare two ways to the same answer: the index with
// the plain loop, the prover with brute force. Everything follows from the source of
// randomness that it is given, so that a seed is enough to see a failure again.
package policytest
