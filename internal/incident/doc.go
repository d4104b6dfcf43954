// Package incident turns a verdict of leaked or bypassed, or a trip of the relay
// guard, into something that can be dealt with: an Incident with its cause, what is
// held because of it, what it did, and the advisory about it.
package incident
