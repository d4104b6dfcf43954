package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// postfixSink is a running smtp-sink.
type postfixSink struct {
	host    string
	port    int
	cmd     *exec.Cmd
	arrived chan int
	stop    func()
}

// startSink starts smtp-sink, which counts on its standard output.
func startSink(t testing.TB, more ...string) *postfixSink {
	t.Helper()
	s := &postfixSink{host: "127.0.0.32", arrived: make(chan int, 1)}
	s.port = freePort(t, s.host)
	args := append(more, "-c", fmt.Sprintf("%s:%d", s.host, s.port), "1000")
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	s.cmd = exec.Command(need(t, "smtp-sink"), args...)
	s.cmd.Dir = t.TempDir()
	counters, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	s.stop = sync.OnceFunc(func() { _ = s.cmd.Process.Kill(); <-done; _ = s.cmd.Wait() })
	t.Cleanup(s.stop)
	go func() { defer close(done); s.count(bufio.NewScanner(counters)) }()
	awaitListener(t, fmt.Sprintf("%s:%d", s.host, s.port))
	return s
}

// count reads smtp-sink's running counters ("sess=1 quit=0 mesg=7", each ended by a
// CR) and keeps the latest.
func (s *postfixSink) count(sc *bufio.Scanner) {
	sc.Split(func(p []byte, _ bool) (int, []byte, error) {
		if i := bytes.IndexByte(p, '\r'); i >= 0 {
			return i + 1, p[:i], nil
		}
		return 0, nil, nil
	})
	for sc.Scan() {
		_, n, ok := strings.Cut(sc.Text(), "mesg=")
		got, err := strconv.Atoi(strings.TrimSpace(n))
		if !ok || err != nil {
			continue
		}
		select {
		case <-s.arrived:
		default:
		}
		s.arrived <- got
	}
}

// await waits until at least want messages have arrived and gives their number.
func (s *postfixSink) await(t testing.TB, want int) (got int) {
	t.Helper()
	timeout := time.After(5 * time.Minute)
	for got < want {
		select {
		case got = <-s.arrived:
		case <-timeout:
			t.Fatalf("%d of %d messages arrived", got, want)
		}
	}
	return got
}
