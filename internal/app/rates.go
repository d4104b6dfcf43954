package app

import (
	"net/netip"
	"sync"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/monitor"
)

// tick is how often it is looked whether an hour has ended.
const tick = time.Minute

// rates feeds the monitor with events on their way into the ledger, and tells of its
// alarms. What it has learnt is of this run alone.
type rates struct {
	app     *App
	monitor *monitor.Monitor
	end     chan struct{}
	done    sync.WaitGroup
}

func newRates(a *App) *rates {
	w := &rates{app: a, end: make(chan struct{})}
	w.monitor = monitor.New(monitor.Options{Inside: w.inside, Sink: w.sink})
	return w
}

// inside reports the address of an inside host of the configuration in force.
func (w *rates) inside(a netip.Addr) bool {
	g := w.app.now()
	if g == nil {
		return false
	}
	for _, h := range g.routing.Inside {
		if h.Addr().Unmap() == a {
			return true
		}
	}
	return false
}

func (w *rates) sink(recipient string) bool {
	g := w.app.now()
	return g != nil && g.sink(recipient)
}

// event takes in what bears on rates. Events of a former run that are applied again are
// before this one's beginning and say nothing of now.
func (w *rates) event(ev []byte) {
	switch ledger.Kind(ev[0]) {
	case ledger.KindHandedOff, ledger.KindReported, ledger.KindBounced:
	default:
		return
	}
	if e, err := ledger.Decode(ev); err == nil && !e.When().Before(w.app.started) {
		w.monitor.Observe(e)
	}
}

func (w *rates) start() {
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			w.tell(w.app.o.Now())
			select {
			case <-t.C:
			case <-w.end:
				return
			}
		}
	}()
}

func (w *rates) stop() {
	close(w.end)
	w.done.Wait()
}

// tell logs and counts the alarms that are new.
func (w *rates) tell(now time.Time) {
	for _, a := range w.monitor.Tick(now) {
		w.app.metrics.alarms.WithLabelValues(string(a.Kind)).Inc()
		w.app.log.Warn("rate alarm", "kind", a.Kind, "of", a.Chart.Of, "name", a.Chart.Name, "listener", a.Path.Listener, "filter", a.Path.Filter,
			"observed", a.Observed, "expected", a.Expected, "text", a.Text)
	}
}
