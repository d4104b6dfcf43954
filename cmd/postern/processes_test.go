package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tick is the unit of processor time in /proc/PID/stat on Linux (USER_HZ, proc(5)).
const tick = 10 * time.Millisecond

// processorTime is what a process and all its descendants have used so far: their own,
// and that of children that have ended and been waited for. A server of many processes
// is measured as a whole by it.
func processorTime(t testing.TB, root int) time.Duration {
	t.Helper()
	type process struct {
		parent int
		ticks  int64
	}
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// The name in brackets may hold anything; what follows it has fixed places.
		_, rest, ok := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), " ")
		f := strings.Fields(rest)
		if !ok || len(f) < 15 {
			continue
		}
		p := process{parent: int(numberOf(f[1]))}
		for _, v := range f[11:15] { // utime, stime, cutime, cstime
			p.ticks += numberOf(v)
		}
		all[int(numberOf(filepath.Base(filepath.Dir(name))))] = p
	}
	if _, there := all[root]; !there {
		t.Fatalf("process %d is not there", root)
	}
	var sum int64
	for pid, p := range all {
		for up := pid; up > 1; up = all[up].parent {
			if up == root {
				sum += p.ticks
				break
			}
		}
	}
	return time.Duration(sum) * tick
}

func numberOf(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }

// quietTime waits until a tree of processes has nothing more to do and gives what it
// has used: the work that a server does behind its last message is its work too.
func quietTime(t testing.TB, root int) time.Duration {
	t.Helper()
	last := processorTime(t, root)
	for range 50 {
		time.Sleep(100 * time.Millisecond)
		now := processorTime(t, root)
		if now-last < tick {
			return now
		}
		last = now
	}
	return last
}

// TestProcessorTime holds the reading of /proc against a shell whose child has burnt
// time and ended, and against what the shell's parent, this test, must have used then.
func TestProcessorTime(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done); echo done; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	got := processorTime(t, cmd.Process.Pid)
	if all := processorTime(t, os.Getpid()); got <= 0 || got > time.Minute || all < got {
		t.Errorf("a child that has ended counts %v, and its grandparent %v", got, all)
	}
	_ = in.Close()
	_ = cmd.Wait()
}
