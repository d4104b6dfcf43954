// Package watch fills the ledger from what other mail servers log: it follows their
// files through rotation and truncation, makes rows of what history reads in them, and
// commits both the rows and the place in the file in one record, so that each line
// counts once whatever ends the process.
package watch
