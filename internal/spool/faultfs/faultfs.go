// Package faultfs is a spool's disk in memory that can fail: it runs out of space,
// fails a sync, and crashes, after which only what was synced is sure to be there and
// of the rest a random part. It is for tests.
package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"postern.dev/postern/internal/spool"
)

// ErrInjected is the fault that was asked for.
var ErrInjected = errors.New("injected fault")

// sector is the unit that a crash tears writes at.
const sector = 512

// FS is a disk in memory.
type FS struct {
	mu       sync.Mutex
	files    map[string]*file
	synced   map[string]bool // names that are durable
	locked   bool
	Quota    int64 // octets of all files; 0 is no limit
	FailSync int   // the n-th sync from now fails; 0 is none
	syncs    int
	gone     bool   // crashed: what was open writes no more
	slow     func() // comes before each sync
	dying    bool   // the next sync fails, and everything after it
	kept     bool   // though it has made everything durable
}

type file struct {
	data    []byte // as the process sees it
	durable []byte // as of the last sync
	dirty   map[int64]bool
	bad     map[int64]bool // sectors that cannot be read
}

// New makes an empty disk.
func New() *FS { return &FS{files: map[string]*file{}, synced: map[string]bool{}} }

// Syncs counts the syncs so far.
func (f *FS) Syncs() int { f.mu.Lock(); defer f.mu.Unlock(); return f.syncs }

// FailNext makes the n-th sync from now fail.
func (f *FS) FailNext(n int) { f.mu.Lock(); defer f.mu.Unlock(); f.FailSync = n }

// Die makes the next sync fail, and with it every write and sync from then on, as a disk
// does that falls off the bus. kept tells whether that sync made its file durable before.
func (f *FS) Die(kept bool) { f.mu.Lock(); defer f.mu.Unlock(); f.dying, f.kept = true, kept }

// Slow makes each sync wait until f returns, as it does on a disk that has much to do; nil
// ends that.
func (f *FS) Slow(wait func()) { f.mu.Lock(); defer f.mu.Unlock(); f.slow = wait }

// Crash gives the disk as it is found after a power cut: of every sector that was
// written and not synced, the old or the new contents, by chance. The old FS is dead.
func (f *FS) Crash(r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	out := New()
	names := make([]string, 0, len(f.files))
	for n := range f.files {
		names = append(names, n)
	}
	slices.Sort(names) // so that a seed gives one outcome
	for _, n := range names {
		if !f.synced[n] && r.IntN(2) == 0 {
			continue // the name itself was lost
		}
		old := f.files[n]
		size := len(old.durable)
		if len(old.data) > size && r.IntN(2) == 0 {
			size = len(old.data)
		}
		b := make([]byte, size)
		copy(b, old.durable)
		sectors := make([]int64, 0, len(old.dirty))
		for s := range old.dirty {
			sectors = append(sectors, s)
		}
		slices.Sort(sectors)
		for _, s := range sectors {
			if at := s * sector; at < int64(size) && r.IntN(2) == 0 {
				copy(b[at:min(at+sector, int64(size))], old.data[at:])
			}
		}
		out.files[n] = &file{data: b, durable: slices.Clone(b), dirty: map[int64]bool{}}
		out.synced[n] = true
	}
	return out
}

// Limit sets the quota while the disk is in use; 0 is no limit.
func (f *FS) Limit(octets int64) { f.mu.Lock(); defer f.mu.Unlock(); f.Quota = octets }

// Used gives the octets of all files.
func (f *FS) Used() int64 { f.mu.Lock(); defer f.mu.Unlock(); return f.used() }

// FailNextSync makes the next sync fail.
func (f *FS) FailNextSync() { f.mu.Lock(); defer f.mu.Unlock(); f.FailSync = 1 }

// SyncFails reports whether a sync is still to fail.
func (f *FS) SyncFails() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.FailSync > 0 }

// Flip inverts a bit of a file, as a bad disk does.
func (f *FS) Flip(name string, offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name].data[offset] ^= 1 << (offset % 8)
	f.files[name].durable = slices.Clone(f.files[name].data)
}

// Spoil makes the sector at an offset unreadable.
func (f *FS) Spoil(name string, offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.files[name]
	if x.bad == nil {
		x.bad = map[int64]bool{}
	}
	x.bad[offset/sector] = true
}

// Get gives a file's contents.
func (f *FS) Get(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.files[name].data)
}

// Put makes a file with given contents.
func (f *FS) Put(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = &file{data: slices.Clone(b), durable: slices.Clone(b), dirty: map[int64]bool{}}
	f.synced[name] = true
}

// Size gives a file's size, -1 where there is none.
func (f *FS) Size(name string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.files[name]; x != nil {
		return int64(len(x.data))
	}
	return -1
}

func (f *FS) used() (n int64) {
	for _, x := range f.files {
		n += int64(len(x.data))
	}
	return n
}

// Open implements spool.FS.
func (f *FS) Open(name string, create bool) (spool.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[name] == nil {
		if !create {
			return nil, fs.ErrNotExist
		}
		f.files[name] = &file{dirty: map[int64]bool{}}
		delete(f.synced, name)
	}
	return &handle{fs: f, file: f.files[name]}, nil
}

// Rename implements spool.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[from] == nil {
		return fs.ErrNotExist
	}
	f.files[to], f.synced[to] = f.files[from], false
	delete(f.files, from)
	return nil
}

// Remove implements spool.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(f.files, name)
	return nil
}

// List implements spool.FS.
func (f *FS) List(dir string) (names []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.files {
		if path.Dir(n) == dir {
			names = append(names, strings.TrimPrefix(n, dir+"/"))
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements spool.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.files {
		if path.Dir(n) == dir {
			f.synced[n] = true
		}
	}
	return nil
}

// Free implements spool.FS.
func (f *FS) Free() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Quota == 0 {
		return 1 << 40, nil
	}
	return f.Quota - f.used(), nil
}

// Lock implements spool.FS.
func (f *FS) Lock() (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked {
		return nil, errors.New("locked")
	}
	f.locked = true
	return unlock{f}, nil
}

type unlock struct{ f *FS }

func (u unlock) Close() error { u.f.mu.Lock(); defer u.f.mu.Unlock(); u.f.locked = false; return nil }

type handle struct {
	fs   *FS
	file *file
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if off >= int64(len(h.file.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.file.data[off:])
	for s := off / sector; s*sector < off+int64(n); s++ {
		if h.file.bad[s] {
			return int(max(s*sector-off, 0)), unix.EIO
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.gone {
		return 0, ErrInjected
	}
	if err := h.grow(off + int64(len(p))); err != nil {
		return 0, err
	}
	copy(h.file.data[off:], p)
	for s := off / sector; s*sector < off+int64(len(p)); s++ {
		h.file.dirty[s] = true
	}
	return len(p), nil
}

func (h *handle) grow(n int64) error {
	more := n - int64(len(h.file.data))
	if more <= 0 {
		return nil
	}
	if h.fs.Quota > 0 && h.fs.used()+more > h.fs.Quota {
		return unix.ENOSPC
	}
	h.file.data = append(h.file.data, make([]byte, more)...)
	return nil
}

func (h *handle) Allocate(n int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return h.grow(n)
}

func (h *handle) Sync() error {
	h.fs.mu.Lock()
	wait := h.fs.slow
	h.fs.mu.Unlock()
	if wait != nil {
		wait()
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.gone {
		return ErrInjected
	}
	h.fs.syncs++
	if h.fs.dying {
		h.fs.gone = true
		if h.fs.kept {
			h.file.durable = slices.Clone(h.file.data)
			clear(h.file.dirty)
		}
		return ErrInjected
	}
	if h.fs.FailSync > 0 {
		if h.fs.FailSync--; h.fs.FailSync == 0 {
			return ErrInjected
		}
	}
	h.file.durable = slices.Clone(h.file.data)
	clear(h.file.dirty)
	return nil
}

func (h *handle) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return int64(len(h.file.data)), nil
}

func (h *handle) Close() error { return nil }
