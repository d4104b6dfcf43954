// Package stamp mints and verifies the token that says "ours": it stands in what
// the gateway sends for an authorised injector, in the return path, the Message-ID
// and some headers, and comes back in complaints and bounces. It is pure.
package stamp
