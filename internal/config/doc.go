// Package config reads postern.hcl: it reports every fault of every file in one run,
// with its position and the usual remedy, and builds from what is sound the
// policy's Program and Topology and the settings of the node. Nothing that cannot be
// resolved is ever skipped.
package config
