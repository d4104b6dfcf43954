// Package verify proves what a policy may relay, before it is loaded. It takes a
// Program with its Topology and gives Findings: each with a message that shows it,
// replayed through policy.Eval, the filters that would have stopped it, and the
// smallest change that does. It is pure: no files, sockets, clock or log.
package verify
