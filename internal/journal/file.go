package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fileMode lets the owner write and the group read: collectors of logs belong to it.
const fileMode = 0o640

// maxTail bounds what is looked through at a start for lines that were written after
// the last durable position: a journal is made durable long before so much is.
const maxTail = 64 << 20

// file is the file being written: what of it is known to be ours, and what waits.
type file struct {
	path   string
	header []byte // that begins every file
	f      disk
	inode  uint64
	size   int64     // written and confirmed
	began  time.Time // modification time when opened: rotation by time counts from it
	astray bool      // found under another name than its path

	// tail is what stands behind size from a former run. The same lines come again and
	// are held against it.
	tail []byte
	// wait is what is still to be written: after a full disk, the rest of a line.
	wait []byte
}

// disk is what a file is used for.
type disk interface {
	Write(p []byte) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// inodeOf tells a file apart from others, whatever its name is.
func inodeOf(st fs.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// openAt opens the file that a place is about, wherever it has been moved beside its
// path, with what was written after the place as its tail. Where it is gone, or there
// was none, the path is opened.
func openAt(path string, header []byte, p *place, now time.Time) (*file, error) {
	name := path
	if p.Inode != 0 {
		name = findInode(path, p.Inode)
	}
	if name == "" || p.Inode == 0 {
		return create(path, header, now)
	}
	f, st, err := open(name)
	if err != nil {
		return nil, err
	}
	if st.Size() < int64(p.Size) {
		// Somebody has cut it, or it is another file that got the number of ours: that it has
		// what is before the place, not even a header, cannot be relied on.
		if err := f.Close(); err != nil {
			return nil, err
		}
		return create(path, header, now)
	}
	out := &file{path: path, header: header, f: f, inode: inodeOf(st), size: int64(p.Size), began: st.ModTime(), astray: name != path}
	if n := st.Size() - out.size; n > 0 && n <= maxTail {
		out.tail = make([]byte, n)
		if _, err := f.ReadAt(out.tail, out.size); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	} else if n > maxTail {
		return nil, errors.Join(fmt.Errorf("%s has %d octets that this node has no memory of; move it away", name, n), f.Close())
	}
	return out, nil
}

// findInode looks for a file under its path and under the names that rotation gives,
// ours or another's.
func findInode(path string, inode uint64) string {
	names, _ := filepath.Glob(escapeGlob(path) + "*")
	for _, n := range names {
		if st, err := os.Stat(n); err == nil && st.Mode().IsRegular() && inodeOf(st) == inode {
			return n
		}
	}
	return ""
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

func open(name string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, fileMode)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// create opens the path to append to whatever is there.
func create(path string, header []byte, now time.Time) (*file, error) {
	f, st, err := open(path)
	if err != nil {
		return nil, err
	}
	out := &file{path: path, header: header, f: f, inode: inodeOf(st), size: st.Size(), began: now}
	if out.size > 0 {
		out.began = st.ModTime()
	}
	if out.size < int64(len(header)) { // nothing, or what a crash left of a header
		if err = f.Truncate(0); err == nil {
			out.size = 0
			_, err = f.Write(header)
		}
		if err == nil {
			err = f.Sync() // a place that is behind the header may become durable before any line
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		out.size = int64(len(header))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return out, nil
}

// put takes the next lines: they are held against the tail, and what the tail lacks
// waits to be written. It tells whether the tail was something else than our lines,
// which is then cut off: lines of other settings, or what a machine that lost its power
// has put in place of ours. On an error nothing has changed.
func (w *file) put(lines []byte) (foreign bool, err error) {
	n := min(len(lines), len(w.tail))
	same := n
	if !bytes.Equal(lines[:n], w.tail[:n]) {
		for same = 0; lines[same] == w.tail[same]; same++ {
		}
		if err := w.f.Truncate(w.size + int64(same)); err != nil {
			return true, err
		}
		foreign = true
		w.tail = w.tail[:same]
	}
	w.tail = w.tail[same:]
	w.size += int64(same)
	w.wait = append(w.wait, lines[same:]...)
	return foreign, nil
}

// flush writes what waits. What could not be written waits on.
func (w *file) flush() error {
	n, err := w.f.Write(w.wait)
	w.size += int64(n)
	w.wait = w.wait[:copy(w.wait, w.wait[n:])]
	return err
}

func (w *file) sync() error { return w.f.Sync() }

func (w *file) close() error { return w.f.Close() }

// moved tells that the path names another file by now, or none.
func (w *file) moved() bool {
	st, err := os.Stat(w.path)
	return err != nil || inodeOf(st) != w.inode
}

// putAside renames the path to one that carries the time and the number of the last
// event, so that names sort as the lines do, and gives it.
func (w *file) putAside(now time.Time, seq uint64) (string, error) {
	base := fmt.Sprintf("%s.%s-%012d", w.path, now.UTC().Format(asideTime), seq)
	for i, name := 1, base; ; i++ {
		if taken(name) || taken(name+".gz") {
			name = fmt.Sprintf("%s-%d", base, i)
			continue
		}
		if err := os.Rename(w.path, name); err != nil {
			return "", err
		}
		return name, syncDir(filepath.Dir(name))
	}
}

const asideTime = "20060102T150405Z"

func taken(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// rotated lists the files put aside, the oldest first: their names carry the time.
func rotated(path string) []string {
	names, _ := filepath.Glob(escapeGlob(path) + ".[0-9]*")
	var out []string
	for _, n := range names {
		rest := strings.TrimPrefix(n, path+".")
		if _, ok := rotatedAt(path, n); ok && strings.HasPrefix(rest[len(asideTime):], "-") && !strings.HasSuffix(n, ".part") {
			out = append(out, n)
		}
	}
	return out
}

// rotatedAt reads the time in a name.
func rotatedAt(path, name string) (time.Time, bool) {
	rest := strings.TrimPrefix(name, path+".")
	t, err := time.Parse(asideTime, rest[:min(len(asideTime), len(rest))])
	return t, err == nil
}
