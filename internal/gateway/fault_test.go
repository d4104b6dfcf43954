package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// checkHeader looks at what is kept of a stranger's message with another reader.
func checkHeader(t *testing.T, b []byte) {
	t.Helper()
	fields, _ := message.ReadHeader(b)
	for i, f := range fields {
		name := strings.ToLower(f.Name)
		if strings.HasPrefix(name, "x-postern-") {
			t.Fatalf("%q stays in %q", f.Name, b)
		}
		if ours := name == "received" && message.ParseReceived(f.Value).By == "gw.esp.example"; ours != (i == 0) {
			t.Fatalf("field %d is ours: %v in %q", i, ours, b)
		}
	}
}

// conversation is a session over a socket, line by line.
type conversation struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// talk serves a listener of the gateway and opens a session there; end waits for all
// sessions.
func (w *world) talk(t *testing.T, listener string, limits smtp.Limits) (dial func() *conversation, end func()) {
	t.Helper()
	s := &smtp.Server{Hostname: "gw.esp.example", Backend: w.gateway.Listener(listener, false), Limits: limits}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	dial = func() *conversation {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 10, 1, 1)}}
		nc, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		c := &conversation{t, nc, bufio.NewReader(nc)}
		c.want("", "220 ")
		c.want("EHLO c.example\r\n", "250 ")
		return c
	}
	return dial, func() {
		t.Helper()
		stop, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := s.Shutdown(stop); err != nil {
			t.Error(err)
		}
		<-done
	}
}

// want says something and looks at the last line of the reply.
func (c *conversation) want(said, reply string) {
	c.t.Helper()
	_, _ = io.WriteString(c, said)
	for {
		s, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%.60q is answered %q, %v", said, s, err)
		}
		if s[3] == '-' {
			continue
		}
		if !strings.HasPrefix(s, reply) {
			c.t.Fatalf("%.60q is answered %q, want %q", said, s, reply)
		}
		return
	}
}

// mail sends one message and wants a reply to its end.
func (c *conversation) mail(body, reply string) {
	c.t.Helper()
	c.want("MAIL FROM:<n@news.acme.example>\r\n", "250 ")
	c.want("RCPT TO:<a@far.example>\r\n", "250 ")
	c.want("DATA\r\n", "354 ")
	c.want("Subject: x\r\n\r\n"+body+".\r\n", reply)
}

// TestFullDisk: 452 while there is no room, wherever it is noticed; the session goes
// on, nothing stays on the disk, and mail is taken again as soon as there is room.
func TestFullDisk(t *testing.T) {
	small, large := "body\r\n", strings.Repeat(strings.Repeat("x", 98)+"\r\n", 2000)
	for _, c := range []struct {
		name, body string
		room       int64 // beyond what is used
		empty      bool  // there is no segment yet
	}{
		{"nothing free, small message", small, 0, false},
		{"nothing free, large message", large, 0, false},
		{"full while the body comes", large, 100_000, false},
		{"full when the body is put in its place", large, 250_000, false},
		{"full when the record is written", large, 430_000, true}, // twice the body, and no segment
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, defaults)
			dial, end := w.talk(t, "injection", smtp.Limits{})
			defer end()
			s := dial()
			defer s.Close()
			if !c.empty {
				s.mail(small, "250 ")
			}
			queued := len(w.added)
			w.fs.Limit(w.fs.Used() + c.room)
			// The spool asks the disk once for a group: what fits into the segment may be
			// taken until then.
			_, _ = w.spool.Commit(ctx, &spool.Batch{Events: [][]byte{{0}}})
			for range 3 {
				s.mail(c.body, "452 4.3.1 no space left")
				s.want("NOOP\r\n", "250 ")
			}
			s.want("MAIL FROM:<n@news.acme.example>\r\n", "250 ")
			s.want("RCPT TO:<a@[192.0.2.1]>\r\n", "550 ") // a refusal that cannot be noted
			s.want("RSET\r\n", "250 ")
			if left := w.leftovers(); len(left) > 0 {
				t.Errorf("%v stays on the full disk", left)
			}
			if len(w.added) != queued {
				t.Error("a message that was not acknowledged is delivered")
			}
			w.fs.Limit(0)
			s.mail(c.body, "250 2.0.0 accepted")
			if len(w.added) != queued+1 {
				t.Error("the message that was acknowledged is not delivered")
			}
		})
	}
}

// TestCommitFails: without a durable record no 250, and the session goes on. A message
// whose commit failed is not delivered.
func TestCommitFails(t *testing.T) {
	for _, body := range []string{"body\r\n", strings.Repeat(strings.Repeat("x", 98)+"\r\n", 2000)} {
		w := newWorld(t, defaults)
		dial, end := w.talk(t, "injection", smtp.Limits{})
		s := dial()
		s.mail("first\r\n", "250 ")
		w.fs.FailNextSync()
		s.mail(body, "451 4.3.0 message could not be stored")
		if len(w.added) != 1 || w.spool.Stats().Messages != 1 {
			t.Errorf("%d queued, %d in the spool", len(w.added), w.spool.Stats().Messages)
		}
		s.mail(body, "250 2.0.0 accepted")
		if len(w.added) != 2 {
			t.Errorf("%d queued", len(w.added))
		}
		s.Close()
		end()
	}
}

// TestRefusalsOutliveFailedNotes: a note of a refusal that the disk did not take stops
// no mail.
func TestRefusalsOutliveFailedNotes(t *testing.T) {
	w := newWorld(t, defaults)
	w.send(acme, "x: y\r\n\r\n", "a@far.example")
	w.fs.FailNextSync()
	if r := w.send(stranger, "", "a@far.example"); !strings.HasPrefix(r.String(), "550 5.7.1") {
		t.Fatalf("got %s", r)
	}
	for w.fs.SyncFails() {
		_, _ = w.spool.Commit(ctx, &spool.Batch{Events: [][]byte{{0}}})
	}
	w.accepted(acme, "x: y\r\n\r\n", "a@far.example")
}

// TestVanishingPeer goes away within a message, small and large, in DATA and in a
// chunk: nothing is kept of it and no goroutine.
func TestVanishingPeer(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t, defaults)
	large := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000)
	dial, end := w.talk(t, "injection", smtp.Limits{})
	for _, said := range []string{"DATA\r\n", "DATA\r\nSubject: x\r\n", "DATA\r\nSubject: x\r\n\r\nbody\r\n.", "DATA\r\nSubject: x\r\n\r\n" + large,
		"BDAT 20\r\nSubject: x", "BDAT 100100 LAST\r\nSubject: x\r\n\r\n" + large[:50_000], "BDAT 12\r\nSubject: x\r\n"} {
		for i := range 5 {
			c := dial()
			c.want("MAIL FROM:<n@news.acme.example>\r\n", "250 ")
			c.want("RCPT TO:<a@far.example>\r\n", "250 ")
			_, _ = io.WriteString(c, said)
			if i%2 == 0 {
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
	}
	end()
	if n := w.spool.Stats().Messages; n != 0 || len(w.added) != 0 || len(w.events()) != 0 {
		t.Errorf("%d messages, %d queued, %d events", n, len(w.added), len(w.events()))
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("%v stays behind", left)
	}
	_ = w.spool.Close()
	for begin := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("%d goroutines, before there were %d", runtime.NumGoroutine(), before)
		}
	}
}

// TestTooLarge: what is refused for its size leaves nothing, and takes no more of the
// disk than the limit.
func TestTooLarge(t *testing.T) {
	w := newWorld(t, defaults)
	dial, end := w.talk(t, "injection", smtp.Limits{Size: 1 << 20})
	defer end()
	s := dial()
	defer s.Close()
	s.mail(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 50_000), "552 5.3.4")
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("%v stays behind", left)
	}
	s.mail("body\r\n", "250 ")
}
