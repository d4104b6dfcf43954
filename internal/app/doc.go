// Package app is the only room that knows everything: it builds a node from a
// configuration, starts it, loads a new configuration into it while it runs, and
// takes it down in the reverse order. New makes everything and serves nothing; what a
// failed New or Start has built is taken down by the same stack that Stop uses.
package app
