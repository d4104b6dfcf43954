package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postern.dev/postern/internal/config"
)

// TestDialogues plays the scripts of testdata/dialogue against the binary, one
// connection after the other. A line of a script is one of
//
//	connect LISTENER [ADDRESS]   open a connection, from an address
//	-> TEXT                      send TEXT and CRLF; "..." is sent as it is, unquoted as in Go
//	<- TEXT                      the next line is exactly this
//	<~ REGEXP                    the next line matches
//	<< REGEXP                    the next reply's last line matches; the others may be anything
//	quiet                        nothing more is said and the server closes
//	tls                          shake hands
//	repeat N TEXT                send TEXT and CRLF many times
//	replies N REGEXP             the last lines of so many replies match
//	arrives RCPT                 wait for the next message to this recipient
//	has REGEXP, lacks REGEXP     look at it
//	never RCPT                   no message to this recipient arrives, to the end of all scripts
func TestDialogues(t *testing.T) {
	w := newEdge(t)
	files, err := filepath.Glob("testdata/dialogue/*.txt")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			p := &player{t: t, edge: w, file: f}
			defer p.end()
			for i, line := range strings.Split(string(text), "\n") {
				p.line = i + 1
				if line = strings.TrimRight(line, " "); line != "" && !strings.HasPrefix(line, "#") {
					p.step(line)
				}
			}
		})
	}
	w.settle(t)
	for rcpt, where := range w.never {
		if _, ok := w.box.take(context.Background(), rcpt, false); ok {
			t.Errorf("%s: a message to %s arrived", where, rcpt)
		}
	}
	w.node.stop(t)
}

// edge is a node with a listener of each sort, and what it hands on.
type edge struct {
	node      *nodeProcess
	file      string
	listeners map[string]string
	box       *letterbox
	never     map[string]string
}

const edgeConfig = `
node {
  hostname  = "gw.esp.example"
  state     = "state"
  resolver  = [%[1]q]
  smtp_port = %[2]d
  log_level = "error"
}
listener "internet" {
  address = %[3]q
  from    = "strangers"
  auth    = true
  tls {
    certificate = %[8]q
    key         = %[9]q
  }
  limits {
    size       = "64KiB"
    recipients = 100
    errors     = 8
    commands   = 1000
  }
}
listener "injection" {
  address = %[4]q
  from    = "customers"
}
listener "implicit" {
  address = %[5]q
  from    = "strangers"
  auth    = true
  tls {
    certificate = %[8]q
    key         = %[9]q
    implicit    = true
  }
}
listener "proxied" {
  address    = %[6]q
  from       = "customers"
  proxy_from = ["127.40.0.1/32"]
}
listener "brief" {
  address = %[7]q
  from    = "strangers"
  limits {
    idle        = "1s"
    data        = "1s"
    session     = "5s"
    connections = 3
    per_address = 2
  }
}
accept = ["bounce.esp.example"]
customer "acme" {
  networks = ["127.10.1.0/24"]
  senders  = ["news.acme.example"]
}
customer "shop" {
  senders = ["shop.example"]
  users   = { app = %[10]q }
}
inside "room" {
  address = "127.0.0.36:%[2]d"
  domains = ["bounce.esp.example"]
  resends = false
}
pool "general" { sources = ["127.0.0.21-127.0.0.24"] }
filter "room" {
  if   = rcpt.domain == "bounce.esp.example"
  then = deliver()
}
filter "resent" {
  if   = origin == "inside" && rcpt.domain == "sink.example"
  then = deliver()
}
`

func newEdge(t *testing.T) *edge {
	t.Helper()
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	port := freePort(t, "127.0.0.36", "127.0.0.37")
	w := &edge{file: filepath.Join(dir, "postern.hcl"), listeners: map[string]string{}, never: map[string]string{}, box: newLetterbox()}
	args := []any{zone(t, "sink.example", "127.0.0.37").String(), port}
	for _, name := range []string{"internet", "injection", "implicit", "proxied", "brief"} {
		w.listeners[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
		args = append(args, w.listeners[name])
	}
	args = append(args, cert, key, config.HashPassword("secret", []byte("0123456789abcdef"), 4096))
	if err := os.WriteFile(w.file, fmt.Appendf(nil, edgeConfig, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"127.0.0.36", "127.0.0.37"} {
		w.box.listen(t, net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	w.node = serve(t, w.file)
	return w
}

// settle waits until everything that was accepted has been handed on.
func (w *edge) settle(t *testing.T) {
	t.Helper()
	for ctx := deadline(t, 20*time.Second); counts(t, w.file).Waiting > 0; {
		if ctx.Err() != nil {
			t.Fatal("the queue does not empty")
		}
	}
}

// letterbox keeps what the node hands on, by recipient.
type letterbox struct {
	mu   sync.Mutex
	got  map[string][]string
	more chan struct{} // closed at the next arrival
}

func newLetterbox() *letterbox {
	return &letterbox{got: map[string][]string{}, more: make(chan struct{})}
}

func (b *letterbox) listen(t testing.TB, addr string) {
	t.Helper()
	srv := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return &letter{box: b}, nil }))
	srv.Domain, srv.EnableSMTPUTF8, srv.EnableDSN, srv.MaxLineLength = "mx.sink.example", true, true, 1<<20
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

type letter struct {
	box      *letterbox
	envelope string
	to       []string
}

func (s *letter) Mail(from string, o *gosmtp.MailOptions) error {
	s.envelope = fmt.Sprintf("MAIL FROM:<%s> BODY=%s SMTPUTF8=%v RET=%s ENVID=%s\n", from, o.Body, o.UTF8, o.Return, o.EnvelopeID)
	return nil
}

func (s *letter) Rcpt(to string, o *gosmtp.RcptOptions) error {
	s.to = append(s.to, to)
	s.envelope += fmt.Sprintf("RCPT TO:<%s> NOTIFY=%v ORCPT=%s;%s\n", to, o.Notify, o.OriginalRecipientType, o.OriginalRecipient)
	return nil
}

func (s *letter) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	for _, to := range s.to {
		s.box.got[to] = append(s.box.got[to], s.envelope+string(body))
	}
	close(s.box.more)
	s.box.more = make(chan struct{})
	return nil
}
func (s *letter) Reset()        { s.to, s.envelope = nil, "" }
func (s *letter) Logout() error { return nil }

// take gives the oldest message to a recipient and forgets it; wait tells whether one
// that has not arrived is waited for.
func (b *letterbox) take(ctx context.Context, rcpt string, wait bool) (string, bool) {
	for {
		b.mu.Lock()
		if all := b.got[rcpt]; len(all) > 0 {
			b.got[rcpt] = all[1:]
			b.mu.Unlock()
			return all[0], true
		}
		more := b.more
		b.mu.Unlock()
		if !wait {
			return "", false
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", false
		}
	}
}

// player plays one script.
type player struct {
	t    *testing.T
	edge *edge
	file string
	line int
	conn net.Conn
	r    *bufio.Reader
	all  []net.Conn
	mail string
}

func (p *player) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s:%d: %s", p.file, p.line, fmt.Sprintf(format, args...))
}

func (p *player) end() {
	for _, c := range p.all {
		c.Close()
	}
}

func (p *player) step(line string) {
	p.t.Helper()
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "connect":
		p.connect(strings.Fields(arg))
	case "->":
		p.send(p.octets(arg))
	case "<-", "<~":
		got := p.read()
		if verb == "<-" && got != arg || verb == "<~" && !p.pattern(arg).MatchString(got) {
			p.fail("got %q", got)
		}
	case "<<":
		p.reply(arg)
	case "quiet":
		if rest, err := io.ReadAll(p.r); len(rest) > 0 || isTimeout(err) {
			p.fail("got %q, %v", rest, err)
		}
		p.conn.Close()
	case "tls":
		c := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			p.fail("%v", err)
		}
		p.conn, p.r = c, bufio.NewReader(c)
	case "repeat", "replies":
		n, text, _ := strings.Cut(arg, " ")
		p.many(verb, n, text)
	default:
		p.after(verb, arg)
	}
}

func (p *player) many(verb, n, text string) {
	p.t.Helper()
	count, err := strconv.Atoi(n)
	if err != nil {
		p.fail("%v", err)
	}
	if verb == "repeat" {
		p.send(strings.Repeat(p.octets(text), count))
		return
	}
	for range count {
		p.reply(text)
	}
}

// after looks at what became of a message.
func (p *player) after(verb, arg string) {
	p.t.Helper()
	switch verb {
	case "arrives":
		var ok bool
		if p.mail, ok = p.edge.box.take(deadline(p.t, 15*time.Second), arg, true); !ok {
			p.fail("nothing to %s arrived", arg)
		}
	case "has", "lacks":
		if p.pattern(arg).MatchString(p.mail) != (verb == "has") {
			p.fail("the message is\n%s", p.mail)
		}
	case "never":
		p.edge.never[arg] = fmt.Sprintf("%s:%d", p.file, p.line)
	default:
		p.fail("unknown step %q", verb)
	}
}

func (p *player) connect(args []string) {
	p.t.Helper()
	d := net.Dialer{}
	if len(args) > 1 {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(args[1])}
	}
	c, err := d.Dial("tcp", p.edge.listeners[args[0]])
	if err != nil {
		p.fail("%v", err)
	}
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	p.all = append(p.all, c)
	p.conn, p.r = c, bufio.NewReader(c)
}

// octets gives what a text stands for.
func (p *player) octets(text string) string {
	p.t.Helper()
	if !strings.HasPrefix(text, `"`) {
		return text + "\r\n"
	}
	s, err := strconv.Unquote(text)
	if err != nil {
		p.fail("%v", err)
	}
	return s
}

// send may fail: the server is free to have closed, and what it said is looked at.
func (p *player) send(s string) { _, _ = io.WriteString(p.conn, s) }

func (p *player) read() string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.fail("the server said %q and then %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

func (p *player) reply(want string) {
	p.t.Helper()
	line := p.read()
	for len(line) > 3 && line[3] == '-' {
		line = p.read()
	}
	if !p.pattern(want).MatchString(line) {
		p.fail("got %q", line)
	}
}

func (p *player) pattern(s string) *regexp.Regexp {
	p.t.Helper()
	re, err := regexp.Compile("(?m)" + s)
	if err != nil {
		p.fail("%v", err)
	}
	return re
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
