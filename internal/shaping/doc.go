// Package shaping says how fast mail may go where, and reacts to what the receivers
// say: which provider a destination belongs to, the limits that hold for it, and what a
// reply sets off (slow down, back off, suspend, bounce). The queue asks it before each
// attempt and tells it each outcome. It opens nothing: time is passed in.
package shaping
