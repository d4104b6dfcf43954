package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is the only door to the disk, so that tests can put faults behind it. Names are
// relative to the spool's folder.
type FS interface {
	// Open opens a file for reading and writing; create makes it if it is not there.
	Open(name string, create bool) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// List gives the names in a folder, sorted; a missing folder is empty.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
	// Free gives the octets that may still be written.
	Free() (int64, error)
	// Lock keeps other processes out until it is closed.
	Lock() (io.Closer, error)
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Allocate reserves room, so that writing below n cannot fill the disk and does
	// not change the size.
	Allocate(n int64) error
	// Sync makes the contents durable.
	Sync() error
	Size() (int64, error)
}

// Disk is the FS of a folder on the disk.
func Disk(dir string) FS { return disk(dir) }

type disk string

func (d disk) path(name string) string { return filepath.Join(string(d), name) }

// Open implements FS.
func (d disk) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
		if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(d.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// Rename implements FS.
func (d disk) Rename(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(d.path(to)), 0o700); err != nil {
		return err
	}
	return os.Rename(d.path(from), d.path(to))
}

// Remove implements FS.
func (d disk) Remove(name string) error { return os.Remove(d.path(name)) }

// List implements FS.
func (d disk) List(dir string) ([]string, error) {
	es, err := os.ReadDir(d.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range es {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// SyncDir implements FS.
func (d disk) SyncDir(dir string) error {
	f, err := os.Open(d.path(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Free implements FS.
func (d disk) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Lock implements FS by flock(2), which a killed process gives up by itself.
func (d disk) Lock() (io.Closer, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b := make([]byte, 20)
		n, _ := f.ReadAt(b, 0)
		f.Close()
		return nil, fmt.Errorf("lock %s: in use by process %s", d, strings.TrimSpace(string(b[:n])))
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, err
}

type diskFile struct{ *os.File }

// Allocate implements File.
func (f diskFile) Allocate(n int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return f.Truncate(n)
	}
	return err
}

// Sync implements File: fdatasync(2).
func (f diskFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }

// Size implements File.
func (f diskFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
