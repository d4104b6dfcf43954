package stamp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/smtp"
)

const (
	version  = 1  // upper three bits of the first octet
	maxKeys  = 32 // lower five bits
	keyBytes = 32
)

// Key is one secret of the ring.
type Key struct {
	ID      uint8 // 0 to 31
	Secret  []byte
	Created time.Time
	Retired bool // verifies, mints no more
}

// Ring is a set of keys. It never changes once made.
type Ring struct {
	keys    []Key
	byID    map[uint8]*Key
	current *Key
}

// NewRing makes a ring; the newest key that is not retired mints.
func NewRing(keys []Key) (*Ring, error) {
	r := &Ring{keys: append([]Key(nil), keys...), byID: map[uint8]*Key{}}
	for i := range r.keys {
		k := &r.keys[i]
		if k.ID >= maxKeys || len(k.Secret) != keyBytes {
			return nil, fmt.Errorf("key %d: an id below %d and a secret of %d bytes are wanted", k.ID, maxKeys, keyBytes)
		}
		if r.byID[k.ID] != nil {
			return nil, fmt.Errorf("key %d: stands twice", k.ID)
		}
		r.byID[k.ID] = k
		if !k.Retired && (r.current == nil || !k.Created.Before(r.current.Created)) {
			r.current = k
		}
	}
	if r.current == nil {
		return nil, errors.New("key ring: no key that mints")
	}
	return r, nil
}

// NewKey draws a key.
func NewKey(id uint8, created time.Time, random io.Reader) (Key, error) {
	k := Key{ID: id, Created: created.UTC().Truncate(time.Second), Secret: make([]byte, keyBytes)}
	_, err := io.ReadFull(random, k.Secret)
	return k, err
}

// Keys gives the keys, for listing.
func (r *Ring) Keys() []Key { return append([]Key(nil), r.keys...) }

// Rotate gives a ring with a new key that mints from now on. With all ids taken, the
// oldest key goes.
func (r *Ring) Rotate(now time.Time, random io.Reader) (*Ring, error) {
	keys := r.Keys()
	id := uint8(0)
	for id < maxKeys && r.byID[id] != nil {
		id++
	}
	if id == maxKeys {
		oldest := 0
		for i := range keys {
			if keys[i].Created.Before(keys[oldest].Created) {
				oldest = i
			}
		}
		id = keys[oldest].ID
		keys = append(keys[:oldest], keys[oldest+1:]...)
	}
	k, err := NewKey(id, now, random)
	if err != nil {
		return nil, err
	}
	return NewRing(append(keys, k))
}

// ParseKeys reads a key file: one key a line, "id created secret [retired]", the time
// in RFC 3339, the secret in hexadecimal; # begins a comment.
func ParseKeys(r io.Reader) (*Ring, error) {
	var keys []Key
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		k, err := parseKey(f)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, k)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	return NewRing(keys)
}

// parseKey never repeats the secret in an error.
func parseKey(f []string) (k Key, err error) {
	if len(f) < 3 || len(f) > 4 || (len(f) == 4 && f[3] != "retired") {
		return k, errors.New(`a key is "id created secret [retired]"`)
	}
	id, err := strconv.ParseUint(f[0], 10, 5)
	if err != nil {
		return k, fmt.Errorf("key id %q: 0 to %d", f[0], maxKeys-1)
	}
	k.ID, k.Retired = uint8(id), len(f) == 4
	if k.Created, err = time.Parse(time.RFC3339, f[1]); err != nil {
		return k, fmt.Errorf("key %d: time %q is not RFC 3339", id, f[1])
	}
	if k.Secret, err = hex.DecodeString(f[2]); err != nil || len(k.Secret) != keyBytes {
		return k, fmt.Errorf("key %d: the secret is not %d bytes in hexadecimal", id, keyBytes)
	}
	return k, nil
}

// Format gives what ParseKeys reads.
func (r *Ring) Format() []byte {
	var b bytes.Buffer
	b.WriteString("# Keys of stamps: id created secret [retired]. Keep this file to yourself and never lose it:\n# without it no complaint can be told from a forgery.\n")
	for i := range r.keys {
		k := &r.keys[i]
		fmt.Fprintf(&b, "%d %s %s", k.ID, k.Created.UTC().Format(time.RFC3339), hex.EncodeToString(k.Secret))
		if k.Retired {
			b.WriteString(" retired")
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func stampChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// maxFound bounds what Find gives.
const maxFound = 64

// Find gives the candidates in a text: runs of letters and digits as long as a stamp.
// Whether one is a stamp is for Verify to say.
func Find(text string) []string {
	var out []string
	start := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && stampChar(text[i]) {
			continue
		}
		if i-start == Length && len(out) < maxFound {
			out = append(out, strings.ToLower(text[start:i]))
		}
		start = i + 1
	}
	return out
}

// returnPrefix begins the local part of a stamped return path.
const returnPrefix = "b-"

// ReturnPath makes the stamped reverse-path (VERP): 52 octets before the @.
func ReturnPath(token, domain string) smtp.Path {
	return smtp.Path{Local: returnPrefix + token, Domain: domain}
}

// FromReturnPath finds the stamp in a return path's local part, also where a
// forwarder (SRS) or a signer (BATV) has wrapped it.
func FromReturnPath(local string) (token string, ok bool) {
	low := strings.ToLower(local)
	if i := strings.LastIndex(low, returnPrefix); i >= 0 {
		low = low[i+len(returnPrefix):]
	} else {
		return "", false
	}
	if len(low) < Length {
		return "", false
	}
	found := Find(low[:Length])
	if len(found) == 1 && (len(low) == Length || !stampChar(low[Length])) {
		return found[0], true
	}
	return "", false
}
