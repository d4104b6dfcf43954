// Package dmarc reads DMARC aggregate reports (RFC 7489, appendix C, and the namespace
// of its successor, urn:ietf:params:xml:ns:dmarc-2.0): XML, bare, packed or in a mail. It
// is pure. Failure reports are ARF and read by package message.
package dmarc
