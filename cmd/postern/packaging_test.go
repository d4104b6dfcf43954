package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ours finds the folders that the documents have a node write to; a path of one name is
// that of a webhook.
var ours = regexp.MustCompile(`(?:state|path|socket) *= *"(/[^"/]+/[^"]*)"`)

// TestPackagedNodeCanWrite: what the documents and examples tell a node to write lies
// where the packages let it write: the unit of systemd, which makes all else read-only,
// and the image, whose user owns little.
func TestPackagedNodeCanWrite(t *testing.T) {
	root := filepath.Join("..", "..")
	unit, image := read(t, filepath.Join(root, "packaging", "postern.service")), read(t, filepath.Join(root, "packaging", "Dockerfile"))
	var unitWrites []string
	for directive, base := range map[string]string{"StateDirectory": "/var/lib/", "LogsDirectory": "/var/log/", "RuntimeDirectory": "/run/"} {
		if m := regexp.MustCompile(`(?m)^` + directive + `=(\S+)$`).FindStringSubmatch(unit); m != nil {
			unitWrites = append(unitWrites, base+m[1])
		}
	}
	var imageWrites []string
	for _, m := range regexp.MustCompile(`(?m)^VOLUME (.*)$`).FindAllStringSubmatch(image, -1) {
		imageWrites = append(imageWrites, strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune(` ,"[]`, r) })...)
	}
	seen := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata" || d.Name() == "tools") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if d.IsDir() || !(strings.HasSuffix(name, ".md") || strings.HasSuffix(name, ".hcl")) {
			return nil
		}
		for _, m := range ours.FindAllStringSubmatch(read(t, name), -1) {
			seen++
			if !under(m[1], unitWrites) {
				t.Errorf("%s has %s, which the unit lets nobody write", name, m[0])
			}
			if !under(m[1], imageWrites) {
				t.Errorf("%s has %s, which is no volume of the image", name, m[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5 {
		t.Errorf("only %d places were found", seen)
	}
	// Collectors of logs read as the group (docs/logs.md).
	m := regexp.MustCompile(`(?m)^UMask=(\d+)$`).FindStringSubmatch(unit)
	if m == nil {
		t.Fatal("the unit sets no UMask")
	}
	if mask, err := strconv.ParseUint(m[1], 8, 32); err != nil || 0o640&^mask != 0o640 || mask&0o007 != 0o007 {
		t.Errorf("UMask=%s: log files are not 0640", m[1])
	}
}

// under reports whether a path lies in one of some folders, or is one.
func under(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(path+"/", f+"/") })
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
