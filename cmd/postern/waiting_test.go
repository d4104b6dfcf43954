package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// TestMillionsWait starts a node on a spool in which recipients wait for a later
// attempt, as many as POSTERN_WAITING says (10,000 without), each with a message of its
// own and one of a thousand replies. Mail flows while they are taken up, and for ten
// million the whole process must stay within 4 GiB. How long it took is printed: the
// goal is a minute for ten million, on a machine that has nothing else to do.
func TestMillionsWait(t *testing.T) {
	count := 10_000
	if n, err := strconv.Atoi(os.Getenv("POSTERN_WAITING")); err == nil {
		count = n
	}
	sink := startSink(t)
	file, listener := gatewayConfig(t, zone(t, "sink.example", sink.host), sink.port, "")
	begin := time.Now()
	octets := fillSpool(t, filepath.Join(filepath.Dir(file), "state", "spool"), count)
	t.Logf("%d recipients written in %.1f s, %d MiB of log", count, time.Since(begin).Seconds(), octets>>20)
	begin = time.Now()
	n := serve(t, file)
	ready := time.Since(begin)
	pour(t, listener, 4<<10, 200)
	sink.await(t, 200)
	flows := time.Since(begin)
	for there := counts(t, file).Waiting; there < count; there = counts(t, file).Waiting {
		if time.Since(begin) > 30*time.Minute {
			t.Fatalf("%d of %d wait in the queue", there, count)
		}
		time.Sleep(200 * time.Millisecond)
	}
	whole := time.Since(begin)
	now, most := memory(t, n.cmd.Process.Pid)
	t.Logf("ready in %.1f s, mail through in %.1f s, all in the queue in %.1f s and %.1f processor seconds; %d MiB, at most %d",
		ready.Seconds(), flows.Seconds(), whole.Seconds(), processorTime(t, n.cmd.Process.Pid).Seconds(), now>>20, most>>20)
	limit := int64(512<<20) + int64(count)*358 // 4 GiB for ten million
	if most > limit && !raceDetector {         // which takes several times as much
		t.Errorf("the node took %d MiB, more than %d", most>>20, limit>>20)
	}
	n.stop(t)
}

// fillSpool writes messages that wait until tomorrow, and gives the octets of the log.
func fillSpool(t *testing.T, dir string, count int) (octets int64) {
	t.Helper()
	s, _, err := spool.Open(context.Background(), spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i := range count {
		id := smtp.NewID(now, [6]byte{0, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		body := s.NewBody()
		body.SetPrefix([]byte("Subject: news\r\n\r\n"))
		_, _ = body.Write([]byte("something new\r\n"))
		b := &spool.Batch{Body: body, Message: &spool.Message{ID: id, Accepted: now, From: smtp.Path{Local: "n", Domain: "news.acme.example"}, Size: body.Size(),
			Origin: "customer", Customer: "acme", Listener: "injection", Peer: "127.0.0.1",
			Recipients: []spool.Recipient{{To: smtp.Path{Local: "user" + strconv.Itoa(i), Domain: "d" + strconv.Itoa(i%5000) + ".example"}, Pool: "general"}}},
			Changes: []spool.Change{{ID: id, Attempts: 3, NotBefore: now.Add(24*time.Hour + time.Duration(i)*time.Millisecond), Reason: fmt.Sprintf("451 4.7.1 try again later, see line %d", i%1000)}}}
		if i == count-1 {
			_, err = s.Commit(context.Background(), b) // and with it all before
		} else {
			err = s.Submit(b)
			body.Discard()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	octets = s.Behind(0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return octets
}

// memory is what a process has resident, now and at most so far (proc(5)).
func memory(t testing.TB, pid int) (now, most int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		switch f := strings.Fields(line); f[0] {
		case "VmRSS:":
			now = numberOf(f[1]) << 10
		case "VmHWM:":
			most = numberOf(f[1]) << 10
		}
	}
	return now, most
}
