// Package dkim signs messages (RFC 6376, RFC 8463) in one pass: a Body takes the hash
// of the body while it comes in, and a Signer then needs the header only. Keys and
// records are read and written here; files and the DNS are the caller's.
package dkim
