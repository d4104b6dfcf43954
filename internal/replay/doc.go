// Package replay plays a witness of the prover over a socket: it starts a gateway with
// the policy on loopback, in a folder that goes away again, speaks the session, and
// looks whether the message arrives in the lab. Nothing leaves the machine.
package replay
