package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"postern.dev/postern/internal/stamp"
)

// loadKeys reads the key ring, or makes one where there is none yet.
func loadKeys(name string, now func() time.Time, random io.Reader) (*stamp.Ring, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		k, err := stamp.NewKey(0, now(), random)
		if err != nil {
			return nil, fmt.Errorf("make stamp key: %w", err)
		}
		ring, err := stamp.NewRing([]stamp.Key{k})
		if err != nil {
			return nil, err
		}
		return ring, WriteKeys(name, ring)
	}
	if err != nil {
		return nil, fmt.Errorf("read stamp keys: %w", err)
	}
	if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read stamp keys %s: others can read it (mode %04o); chmod 600 it", name, st.Mode().Perm())
	}
	ring, err := stamp.ParseKeys(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read stamp keys %s: %w", name, err)
	}
	return ring, nil
}

// LoadKeys reads a key ring that exists.
func LoadKeys(name string) (*stamp.Ring, error) {
	if _, err := os.Stat(name); err != nil {
		return nil, fmt.Errorf("read stamp keys: %w", err)
	}
	return loadKeys(name, nil, nil)
}

// WriteKeys writes a key ring, readable to its owner only, all of it or nothing.
func WriteKeys(name string, ring *stamp.Ring) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("write stamp keys: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".keys-*")
	if err != nil {
		return fmt.Errorf("write stamp keys: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(ring.Format())
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write stamp keys: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write stamp keys: %w", err)
	}
	return nil
}
