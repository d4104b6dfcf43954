package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
)

// mx plays a server: for each line of the client that is expected it gives an answer;
// "." stands for a message. It fails on a line that is not expected, and closes at the
// end of the script or where the answer is "close".
func mx(t *testing.T, nc net.Conn, script [][2]string) (ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		defer nc.Close()
		r := bufio.NewReader(nc)
		for _, step := range script {
			for said := step[0]; said != ""; {
				line, err := r.ReadString('\n')
				if err != nil {
					t.Errorf("waiting for %q: %v", step[0], err)
					return
				}
				if said != "." && !strings.HasPrefix(line, said) {
					t.Errorf("the client says %q, want %q", line, said)
				}
				if said != "." || line == ".\r\n" {
					said = ""
				}
			}
			if step[1] == "close" {
				return
			}
			if _, err := io.WriteString(nc, step[1]); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	return ended
}

// loopback gives both ends of a connection.
func loopback(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestClientSend(t *testing.T) {
	piped := [2]string{"EHLO", "250-mx\r\n250-PIPELINING\r\n250-DSN\r\n250-SIZE\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"}
	plain := [2]string{"EHLO", "250 mx\r\n"}
	for _, c := range []struct {
		name   string
		script [][2]string
		want   string // Mail, each Rcpt, Data
		sent   bool
		broken bool // an error, and the connection is of no more use
	}{
		{"all well", [][2]string{piped, {"MAIL FROM:<a@b.example> SIZE=7 BODY=8BITMIME RET=HDRS ENVID=e+2B1\r\n", "250 2.1.0 ok\r\n"}, {"RCPT TO:<c@d.example> NOTIFY=FAILURE ORCPT=rfc822;x@y\r\n", "250 ok\r\n"},
			{"RCPT TO:<e@f.example>\r\n", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 2.0.0 queued\r\n"}}, "250 2.1.0 ok|250 ok|250 ok|250 2.0.0 queued", true, false},
		{"one by one, nothing offered", [][2]string{plain, {"MAIL FROM:<a@b.example>\r\n", "250 ok\r\n"}, {"RCPT TO:<c@d.example>\r\n", "250 ok\r\n"},
			{"RCPT TO:<e@f.example>\r\n", "550 5.1.1 no\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}}, "250 ok|250 ok|550 5.1.1 no|250 ok", true, false},
		{"no ESMTP", [][2]string{{"EHLO", "502 what?\r\n"}, {"HELO c.example", "250 mx\r\n"}, {"MAIL FROM:<a@b.example>\r\n", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "250 ok\r\n"}},
			"250 ok|250 ok|250 ok|250 ok", true, false},
		{"sender refused, pipelined", [][2]string{piped, {"MAIL", "550 5.7.1 no\r\n"}, {"RCPT", "503 no\r\n"}, {"RCPT", "503 no\r\n"}, {"DATA", "503 no\r\n"}, {"RSET", "250 ok\r\n"}},
			"550 5.7.1 no|503 no|503 no|503 no", false, false},
		{"sender refused, one by one", [][2]string{plain, {"MAIL", "450 4.7.1 later\r\n"}}, "450 4.7.1 later", false, false},
		{"all recipients refused, pipelined", [][2]string{piped, {"MAIL", "250 ok\r\n"}, {"RCPT", "550 no\r\n"}, {"RCPT", "550 no\r\n"}, {"DATA", "554 no\r\n"}, {"RSET", "250 ok\r\n"}}, "250 ok|550 no|550 no|554 no", false, false},
		{"and a server that wants an empty message", [][2]string{piped, {"MAIL", "250 ok\r\n"}, {"RCPT", "550 no\r\n"}, {"RCPT", "550 no\r\n"}, {"DATA", "354 go\r\n"}, {".\r\n", "554 no\r\n"}}, "250 ok|550 no|550 no|554 no", true, false},
		{"all recipients refused, one by one", [][2]string{plain, {"MAIL", "250 ok\r\n"}, {"RCPT", "550 no\r\n"}, {"RCPT", "452 no\r\n"}, {"RSET", "250 ok\r\n"}}, "250 ok|550 no|452 no|-", false, false},
		{"DATA refused, one by one", [][2]string{plain, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "451 no\r\n"}, {"RSET", "250 ok\r\n"}}, "250 ok|250 ok|250 ok|451 no", false, false},
		{"refused at the end", [][2]string{plain, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "554-5.7.1 spam\r\n554 5.7.1 says \x01\x7f\xff\r\n"}},
			"250 ok|250 ok|250 ok|554 5.7.1 spam says ???", true, false},
		{"gone before DATA is answered", [][2]string{piped, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "close"}}, "250 ok|250 ok|250 ok|-", false, true},
		{"gone at the end of data: nobody knows", [][2]string{piped, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "close"}}, "250 ok|250 ok|250 ok|-", true, true},
		{"shutting down", [][2]string{plain, {"MAIL", "421 4.3.2 bye\r\n"}}, "421 4.3.2 bye", false, true},
		{"DATA accepted at once, which it cannot be", [][2]string{plain, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "250 ok\r\n"}}, "250 ok|250 ok|250 ok|-", false, true},
		{"the same, pipelined", [][2]string{piped, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "250 ok\r\n"}}, "250 ok|250 ok|250 ok|-", false, true},
		{"go ahead twice", [][2]string{plain, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {".", "354 go\r\n"}}, "250 ok|250 ok|250 ok|-", true, true},
		{"go ahead too early", [][2]string{plain, {"MAIL", "354 go\r\n"}}, "-", false, true},
		{"nonsense", [][2]string{plain, {"MAIL", "ok\r\n"}}, "-", false, true},
		{"a reply in two minds", [][2]string{plain, {"MAIL", "250-ok\r\n550 no\r\n"}}, "-", false, true},
		{"a reply without end", [][2]string{plain, {"MAIL", strings.Repeat("250-ok\r\n", 101)}}, "-", false, true},
		{"a line without end", [][2]string{plain, {"MAIL", "250 " + strings.Repeat("x", 5000) + "\r\n"}}, "-", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := loopback(t)
			ended := mx(t, far, append([][2]string{{"", "220 mx\r\n"}}, c.script...))
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			cl, err := smtp.NewClient(ctx, near, smtp.Timeouts{})
			if err != nil {
				t.Fatal(err)
			}
			if err := cl.Hello(ctx, "c.example"); err != nil {
				t.Fatal(err)
			}
			res := cl.Send(ctx, &smtp.Mail{From: smtp.Path{Local: "a", Domain: "b.example"},
				MailParams: smtp.MailParams{Size: 7, EightBit: true, Return: "HDRS", EnvID: "e+1"},
				To: []smtp.Recipient{{Path: smtp.Path{Local: "c", Domain: "d.example"}, RcptParams: smtp.RcptParams{Notify: smtp.NotifyFailure, ORcpt: "rfc822;x@y"}},
					{Path: smtp.Path{Local: "e", Domain: "f.example"}}},
				Header: []byte("X: y\r\n"), Body: strings.NewReader("\r\n.dot\r\nx\r\n")})
			if got := spell(&res); got != c.want || res.Sent != c.sent || cl.Usable() == c.broken || (res.Err != nil) != (c.broken && !strings.Contains(c.want, "421")) {
				t.Errorf("got %q, sent %v, usable %v, %v", got, res.Sent, cl.Usable(), res.Err)
			}
			cl.Close()
			<-ended
		})
	}
}

// TestClientAnnounces: the commands of the next message come with the end of a message,
// before its reply, and another message cannot take its place.
func TestClientAnnounces(t *testing.T) {
	to := []smtp.Recipient{{Path: smtp.Path{Local: "c", Domain: "d.example"}}}
	for _, c := range []struct {
		name  string
		body  string
		other bool
	}{
		{"short", "\r\nx\r\n", false},
		{"long", "\r\n" + strings.Repeat("0123456789\r\n", 5000), false},
		{"another message", "\r\nx\r\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := loopback(t)
			script := [][2]string{{"", "220 mx\r\n"}, {"EHLO", "250-mx\r\n250 PIPELINING\r\n"}, {"MAIL FROM:<a@", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"},
				{".", ""}, {"MAIL FROM:<b@", ""}, {"RCPT", ""}, {"DATA", "250 first\r\n250 ok\r\n250 ok\r\n354 go\r\n"}}
			if !c.other {
				script = append(script, [2]string{".", "250 second\r\n"})
			}
			ended := mx(t, far, script)
			cl, err := smtp.NewClient(t.Context(), near, smtp.Timeouts{})
			if err == nil {
				err = cl.Hello(t.Context(), "c.example")
			}
			if err != nil {
				t.Fatal(err)
			}
			mail := func(local string) *smtp.Mail {
				return &smtp.Mail{From: smtp.Path{Local: local, Domain: "b.example"}, To: to, Header: []byte("X: y\r\n"), Body: memory(c.body)}
			}
			first, second := mail("a"), mail("b")
			first.Next = func() *smtp.Mail { return second }
			if res := cl.Send(t.Context(), first); spell(&res) != "250 ok|250 ok|250 first" {
				t.Errorf("first: %s, %v", spell(&res), res.Err)
			}
			if c.other {
				if res := cl.Send(t.Context(), mail("z")); res.Err == nil || res.Sent || cl.Usable() {
					t.Errorf("another: %+v", res)
				}
			} else if res := cl.Send(t.Context(), second); spell(&res) != "250 ok|250 ok|250 second" || !cl.Usable() {
				t.Errorf("second: %s, %v", spell(&res), res.Err)
			}
			cl.Close()
			<-ended
		})
	}
}

// memory is a body that lies in memory.
func memory(text string) io.Reader { return &inMemory{*strings.NewReader(text), text} }

type inMemory struct {
	strings.Reader
	text string
}

func (m *inMemory) Rest() []byte { return []byte(m.text) }

// spell writes a result's replies down; "-" stands for an answer that did not come.
func spell(res *smtp.Result) string {
	if res.Mail == nil {
		return "-"
	}
	out := []string{res.Mail.String()}
	for _, r := range res.Rcpt {
		out = append(out, r.String())
	}
	if len(res.Rcpt) > 0 {
		if res.Data == nil {
			out = append(out, "-")
		} else {
			out = append(out, res.Data.String())
		}
	}
	return strings.Join(out, "|")
}

func TestClientStartTLS(t *testing.T) {
	t.Run("with our server", func(t *testing.T) {
		b := &recorder{}
		addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b, TLS: certificate(t)})
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
		if err := c.Hello(ctx, "c.example"); err != nil || !c.Has("STARTTLS") {
			t.Fatalf("%v, STARTTLS %v", err, c.Has("STARTTLS"))
		}
		if err := c.StartTLS(ctx, &tls.Config{InsecureSkipVerify: true}); err != nil || c.TLS() == nil || c.Has("STARTTLS") {
			t.Fatalf("%v, %v", err, c.TLS())
		}
		res := c.Send(ctx, &smtp.Mail{To: []smtp.Recipient{{Path: smtp.Path{Local: "c", Domain: "d.example"}}}, Body: strings.NewReader("x\r\n")})
		if res.Err != nil || len(b.all()) != 1 {
			t.Errorf("%+v", res)
		}
	})
	for _, c := range []struct {
		name, answer, want string
		usable             bool
	}{
		{"refused", "454 4.7.0 not now\r\n", "454 4.7.0 not now", true},
		{"clear text behind the reply", "220 go\r\n250 injected\r\n", "clear text", false},
		{"no handshake", "220 go\r\n", "TLS handshake", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := loopback(t)
			script := [][2]string{{"", "220 mx\r\n"}, {"EHLO", "250 mx\r\n"}, {"STARTTLS", c.answer}}
			if c.want == "TLS handshake" {
				script = append(script, [2]string{"\x16", "close"})
			}
			ended := mx(t, far, script)
			ctx := context.Background()
			cl, err := smtp.NewClient(ctx, near, smtp.Timeouts{})
			if err != nil || cl.Hello(ctx, "c.example") != nil {
				t.Fatal(err)
			}
			// Both lines of an injecting server come in one segment.
			if err := cl.StartTLS(ctx, &tls.Config{InsecureSkipVerify: true}); err == nil || !strings.Contains(err.Error(), c.want) || cl.Usable() != c.usable {
				t.Errorf("%v, usable %v", err, cl.Usable())
			}
			cl.Close()
			<-ended
		})
	}
}

// TestClientIsCancelled: a context that ends breaks off whatever waits, also where it
// ended before.
func TestClientIsCancelled(t *testing.T) {
	long := smtp.Timeouts{Greeting: time.Hour, Command: time.Hour, Data: time.Hour, End: time.Hour}
	hello := [][2]string{{"", "220 mx\r\n"}, {"EHLO", "250 mx\r\n"}}
	for _, c := range []struct {
		name   string
		script [][2]string
		do     func(ctx context.Context, c *smtp.Client) error
	}{
		{"Hello", hello[:1], func(ctx context.Context, c *smtp.Client) error { return c.Hello(ctx, "c") }},
		{"StartTLS", hello, func(ctx context.Context, c *smtp.Client) error { return c.StartTLS(ctx, &tls.Config{}) }},
		{"Send", hello, func(ctx context.Context, c *smtp.Client) error {
			res := c.Send(ctx, &smtp.Mail{Body: strings.NewReader("")})
			return res.Err
		}},
	} {
		for _, early := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				near, far := loopback(t)
				heard := make(chan struct{})
				go func() { // says what the script says, then nothing more
					defer close(heard)
					r := bufio.NewReader(far)
					for _, step := range c.script {
						if step[0] != "" {
							_, _ = r.ReadString('\n')
						}
						_, _ = io.WriteString(far, step[1])
					}
					if !early {
						_, _ = r.ReadString('\n')
					}
				}()
				cl, err := smtp.NewClient(context.Background(), near, long)
				if err != nil {
					t.Fatal(err)
				}
				if len(c.script) > 1 {
					if err := cl.Hello(context.Background(), "c"); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithCancel(context.Background())
				if early {
					cancel()
				} else {
					go func() { <-heard; cancel() }()
				}
				var timeout net.Error
				if err := c.do(ctx, cl); !errors.As(err, &timeout) || !timeout.Timeout() {
					t.Errorf("got %v", err)
				}
				cancel()
				<-heard
				if cl.Usable() {
					t.Error("the connection is taken for good")
				}
			})
		}
	}
}

func TestID(t *testing.T) {
	at := time.Date(2024, 5, 6, 7, 8, 9, 123e6, time.UTC)
	id := smtp.NewID(at, [6]byte{1, 2, 3, 4, 5, 6})
	if !id.Time().Equal(at) || id.IsZero() || !(smtp.ID{}).IsZero() {
		t.Errorf("%s is of %s", id, id.Time())
	}
	var back smtp.ID
	text, _ := id.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != id {
		t.Errorf("%s reads as %s, %v", text, back, err)
	}
	for _, bad := range []string{"", "x", strings.ToUpper(id.String()), id.String() + "0", id.String()[:19] + "1", "u" + id.String()[1:]} {
		if _, err := smtp.ParseID(bad); err == nil {
			t.Errorf("%q is taken for an id", bad)
		}
	}
	if later := smtp.NewID(at.Add(time.Millisecond), [6]byte{}); later.String() <= id.String() {
		t.Error("ids do not sort by time")
	}
}

// FuzzXtext encodes anything and gets it back.
func FuzzXtext(f *testing.F) {
	f.Add("a+b=c d\x00\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := smtp.DecodeXtext(smtp.EncodeXtext(s)); !ok || got != s {
			t.Fatalf("%q comes back as %q", s, got)
		}
		if got, ok := smtp.DecodeXtext(s); ok {
			if again, ok := smtp.DecodeXtext(smtp.EncodeXtext(got)); !ok || again != got {
				t.Fatalf("%q is %q and then %q", s, got, again)
			}
		}
	})
}
