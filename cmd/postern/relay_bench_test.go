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

// BenchmarkRelay measures a node between smtp-source and smtp-sink, all three on this
// machine: 20,000 messages of 4 KiB and of 50 KiB over 50 sessions. One iteration is
// one run of all the messages: -benchtime 1x -count 5, and take the median.
func BenchmarkRelay(b *testing.B) {
	for _, size := range []int{4 << 10, 50 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			for range b.N {
				relay(b, 20000, size)
			}
		})
	}
}

// relay sends count messages through a new node and reports the rates: accepted by
// the node, arrived at the sink, and the node's processor time.
func relay(b *testing.B, count, size int) {
	source := need(b, "smtp-source")
	sink := startSink(b)
	file, listener := gatewayConfig(b, zone(b, "sink.example", sink.host), sink.port, "")
	n := serve(b, file)
	begin := time.Now()
	out, err := exec.Command(source, "-d", "-N", "-s", "50", "-l", strconv.Itoa(size), "-m", strconv.Itoa(count), "-f", "n@news.acme.example", "-t", "user@sink.example", listener).CombinedOutput()
	if err != nil {
		b.Fatalf("smtp-source: %v\n%s", err, out)
	}
	accepted := time.Since(begin)
	got := sink.await(b, count)
	through := time.Since(begin)
	n.stop(b)
	sink.stop()
	if got != count {
		b.Fatalf("%d of %d messages arrived", got, count)
	}
	cpu := n.cmd.ProcessState.UserTime() + n.cmd.ProcessState.SystemTime()
	b.ReportMetric(float64(count)/accepted.Seconds(), "accepted/s")
	b.ReportMetric(float64(count)/through.Seconds(), "through/s")
	b.ReportMetric(cpu.Seconds()*1000/float64(count), "cpu-s/1000")
}

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
