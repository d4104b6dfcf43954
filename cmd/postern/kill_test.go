package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postern.dev/postern/internal/ledger"
)

// killRounds is how often the node is killed: POSTERN_KILL_ROUNDS, or a few.
func killRounds() int {
	if n, err := strconv.Atoi(os.Getenv("POSTERN_KILL_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// TestKilledNodeLosesNothing kills the node -9 at random moments under load, starts
// it again on the same state, and in the end compares what the sink received with
// what was acknowledged.
func TestKilledNodeLosesNothing(t *testing.T) {
	sinkPort := freePort(t, "127.0.0.31")
	s := newSink(t, net.JoinHostPort("127.0.0.31", strconv.Itoa(sinkPort)))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.31"), sinkPort, logFiles)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d rounds", seed, killRounds())
	r := rand.New(rand.NewPCG(seed, 1))
	acked := &ackedSet{}
	for round := range killRounds() {
		n := serve(t, file)
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for c := range 10 {
			clients.Add(1)
			go func() {
				defer clients.Done()
				inject(listener, fmt.Sprintf("r%dc%d", round, c), acked, stop)
			}()
		}
		acked.await(acked.count()+5+r.IntN(200), 20*time.Second)
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		close(stop)
		clients.Wait()
		if (round+1)%100 == 0 {
			t.Logf("%d rounds, %d acknowledged", round+1, acked.count())
		}
	}
	n := serve(t, file)
	want := acked.all()
	missing := func(got map[string]int) (out []string) {
		for _, a := range want {
			if got[a] == 0 {
				out = append(out, a)
			}
		}
		return out
	}
	if err := s.await(deadline(t, 60*time.Second), func(got map[string]int) bool { return len(missing(got)) == 0 }); err != nil {
		t.Fatalf("%d of %d acknowledged messages are missing: %v", len(missing(s.got)), len(want), missing(s.got)[:min(5, len(missing(s.got)))])
	}
	// What had arrived when the last kill came may still have to be sent once more.
	for ctx := deadline(t, 60*time.Second); counts(t, file).Waiting > 0; {
		if ctx.Err() != nil {
			t.Fatalf("the queue does not empty: %+v", counts(t, file))
		}
	}
	n.stop(t)
	unrecorded(t, file, want)
	logged(t, file, want)
	doubled := 0
	for _, c := range s.got {
		if c > 1 {
			doubled++
		}
	}
	t.Logf("%d acknowledged, none missing; %d delivered twice across %d kills", len(want), doubled, killRounds())
	if len(want) < 5*killRounds() {
		t.Errorf("only %d messages were acknowledged: the test tried too little", len(want))
	}
	if doubled > 40*killRounds() {
		t.Errorf("%d messages were delivered twice: more than one group commit's worth for each kill", doubled)
	}
}

// unrecorded opens the stopped node's ledger and looks for every acknowledged message:
// its acceptance and its hand-off must both be there.
func unrecorded(t testing.TB, file string, want []string) {
	t.Helper()
	l, err := ledger.Open(filepath.Join(filepath.Dir(file), "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	missing := 0
	for _, rcpt := range want {
		ids, err := l.ByRecipient(t.Context(), rcpt, time.Time{}, time.Time{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[ledger.Kind]int{}
		for _, id := range ids {
			events, err := l.History(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				kinds[e.Kind()]++
			}
		}
		if kinds[ledger.KindAccepted] != 1 || kinds[ledger.KindHandedOff] == 0 {
			if missing++; missing < 5 {
				t.Errorf("the ledger has of %s: %v", rcpt, kinds)
			}
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged messages are not whole in the ledger", missing, len(want))
	}
}

// ackedSet gathers the recipients whose message got its 250.
type ackedSet struct {
	mu   sync.Mutex
	list []string
	wake chan struct{}
}

func (a *ackedSet) add(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, s)
	if a.wake != nil {
		close(a.wake)
		a.wake = nil
	}
}

func (a *ackedSet) count() int { a.mu.Lock(); defer a.mu.Unlock(); return len(a.list) }
func (a *ackedSet) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.list...)
}

// await waits for n acknowledgements, or for the time to pass.
func (a *ackedSet) await(n int, d time.Duration) {
	timeout := time.After(d)
	for {
		a.mu.Lock()
		if len(a.list) >= n {
			a.mu.Unlock()
			return
		}
		if a.wake == nil {
			a.wake = make(chan struct{})
		}
		wake := a.wake
		a.mu.Unlock()
		select {
		case <-wake:
		case <-timeout:
			return
		}
	}
}

// inject sends messages, each to a recipient of its own, until the node goes away.
func inject(addr, name string, acked *ackedSet, stop <-chan struct{}) {
	c, err := gosmtp.Dial(addr)
	if err != nil {
		return
	}
	defer c.Close()
	if c.Hello("app.acme.example") != nil {
		return
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		rcpt := fmt.Sprintf("%s-%d@sink.example", name, i)
		if !injectOne(c, rcpt) {
			return
		}
		acked.add(rcpt)
	}
}

func injectOne(c *gosmtp.Client, rcpt string) bool {
	if c.Mail("n@news.acme.example", nil) != nil || c.Rcpt(rcpt, nil) != nil {
		return false
	}
	w, err := c.Data()
	if err != nil {
		return false
	}
	fmt.Fprintf(w, "From: n@news.acme.example\r\nTo: %s\r\nSubject: kill\r\n\r\n%s\r\n", rcpt, rcpt)
	return w.Close() == nil
}
