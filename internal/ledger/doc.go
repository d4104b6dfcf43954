// Package ledger remembers: every message, decision, hand-off, complaint and
// incident, for at least 400 days, with the look-ups that answer "who sent this,
// through what, and how much of it". Events reach it through the spool's outbox, in
// the order in which they were made durable; the store is an index over them that
// can lag, and never loses one.
package ledger
