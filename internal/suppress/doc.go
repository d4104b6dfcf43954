// Package suppress keeps the addresses that are not to be mailed: for one customer or for
// all, with why, since when, until when and what said so. It holds a hundred million of
// them on disk and a bounded part of them in memory, and answers at RCPT and at hand-off.
//
// An address is looked up by a keyed hash of its normal form: the local part in lower
// case, since hardly a host tells them apart and a complaint must not be slipped past by
// a capital letter; the domain in lower-case A-labels (package policy). Whether the
// address itself is kept beside the hash is a setting. Nothing else is folded: tags
// behind "+" and dots are part of an address.
package suppress
