// Package demo plays what happened in 2008 in the lab's small Internet: a sender whose
// filters let a stranger relay to one destination, how the first complaint about mail
// that nobody sent opens an incident, what the leak did, and how it is repaired while
// the customers' mail flows on.
package demo
