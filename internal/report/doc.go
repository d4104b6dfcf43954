// Package report answers the question that nobody else asks of a complaint or a
// bounce: did we send this? It gathers evidence (stamps, our trace fields, look-ups
// in the ledger), and gives a Verdict with the keys that decided it.
package report
