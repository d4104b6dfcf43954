package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDemo plays the story on the binary and holds its last line against the
// complaints before it: the names, and what must be equal.
func TestDemo(t *testing.T) {
	out, errs, code := run(t, "demo", "-json")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := lines[len(lines)-1]
	if got, want := keysOf(t, last), "complaints customer_delivered_after_repair customer_messages delivered_after_repair incident incident.filter incident.impact incident.listener incident.opened_at_complaint incident.peer "+
		"seconds stranger_messages_attempted stranger_messages_delivered verdicts verdicts.leaked verdicts.sent"; got != want {
		t.Errorf("the last line has\n%s\nwant\n%s", got, want)
	}
	var r struct {
		Customer   int            `json:"customer_messages"`
		Attempted  int            `json:"stranger_messages_attempted"`
		Delivered  int            `json:"stranger_messages_delivered"`
		Complaints int            `json:"complaints"`
		Verdicts   map[string]int `json:"verdicts"`
		Incident   struct {
			Listener, Filter, Peer string
			Impact                 int
			Opened                 int `json:"opened_at_complaint"`
		}
		After         int     `json:"delivered_after_repair"`
		CustomerAfter int     `json:"customer_delivered_after_repair"`
		Seconds       float64 `json:"seconds"`
	}
	if err := json.Unmarshal([]byte(last), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first, verdicts := complaintsOf(t, lines[:len(lines)-1])
	if r.Incident.Opened != first || first == 0 || r.Complaints != len(lines)-1 || !maps.Equal(r.Verdicts, verdicts) {
		t.Errorf("the first leaked complaint of %d was %d, verdicts %v; the sum says %+v", len(lines)-1, first, verdicts, r)
	}
	if r.Delivered != 63 || r.Incident.Impact != r.Delivered || r.Attempted <= r.Delivered || r.Customer != 140 || r.After != 0 || r.CustomerAfter != 20 || r.Seconds <= 0 || r.Seconds > 60 {
		t.Errorf("got %+v", r)
	}
	if r.Incident.Filter != "aol-range" || r.Incident.Listener != "internet" || r.Incident.Peer != "127.66.0.9" {
		t.Errorf("incident %+v", r.Incident)
	}
	if strings.Contains(errs, "\x1b") || strings.Contains(errs, "\r") || strings.Contains(errs, " \n") {
		t.Errorf("the story in a file has what belongs on a terminal:\n%q", errs)
	}
}

// keysOf lists the names of an object and of those in it.
func keysOf(t *testing.T, line string) string {
	t.Helper()
	var all []string
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		m, _ := v.(map[string]any)
		for k, v := range m {
			all = append(all, prefix+k)
			walk(prefix+k+".", v)
		}
	}
	var v any
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v\n%s", err, line)
	}
	walk("", v)
	slices.Sort(all)
	return strings.Join(all, " ")
}

// complaintsOf reads the lines of complaints: the first leaked one, by the lab's
// knowledge, and the count of verdicts. None may differ from what the lab knows.
func complaintsOf(t *testing.T, lines []string) (first int, verdicts map[string]int) {
	t.Helper()
	verdicts = map[string]int{}
	for i, line := range lines {
		var c struct {
			Complaint      int
			Verdict, Truth string
			Incident       string
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		if c.Complaint != i+1 || c.Verdict != c.Truth {
			t.Errorf("line %d: %s", i+1, line)
		}
		verdicts[c.Verdict]++
		if c.Truth == "leaked" && first == 0 {
			first = c.Complaint
		}
		if (c.Incident != "") != (c.Complaint == first) {
			t.Errorf("incident %q at complaint %d", c.Incident, c.Complaint)
		}
	}
	return first, verdicts
}

// TestDemoKeeps tries every command that demo -keep prints, as a reader would.
func TestDemoKeeps(t *testing.T) {
	cmd := program(t, "demo", "-keep")
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir())
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var commands []string
	sc := bufio.NewScanner(pipe)
	for sc.Scan() && !strings.Contains(sc.Text(), "Ctrl-C ends it") {
		if line := strings.TrimSpace(sc.Text()); strings.HasPrefix(line, "/") {
			commands = append(commands, line)
		}
	}
	if len(commands) < 8 {
		t.Fatalf("only these commands: %q", commands)
	}
	for _, line := range commands {
		c := exec.Command("sh", "-c", line)
		c.Env = cmd.Env
		if out, err := c.CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	for sc.Scan() {
		t.Log(sc.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

// volume is how many messages smtp-source sends: 20,000, and fewer under the race
// detector, which makes everything many times slower.
func volume() int {
	if raceDetector && os.Getenv("POSTERN_SOAK") == "" {
		return 2000
	}
	return 20000
}

// TestPostfixThroughToPostfix sends with smtp-source through a node to smtp-sink:
// every message arrives, and arrives once; and the story of any one of them can be
// told.
func TestPostfixThroughToPostfix(t *testing.T) {
	source := need(t, "smtp-source")
	dump := filepath.Join(t.TempDir(), "dump")
	out := startSink(t, "-D", dump)
	file, listener := gatewayConfig(t, zone(t, "sink.example", out.host), out.port, "")
	n := serve(t, file)
	count := volume()
	begin := time.Now()
	text, err := exec.Command(source, "-d", "-N", "-s", "50", "-l", "4096", "-m", strconv.Itoa(count), "-f", "n@news.acme.example", "-t", "user@sink.example", listener).CombinedOutput()
	if err != nil {
		t.Fatalf("smtp-source: %v\n%s", err, text)
	}
	accepted := time.Since(begin)
	arrived := out.await(t, count)
	total := time.Since(begin)
	tellStories(t, file, count)
	n.stop(t)
	got := dumped(t, dump)
	missing, doubled := 0, 0
	for i := 1; i <= count; i++ {
		switch c := got[fmt.Sprintf("%duser@sink.example", i)]; {
		case c == 0:
			missing++
		case c > 1:
			doubled++
		}
	}
	if arrived != count || missing > 0 || doubled > 0 || len(got) != count {
		t.Errorf("%d messages arrived, for %d recipients of %d, %d missing, %d twice", arrived, len(got), count, missing, doubled)
	}
	t.Logf("%d messages: accepted in %.1f s (%.0f/s), through in %.1f s (%.0f/s)", count, accepted.Seconds(), float64(count)/accepted.Seconds(), total.Seconds(), float64(count)/total.Seconds())
}

// tellStories asks for some messages by chance, each in a way of its own: by recipient
// and then by the id that this gave.
func tellStories(t *testing.T, file string, count int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 2))
	for range 5 {
		who := fmt.Sprintf("%duser@sink.example", 1+r.IntN(count))
		out, errs, code := run(t, "trace", "-recipient", who, file)
		id, _, _ := strings.Cut(strings.TrimPrefix(out, "message "), "\n")
		again, _, _ := run(t, "trace", "-id", strings.Fields(id + " -")[0], file)
		if again != out {
			t.Errorf("seed %d: trace of %s by id %q differs:\n%s", seed, who, id, again)
		}
		for _, want := range []string{"accepted by listener injection", "from 127.0.0.1:", "customer acme", "filter", "pool general", "127.0.0.2", "127.0.0.32:", "peer said: 250", time.Now().UTC().Format("2006-01-02 ")} {
			if !strings.Contains(out, want) {
				t.Errorf("seed %d: trace of %s: exit %d, no %q in\n%s%s", seed, who, code, want, out, errs)
			}
		}
	}
	if c := counts(t, file); c.Waiting != 0 || c.Held != 0 {
		t.Errorf("the queue has %+v", c)
	}
}

type queueCounts struct{ Waiting, Held int }

// counts asks a running node for its queue.
func counts(t testing.TB, file string) (c queueCounts) {
	t.Helper()
	out, errs, code := run(t, "status", "-json", file)
	if code != 0 || json.Unmarshal([]byte(out), &c) != nil {
		t.Fatalf("status: exit %d %s%s", code, out, errs)
	}
	return c
}

func awaitListener(t testing.TB, addr string) {
	t.Helper()
	ctx := deadline(t, 10*time.Second)
	var d net.Dialer
	for {
		if c, err := d.DialContext(ctx, "tcp", addr); err == nil {
			c.Close()
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("nobody listens at %s", addr)
		}
	}
}

// dumped reads the recipients from smtp-sink's dump.
func dumped(t testing.TB, name string) map[string]int {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]int{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if rcpt, ok := strings.CutPrefix(sc.Text(), "X-Rcpt-Args: <"); ok {
			rcpt, _, _ = strings.Cut(rcpt, ">")
			got[rcpt]++
		}
	}
	return got
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, 2, "usage: postern COMMAND"},
		{"help", []string{"help"}, 0, "usage: postern COMMAND"},
		{"help of a command", []string{"help", "trace"}, 0, "postern trace -recipient"},
		{"-h of a command", []string{"queue", "--help"}, 0, "postern queue ls"},
		{"unknown command", []string{"sreve"}, 2, `unknown command "sreve"`},
		{"unknown flag", []string{"check", "-x", "f"}, 2, "check: unknown flag -x"},
		{"missing file", []string{"check", "nowhere.hcl"}, 2, "no such file"},
		{"no node", []string{"status", "testdata/quiet.hcl"}, 2, "no node answers"},
		{"everything is not a choice", []string{"queue", "drop", "testdata/quiet.hcl"}, 2, "queue drop of everything?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errs, code := run(t, c.args...)
			if code != c.code || !strings.Contains(out+errs, c.want) {
				t.Errorf("exit %d, want %d with %q:\n%s%s", code, c.code, c.want, out, errs)
			}
		})
	}
}

func TestInitChecksAndFormats(t *testing.T) {
	file := filepath.Join(t.TempDir(), "postern.hcl")
	if out, errs, code := run(t, "init", "-hostname", "gw.esp.example", file); code != 0 {
		t.Fatalf("init: exit %d\n%s%s", code, out, errs)
	}
	if out, errs, code := run(t, "check", file); code != 0 || !strings.Contains(out, " is closed: ") {
		t.Errorf("check: exit %d\n%s%s", code, out, errs)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, code := run(t, "fmt", file); code != 0 || out != string(before) {
		t.Errorf("fmt changes the starter: exit %d\n%s%s", code, out, errs)
	}
	if _, errs, code := run(t, "init", file); code != 2 || !strings.Contains(errs, "exists") {
		t.Errorf("init over a file: exit %d %s", code, errs)
	}
}
