// Package bounce reads what a receiver said when it refused mail: which category the
// refusal falls into, whether the address itself is no good, and whether it should be
// kept from being mailed again. It is pure.
//
// The words of the reply decide before its enhanced status code (RFC 3463), and that
// before the reply code (RFC 5321): receivers choose their words with more care than
// their numbers. What an address in a reply spells decides nothing.
package bounce
