package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"postern.dev/postern/internal/smtp"
)

// TestMain lets the test binary be postern itself: the tests below start it as a
// process of its own.
func TestMain(m *testing.M) {
	switch os.Getenv("POSTERN_TEST_AS_PROGRAM") {
	case "":
	case "discard":
		if err := discard(os.Args[2]); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			log.Fatal(err)
		}
		os.Exit(0)
	default:
		os.Exit(asProgram())
	}
	testscript.Main(m, map[string]func(){"postern": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }})
}

// asProgram is postern's main; POSTERN_TEST_PROFILE names a file for a CPU profile of a
// node.
func asProgram() int {
	if name := os.Getenv("POSTERN_TEST_PROFILE"); name != "" && len(os.Args) > 1 && os.Args[1] == "serve" {
		f, err := os.Create(name)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			log.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	return Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// program makes a command that runs this very binary as postern.
func program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "POSTERN_TEST_AS_PROGRAM=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// run runs postern to its end and gives what it printed and its exit code.
func run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := program(t, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// need finds a program of another server, or skips; in CI its absence is a failure.
func need(t testing.TB, name string) string {
	t.Helper()
	exim, _ := filepath.Abs("../../bin/exim/usr/sbin") // where make needs unpacks it, beside Postfix
	opensmtpd, _ := filepath.Abs("../../bin/opensmtpd/usr/sbin")
	if name == "smtpd" { // as Postfix calls a part of its own, too
		return needIn(t, name, opensmtpd)
	}
	return needIn(t, name, append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin", exim)...)
}

// needIn finds a program in one of these directories, or skips as need does.
func needIn(t testing.TB, name string, dirs ...string) string {
	t.Helper()
	for _, dir := range dirs {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed (make needs installs it)", name)
	}
	t.Skipf("%s is not installed (make needs installs it)", name)
	return ""
}

// freePort finds a port that is free on every one of the addresses.
func freePort(t testing.TB, addrs ...string) int {
	t.Helper()
search:
	for range 200 {
		l, err := net.Listen("tcp", net.JoinHostPort(addrs[0], "0"))
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		for _, a := range addrs[1:] {
			l, err := net.Listen("tcp", net.JoinHostPort(a, strconv.Itoa(port)))
			if err != nil {
				continue search
			}
			l.Close()
		}
		return port
	}
	t.Fatal("no free port")
	return 0
}

// zone is a DNS server for one domain with one MX.
func zone(t testing.TB, domain, mxAddr string) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		var rr dns.RR
		switch name := strings.ToLower(q.Question[0].Name); {
		case name == domain+"." && q.Question[0].Qtype == dns.TypeMX:
			rr, _ = dns.NewRR(domain + ". 60 IN MX 10 mx." + domain + ".")
		case name == "mx."+domain+"." && q.Question[0].Qtype == dns.TypeA:
			rr, _ = dns.NewRR("mx." + domain + ". 60 IN A " + mxAddr)
		case name != domain+"." && name != "mx."+domain+".":
			m.Rcode = dns.RcodeNameError
		}
		if rr != nil {
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(answer)}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown(); <-done })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// gatewayConfig writes a configuration of a gateway with one customer who sends from
// loopback, one pool and the given resolver; it gives the file and the listener.
func gatewayConfig(t testing.TB, resolver netip.AddrPort, sinkPort int, more string) (file, listener string) {
	t.Helper()
	dir := t.TempDir()
	listener = fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	text := fmt.Sprintf(`
node {
  hostname    = "gw.esp.example"
  state       = "state"
  resolver    = [%q]
  smtp_port   = %d
  return_path = "bounce.esp.example"
  log_level   = "warn"
}
listener "injection" {
  address = %q
  from    = "customers"
  limits {
    connections = 500
    per_address = 500
    commands    = 1000000
  }
}
accept = ["bounce.esp.example"]
customer "acme" {
  networks = ["127.0.0.0/8"]
  senders  = ["news.acme.example"]
}
pool "general" { sources = ["127.0.0.21-127.0.0.24"] }
%s
`, resolver, sinkPort, listener, more)
	file = filepath.Join(dir, "postern.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, listener
}

// node is postern serve as a process.
type nodeProcess struct {
	cmd *exec.Cmd
	log *strings.Builder
}

// serve starts the node and waits until it is ready.
func serve(t testing.TB, file string) *nodeProcess {
	t.Helper()
	cmd := program(t, "serve", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n := &nodeProcess{cmd: cmd, log: &strings.Builder{}}
	cmd.Stderr = n.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n') // "ready ..." is the first thing on stdout
	if err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("the node is not ready: %q, %v\n%s", line, err, n.log)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return n
}

// stop ends the node gracefully.
func (n *nodeProcess) stop(t testing.TB) {
	t.Helper()
	_ = n.cmd.Process.Signal(os.Interrupt)
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the node did not stop cleanly: %v\n%s", err, n.log)
	}
}

// sink is a mailbox provider that keeps count of what arrives for whom.
type sink struct {
	mu   sync.Mutex
	got  map[string]int
	more chan struct{}
}

func newSink(t testing.TB, addr string) *sink {
	t.Helper()
	s := &sink{got: map[string]int{}, more: make(chan struct{}, 1)}
	srv := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return &sinkSession{sink: s}, nil }))
	srv.Domain = "mx.sink.example"
	srv.ErrorLog = log.New(io.Discard, "", 0) // a killed node's connections break, as they should
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return s
}

type sinkSession struct {
	sink *sink
	to   []string
}

func (s *sinkSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (s *sinkSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}
func (s *sinkSession) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for _, to := range s.to {
		s.sink.got[to]++
	}
	select {
	case s.sink.more <- struct{}{}:
	default:
	}
	return nil
}
func (s *sinkSession) Reset()        { s.to = nil }
func (s *sinkSession) Logout() error { return nil }

// count says how often mail arrived for an address.
func (s *sink) count(to string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[to]
}

// await waits until ok holds for what has arrived.
func (s *sink) await(ctx context.Context, ok func(map[string]int) bool) error {
	for {
		s.mu.Lock()
		done := ok(s.got)
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func deadline(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
