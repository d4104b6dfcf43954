package suppress

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"postern.dev/postern/internal/policy"
)

// Hash stands for an address: the first 16 octets of the SHA-256 over the node's secret
// and the address. Who has the disk without the secret cannot try addresses.
type Hash [16]byte

// secret is what hashes are keyed with.
type secret [32]byte

// hash makes the Hash of local@domain.
func (k *secret) hash(a policy.Address) Hash {
	var room [192]byte
	b := append(room[:0], k[:]...)
	b = append(b, a.Local...)
	b = append(b, '@')
	b = append(b, a.Domain...)
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}

// id names the secret, so that a hash of another node is told from one of this.
func (k *secret) id() string {
	sum := sha256.Sum256(append([]byte("suppression key "), k[:]...))
	return hex.EncodeToString(sum[:4])
}

// loadSecret reads the secret's file, or makes it where there is no list yet.
func loadSecret(name string, fresh bool, random io.Reader) (k secret, err error) {
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && fresh:
		return newSecret(name, random)
	case errors.Is(err, fs.ErrNotExist):
		return k, fmt.Errorf("read suppression key %s: it is gone, and without it no address can be found again; put it back from a backup", name)
	case err != nil:
		return k, fmt.Errorf("read suppression key: %w", err)
	}
	n, err := hex.Decode(k[:], bytes.TrimSpace(b[:min(len(b), 2*len(k)+2)]))
	if err != nil || n != len(k) {
		return k, fmt.Errorf("read suppression key %s: not 64 hexadecimal digits", name)
	}
	if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o077 != 0 {
		return k, fmt.Errorf("read suppression key %s: others can read it (mode %04o); chmod 600 it", name, st.Mode().Perm())
	}
	return k, nil
}

// newSecret writes a new one, all of it or nothing.
func newSecret(name string, random io.Reader) (k secret, err error) {
	if _, err = io.ReadFull(random, k[:]); err != nil {
		return k, fmt.Errorf("make suppression key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return k, fmt.Errorf("make suppression key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".suppression-*")
	if err != nil {
		return k, fmt.Errorf("make suppression key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(hex.EncodeToString(k[:]) + "\n")
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return k, fmt.Errorf("make suppression key: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return k, fmt.Errorf("make suppression key: %w", err)
	}
	return k, nil
}
