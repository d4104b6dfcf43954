// Package gateway is the way in: listeners, sessions, and the one place where a
// message is accepted. A session gathers facts, asks the policy at RCPT and at the
// end of DATA, and answers 250 only after message and ledger entry are durable in
// one commit. It contains no relay rule of its own.
package gateway
