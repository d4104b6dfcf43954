package stamp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/fnv"

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

// sealer makes the codes of one key: HMAC-SHA-256 (RFC 2104) with the two padded
// keys worked out beforehand, so that a code costs four blocks and no allocation.
type sealer struct {
	id           uint8
	inner, outer [sha256.BlockSize]byte
}

func newSealer(k Key) *sealer {
	s := &sealer{id: k.ID}
	copy(s.inner[:], k.Secret)
	copy(s.outer[:], k.Secret)
	for i := range s.inner {
		s.inner[i] ^= 0x36
		s.outer[i] ^= 0x5c
	}
	return s
}

// seal writes the truncated code of a stamp's body behind it.
func (s *sealer) seal(raw *[rawSize]byte) {
	var in [sha256.BlockSize + bodySize]byte
	copy(in[:], s.inner[:])
	copy(in[sha256.BlockSize:], raw[:bodySize])
	sum := sha256.Sum256(in[:])
	var out [sha256.BlockSize + sha256.Size]byte
	copy(out[:], s.outer[:])
	copy(out[sha256.BlockSize:], sum[:])
	sum = sha256.Sum256(out[:])
	copy(raw[bodySize:], sum[:macSize])
}

// Mint makes the stamp of a token with the newest live key: Length characters in
// lower case.
func (r *Ring) Mint(t Token) string {
	var raw [rawSize]byte
	raw[0] = version<<5 | r.current.id
	copy(raw[1:], t.Message[:])
	binary.BigEndian.PutUint32(raw[1+smtp.IDSize:], t.Customer)
	binary.BigEndian.PutUint16(raw[5+smtp.IDSize:], t.Recipient)
	r.current.seal(&raw)
	var text [Length]byte
	encoding.Encode(text[:], raw[:])
	return string(text[:])
}

// Verify reads a stamp, in either case, and checks its code in constant time. The
// error is ErrNotStamp, ErrUnknownKey or ErrForged.
func (r *Ring) Verify(s string) (Token, error) {
	raw, ok := decode(s)
	if !ok {
		return Token{}, ErrNotStamp
	}
	k := r.byID[raw[0]&(maxKeys-1)]
	if k == nil {
		return Token{}, ErrUnknownKey
	}
	want := raw
	k.seal(&want)
	if subtle.ConstantTimeCompare(want[bodySize:], raw[bodySize:]) != 1 {
		return Token{}, ErrForged
	}
	var t Token
	copy(t.Message[:], raw[1:])
	t.Customer = binary.BigEndian.Uint32(raw[1+smtp.IDSize:])
	t.Recipient = binary.BigEndian.Uint16(raw[5+smtp.IDSize:])
	return t, nil
}

// decode reads the characters of a stamp. The two spare bits of the last one must be
// zero, so that a stamp has one spelling but for case.
func decode(s string) (raw [rawSize]byte, ok bool) {
	if len(s) != Length {
		return raw, false
	}
	var text [Length]byte
	for i := range Length {
		text[i] = lower(s[i])
	}
	var last [5]byte
	if n, err := encoding.Decode(raw[:], text[:]); err != nil || n != rawSize {
		return raw, false
	}
	if raw[0]>>5 != version {
		return raw, false
	}
	encoding.Encode(last[:2], raw[rawSize-1:])
	return raw, last[1] == text[Length-1]
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
