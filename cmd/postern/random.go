package main

import (
	"crypto/rand"
	"io"
)

// randomSource is where secrets come from.
func randomSource() io.Reader { return rand.Reader }
