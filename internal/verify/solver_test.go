package verify_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// solver is a solver of another hand that answers script after script in one process.
type solver struct {
	t    *testing.T
	path string
	work string // an option that bounds the work for one script
	args []string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  chan string
}

// newSolver starts z3 or cvc5; without it the test is skipped, or fails where must.
func newSolver(t *testing.T, name string, must bool, args ...string) *solver {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && must && os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed: scripts/needs.sh does it", name)
	}
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	s := &solver{t: t, path: path, args: args}
	t.Cleanup(s.stop)
	return s
}

func (s *solver) start() {
	s.cmd = exec.Command(s.path, s.args...) //nolint:gosec // a solver that was looked up
	in, err := s.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.in, s.out = in, make(chan string, 64)
	lines := s.out
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
}

// stop ends the process and waits for its reader.
func (s *solver) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.in.Close()
	_ = s.cmd.Process.Kill()
	for range s.out { // until the reader is done
	}
	_ = s.cmd.Wait()
	s.cmd = nil
}

const endOfAnswer = "end-of-answer"

// solve gives "sat", "unsat" or, past its time, "unknown". A solver that does not
// keep to its limit is started anew.
func (s *solver) solve(text string) string {
	s.t.Helper()
	if s.cmd == nil {
		s.start()
	}
	if _, err := io.WriteString(s.in, "(reset)\n"+s.work+text+"(echo \""+endOfAnswer+"\")\n"); err != nil {
		s.t.Fatalf("%s: %v", s.path, err)
	}
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	answer := ""
	for {
		select {
		case line, ok := <-s.out:
			switch {
			case !ok:
				s.stop()
				return "unknown"
			case strings.Contains(line, endOfAnswer):
				return answer
			case answer == "" && (line == "sat" || line == "unsat" || line == "unknown" || line == "timeout"):
				if answer = line; line == "timeout" {
					answer = "unknown"
				}
			case answer == "" || !strings.Contains(line, "timeout"):
				s.t.Fatalf("%s: %s\n%s", s.path, line, text)
			}
		case <-late.C:
			s.stop()
			return "unknown"
		}
	}
}
