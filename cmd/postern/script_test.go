package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestScripts runs the commands as people do, from testdata/script. Besides what
// testscript has: lab starts a small Internet and sets its addresses in the
// environment, and in INC the first incident's name; fill FILE puts them in; serve FILE and stop are the node; spam N and
// customer N RECIPIENT send; arrived N waits for the stranger's mail; complain I sends
// AOL's complaint about its I-th delivery and save I FILE writes it; until TEXT ARGS
// runs postern again and again until it prints that.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lab": startStage, "fill": fill, "serve": serveScript, "halt": stopScript, "spam": spamScript, "customer": customerScript,
			"arrived": arrivedScript, "complain": complainScript, "save": saveScript, "until": untilScript,
			"undo": undoScript,
		},
		Setup: func(e *testscript.Env) error {
			e.Values[stageKey{}] = &stage{}
			e.Setenv("NO_COLOR", "1")
			return nil
		},
	})
}

type stageKey struct{}

// stage is the lab and the node of one script.
type stage struct {
	lab      *lab.Lab
	aol      *lab.Provider
	slow     *lab.Provider
	spammer  *lab.Spammer
	customer *lab.Customer
	internet string
	node     *exec.Cmd
	log      strings.Builder
}

func onStage(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// number reads an argument.
func number(ts *testscript.TestScript, args []string, i int) int {
	if i >= len(args) {
		ts.Fatalf("a number is wanted")
	}
	n, err := strconv.Atoi(args[i])
	ts.Check(err)
	return n
}

func free(ts *testscript.TestScript, host string) string {
	l, err := net.Listen("tcp", host+":0")
	ts.Check(err)
	defer l.Close()
	return l.Addr().String()
}

func startStage(ts *testscript.TestScript, _ bool, _ []string) {
	s := onStage(ts)
	var err error
	s.lab, err = lab.New(lab.Options{Seed: 1})
	ts.Check(err)
	ts.Defer(s.lab.Close)
	s.aol, err = s.lab.AddProvider("aol", []string{"aol.com"}, message.ProfileAOL, lab.Behaviour{})
	ts.Check(err)
	busy := smtp.NewReply(451, smtp.EnhancedCode{4, 3, 2}, "come back later")
	s.slow, err = s.lab.AddProvider("slow", []string{"slow.example"}, message.ProfileAOL, lab.Behaviour{Refuse: func(smtp.Path) *smtp.Reply { return busy }})
	ts.Check(err)
	s.internet = free(ts, "127.20.0.1")
	inject := free(ts, "127.20.0.2")
	s.spammer, s.customer = s.lab.AddSpammer(9, s.internet), s.lab.AddCustomer(1, "acme", "news.acme.example", inject)
	first := fmt.Sprintf("INC-%d-0001", time.Now().UTC().Year())
	for k, v := range map[string]string{"INC": first, "UNTIL": time.Now().AddDate(0, 1, 0).UTC().Format(time.DateOnly), "RESOLVER": s.lab.Resolver().String(), "PORT": strconv.Itoa(s.lab.Port), "INTERNET": s.internet, "INJECTION": inject, "ADMIN": free(ts, "127.0.0.1")} {
		ts.Setenv(k, v)
	}
}

func fill(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func serveScript(ts *testscript.TestScript, _ bool, args []string) {
	s := onStage(ts)
	exe, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(exe, "serve", args[0])
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "POSTERN_TEST_AS_PROGRAM=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = &s.log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	s.node = cmd
	ts.Defer(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready: policy ") {
		ts.Fatalf("the node is not ready: %q, %v\n%s", line, err, s.log.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
}

func stopScript(ts *testscript.TestScript, _ bool, _ []string) {
	s := onStage(ts)
	ts.Check(s.node.Process.Signal(os.Interrupt))
	if err := s.node.Wait(); err != nil {
		ts.Fatalf("the node did not stop cleanly: %v\n%s", err, s.log.String())
	}
}

func spamScript(ts *testscript.TestScript, _ bool, args []string) {
	n := number(ts, args, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if tally := onStage(ts).spammer.Spam(ctx, n, "aol.com", nil); tally.Accepted != n {
		ts.Fatalf("%d of %d messages were taken", tally.Accepted, n)
	}
}

func customerScript(ts *testscript.TestScript, _ bool, args []string) {
	n := number(ts, args, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tally, err := onStage(ts).customer.Send(ctx, n, args[1:], nil)
	ts.Check(err)
	if tally.Accepted != n {
		ts.Fatalf("%d of %d messages were taken", tally.Accepted, n)
	}
}

func arrivedScript(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ts.Check(onStage(ts).aol.Await(ctx, number(ts, args, 0), (*lab.Delivery).ByStranger))
}

var fbl = smtp.Path{Local: "fbl", Domain: "fbl.esp.example"}

// delivery is AOL's n-th, counted from 1.
func delivery(ts *testscript.TestScript, args []string) *lab.Delivery {
	all := onStage(ts).aol.Received()
	n := number(ts, args, 0)
	if n < 1 || n > len(all) {
		ts.Fatalf("there are %d deliveries", len(all))
	}
	return &all[n-1]
}

func complainScript(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s := onStage(ts)
	ts.Check(s.aol.Complain(ctx, delivery(ts, args), s.internet, fbl))
}

func saveScript(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), onStage(ts).aol.Complaint(delivery(ts, args), fbl), 0o600))
}

// untilScript waits for a state that a command shows.
func untilScript(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out string
	for ctx.Err() == nil {
		_ = ts.Exec("postern", args[1:]...)
		if out = ts.ReadFile("stdout"); strings.Contains(out, args[0]) {
			return
		}
	}
	ts.Fatalf("postern %s never says %q:\n%s", strings.Join(args[1:], " "), args[0], out)
}

// TestHelp holds every help text against its golden file, and its lines against a
// terminal's width.
func TestHelp(t *testing.T) {
	var b strings.Builder
	for _, name := range append([]string{""}, names()...) {
		args := []string{"help"}
		if name != "" {
			args = append(args, name)
		}
		var out, errs strings.Builder
		if code := Main(args, strings.NewReader(""), &out, &errs); code != 0 || errs.Len() > 0 {
			t.Fatalf("help %s: exit %d %s", name, code, errs.String())
		}
		fmt.Fprintf(&b, "$ postern %s\n%s\n", strings.Join(args, " "), out.String())
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 101 || strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
			t.Errorf("too long, or blanks at its end: %q", line)
		}
	}
	golden := filepath.Join("testdata", "help.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Errorf("the help differs from %s; read it, then go test ./cmd/postern -run TestHelp -update\n%s", golden, b.String())
	}
}

func names() (out []string) {
	for _, c := range commands() {
		out = append(out, c.name)
	}
	return out
}

// undoScript undoes the shaping action in force whose line holds a text.
func undoScript(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("postern", "shaping", "ls", args[1]))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if strings.Contains(line, args[0]) {
			ts.Check(ts.Exec("postern", "shaping", "undo", strings.Fields(line)[0], args[1]))
			return
		}
	}
	ts.Fatalf("nothing in force has %q in it", args[0])
}
