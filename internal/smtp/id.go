package smtp

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"time"
)

// IDSize is the length of an ID in bytes.
const IDSize = 12

// ID identifies one accepted message for ever: the "id" clause of the Received
// field that the gateway adds (RFC 5321, section 4.4), the key of the spool and of
// the ledger, and a part of every stamp. Its first six bytes are the time of
// acceptance in milliseconds since 1970, so IDs sort by time; the other six are
// random. The zero ID names no message.
type ID [IDSize]byte

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID makes the ID of a message accepted at t. Of random only the first six
// bytes are used; the caller draws them from its injected source.
func NewID(t time.Time, random [6]byte) ID {
	var id ID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	copy(id[6:], random[:])
	return id
}

// ParseID reads what String wrote. It accepts lower-case letters only, so that an
// ID has one spelling.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != idEncoding.EncodedLen(IDSize) {
		return id, errors.New("parse message id: wrong length")
	}
	b, err := idEncoding.DecodeString(s)
	if err != nil {
		return id, errors.New("parse message id: not base32")
	}
	copy(id[:], b)
	if id.String() != s {
		return ID{}, errors.New("parse message id: not canonical")
	}
	return id, nil
}

// String gives 20 characters of lower-case base32 (Crockford's alphabet).
func (id ID) String() string { return idEncoding.EncodeToString(id[:]) }

// Time is the time of acceptance, to the millisecond, in UTC.
func (id ID) Time() time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}

// IsZero reports whether id names no message.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText makes an ID readable in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// AppendText puts what MarshalText gives behind b; it cannot fail.
func (id ID) AppendText(b []byte) ([]byte, error) { return idEncoding.AppendEncode(b, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
