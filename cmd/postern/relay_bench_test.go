package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
	source, sinkProgram := need(b, "smtp-source"), need(b, "smtp-sink")
	port := freePort(b, "127.0.0.32")
	address := fmt.Sprintf("127.0.0.32:%d", port)
	args := []string{"-c", address, "1000"}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	sinkCmd := exec.Command(sinkProgram, args...)
	counters, err := sinkCmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := sinkCmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = sinkCmd.Process.Kill(); _ = sinkCmd.Wait() }()
	awaitListener(b, address)
	file, listener := gatewayConfig(b, zone(b, "sink.example", "127.0.0.32"), port, "")
	n := serve(b, file)
	arrived := make(chan int, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = sinkCmd.Process.Kill() })
	defer stop()
	go func() { arrived <- countArrivals(bufio.NewScanner(counters), count) }()
	begin := time.Now()
	out, err := exec.Command(source, "-d", "-N", "-s", "50", "-l", strconv.Itoa(size), "-m", strconv.Itoa(count), "-f", "n@news.acme.example", "-t", "user@sink.example", listener).CombinedOutput()
	if err != nil {
		b.Fatalf("smtp-source: %v\n%s", err, out)
	}
	accepted := time.Since(begin)
	got := <-arrived
	through := time.Since(begin)
	n.stop(b)
	if got != count {
		b.Fatalf("%d of %d messages arrived", got, count)
	}
	cpu := n.cmd.ProcessState.UserTime() + n.cmd.ProcessState.SystemTime()
	b.ReportMetric(float64(count)/accepted.Seconds(), "accepted/s")
	b.ReportMetric(float64(count)/through.Seconds(), "through/s")
	b.ReportMetric(cpu.Seconds()*1000/float64(count), "cpu-s/1000")
}

// countArrivals reads smtp-sink's running counters ("sess=1 quit=0 mesg=7", each
// ended by a CR) until there are want messages or the sink has ended.
func countArrivals(sc *bufio.Scanner, want int) (got int) {
	sc.Split(func(p []byte, end bool) (int, []byte, error) {
		if i := bytes.IndexByte(p, '\r'); i >= 0 {
			return i + 1, p[:i], nil
		}
		return 0, nil, nil
	})
	for got < want && sc.Scan() {
		if _, n, ok := strings.Cut(sc.Text(), "mesg="); ok {
			got, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return got
}
