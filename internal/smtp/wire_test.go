package smtp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"golang.org/x/sys/unix"

	"postern.dev/postern/internal/smtp"
)

// recorder is a backend that takes everything and keeps it.
type recorder struct {
	mu   sync.Mutex
	got  []received
	rcpt func(smtp.Path) *smtp.Reply
}

type received struct {
	from smtp.Path
	to   []smtp.Path
	data []byte
}

func (b *recorder) NewSession(context.Context, *smtp.Peer) (smtp.Session, *smtp.Reply) {
	return &recording{b: b}, nil
}

func (b *recorder) all() []received { b.mu.Lock(); defer b.mu.Unlock(); return b.got }

type recording struct {
	b   *recorder
	cur received
}

func (s *recording) Mail(_ context.Context, from smtp.Path, _ smtp.MailParams) *smtp.Reply {
	s.cur = received{from: from}
	return nil
}
func (s *recording) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptParams) *smtp.Reply {
	if s.b.rcpt != nil {
		if r := s.b.rcpt(to); r != nil {
			return r
		}
	}
	s.cur.to = append(s.cur.to, to)
	return nil
}
func (s *recording) Data(_ context.Context, r io.Reader) *smtp.Reply {
	b, err := io.ReadAll(r)
	if err != nil {
		return smtp.NewReply(451, smtp.EnhancedCode{4, 0, 0}, "broken off")
	}
	s.cur.data = b
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.got = append(s.b.got, s.cur)
	return nil
}
func (s *recording) Reset() { s.cur = received{} }
func (s *recording) Close() {}

// listen serves on loopback and gives the address.
func listen(t testing.TB, s *smtp.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-done
	})
	return l.Addr().String()
}

// talk sends octets as they are, in the given pieces, and gives all that comes back
// until the server closes or the client has ended its side.
func talk(t testing.TB, addr string, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			break
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	out, _ := io.ReadAll(c)
	return string(out)
}

const envelope = "EHLO c.example\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n"

// TestSmuggling sends every end of data that is not CRLF.CRLF, with a second message
// hidden behind it: it must neither be accepted nor may anything behind it be read.
func TestSmuggling(t *testing.T) {
	hidden := "MAIL FROM:<evil@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\nSubject: hidden\r\n\r\nx\r\n.\r\nQUIT\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\n", "\r", "\r\r\n.\r\n", "\r\n.\r\r\n"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			b := &recorder{}
			addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b})
			out := talk(t, addr, envelope, "Subject: x\r\n\r\nbody"+end, hidden)
			for _, m := range b.all() {
				if m.from.Local == "evil" || bytes.Contains(m.data, []byte("\x00")) {
					t.Errorf("accepted: %q\n%s", m.data, out)
				}
			}
			if n := strings.Count(out, "354 "); n != 1 {
				t.Errorf("%d times DATA, want one: what stood behind was run\n%s", n, out)
			}
		})
	}
}

func TestDialogues(t *testing.T) {
	for _, c := range []struct {
		name, send string
		want       []string // in this order
		messages   int
	}{
		{"plain", "HELO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n", []string{"220 ", "250 ", "250 ", "250 ", "354 ", "250 ", "221 "}, 1},
		{"no enhanced codes after HELO", "HELO c.example\r\nNOOP\r\n", []string{"250 gw.example", "250 ok"}, 0},
		{"out of sequence", "MAIL FROM:<a@b.example>\r\nEHLO c\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", []string{"503 ", "250 ", "503 ", "503 "}, 0},
		{"data without recipients", "EHLO c\r\nMAIL FROM:<>\r\nDATA\r\n", []string{"250 ", "250 ", "554 "}, 0},
		{"unknown parameter", "EHLO c\r\nMAIL FROM:<a@b.example> FOO=1\r\n", []string{"555 5.5.4"}, 0},
		{"size announced too large", "EHLO c\r\nMAIL FROM:<a@b.example> SIZE=99999999999\r\n", []string{"552 5.3.4"}, 0},
		{"bare LF in a command", "EHLO c\nMAIL FROM:<>\r\n", []string{"500 "}, 0},
		{"NUL in a command", "EHLO c\x00\r\nNOOP\r\n", []string{"500 "}, 0},
		{"over-long command", "EHLO " + strings.Repeat("x", 20000) + "\r\n", []string{"500 "}, 0},
		{"8-bit path without SMTPUTF8", "EHLO c\r\nMAIL FROM:<\xc3\xa4@b.example>\r\n", []string{"553 5.6.7"}, 0},
		{"8-bit path with it", "EHLO c\r\nMAIL FROM:<\xc3\xa4@b.example> SMTPUTF8\r\nRCPT TO:<\xc3\xb6@d.example>\r\nDATA\r\nx\r\n.\r\n", []string{"354 ", "250 "}, 1},
		{"chunks", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\nx\r\nBDAT 4 LAST\r\n.y\r\nNOOP\r\n", []string{"250 2.0.0 3 octets", "250 2.0.0 ok", "250 2.0.0 ok"}, 1},
		{"empty last chunk", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\nx\r\nBDAT 0 LAST\r\n", []string{"250 2.0.0 ok"}, 1},
		{"chunk with a bare LF", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 2 LAST\r\nx\nNOOP\r\n", []string{"550 5.6.11"}, 0},
		{"chunks mixed with DATA", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\nx\r\nDATA\r\n", []string{"503 "}, 0},
		{"chunk without a recipient", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nBDAT 3 LAST\r\nx\r\nNOOP\r\n", []string{"503 ", "250 2.0.0 ok"}, 0},
		{"second MAIL", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nMAIL FROM:<a@b.example>\r\n", []string{"250 2.0.0", "503 "}, 0},
		{"source route is kept out", "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<@x.example,@y.example:c@d.example>\r\nDATA\r\nx\r\n.\r\n", []string{"354 "}, 1},
		{"AUTH not offered", "EHLO c\r\nAUTH PLAIN AGEAYg==\r\n", []string{"502 "}, 0},
		{"STARTTLS not offered", "EHLO c\r\nSTARTTLS\r\n", []string{"502 "}, 0},
		{"too many errors", "EHLO c\r\n" + strings.Repeat("FOO\r\n", 30), []string{"500 ", "421 4.7.0"}, 0},
		{"many recipients", "EHLO c\r\nMAIL FROM:<a@b.example>\r\n" + strings.Repeat("RCPT TO:<c@d.example>\r\n", 1005), []string{"452 4.5.3"}, 0},
		{"NUL in a message", envelope + "a\x00b\r\n.\r\nNOOP\r\n", []string{"354 ", "550 5.6.0", "250 2.0.0"}, 0},
		{"line too long", envelope + strings.Repeat("x", 70000) + "\r\n.\r\n", []string{"354 ", "552 5.6.0"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &recorder{}
			addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b})
			out := talk(t, addr, c.send)
			rest := out
			for _, w := range c.want {
				i := strings.Index(rest, w)
				if i < 0 {
					t.Fatalf("no %q in what follows in\n%s", w, out)
				}
				rest = rest[i+len(w):]
			}
			if len(b.all()) != c.messages {
				t.Errorf("%d messages, want %d\n%s", len(b.all()), c.messages, out)
			}
		})
	}
}

// TestTooLarge drains a message over the limit and goes on.
func TestTooLarge(t *testing.T) {
	b := &recorder{}
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b, Limits: smtp.Limits{Size: 1000}})
	out := talk(t, addr, envelope, strings.Repeat("0123456789abcdef\r\n", 5000), ".\r\nNOOP\r\n")
	if !strings.Contains(out, "552 5.3.4") || !strings.HasSuffix(out, "250 2.0.0 ok\r\n") || len(b.all()) != 0 {
		t.Errorf("got\n%s", out)
	}
}

// randomBody makes a body with dots, empty and long lines.
func randomBody(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(40) {
		switch r.IntN(6) {
		case 0:
			b.WriteString(strings.Repeat(".", r.IntN(4)))
		case 1:
			b.WriteString(strings.Repeat("y", r.IntN(5000)))
		case 2:
			b.WriteString("." + strings.Repeat("z", r.IntN(10)))
		default:
			b.WriteString(strings.Repeat("x", r.IntN(80)))
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

// TestRoundTrip sends random messages with our client and with go-smtp's to our
// server: what arrives is what was sent.
func TestRoundTrip(t *testing.T) {
	b := &recorder{}
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b})
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		body := randomBody(r)
		if i%2 == 0 {
			ours(t, addr, body)
		} else {
			theirs(t, addr, body)
		}
		got := b.all()
		for _, m := range got[len(got)-2+i%2:] {
			if string(m.data) != body {
				t.Fatalf("message %d: sent %q, arrived %q", i, body, m.data)
			}
		}
	}
}

// held is a body in memory, as the spool gives most of them.
type held struct{ *strings.Reader }

// Rest gives what has not been read.
func (h held) Rest() []byte {
	b := make([]byte, h.Len())
	_, _ = h.ReadAt(b, h.Size()-int64(h.Len()))
	return b
}

// ours sends with our client, by way of a reader and from memory in turns.
func ours(t testing.TB, addr, body string) {
	t.Helper()
	sendOurs(t, addr, strings.NewReader(body))
	sendOurs(t, addr, held{strings.NewReader(body)})
}

func sendOurs(t testing.TB, addr string, body io.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	c, err := smtp.NewClient(ctx, nc, smtp.Timeouts{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	if err := c.Hello(ctx, "c.example"); err != nil {
		t.Fatal(err)
	}
	res := c.Send(ctx, &smtp.Mail{From: smtp.Path{Local: "a", Domain: "b.example"}, To: []smtp.Recipient{{Path: smtp.Path{Local: "c", Domain: "d.example"}}}, Body: body})
	if res.Err != nil || res.Data == nil || !res.Data.Positive() {
		t.Fatalf("send: %+v", res)
	}
}

func theirs(t testing.TB, addr, body string) {
	t.Helper()
	c, err := gosmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	if err := c.SendMail("a@b.example", []string{"c@d.example"}, strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
}

// TestClientAgainstGoSMTP sends with our client to go-smtp's server.
func TestClientAgainstGoSMTP(t *testing.T) {
	got := make(chan string, 2)
	srv := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return goSession{got}, nil }))
	srv.MaxLineLength = 1 << 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		body := randomBody(r)
		ours(t, l.Addr().String(), body)
		for range 2 {
			if s := <-got; s != body {
				t.Fatalf("sent %q, arrived %q", body, s)
			}
		}
	}
}

type goSession struct{ got chan string }

func (goSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (goSession) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (s goSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.got <- string(b)
	return err
}
func (goSession) Reset()        {}
func (goSession) Logout() error { return nil }

func TestShutdownLetsTransactionsEnd(t *testing.T) {
	b := &recorder{}
	s := &smtp.Server{Hostname: "gw.example", Backend: b}
	addr := listen(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, envelope)
	br := bufio.NewReader(c)
	for line := ""; !strings.HasPrefix(line, "354"); {
		if line, err = br.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	_, _ = io.WriteString(c, "x\r\n.\r\n")
	rest, _ := io.ReadAll(br)
	if !strings.HasPrefix(string(rest), "250 ") || !strings.Contains(string(rest), "421 ") || len(b.all()) != 1 {
		t.Errorf("got %q", rest)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// bare finds a CR or LF that is not part of a CRLF.
func bare(b []byte) bool {
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') || c == '\r' && (i+1 == len(b) || b[i+1] != '\n') {
			return true
		}
	}
	return false
}

// pairListener hands out the far ends of socket pairs.
type pairListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPairListener() *pairListener {
	return &pairListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// connect gives the near end, which can end its side only.
func (l *pairListener) connect(t testing.TB) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	l.conns <- ends[1]
	return ends[0].(*net.UnixConn)
}

func (l *pairListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pairListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pairListener) Addr() net.Addr { return &net.TCPAddr{} }

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@b>", "<>", `<"a b"@c>`, "<@x:a@b>", "<a@[192.0.2.1]>", "<\"\\\"\"@b> X"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		p, _, err := smtp.ParsePath(s, utf8)
		if err != nil {
			return
		}
		again, rest, err := smtp.ParsePath("<"+p.String()+">", utf8)
		p.Route = ""
		if err != nil || rest != "" || again != p {
			t.Fatalf("%q is %+v and reads again as %+v, %v", s, p, again, err)
		}
	})
}

func BenchmarkServerDiscard(b *testing.B) {
	addr := listen(b, &smtp.Server{Hostname: "gw.example", Backend: discarding{}, Limits: smtp.Limits{Commands: 1 << 40}})
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	c, err := smtp.NewClient(ctx, nc, smtp.Timeouts{})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Hello(ctx, "c.example"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		res := c.Send(ctx, &smtp.Mail{To: []smtp.Recipient{{Path: smtp.Path{Local: "c", Domain: "d.example"}}}, Body: strings.NewReader(body)})
		if res.Err != nil {
			b.Fatal(res.Err)
		}
	}
}

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
