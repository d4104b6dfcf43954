package stamp

import (
	"bufio"
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	version  = 1  // upper three bits of the first octet
	maxKeys  = 32 // lower five bits
	keyBytes = 32
)

// Key is one secret of the ring.
type Key struct {
	ID      uint8  // 0 to 31, written into every stamp
	Secret  []byte // 32 bytes
	Created time.Time
	Retired bool // verifies, mints no more
}

// Ring is a set of keys. It never changes once made and may be used by many
// goroutines.
type Ring struct {
	keys    []Key
	byID    [maxKeys]*sealer
	current *sealer
}

// NewRing makes a ring; the newest key that is not retired mints. A ring without
// such a key, with an id twice or with a secret of a wrong length is refused.
func NewRing(keys []Key) (*Ring, error) {
	r := &Ring{keys: make([]Key, len(keys))}
	newest := -1
	for i, k := range keys {
		if k.ID >= maxKeys || len(k.Secret) != keyBytes {
			return nil, fmt.Errorf("key %d: an id below %d and a secret of %d bytes are wanted", k.ID, maxKeys, keyBytes)
		}
		if r.byID[k.ID] != nil {
			return nil, fmt.Errorf("key %d: stands twice", k.ID)
		}
		k.Secret = bytes.Clone(k.Secret)
		r.keys[i], r.byID[k.ID] = k, newSealer(k)
		if !k.Retired && (newest < 0 || !k.Created.Before(r.keys[newest].Created)) {
			newest = i
		}
	}
	if newest < 0 {
		return nil, errors.New("key ring: no key that mints")
	}
	r.current = r.byID[r.keys[newest].ID]
	return r, nil
}

// NewKey draws the secret of a key from random.
func NewKey(id uint8, created time.Time, random io.Reader) (Key, error) {
	k := Key{ID: id, Created: created.UTC().Truncate(time.Second), Secret: make([]byte, keyBytes)}
	if _, err := io.ReadFull(random, k.Secret); err != nil {
		return Key{}, fmt.Errorf("draw key %d: %w", id, err)
	}
	return k, nil
}

// Keys gives the keys, for listing.
func (r *Ring) Keys() []Key { return append([]Key(nil), r.keys...) }

// Rotate gives a ring with a new key that mints from now on; those before it are
// retired, so that a clock set back cannot bring one to mint again. With all ids
// taken, the oldest key goes, and with it what it has stamped.
func (r *Ring) Rotate(now time.Time, random io.Reader) (*Ring, error) {
	keys := r.Keys()
	id := uint8(0)
	for id < maxKeys && r.byID[id] != nil {
		id++
	}
	if id == maxKeys {
		oldest := r.oldest()
		id = keys[oldest].ID
		keys = append(keys[:oldest], keys[oldest+1:]...)
	}
	for i := range keys {
		keys[i].Retired = true
	}
	k, err := NewKey(id, now, random)
	if err != nil {
		return nil, err
	}
	return NewRing(append(keys, k))
}

// oldest gives the place of the oldest retired key, else of the oldest that does not
// mint.
func (r *Ring) oldest() int {
	found := -1
	for i := range r.keys {
		k := &r.keys[i]
		if r.byID[k.ID] == r.current {
			continue
		}
		if found < 0 || (k.Retired && !r.keys[found].Retired) ||
			(k.Retired == r.keys[found].Retired && k.Created.Before(r.keys[found].Created)) {
			found = i
		}
	}
	return found
}

// ParseKeys reads a key file: one key a line, "id created secret [retired]", the time
// in RFC 3339, the secret of 32 bytes in hexadecimal or in base32 (RFC 4648); #
// begins a comment. Errors name the line and never the secret.
func ParseKeys(r io.Reader) (*Ring, error) {
	var keys []Key
	var seen [maxKeys]bool
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
		if seen[k.ID] {
			return nil, fmt.Errorf("line %d: key %d stands twice", n, k.ID)
		}
		seen[k.ID] = true
		keys = append(keys, k)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
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
	if k.Secret = parseSecret(f[2]); len(k.Secret) != keyBytes {
		return k, fmt.Errorf("key %d: the secret is not %d bytes in hexadecimal or base32", id, keyBytes)
	}
	return k, nil
}

// parseSecret tells the two spellings apart by their length: base32 may look like
// hexadecimal.
func parseSecret(s string) []byte {
	if len(s) == 2*keyBytes {
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.TrimRight(s, "=")))
	if err != nil {
		return nil
	}
	return b
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
