package smtp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postern.dev/postern/internal/smtp"
)

// FuzzServerSession throws octets at a session. It must end, and what it accepts
// must be what a slow and plain reading of the same octets gives.
func FuzzServerSession(f *testing.F) {
	f.Add([]byte(envelope + "x\r\n.\r\nQUIT\r\n"))
	f.Add([]byte(envelope + "x\n.\r\nMAIL FROM:<>\r\n"))
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3\r\nx\r\nBDAT 0 LAST\r\nRSET\r\n"))
	f.Add([]byte("PROXY\r\nAUTH PLAIN\r\n*\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := &recorder{}
		s := &smtp.Server{Hostname: "gw.example", Backend: b, Limits: smtp.Limits{Size: 10000}}
		l := newPairListener()
		done := make(chan error, 1)
		go func() { done <- s.Serve(context.Background(), l) }()
		feed(t, l, in)
		_ = s.Shutdown(context.Background())
		<-done
		for _, m := range b.all() {
			if bare(m.data) || bytes.IndexByte(m.data, 0) >= 0 {
				t.Fatalf("accepted %q", m.data)
			}
		}
	})
}

// Bounds of the server under FuzzEndOfData, small so that they are met.
const (
	fuzzLine = 100
	fuzzSize = 2000
)

// plainly reads a message as slowly and plainly as RFC 5321 says it: line by line, each
// ended by CRLF. broken tells that a server must not go on.
func plainly(in string) (msg string, ok, broken bool) {
	var b strings.Builder
	for {
		i := strings.IndexAny(in, "\r\n")
		switch {
		case i < 0 || in[i:] == "\r":
			return "", false, len(in) > fuzzLine+1
		case !strings.HasPrefix(in[i:], "\r\n"):
			return "", false, true
		}
		line := in[:i]
		in = in[i+2:]
		if line == "." {
			return b.String(), b.Len() <= fuzzSize && !strings.Contains(b.String(), "\x00"), false
		}
		if line = strings.TrimPrefix(line, "."); len(line) > fuzzLine {
			return "", false, true
		}
		b.WriteString(line + "\r\n")
	}
}

// FuzzEndOfData sends anything as a message, in two pieces. What is accepted is what a
// plain reading gives, and what go-smtp's server takes it for.
func FuzzEndOfData(f *testing.F) {
	for _, end := range []string{"\r\n.\r\n", "\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\r\n.\r\n", "\r\n.\r\r\n"} {
		f.Add([]byte("Subject: x\r\n\r\n..dot\r\nbody"+end+"RSET\r\n"), uint16(20))
	}
	f.Add([]byte(strings.Repeat("x", fuzzLine+1)+"\r\n.\r\n"), uint16(0))
	f.Add([]byte(strings.Repeat("x\r\n", fuzzSize)+".\r\n"), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		b := &recorder{}
		s := &smtp.Server{Hostname: "gw.example", Backend: b, Limits: smtp.Limits{Size: fuzzSize, TextLine: fuzzLine}}
		l := newPairListener()
		done := make(chan error, 1)
		go func() { done <- s.Serve(context.Background(), l) }()
		feed(t, l, []byte(envelope), in[:int(cut)%(len(in)+1)], in[int(cut)%(len(in)+1):])
		_ = s.Shutdown(context.Background())
		<-done
		msg, ok, broken := plainly(string(in))
		got := b.all()
		switch {
		case ok && (len(got) == 0 || string(got[0].data) != msg):
			t.Fatalf("%q was not accepted as %q: %+v", in, msg, got)
		case broken && len(got) > 0:
			t.Fatalf("%q was accepted as %q", in, got[0].data)
		case ok && !bytes.ContainsAny([]byte(msg), "\x00"):
			if theirs := goSMTPTakes(t, in); theirs != msg {
				t.Fatalf("%q is %q, and to go-smtp %q", in, msg, theirs)
			}
		}
	})
}

// feed sends pieces over a new connection and waits until the server closes.
func feed(t *testing.T, l *pairListener, pieces ...[]byte) {
	t.Helper()
	c := l.connect(t)
	defer c.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, p := range pieces {
			_, _ = c.Write(p)
		}
		_ = c.CloseWrite()
	}()
	_, _ = io.Copy(io.Discard, c)
	<-sent
}

// goSMTPTakes gives the first message that go-smtp's server makes of a body.
func goSMTPTakes(t *testing.T, in []byte) string {
	t.Helper()
	got := make(chan string, len(in)+1)
	srv := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return goSession{got}, nil }))
	srv.ErrorLog = log.New(io.Discard, "", 0)
	srv.MaxLineLength = 1 << 20
	l := newPairListener()
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	feed(t, l, []byte(envelope), in)
	_ = srv.Close()
	<-done
	select {
	case s := <-got:
		return s
	default:
		return "nothing"
	}
}

// FuzzClientReply answers a client with anything: it ends, says what it saw, and reads
// a greeting as net/textproto does where both can.
func FuzzClientReply(f *testing.F) {
	greeting := "220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 ENHANCEDSTATUSCODES\r\n"
	f.Add([]byte(greeting + "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 queued as 1\r\n"))
	f.Add([]byte(greeting + "250 2.1.0 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n554 5.5.1 no valid recipients\r\n250 ok\r\n"))
	f.Add([]byte("220 mx\r\n502 what\r\n250 mx\r\n250 ok\r\n250 ok\r\n354\r\n421 4.3.2 going down\r\n"))
	f.Add([]byte("554-5.7.1 blocked\r\n554 see https://mx.example\r\n"))
	f.Add([]byte("220-a\r\n221 b\r\n"))
	f.Add([]byte("220\n2500 x\r\n-25 \r\n"))
	f.Add([]byte("220 " + strings.Repeat("x", 5000) + "\r\n"))
	f.Add([]byte(strings.Repeat("220-x\r\n", 200)))
	f.Fuzz(func(t *testing.T, in []byte) {
		near, far := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			go func() { _, _ = far.Write(in); far.Close() }()
			_, _ = io.Copy(io.Discard, far)
		}()
		defer func() { near.Close(); <-ended }()
		ctx := context.Background()
		c, err := smtp.NewClient(ctx, near, smtp.Timeouts{Greeting: 10 * time.Second, Command: 10 * time.Second, Data: 10 * time.Second, End: 10 * time.Second})
		var reply *smtp.Reply
		code, _, oracle := textproto.NewReader(bufio.NewReader(bytes.NewReader(in))).ReadResponse(0)
		switch {
		case oracle != nil:
		case err == nil && code != 220:
			t.Fatalf("%q is a greeting, and to textproto %d", in, code)
		case errors.As(err, &reply) && reply.Code != code:
			t.Fatalf("%q has code %d, and to textproto %d", in, reply.Code, code)
		}
		if err != nil || c.Hello(ctx, "c.example") != nil {
			return
		}
		res := c.Send(ctx, &smtp.Mail{From: smtp.Path{Local: "a", Domain: "b.example"}, To: []smtp.Recipient{{Path: smtp.Path{Local: "c", Domain: "d.example"}}}, Body: strings.NewReader("x\r\n")})
		checkResult(t, in, &res)
	})
}

// checkResult holds a result against itself.
func checkResult(t *testing.T, in []byte, res *smtp.Result) {
	t.Helper()
	all := append([]*smtp.Reply{res.Mail, res.Data}, res.Rcpt...)
	for _, r := range all {
		if r == nil {
			continue
		}
		if r.Code < 200 || r.Code > 599 || len(r.Lines) == 0 || strings.ContainsAny(r.String(), "\r\n\x00") {
			t.Fatalf("%q gives %q", in, r)
		}
	}
	if res.Data != nil && res.Data.Positive() && !res.Sent || res.Err == nil && res.Mail == nil || len(res.Rcpt) > 1 {
		t.Fatalf("%q gives %+v", in, res)
	}
}
