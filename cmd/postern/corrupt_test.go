package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// TestNodeOverDamagedSpool takes mail, stops, lets the disk spoil one record and tear
// the end off, and starts again: the node serves, says what it found, keeps it, and
// delivers the rest.
func TestNodeOverDamagedSpool(t *testing.T) {
	port := freePort(t, "127.0.0.36")
	s := newSink(t, net.JoinHostPort("127.0.0.36", strconv.Itoa(port)))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.36"), port, "filter \"wait\" {\n  if   = rcpt.domain == \"sink.example\"\n  then = hold()\n}\n")
	n := serve(t, file)
	c, err := gosmtp.Dial(listener)
	if err != nil {
		t.Fatal(err)
	}
	const count = 20
	for i := range count {
		if !injectOne(c, fmt.Sprintf("user%02d@sink.example", i)) {
			t.Fatal("the node takes no mail")
		}
	}
	c.Close()
	n.stop(t)
	state := filepath.Join(filepath.Dir(file), "state", "spool")
	damage(t, filepath.Join(state, "log", "00000001.seg"), "user07@sink.example")
	n = serve(t, file)
	if out, errs, code := run(t, "queue", "ls", "-domain", "sink.example", file); code != 0 || strings.Count(out, "held") != count-1 || strings.Contains(out, "user07@") {
		t.Errorf("queue ls: exit %d\n%s%s", code, out, errs)
	}
	if out, errs, code := run(t, "queue", "release", "-domain", "sink.example", file); code != 0 || !strings.Contains(out, fmt.Sprintf("release: %d recipients", count-1)) {
		t.Fatalf("queue release: exit %d\n%s%s", code, out, errs)
	}
	if err := s.await(deadline(t, 30*time.Second), func(got map[string]int) bool { return len(got) == count-1 }); err != nil {
		t.Errorf("%d of %d arrived: %v", len(s.got), count-1, err)
	}
	n.stop(t)
	for _, want := range []string{"spool record is corrupt", "spool write was torn off"} {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, n.log)
		}
	}
	if kept, err := filepath.Glob(filepath.Join(state, "bad", "*.rec")); err != nil || len(kept) != 1 {
		t.Errorf("set aside: %v, %v", kept, err)
	} else if b, err := os.ReadFile(kept[0]); err != nil || !bytes.Contains(b, []byte("ser07@sink.example")) {
		t.Errorf("what was set aside is not what was damaged: %d octets, %v", len(b), err)
	}
}

// damage inverts a bit of the record that names somebody, and puts the beginning of a
// record behind the last one.
func damage(t testing.TB, name, who string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(who))
	if at < 0 {
		t.Fatalf("%s does not stand in %s", who, name)
	}
	b[at] ^= 1
	end := (len(bytes.TrimRight(b, "\x00")) + 15) &^ 7
	copy(b[end:], "PSR1 and no more")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
