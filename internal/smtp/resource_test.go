package smtp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
)

// serveFor serves until the returned function is called, which waits for every session.
func serveFor(t *testing.T, s *smtp.Server) (addr string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	return l.Addr().String(), func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		<-done
	}
}

// settled waits until no more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for begin := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(begin) > 5*time.Second {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before there were %d\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}

// allocated tells what fn and everything beside it took from the heap, freed or not.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// pour sends a block again and again until the server has had enough or most octets
// are sent, and gives how many.
func pour(c net.Conn, block []byte, most int64) (n int64) {
	for n < most {
		k, err := c.Write(block)
		if n += int64(k); err != nil {
			break
		}
	}
	return n
}

// body is how large the large bodies are: POSTERN_SOAK makes them 10 GB.
func body() int64 {
	if os.Getenv("POSTERN_SOAK") != "" {
		return 10_000_000_000
	}
	return 1 << 30
}

// TestEndlessBody pours bodies that do not end: they are refused by what was announced,
// by the count and by the chunk, and the heap does not grow with them.
func TestEndlessBody(t *testing.T) {
	const limit = 32 << 20
	block := []byte(strings.Repeat(strings.Repeat("x", 126)+"\r\n", 8192))
	nuls := []byte(strings.Repeat("\x00"+strings.Repeat("x", 125)+"\r\n", 8192))
	for _, c := range []struct {
		name, start, want string
		block             []byte
	}{
		{"by the count", "DATA\r\n", "552 5.3.4 message too large", block},
		{"lines with NULs", "DATA\r\n", "550 5.6.0 NUL in message", nuls},
		{"in a chunk", "BDAT 9999999999\r\n", "552 5.3.4 message too large", block},
		{"in a chunk nobody wants", "RSET\r\nBDAT 9999999999\r\n", "552 5.3.4 message too large", block},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}, Limits: smtp.Limits{Size: limit}})
			l := dial(t, addr)
			l.hear()
			l.want("EHLO c.example\r\n", "250 ")
			l.want("MAIL FROM:<a@b.example> SIZE=10000000000\r\n", "552 5.3.4")
			l.want("MAIL FROM:<a@b.example>\r\n", "250 ")
			l.want("RCPT TO:<c@d.example>\r\n", "250 ")
			var sent int64
			var reply string
			grown := allocated(func() {
				_, _ = io.WriteString(l, c.start)
				sent = pour(l, c.block, body())
				b, _ := io.ReadAll(l.r)
				reply = string(b)
			})
			if !strings.Contains(reply, c.want) || sent >= body() {
				t.Errorf("after %d octets: %q", sent, reply)
			}
			if grown > 4<<20 {
				t.Errorf("%d octets of heap for %d octets sent", grown, sent)
			}
		})
	}
}

// TestWholeLargeBody takes a body within the limit, all of it, in constant memory.
func TestWholeLargeBody(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("POSTERN_SOAK") != "" {
		size = 10_000_000_000
	}
	got := make(chan int64, 1)
	b := fussy{data: func(r io.Reader) *smtp.Reply {
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			n = -1
		}
		got <- n
		return nil
	}}
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b, Limits: smtp.Limits{Size: size + 1<<20}})
	l := dial(t, addr)
	_ = l.SetDeadline(time.Now().Add(5 * time.Minute))
	l.hear()
	for _, s := range []string{"EHLO c.example\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n"} {
		l.want(s, "250 ")
	}
	l.want("DATA\r\n", "354 ")
	block := []byte(strings.Repeat(strings.Repeat("x", 126)+"\r\n", 8192))
	begin := time.Now()
	var sent int64
	grown := allocated(func() {
		sent = pour(l, block, size)
		l.want(".\r\n", "250 ")
	})
	if n := <-got; n != sent {
		t.Errorf("%d octets sent, %d arrived", sent, n)
	}
	if grown > 4<<20 {
		t.Errorf("%d octets of heap", grown)
	}
	t.Logf("%d octets in %.1f s, %d octets of heap", sent, time.Since(begin).Seconds(), grown)
}

// TestHundredThousandRecipients names them in one session: each is answered, the list
// ends where the limits say, and memory does not grow with what is refused.
func TestHundredThousandRecipients(t *testing.T) {
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}})
	l := dial(t, addr)
	l.hear()
	l.want("EHLO c.example\r\n", "250 ")
	l.want("MAIL FROM:<a@b.example>\r\n", "250 ")
	count := map[string]int{}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w := bufio.NewWriter(l)
		for range 100_000 {
			_, _ = w.WriteString("RCPT TO:<c@d.example>\r\n")
		}
		_ = w.Flush()
	}()
	// The limit of commands comes two before the end: EHLO and MAIL count too.
	for range 99_999 {
		count[l.hear()]++
	}
	<-sent
	if count["250 2.0.0 ok"] != 1000 || count["452 4.5.3 too many recipients"] != 98_998 || count["421 4.7.0 too many commands"] != 1 {
		t.Errorf("got %v", count)
	}
	if _, err := l.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection stays: %v", err)
	}
}

// TestIdleConnections opens 2,000 where 1,000 may be: the rest is turned away, the
// heap stays small, and nothing is left of them.
func TestIdleConnections(t *testing.T) {
	before := runtime.NumGoroutine()
	addr, end := serveFor(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}, Limits: smtp.Limits{Connections: 1000, PerAddress: 5000}})
	var start, held runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&start)
	var open []net.Conn
	greeted, refused := 0, 0
	b := make([]byte, 64)
	for range 2000 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b)
		switch s := string(b[:n]); {
		case strings.HasPrefix(s, "220 "):
			greeted++
		case strings.HasPrefix(s, "421 "), n == 0 && err == io.EOF:
			refused++
		default:
			t.Fatalf("%q, %v", s, err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&held)
	if greeted != 1000 || refused != 1000 {
		t.Errorf("%d greeted, %d refused", greeted, refused)
	}
	if grown := int64(held.HeapAlloc) - int64(start.HeapAlloc); grown > 48<<20 {
		t.Errorf("%d octets of heap for 1,000 sessions", grown)
	}
	for _, c := range open {
		c.Close()
	}
	end()
	settled(t, before)
}

// TestVanishingPeers go away in every phase: nothing is accepted and nothing is left.
func TestVanishingPeers(t *testing.T) {
	before := runtime.NumGoroutine()
	b := &recorder{}
	addr, end := serveFor(t, &smtp.Server{Hostname: "gw.example", Backend: b, TLS: certificate(t)})
	start := "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	for _, said := range []string{"", "EHL", "EHLO c.example\r\nSTARTTLS\r\n", "EHLO c.example\r\nSTARTTLS\r\n\x16\x03\x01", start, start + "DATA\r\n",
		start + "DATA\r\nSubject: x\r\n\r\nbod", start + "DATA\r\nx\r\n.\r", start + "BDAT 100\r\nx", start + "BDAT 100 LAST\r\nx", start + "BDAT 1\r\nx"} {
		for i := range 10 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, said)
			if i%2 == 0 {
				_ = c.(*net.TCPConn).SetLinger(0) // a reset, not an end
			}
			c.Close()
		}
	}
	end()
	settled(t, before)
	if n := len(b.all()); n != 0 {
		t.Errorf("%d messages were accepted", n)
	}
}

// TestSlowPeers send an octet now and then; each phase has its time all the same.
func TestSlowPeers(t *testing.T) {
	short := 300 * time.Millisecond
	start := "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	for _, c := range []struct {
		name, start string
		limits      smtp.Limits
		implicit    bool
		want        string
	}{
		{"before the first command", "", smtp.Limits{Greeting: short}, false, "421 timeout"},
		{"in a command", "EHLO c.example\r\n", smtp.Limits{Idle: short}, false, "421 timeout"},
		{"in a message", start + "DATA\r\n", smtp.Limits{Data: short}, false, "421 timeout"},
		{"in a chunk", start + "BDAT 1000\r\n", smtp.Limits{Data: short}, false, "421 timeout"},
		{"in a handshake", "EHLO c.example\r\nSTARTTLS\r\n", smtp.Limits{Greeting: short}, false, "220 2.0.0 ready for TLS"},
		{"in a handshake from the start", "", smtp.Limits{Greeting: short}, true, ""},
		{"in the whole session", "EHLO c.example\r\n", smtp.Limits{Session: short}, false, "421 timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			b := &recorder{}
			addr, end := serveFor(t, &smtp.Server{Hostname: "gw.example", Backend: b, Limits: c.limits, TLS: certificate(t), ImplicitTLS: c.implicit})
			l := dial(t, addr)
			drip(l, c.start, "\x16\x03\x01\x0f\xff", 20*time.Millisecond)
			out, _ := io.ReadAll(l.r)
			l.Close()
			got := strings.ReplaceAll(strings.TrimSuffix(string(out), "\r\n"), "4.4.2 ", "") // a slow machine may not come as far as EHLO
			if !strings.HasSuffix(got, c.want) || (c.want == "" && got != "") {
				t.Errorf("got %q", out)
			}
			end()
			settled(t, before)
			if len(b.all()) != 0 {
				t.Error("something was accepted")
			}
		})
	}
}

// drip sends the start at once and then an octet at each tick, the ones given first,
// until the server closes.
func drip(l *line, start, then string, every time.Duration) {
	_, _ = io.WriteString(l, start)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range tick.C {
		_ = l.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := l.r.Peek(l.r.Buffered() + 1); err == io.EOF {
			break
		}
		then += "x"
		if _, err := io.WriteString(l, then[:1]); err != nil {
			break
		}
		then = then[1:]
	}
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
}

// TestStalledHandshakeDoesNotHoldShutdown: a session that waits for its client ends at
// once, in every phase outside of a transaction.
func TestStalledHandshakeDoesNotHoldShutdown(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, c := range []struct {
		name, said string
		implicit   bool
	}{{"idle", "", false}, {"within a command", "EHL", false}, {"handshake", "EHLO c.example\r\nSTARTTLS\r\n", false}, {"handshake from the start", "\x16", true}} {
		t.Run(c.name, func(t *testing.T) {
			addr, end := serveFor(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}, TLS: certificate(t), ImplicitTLS: c.implicit})
			for range 20 {
				_, _ = io.WriteString(dial(t, addr), c.said)
			}
			begin := time.Now()
			end()
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("shutting down took %s", d)
			}
		})
	}
	settled(t, before)
}
