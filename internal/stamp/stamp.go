package stamp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"strings"

	"postern.dev/postern/internal/smtp"
)

// Sizes of a stamp's parts in bytes.
const (
	macSize  = 12
	bodySize = 1 + smtp.IDSize + 4 + 2
	rawSize  = bodySize + macSize // 31
)

// Length is the number of characters of a stamp.
const Length = 50

// NoRecipient is the recipient tag of a stamp that stands for the whole message.
const NoRecipient = 0xFFFF

var (
	// ErrNotStamp tells that a string does not have the shape of a stamp.
	ErrNotStamp = errors.New("not a stamp")
	// ErrForged tells that the shape is right and the code is not ours.
	ErrForged = errors.New("forged stamp")
	// ErrUnknownKey tells that the stamp names a key that the ring does not hold.
	ErrUnknownKey = errors.New("stamp of an unknown key")
)

var encoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Token is what a stamp says.
type Token struct {
	Message   smtp.ID
	Customer  uint32 // CustomerTag of the injector's customer
	Recipient uint16 // index in the envelope, or NoRecipient
}

// CustomerTag gives the tag of a customer's name: a hash, so that stamps need no
// register of customers.
func CustomerTag(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

func seal(k *Key, body []byte) []byte {
	m := hmac.New(sha256.New, k.Secret)
	m.Write(body)
	return m.Sum(nil)[:macSize]
}

// Mint makes the stamp of a token with the newest live key.
func (r *Ring) Mint(t Token) string {
	k := r.current
	raw := make([]byte, bodySize, rawSize)
	raw[0] = version<<5 | k.ID
	copy(raw[1:], t.Message[:])
	binary.BigEndian.PutUint32(raw[1+smtp.IDSize:], t.Customer)
	binary.BigEndian.PutUint16(raw[5+smtp.IDSize:], t.Recipient)
	return encoding.EncodeToString(append(raw, seal(k, raw)...))
}

// Verify reads a stamp and checks its code in constant time.
func (r *Ring) Verify(s string) (Token, error) {
	if len(s) != Length {
		return Token{}, ErrNotStamp
	}
	s = strings.ToLower(s)
	raw, err := encoding.DecodeString(s)
	if err != nil || len(raw) != rawSize || raw[0]>>5 != version || encoding.EncodeToString(raw) != s {
		return Token{}, ErrNotStamp // the last comparison: the two spare bits have one spelling
	}
	k := r.byID[raw[0]&31]
	if k == nil {
		return Token{}, ErrUnknownKey
	}
	if !hmac.Equal(seal(k, raw[:bodySize]), raw[bodySize:]) {
		return Token{}, ErrForged
	}
	var t Token
	copy(t.Message[:], raw[1:])
	t.Customer = binary.BigEndian.Uint32(raw[1+smtp.IDSize:])
	t.Recipient = binary.BigEndian.Uint16(raw[5+smtp.IDSize:])
	return t, nil
}
