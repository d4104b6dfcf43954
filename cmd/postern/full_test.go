package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFullDisk fills the disk under the state folder of a running node: 452 and alive,
// and 250 again in the same session once there is room.
func TestFullDisk(t *testing.T) {
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.38"), freePort(t, "127.0.0.38"), "")
	state := filepath.Join(filepath.Dir(file), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=300m"); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(state, 0) })
	n := serve(t, file)
	c, err := net.Dial("tcp", listener)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	p := &player{t: t, conn: c, r: bufio.NewReader(c), file: "full disk"}
	mail := func(size int, want string) {
		t.Helper()
		p.send("MAIL FROM:<n@news.acme.example>\r\nRCPT TO:<a@sink.example>\r\nDATA\r\n")
		p.reply("^250")
		p.reply("^250")
		p.reply("^354")
		p.send("Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", size/100) + ".\r\n")
		p.reply(want)
	}
	p.reply("^220")
	p.send("EHLO c.example\r\n")
	p.reply("^250")
	mail(100, "^250 2.0.0 accepted")
	fill, err := os.Create(filepath.Join(state, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(state, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(fill.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-1<<20); err != nil {
		t.Fatal(err)
	}
	mail(100, "^(250|452)") // the disk is asked for room once for a group of commits
	for _, size := range []int{100, 1_000_000, 10_000_000} {
		mail(size, "^452 4.3.1 no space left")
	}
	if _, _, code := run(t, "status", file); code != 0 {
		t.Error("the node does not answer its operator")
	}
	if err := fill.Truncate(0); err != nil {
		t.Fatal(err)
	}
	mail(100, "^(250|452)")
	for _, size := range []int{100, 1_000_000, 10_000_000} {
		mail(size, "^250 2.0.0 accepted")
	}
	p.send("QUIT\r\n")
	p.reply("^221")
	_, _ = io.Copy(io.Discard, c)
	n.stop(t)
}
