// Package egress makes one delivery attempt: where the mail of a domain goes (MX, RFC
// 5321 section 5.1; null MX, RFC 7505), a connection from a given source address,
// opportunistic TLS, one transaction, and what became of it.
package egress
