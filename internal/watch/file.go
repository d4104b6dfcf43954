package watch

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/cespare/xxhash/v2"

	"postern.dev/postern/internal/ledger"
)

// printed is how much of a file's beginning tells it from another that later has its
// inode, and from a copy.
const printed = 1024

// inode tells files apart, whatever their names.
type inode struct{ device, number uint64 }

// place is where a watch stands in one file.
type place struct {
	ino     inode
	path    string
	offset  int64
	print   uint64
	printed int64
	head    string
	known   bool // the ledger has it

	file    *os.File
	gone    int  // rounds in which its path no longer led to it and nothing came
	partial bool // something without an end of line waits
}

// event gives the place's row, without counts.
func (p *place) event() *ledger.Watched {
	return &ledger.Watched{File: p.path, Device: p.ino.device, Inode: p.ino.number, Offset: p.offset, Print: p.print, Printed: p.printed, Head: p.head}
}

func fromEvent(e *ledger.Watched) *place {
	return &place{ino: inode{e.Device, e.Inode}, path: e.File, offset: e.Offset, print: e.Print, printed: e.Printed, head: e.Head, known: true}
}

func inodeOf(st os.FileInfo) inode {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{uint64(sys.Dev), sys.Ino} //nolint:unconvert // its type differs between systems
}

// fingerprint hashes the first n octets of a file.
func fingerprint(f io.ReaderAt, n int64) (uint64, error) {
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	return xxhash.Sum64(b), nil
}

// same reports whether a file begins as the place remembers.
func (p *place) same(f io.ReaderAt) bool {
	if p.printed == 0 {
		return true
	}
	sum, err := fingerprint(f, p.printed)
	return err == nil && sum == p.print
}

// grow takes more of the file's beginning into the fingerprint, as it becomes known.
func (p *place) grow() {
	n := min(p.offset, printed)
	if n <= p.printed {
		return
	}
	if sum, err := fingerprint(p.file, n); err == nil {
		p.print, p.printed = sum, n
	}
}

// firstLine reads the header line of an accounting file; of others nobody asks for it.
func firstLine(f io.ReaderAt) string {
	b := make([]byte, 16<<10)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	line, _, whole := bytes.Cut(b[:n], []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); !whole || !bytes.HasPrefix(bytes.TrimPrefix(line, []byte(`"`)), []byte("type")) {
		return ""
	}
	return string(line)
}

// matched lists the files that patterns match, oldest first. What is compressed is
// left out unless the pattern asks for it: it is a copy of what has been read.
func matched(patterns []string) ([]string, error) {
	type found struct {
		name string
		at   int64
	}
	var all []found
	seen := map[string]bool{}
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			st, err := os.Stat(n)
			if err != nil || !st.Mode().IsRegular() || seen[n] || (Compressed(n) && !Compressed(pattern)) {
				continue
			}
			seen[n] = true
			all = append(all, found{n, st.ModTime().UnixNano()})
		}
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].at != all[j].at {
			return all[i].at < all[j].at
		}
		return all[i].name < all[j].name
	})
	out := make([]string, 0, len(all))
	for _, f := range all {
		out = append(out, f.name)
	}
	return out, nil
}

// Compressed reports a name of a compressed file.
func Compressed(name string) bool {
	for _, s := range []string{".gz", ".zst", ".bz2", ".xz"} {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// chunk reads whole lines from the place on, about n octets, and tells whether there is
// more. At the end of a file that is done with, what has no end of line is a line too.
func (p *place) chunk(buf []byte, last bool) (lines []byte, more bool, err error) {
	n, err := p.file.ReadAt(buf, p.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	b := buf[:n]
	end := bytes.LastIndexByte(b, '\n')
	p.partial = end != len(b)-1 && len(b) > 0
	switch {
	case end >= 0:
		return b[:end+1], n == len(buf), nil
	case n == len(buf): // a line longer than the buffer: its pieces are no lines
		return b, true, nil
	case last && n > 0:
		return b, false, nil
	}
	return nil, false, nil
}
