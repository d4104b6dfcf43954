// Package spool keeps accepted messages, and the outbox of ledger events, until they
// are dealt with. It is an append log of preallocated segments: one commit makes a
// message and its ledger events durable together, and one fdatasync serves all
// commits that wait at that moment. Large bodies stand in files of their own, named
// by the log. What a crash tore off is found by checksum and set aside.
package spool
