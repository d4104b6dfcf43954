package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// maxReport bounds what is read of a report into memory.
const maxReport = 8 << 20

// maxHeader bounds what is read of a message into memory to authenticate it: no less
// than the header that the gateway accepts.
const maxHeader = 1<<20 + 4<<10

// intake reads the reports that came in, one after the other. A report waits in the
// spool until its verdict is durable, so none is lost by a crash; judged twice it is
// found to be a duplicate.
type intake struct {
	app    *App
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	waiting []smtp.ID
	failed  map[smtp.ID]int // how often a report could not be judged
	wake    chan struct{}

	judged   int           // since the start
	progress chan struct{} // closed at the next one; nil where nobody waits
}

func newIntake(a *App) *intake {
	in := &intake{app: a, wake: make(chan struct{}, 1), failed: map[smtp.ID]int{}}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	return in
}

// add takes up a message that has just been committed.
func (in *intake) add(m *spool.Message) { in.push(m.ID) }

func (in *intake) push(id smtp.ID) {
	in.mu.Lock()
	in.waiting = append(in.waiting, id)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// start takes up what a former run has left, and goes on.
func (in *intake) start() {
	in.app.spool.List(func(e spool.Entry) bool {
		for _, st := range e.States {
			if st.State == spool.Held && st.Reason == spool.ReasonConsume {
				in.push(e.ID)
				break
			}
		}
		return true
	})
	in.wg.Add(1)
	go func() { defer in.wg.Done(); in.loop() }()
}

func (in *intake) stop() {
	in.cancel()
	in.wg.Wait()
}

func (in *intake) loop() {
	for {
		in.mu.Lock()
		var id smtp.ID
		if len(in.waiting) > 0 {
			id = in.waiting[0]
			in.waiting = in.waiting[1:]
		}
		in.mu.Unlock()
		if id.IsZero() {
			select {
			case <-in.wake:
				continue
			case <-in.ctx.Done():
				return
			}
		}
		if in.ctx.Err() != nil {
			return
		}
		if err := in.read(in.ctx, id); err != nil && in.ctx.Err() == nil {
			in.later(id, err)
		} else {
			delete(in.failed, id)
		}
	}
}

// Bounds of the time between two attempts to judge a report. It doubles from the one to
// the other.
const (
	firstRetry = time.Second
	lastRetry  = 10 * time.Minute
)

// backOff is how long a report waits that could not be judged so many times.
func backOff(failures int) time.Duration {
	return min(firstRetry<<min(failures-1, 16), lastRetry)
}

// later tries a report again after a while. It stays in the spool until its verdict is
// durable, so a restart in between costs nothing. The others go on meanwhile.
func (in *intake) later(id smtp.ID, cause error) {
	in.failed[id]++
	wait := backOff(in.failed[id])
	in.app.log.Error("report not judged", "id", id.String(), "err", cause, "again_in", wait)
	in.wait(id, wait)
}

// wait takes a report up again after a while.
func (in *intake) wait(id smtp.ID, wait time.Duration) {
	after := in.app.o.After(wait)
	in.wg.Add(1)
	go func() {
		defer in.wg.Done()
		select {
		case <-after:
			in.push(id)
		case <-in.ctx.Done():
		}
	}()
}

// read judges one report and settles it together with its verdict.
func (in *intake) read(ctx context.Context, id smtp.ID) error {
	a := in.app
	m, body, err := a.spool.Open(id)
	if errors.Is(err, spool.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxReport))
	if err != nil {
		return err
	}
	// A complaint can be faster than the ledger's index.
	if err := a.ledger.CaughtUp(ctx, a.spool.Durable()); err != nil {
		return err
	}
	peer, _ := netip.ParseAddr(m.Peer)
	row, err := a.ledger.Accepted(ctx, id)
	helo, provider := "", ""
	g := a.now()
	if err == nil {
		helo, provider = row.Helo, g.vouched(row.Listener)
	}
	auth := mailauth.Check(ctx, a.resolver, mailauth.Message{Peer: peer, Helo: helo, From: m.From, Raw: raw, Rest: body})
	states, err := a.spool.State(id)
	if err != nil {
		return err
	}
	for i := range m.Recipients {
		if states[i].State != spool.Held || states[i].Reason != spool.ReasonConsume {
			continue
		}
		v, err := g.judge.Judge(ctx, report.Input{Raw: raw, Auth: auth, Peer: peer, To: m.Recipients[i].To, Provider: provider, Received: m.Accepted})
		if err != nil {
			return err
		}
		if !v.Again.IsZero() { // a row that it rests on may be under way to the ledger
			in.wait(id, max(v.Again.Sub(a.o.Now()), firstRetry))
			return nil
		}
		if err := in.settle(ctx, m, i, v); err != nil {
			return err
		}
		in.count()
	}
	return nil
}

// settle opens an incident where one is due, then makes the verdict durable. In this
// order a crash between the two costs nothing: the report is judged again, and finds
// its incident open.
func (in *intake) settle(ctx context.Context, m *spool.Message, i int, v *report.Verdict) error {
	a := in.app
	s, opened, err := a.book.Observe(ctx, v)
	if err != nil {
		return err
	}
	if opened {
		a.log.Error("incident opened", "incident", s.ID, "trigger", v.Kind, "listener", v.Path.Listener, "filter", v.Path.Filter, "peer", v.Peer.String(), "policy", v.Policy)
	}
	if err := a.suppression.ofReport(v, m.ID); err != nil {
		return err
	}
	pos, err := a.spool.Commit(ctx, &spool.Batch{
		Changes: []spool.Change{{ID: m.ID, Recipient: i, State: spool.Settled}},
		Events:  [][]byte{ledger.Encode(v.Event(m.ID, a.o.Now()))},
	})
	if err != nil {
		return fmt.Errorf("record verdict: %w", err)
	}
	a.metrics.verdicts.WithLabelValues(string(v.Kind), v.Provider).Inc()
	a.log.Info("report judged", "verdict", v.Kind, "grade", v.Grade, "provider", v.Provider, "customer", v.Customer, "reason", v.Reason)
	return a.ledger.CaughtUp(ctx, uint64(pos))
}

// authentication gives the policy its facts about a message.
type authentication struct{ a *App }

// Authenticate implements gateway.Authentication.
func (x authentication) Authenticate(ctx context.Context, peer *smtp.Peer, from smtp.Path, r io.Reader) (spf, dkim, dmarc string) {
	raw, err := io.ReadAll(io.LimitReader(r, maxHeader))
	if err != nil {
		return "temperror", "temperror", "temperror"
	}
	out := mailauth.Check(ctx, x.a.resolver, mailauth.Message{Peer: peer.Addr.Addr(), Helo: peer.Helo, From: from, Raw: raw, Rest: r})
	return out.SPF, out.BestDKIM(), out.DMARC
}

var _ gateway.Authentication = authentication{}

// reverseName gives the policy the name of a client.
func (a *App) reverseName(ctx context.Context, addr netip.Addr) string {
	return mailauth.ReverseName(ctx, a.resolver, addr)
}
