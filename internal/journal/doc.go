// Package journal writes the ledger's events to files that machines read: JSON lines,
// or accounting records as PowerMTA's users know them. Each file follows the spool's
// outbox from a position of its own, which is durable only after the lines before it
// are; what was written since is found at the next start by making the same lines
// again, so that every event stands in the file once, in order, whatever happened to
// the node in between.
package journal
