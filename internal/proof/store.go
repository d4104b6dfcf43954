package proof

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"
)

// Store writes files, all of them or none, as far as a file system allows: every new
// text stands durably beside its file before the first is renamed over the old one, and
// where a rename fails those before it are taken back. A symbolic link is followed; mode
// and owner stay. What a crash between two renames leaves is some new files and some old
// ones, each whole.
func Store(files map[string][]byte) error {
	return store(files, os.Rename)
}

// pending is one file to be replaced.
type pending struct {
	name   string // as it was asked for
	target string // behind symbolic links
	next   string // the new text
	old    string // a second name of the old file, or a copy
	done   bool
}

func store(files map[string][]byte, rename func(from, to string) error) error {
	var all []*pending
	defer func() {
		for _, p := range all {
			_ = os.Remove(p.next)
			_ = os.Remove(p.old)
		}
	}()
	seen := map[string]string{}
	for _, name := range sortedNames(files) {
		p, err := prepare(name, files[name])
		if p != nil {
			all = append(all, p)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w; nothing is written", name, err)
		}
		if first, twice := seen[p.target]; twice {
			return fmt.Errorf("write %s: it is the same file as %s; nothing is written", name, first)
		}
		seen[p.target] = name
	}
	for _, p := range all {
		err := rename(p.next, p.target)
		if err != nil {
			err = fmt.Errorf("write %s: %w", p.name, err)
			return errors.Join(err, takeBack(all, rename))
		}
		p.done = true
	}
	return syncFolders(all)
}

func sortedNames(files map[string][]byte) []string {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// prepare puts the new text and a second name of the old file beside a file.
func prepare(name string, text []byte) (*pending, error) {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(target)
	if err != nil {
		return nil, err
	}
	p := &pending{name: name, target: target}
	if p.next, err = beside(target, text, st); err != nil {
		return p, err
	}
	return p, p.keep(st)
}

// keep gives the old file a second name; where links cannot be made, it copies.
func (p *pending) keep(st fs.FileInfo) error {
	old, err := os.ReadFile(p.target)
	if err != nil {
		return err
	}
	if p.old, err = beside(p.target, old, st); err != nil {
		return err
	}
	link := p.old + "-link"
	if os.Link(p.target, link) == nil {
		return os.Rename(link, p.old)
	}
	return nil
}

// beside writes a text durably into a new file in the folder of another, with its mode
// and owner.
func beside(target string, text []byte, st fs.FileInfo) (name string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(target), ".postern-*")
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(text)
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && err == nil {
		if mine, same := owner(tmp); !same || mine != [2]uint32{sys.Uid, sys.Gid} {
			err = tmp.Chown(int(sys.Uid), int(sys.Gid))
		}
	}
	if err == nil {
		err = tmp.Chmod(st.Mode().Perm()) // behind the owner, whose change may take bits away
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return tmp.Name(), err
	}
	return tmp.Name(), nil
}

func owner(f *os.File) (ids [2]uint32, ok bool) {
	st, err := f.Stat()
	if err != nil {
		return ids, false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ids, false
	}
	return [2]uint32{sys.Uid, sys.Gid}, true
}

// takeBack renames the old files over those that were replaced already.
func takeBack(all []*pending, rename func(from, to string) error) error {
	var errs []error
	for _, p := range all {
		if !p.done {
			continue
		}
		if err := rename(p.old, p.target); err != nil {
			errs = append(errs, fmt.Errorf("%s is written and cannot be taken back: %w", p.name, err))
			p.old = "" // it is all that is left of the old file
		}
	}
	if len(errs) == 0 {
		return errors.New("what was written before it is taken back")
	}
	return errors.Join(errs...)
}

// syncFolders makes the renames durable.
func syncFolders(all []*pending) error {
	done := map[string]bool{}
	var errs []error
	for _, p := range all {
		dir := filepath.Dir(p.target)
		if done[dir] {
			continue
		}
		done[dir] = true
		d, err := os.Open(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.Sync(), d.Close())
	}
	return errors.Join(errs...)
}
