// Package message reads Internet messages as they really come: RFC 5322 headers and
// MIME, leniently and within bounds, and the reports built on them: complaints
// (ARF, RFC 5965, and Microsoft's older shape) and delivery status notifications
// (RFC 3464), which it also builds. It is pure.
package message
