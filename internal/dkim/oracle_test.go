package dkim_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"sync"
)

// oracleKey is a key for go-msgauth, which wants a crypto.Signer.
var oracleKey = sync.OnceValue(func() crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// ecKey is a private key of a kind that DKIM has no use for.
const ecKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdUTTUcztRU5Ryys2
GE6P6iW5YHfJxeshixvPXxYg0D+hRANCAAQb++VJAH1XiGUpm6YPeAKUPic20uVT
2ffYLvirlvvNdSaMFVl5v04+zipTtCf9QfyDVF0wptqW3Uq5uV+wL5Ab
-----END PRIVATE KEY-----
`
