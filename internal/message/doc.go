// Package message reads Internet messages as they really come: RFC 5322 headers and
// MIME, leniently and within bounds, and the reports built on them: complaints (ARF, RFC
// 5965, Microsoft's older shape, XARF, the JSON of a provider), delivery status
// notifications (RFC 3464), which it also builds, and bounces that are words alone. It
// is pure.
package message
