package inbox_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/inbox"
)

func mail(n string) string {
	return "Delivered-To: b+x@esp.example\r\nFrom: <a@b.example>\r\nMessage-ID: <" + n + ">\r\n\r\nbody\r\n"
}

// TestMaildir: a mail stays in new until it is durable, and nothing is deleted.
func TestMaildir(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"new", "cur", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "new", "1.m"), []byte(mail("1")), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &taken{fail: errors.New("full")}
	m := &inbox.Maildir{Name: "m", Folders: []string{dir}, Deliver: k.deliver, Log: quiet}
	if err := m.Round(context.Background()); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "new", "1.m")); err != nil {
		t.Error("it is gone from new before it was durable")
	}
	k.fail = nil
	for range 2 {
		if err := m.Round(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if len(k.mails) != 1 || k.mails[0].To != "b+x@esp.example" {
		t.Errorf("%d delivered", len(k.mails))
	}
	if _, err := os.Stat(filepath.Join(dir, "cur", "1.m:2,S")); err != nil {
		t.Error(err)
	}
}

// TestMbox reads one that grows.
func TestMbox(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mbox")
	write := func(text string) {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	k := &taken{}
	m := &inbox.Mbox{Name: "m", Files: []string{name}, Deliver: k.deliver, Log: quiet}
	write("From a@b Mon Nov 30 12:00:00 2026\n" + mail("1") + "\n")
	for range 2 {
		if err := m.Round(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	write("From a@b Mon Nov 30 12:00:00 2026\n" + mail("2") + ">From the start\n\n")
	if err := m.Round(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(k.mails) != 2 || !strings.Contains(string(k.mails[1].Raw), "\nFrom the start") {
		t.Errorf("%d delivered", len(k.mails))
	}
}

func TestSplitMbox(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", " \n", nil},
		{"one mail", "From: a\n\nb\n", []string{"From: a\n\nb\n"}},
		{"two", "From a\nX: 1\n\nb\n\nFrom b\nX: 2\n", []string{"X: 1\n\nb\n\n", "X: 2\n"}},
		{"a line that begins with From", "From a\nX: 1\n\nb\nFrom c\n", []string{"X: 1\n\nb\nFrom c\n"}},
		{"CRLF", "From a\r\nX: 1\r\n\r\nFrom b\r\nX: 2\r\n", []string{"X: 1\r\n\r\n", "X: 2\r\n"}},
		{"quoted", "From a\nX: 1\n\n>>From c\n>From d\n", []string{"X: 1\n\n>From c\nFrom d\n"}},
	} {
		var got []string
		for _, m := range inbox.SplitMbox([]byte(c.text)) {
			got = append(got, string(m))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func FuzzSplitMbox(f *testing.F) {
	f.Add("From a\nX: 1\n\nb\n\nFrom b\nX: 2\n")
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for _, m := range inbox.SplitMbox([]byte(s)) {
			n += len(m)
		}
		if n > len(s) {
			t.Fatalf("%d octets of %d", n, len(s))
		}
		_ = slices.Clone([]byte(s))
	})
}
