package main

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/ledger"
)

// forgetful is a host that takes every message, and hangs up instead of saying so the
// first time for each third recipient, and the second time for each sixth.
type forgetful struct {
	mu      sync.Mutex
	arrived map[string]int // by recipient
	unheard map[string]int // of these
}

// listen serves until the test ends.
func (f *forgetful) listen(t *testing.T, addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); f.serve(c) })
		}
	})
}

func (f *forgetful) serve(c net.Conn) {
	r, to := bufio.NewReader(c), ""
	fmt.Fprint(c, "220 mx.sink.example\r\n")
	for {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, arg, _ := strings.Cut(strings.TrimSpace(line), ":"); {
		case verb == "RCPT TO":
			to = strings.Trim(strings.Fields(arg)[0], "<>")
			fmt.Fprint(c, "250 2.1.5 yes\r\n")
		case verb == "DATA":
			fmt.Fprint(c, "354 go on\r\n")
			for line != ".\r\n" {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			if !f.take(to) {
				return
			}
			fmt.Fprint(c, "250 2.0.0 taken\r\n")
		case verb == "QUIT":
			fmt.Fprint(c, "221 2.0.0 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 2.0.0 yes\r\n")
		}
	}
}

// take notes an arrival and tells whether to say so.
func (f *forgetful) take(to string) bool {
	n, _ := strconv.Atoi(strings.TrimLeft(strings.Split(to, "@")[0], "r"))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.arrived[to]++
	if k := f.arrived[to]; k == 1 && n%3 == 0 || k == 2 && n%6 == 0 {
		f.unheard[to]++
		return false
	}
	return true
}

// TestNothingComesTwice: a copy comes again only where the peer's yes was lost with the
// connection (RFC 5321, sections 4.2.5 and 6.1), and then once for each; the node's
// counters, its ledger and the peer agree to the message.
func TestNothingComesTwice(t *testing.T) {
	const messages = 300
	port := freePort(t, "127.0.0.33")
	f := &forgetful{arrived: map[string]int{}, unheard: map[string]int{}}
	f.listen(t, fmt.Sprintf("127.0.0.33:%d", port))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.33"), port,
		"retry {\n  first  = \"1s\"\n  factor = 1\n  max    = \"1s\"\n}\n")
	n := serve(t, file)
	all := injectAll(t, listener, messages)
	for ctx := deadline(t, 2*time.Minute); counts(t, file).Waiting > 0; time.Sleep(100 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("the queue does not empty: %+v", counts(t, file))
		}
	}
	counted := eventsCounted(t, file)
	n.stop(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	arrivals, unheard := 0, 0
	for _, to := range all {
		arrivals, unheard = arrivals+f.arrived[to], unheard+f.unheard[to]
		if beyond := f.arrived[to] - 1 - f.unheard[to]; beyond != 0 {
			t.Errorf("%s came %d times, %d of them were unheard", to, f.arrived[to], f.unheard[to])
		}
	}
	kinds := ledgerKinds(t, file, all)
	t.Logf("%d acknowledged, %d arrivals, %d of them again, each because a yes was lost with its connection; counters %v, ledger %v", messages, arrivals, arrivals-messages, counted, kinds)
	for kind, want := range map[ledger.Kind]int{ledger.KindAccepted: messages, ledger.KindHandedOff: arrivals - unheard, ledger.KindAttempted: unheard} {
		if kinds[kind] != want || counted[kind.String()] != want {
			t.Errorf("%s: the peer's count is %d, the ledger's %d, the counter says %d", kind, want, kinds[kind], counted[kind.String()])
		}
	}
}

// injectAll sends messages on one connection, and gives their recipients.
func injectAll(t *testing.T, addr string, messages int) (all []string) {
	t.Helper()
	c, err := gosmtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range messages {
		to := fmt.Sprintf("r%d@sink.example", i)
		if !injectOne(c, to) {
			t.Fatalf("message %d was not taken", i)
		}
		all = append(all, to)
	}
	return all
}

// eventsCounted reads the node's counters of events.
func eventsCounted(t *testing.T, file string) map[string]int {
	t.Helper()
	var b []byte
	if err := app.NewClient(filepath.Join(filepath.Dir(file), "state", "postern.sock")).Get(t.Context(), "/metrics", nil, &b); err != nil {
		t.Fatal(err)
	}
	counted := map[string]int{}
	for line := range strings.Lines(string(b)) {
		if kind, ok := strings.CutPrefix(line, `postern_events_total{kind="`); ok {
			kind, n, _ := strings.Cut(strings.TrimSpace(kind), `"} `)
			counted[kind], _ = strconv.Atoi(n)
		}
	}
	return counted
}

// ledgerKinds opens the stopped node's ledger and counts the events of all recipients'
// messages by their kind.
func ledgerKinds(t *testing.T, file string, all []string) map[ledger.Kind]int {
	t.Helper()
	l, err := ledger.Open(filepath.Join(filepath.Dir(file), "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	kinds := map[ledger.Kind]int{}
	for _, to := range all {
		ids, err := l.ByRecipient(t.Context(), to, time.Time{}, time.Time{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			events, err := l.History(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				kinds[e.Kind()]++
			}
		}
	}
	return kinds
}
