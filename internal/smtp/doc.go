// Package smtp is the vocabulary of RFC 5321 and its wire: paths, replies,
// envelopes, a server that drives a [Session] over connections it is given, and a
// client for one connection. It never dials or listens, and knows no policy.
//
// Implemented: RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 2034 (ENHANCEDSTATUSCODES),
// RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 3207 (STARTTLS), RFC 3461 (DSN),
// RFC 4954 (AUTH) with RFC 4616 (PLAIN) and RFC 7677 (SCRAM-SHA-256), RFC 6152
// (8BITMIME), RFC 6531 (SMTPUTF8).
package smtp
