package proof

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// folder makes files of mode 0640, and a link to the first.
func folder(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("old "+n), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, n), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents gives what stands in a folder, and fails on anything left behind.
func contents(t *testing.T, dir string) string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+"="+string(b))
	}
	return strings.Join(out, " ")
}

// TestStoreAllOrNone fails at each rename in turn: the files are then as they were.
func TestStoreAllOrNone(t *testing.T) {
	for fail := range 4 {
		dir := folder(t, "a", "b", "c")
		calls := 0
		err := store(map[string][]byte{filepath.Join(dir, "a"): []byte("new a"), filepath.Join(dir, "b"): []byte("new b"), filepath.Join(dir, "c"): []byte("new c")},
			func(from, to string) error {
				if calls++; calls == fail+1 {
					return syscall.EIO
				}
				return os.Rename(from, to)
			})
		want := "a=old a b=old b c=old c"
		if fail == 3 {
			want = "a=new a b=new b c=new c"
		}
		if got := contents(t, dir); got != want || (err != nil) != (fail < 3) || (err != nil && !errors.Is(err, syscall.EIO)) {
			t.Errorf("fault at %d: %v, %s", fail, err, got)
		}
	}
}

// TestStoreCannotTakeBack says which file is new where even that fails, and leaves the
// old text beside it.
func TestStoreCannotTakeBack(t *testing.T) {
	dir := folder(t, "a", "b")
	calls := 0
	err := store(map[string][]byte{filepath.Join(dir, "a"): []byte("new a"), filepath.Join(dir, "b"): []byte("new b")},
		func(from, to string) error {
			if calls++; calls > 1 {
				return syscall.EROFS
			}
			return os.Rename(from, to)
		})
	if err == nil || !strings.Contains(err.Error(), "a is written and cannot be taken back") {
		t.Errorf("got %v", err)
	}
	if got := contents(t, dir); !strings.Contains(got, "=old a") || !strings.Contains(got, "a=new a b=old b") {
		t.Errorf("left is %s", got)
	}
}

// TestStoreKeeps follows links, and keeps mode and owner.
func TestStoreKeeps(t *testing.T) {
	dir, elsewhere := folder(t, "a"), folder(t, "real")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(elsewhere, "real"), link); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(filepath.Join(elsewhere, "real"), 1234, 4321); err != nil {
			t.Fatal(err)
		}
	}
	if err := Store(map[string][]byte{link: []byte("new"), filepath.Join(dir, "a"): []byte("new a")}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is a link no more")
	}
	st, err := os.Stat(link)
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if sys := st.Sys().(*syscall.Stat_t); os.Getuid() == 0 && (sys.Uid != 1234 || sys.Gid != 4321) {
		t.Errorf("owner %d:%d", sys.Uid, sys.Gid)
	}
	if got := contents(t, elsewhere); got != "real=new" {
		t.Error(got)
	}
}

// TestStoreRefuses writes nothing at all where one of the files cannot be prepared, or
// two names mean one file.
func TestStoreRefuses(t *testing.T) {
	dir := folder(t, "a", "b")
	if err := os.Symlink("a", filepath.Join(dir, "same")); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{filepath.Join(dir, "missing"), filepath.Join(dir, "same")} {
		if err := Store(map[string][]byte{filepath.Join(dir, "a"): []byte("new"), other: []byte("new")}); err == nil || !strings.Contains(err.Error(), "nothing is written") {
			t.Errorf("%s: %v", other, err)
		}
	}
	if got := contents(t, dir); got != "a=old a b=old b same=old a" {
		t.Error(got)
	}
}
