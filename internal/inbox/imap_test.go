package inbox_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"postern.dev/postern/internal/inbox"
)

// literal is a mail as the server takes it.
type literal struct{ *strings.Reader }

func (l literal) Size() int64 { return l.Reader.Size() }

// mailServer is an IMAP server in memory, with a mailbox of some mails.
type mailServer struct {
	user *imapmemserver.User
	addr string
}

func newMailServer(t *testing.T, mails ...string) *mailServer {
	t.Helper()
	s := &mailServer{user: imapmemserver.NewUser("fbl", "secret")}
	for _, box := range []string{"INBOX", "Judged"} {
		if err := s.user.Create(box, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range mails {
		s.add(t, m)
	}
	mem := imapmemserver.New()
	mem.AddUser(s.user)
	srv := imapserver.New(&imapserver.Options{NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
		return mem.NewSession(), nil, nil
	},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}, imap.CapIdle: {}, imap.CapUIDPlus: {}, imap.CapMove: {}}, InsecureAuth: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return s
}

func (s *mailServer) add(t *testing.T, m string) {
	t.Helper()
	if _, err := s.user.Append("INBOX", literal{strings.NewReader(m)}, &imap.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *mailServer) count(t *testing.T, box string) uint32 {
	t.Helper()
	d, err := s.user.Status(box, &imap.StatusOptions{NumMessages: true})
	if err != nil {
		t.Fatal(err)
	}
	return *d.NumMessages
}

// receiver counts deliveries, and can fail.
type receiver struct {
	mu   sync.Mutex
	fail error
	got  []string
	more chan struct{}
}

func (r *receiver) deliver(_ context.Context, m *inbox.Mail) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.got = append(r.got, string(m.Raw))
	select {
	case r.more <- struct{}{}:
	default:
	}
	return nil
}

func client(addr, done string, r *receiver) *inbox.IMAP {
	return &inbox.IMAP{Name: "i", Address: addr, TLS: "none", User: "fbl", Password: func() (string, error) { return "secret", nil }, Mailbox: "INBOX", Done: done, MoveTo: "Judged",
		Every: time.Minute, Deliver: r.deliver, After: func(time.Duration) <-chan time.Time { return nil }, Log: quiet}
}

// session runs one until it has delivered n mails, and then until it ends.
func session(t *testing.T, m *inbox.IMAP, r *receiver, n int, settled func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.Session(ctx) }()
	for {
		r.mu.Lock()
		enough := len(r.got) >= n
		r.mu.Unlock()
		if enough && settled() {
			break
		}
		select {
		case <-r.more:
		case <-time.After(10 * time.Millisecond):
		case err := <-done:
			t.Fatalf("session ended: %v", err)
		}
	}
	cancel()
	<-done
}

// TestIMAP reads a mailbox in each way of putting away, with news by IDLE, and finds
// nothing again in a second session.
func TestIMAP(t *testing.T) {
	for _, c := range []struct {
		done        string
		left, aside uint32
	}{{"seen", 3, 0}, {"move:Judged", 0, 3}, {"delete", 0, 0}} {
		t.Run(c.done, func(t *testing.T) {
			s := newMailServer(t, mail("1"), mail("2"))
			r := &receiver{more: make(chan struct{}, 1)}
			how, _, _ := strings.Cut(c.done, ":")
			m := client(s.addr, how, r)
			added := false
			session(t, m, r, 2, func() bool {
				if !added {
					s.add(t, mail("3"))
					added = true
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				return len(r.got) == 3
			})
			if how != "seen" {
				session(t, client(s.addr, how, r), r, 3, func() bool { return s.count(t, "INBOX") == c.left })
			}
			again := &receiver{more: make(chan struct{}, 1)}
			s.add(t, mail("4"))
			session(t, client(s.addr, how, again), again, 1, func() bool { return true })
			again.mu.Lock()
			n := len(again.got)
			again.mu.Unlock()
			if n > 2 { // the third may not have been put away when its session ended
				t.Errorf("%d mails come again", n)
			}
		})
	}
}

// TestIMAPKeeps: what cannot be made durable stays as it was.
func TestIMAPKeeps(t *testing.T) {
	s := newMailServer(t, mail("1"))
	r := &receiver{fail: errors.New("full"), more: make(chan struct{}, 1)}
	err := client(s.addr, "delete", r).Session(context.Background())
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("%v", err)
	}
	if n := s.count(t, "INBOX"); n != 1 {
		t.Errorf("%d mails are left", n)
	}
	r.fail = nil
	session(t, client(s.addr, "delete", r), r, 1, func() bool { return s.count(t, "INBOX") == 0 })
}

// TestIMAPBadServers: servers that refuse, hang up, talk rubbish or say nothing end the
// session, and Follow comes back.
func TestIMAPBadServers(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"hangs up", func(c net.Conn) { c.Close() }},
		{"rubbish", func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("\x00\xff{999999999}\r\n", 1000))); c.Close() }},
		{"refuses", func(c net.Conn) { _, _ = c.Write([]byte("* BYE too busy\r\n")); c.Close() }},
		{"says nothing", func(net.Conn) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			tries := make(chan net.Conn, 10)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					tries <- conn
					c.serve(conn)
				}
			}()
			ctx, cancel := context.WithCancel(context.Background())
			r := &receiver{}
			m := client(l.Addr().String(), "seen", r)
			m.After = func(time.Duration) <-chan time.Time { return time.After(time.Millisecond) }
			done := make(chan struct{})
			go func() { defer close(done); m.Follow(ctx) }()
			first := <-tries
			if c.name != "says nothing" {
				<-tries // it comes back
			}
			cancel() // ends also what waits for a word
			<-done
			first.Close()
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		s := newMailServer(t)
		m := client(s.addr, "seen", &receiver{})
		m.Password = func() (string, error) { return "wrong", nil }
		if err := m.Session(context.Background()); err == nil || !strings.Contains(err.Error(), "sign in") {
			t.Errorf("%v", err)
		}
	})
}
