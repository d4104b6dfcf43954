package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"postern.dev/postern/internal/smtp"
)

// TestThroughput prints the table of docs/performance.md: smtp-source in 50 sessions ->
// a server -> smtp-sink, all on this machine, on one disk, in turns. POSTERN_BENCH is
// how many rounds are run, POSTERN_BENCH_MESSAGES how many messages each (20,000);
// POSTERN_BENCH_ONLY names the servers, by parts of their names with commas between.
func TestThroughput(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("POSTERN_BENCH"))
	if rounds < 1 {
		t.Skip("make bench runs it: five rounds take a quarter of an hour")
	}
	count := messages()
	for _, size := range []int{4 << 10, 50 << 10} {
		got := map[string][]sample{}
		for range rounds {
			for _, c := range contenders() {
				if wanted(c.name) {
					got[c.name] = append(got[c.name], c.measure(t, size, count))
				}
			}
		}
		printTable(os.Stdout, size, count, got)
	}
}

// messages is how many messages a run has.
func messages() int {
	if n, err := strconv.Atoi(os.Getenv("POSTERN_BENCH_MESSAGES")); err == nil {
		return n
	}
	return 20_000
}

func wanted(name string) bool {
	only := os.Getenv("POSTERN_BENCH_ONLY")
	return only == "" || slices.ContainsFunc(strings.Split(only, ","), func(part string) bool { return strings.Contains(name, part) })
}

// BenchmarkRelay is the row of Postern alone, for profiles (POSTERN_TEST_PROFILE):
// one iteration is one run of all the messages.
func BenchmarkRelay(b *testing.B) {
	for _, size := range []int{4 << 10, 50 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			for range b.N {
				s := contenders()[postern].measure(b, size, messages())
				b.ReportMetric(s.accepted, "accepted/s")
				b.ReportMetric(s.through, "through/s")
				b.ReportMetric(s.cpu, "cpu-s/1000")
				b.ReportMetric(s.half.Seconds()*1000, "p50-ms")
				b.ReportMetric(s.most.Seconds()*1000, "p99-ms")
			}
		})
	}
}

// sample is one run: messages a second, processor seconds of the server for 1,000
// messages, and how long sessions beside the load took from the connection to the 250.
type sample struct {
	accepted, through, cpu float64
	half, most             time.Duration // p50 and p99
}

// contender is a server that is measured. start gives where it listens, its first
// process, and how to end it; one that delivers sends on to the sink.
type contender struct {
	name     string
	delivers bool
	start    func(t testing.TB, sink *postfixSink) (listener string, pid int, stop func())
}

// postern is the place of the node in the list of contenders.
const postern = 3

func contenders() []contender {
	return []contender{
		{"smtp-sink alone", false, func(_ testing.TB, s *postfixSink) (string, int, func()) {
			return fmt.Sprintf("%s:%d", s.host, s.port), s.cmd.Process.Pid, func() {}
		}},
		{"postern wire, discards", false, startDiscard},
		{"postern, accepts and holds", false, func(t testing.TB, s *postfixSink) (string, int, func()) {
			return startPostern(t, s, "filter \"hold-all\" {\n  if   = true\n  then = hold(\"bench\")\n}")
		}},
		{"postern, end to end", true, func(t testing.TB, s *postfixSink) (string, int, func()) { return startPostern(t, s, "") }},
		{"postfix, end to end", true, startPostfix},
	}
}

// warmUp is how many messages go through a server before the clock starts: processes,
// connections and caches are there then, in all of them.
const warmUp = 1000

// measure runs the messages through a new server and a new sink.
func (c contender) measure(t testing.TB, size, count int) sample {
	t.Helper()
	sink := startSink(t)
	listener, pid, stop := c.start(t, sink)
	pour(t, listener, size, warmUp)
	if c.delivers {
		sink.await(t, warmUp)
	}
	before, begin := quietTime(t, pid), time.Now()
	pour(t, listener, size, count)
	accepted := time.Since(begin)
	through := accepted
	if c.delivers {
		if got := sink.await(t, warmUp+count); got != warmUp+count {
			t.Fatalf("%s: %d of %d messages arrived", c.name, got-warmUp, count)
		}
		through = time.Since(begin)
	}
	used := quietTime(t, pid) - before
	s := sample{accepted: float64(count) / accepted.Seconds(), through: float64(count) / through.Seconds(), cpu: used.Seconds() * 1000 / float64(count)}
	s.half, s.most = beside(t, listener, size, max(count/5, 500))
	stop()
	sink.stop()
	t.Logf("%-28s %2d KiB: accepted %6.0f/s, through %6.0f/s, %.3f CPU s per 1,000, a session %v, one in a hundred %v",
		c.name, size>>10, s.accepted, s.through, s.cpu, s.half.Round(10*time.Microsecond), s.most.Round(10*time.Microsecond))
	return s
}

// beside runs sessions of one message each, one after the other, for as long as the
// messages of a load pour in, and gives the median and the 99th percentile of how long
// each took from before its connection to the reply to the end of data.
func beside(t testing.TB, listener string, size, count int) (half, most time.Duration) {
	t.Helper()
	poured := make(chan struct{})
	go func() { defer close(poured); pour(t, listener, size, count) }()
	line := strings.Repeat("x", 70) + "\r\n"
	body := "Subject: beside\r\n\r\n" + strings.Repeat(line, size/len(line))
	var all []time.Duration
	for more := true; more; {
		begin := time.Now()
		if err := session(t.Context(), listener, body, func() { all = append(all, time.Since(begin)) }); err != nil {
			t.Error(err)
			break
		}
		select {
		case <-poured:
			more = false
		default:
		}
	}
	<-poured
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// session sends one message over a connection of its own, and calls done at the reply.
func session(ctx context.Context, listener, body string, done func()) error {
	nc, err := net.Dial("tcp", listener)
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := smtp.NewClient(ctx, nc, smtp.Timeouts{})
	if err != nil {
		return err
	}
	if err := c.Hello(ctx, "beside.example"); err != nil {
		return err
	}
	res := c.Send(ctx, &smtp.Mail{From: smtp.Path{Local: "n", Domain: "news.acme.example"},
		To: []smtp.Recipient{{Path: smtp.Path{Local: "beside", Domain: "sink.example"}}}, Body: strings.NewReader(body)})
	if res.Err != nil || res.Data == nil || !res.Data.Positive() {
		return fmt.Errorf("session beside the load: %+v", res)
	}
	done()
	return c.Quit()
}

// pour sends messages in 50 sessions, each to another recipient.
func pour(t testing.TB, listener string, size, count int) {
	t.Helper()
	out, err := exec.Command(need(t, "smtp-source"), "-d", "-N", "-s", "50", "-l", strconv.Itoa(size), "-m", strconv.Itoa(count),
		"-f", "n@news.acme.example", "-t", "user@sink.example", listener).CombinedOutput()
	if err != nil {
		t.Fatalf("smtp-source: %v\n%s", err, out)
	}
}

func startPostern(t testing.TB, sink *postfixSink, more string) (string, int, func()) {
	file, listener := gatewayConfig(t, zone(t, "sink.example", sink.host), sink.port, more)
	n := serve(t, file)
	return listener, n.cmd.Process.Pid, func() { n.stop(t); _ = os.RemoveAll(filepath.Dir(file)) }
}

// startPostfix starts a Postfix of its own with its defaults, fsync and all, that hands
// everything to the sink.
func startPostfix(t testing.TB, sink *postfixSink) (string, int, func()) {
	program := need(t, "postfix")
	if os.Geteuid() != 0 {
		t.Skip("Postfix needs root to run")
	}
	dir, err := os.MkdirTemp("", "postern-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	listener := fmt.Sprintf("127.0.0.34:%d", freePort(t, "127.0.0.34"))
	postfixConfig(t, dir, listener, fmt.Sprintf("[%s]:%d", sink.host, sink.port), "")
	if b, err := exec.Command(program, "-c", dir, "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v\n%s", err, b)
	}
	stop := func() { _ = exec.Command(program, "-c", dir, "stop").Run(); _ = os.RemoveAll(dir) }
	t.Cleanup(stop)
	awaitListener(t, listener)
	b, err := os.ReadFile(filepath.Join(dir, "queue", "pid", "master.pid"))
	if err != nil {
		t.Fatal(err)
	}
	return listener, int(numberOf(strings.TrimSpace(string(b)))), stop
}

// startDiscard starts the wire layer alone, as a process of its own.
func startDiscard(t testing.TB, _ *postfixSink) (string, int, func()) {
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	cmd := program(t, "discard", addr)
	cmd.Env = append(cmd.Env, "POSTERN_TEST_AS_PROGRAM=discard")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }
	t.Cleanup(stop)
	awaitListener(t, addr)
	return addr, cmd.Process.Pid, stop
}

// discarding takes every message and keeps none.
type discarding struct{}

func (discarding) NewSession(context.Context, *smtp.Peer) (smtp.Session, *smtp.Reply) {
	return discarding{}, nil
}
func (discarding) Mail(context.Context, smtp.Path, smtp.MailParams) *smtp.Reply { return nil }
func (discarding) Rcpt(context.Context, smtp.Path, smtp.RcptParams) *smtp.Reply { return nil }
func (discarding) Data(_ context.Context, r io.Reader) *smtp.Reply {
	_, _ = io.Copy(io.Discard, r)
	return nil
}
func (discarding) Reset() {}
func (discarding) Close() {}

// discard serves the wire layer at an address until it is interrupted.
func discard(addr string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := &smtp.Server{Hostname: "gw.esp.example", Backend: discarding{}, Limits: smtp.Limits{PerAddress: 500, Commands: 1_000_000}}
	context.AfterFunc(ctx, func() { _ = s.Shutdown(ctx) })
	return s.Serve(ctx, l)
}

// printTable prints medians, with the range of the rate.
func printTable(w io.Writer, size, count int, got map[string][]sample) {
	fmt.Fprintf(w, "\n%d messages of %d KiB in 50 sessions, median of %d (range)\n", count, size>>10, rounds(got))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "server\taccepted/s\tend to end/s\tCPU s per 1,000\ttimes postfix\tsession p50\tp99")
	base := median(got["postfix, end to end"], func(s sample) float64 { return s.through })
	for _, c := range contenders() {
		runs := got[c.name]
		if len(runs) == 0 {
			continue
		}
		through, times := "-", "-"
		if rate := func(s sample) float64 { return s.through }; c.delivers {
			through = fmt.Sprintf("%.0f (%.0f-%.0f)", median(runs, rate), rate(slices.MinFunc(runs, by(rate))), rate(slices.MaxFunc(runs, by(rate))))
			if base > 0 {
				times = fmt.Sprintf("%.1f", median(runs, rate)/base)
			}
		}
		fmt.Fprintf(tw, "%s\t%.0f\t%s\t%.3f\t%s\t%.1f ms\t%.1f ms\n", c.name, median(runs, func(s sample) float64 { return s.accepted }), through,
			median(runs, func(s sample) float64 { return s.cpu }), times, median(runs, func(s sample) float64 { return s.half.Seconds() * 1000 }),
			median(runs, func(s sample) float64 { return s.most.Seconds() * 1000 }))
	}
	_ = tw.Flush()
}

// rounds is how often each was run.
func rounds(got map[string][]sample) (n int) {
	for _, runs := range got {
		n = max(n, len(runs))
	}
	return n
}

func by(f func(sample) float64) func(a, b sample) int {
	return func(a, b sample) int {
		switch x, y := f(a), f(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
}

func median(runs []sample, f func(sample) float64) float64 {
	if len(runs) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(runs), by(f))
	return f(sorted[len(sorted)/2])
}
