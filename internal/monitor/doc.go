// Package monitor watches rates: complaints by provider, customer, campaign, pool and
// source against what the mail that went out lets expect, reporters who fall silent or
// whom we cannot read any more, DMARC aggregate counts against the ledger's, and refusals
// of mail that no customer sent. It is fed with ledger events and with the time, opens
// nothing, and gives alarms.
//
// What is expected of an hour is made from what was sent before: sum over the hours of
// sending of (messages x share that complain x share of complaints that take so long).
// Alarms come from a CUSUM of log-likelihood ratios, whose mean time to a false alarm is
// at least exp(threshold) hours whatever the rates (Lorden 1971).
package monitor
