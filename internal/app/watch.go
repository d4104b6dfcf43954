package app

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/watch"
)

// watches are the other servers' logs that are followed.
type watches struct {
	app  *App
	mu   sync.Mutex
	work map[string]*watching
}

// watching is one watch at work.
type watching struct {
	cfg     config.Watch
	watcher *watch.Watcher
	cancel  context.CancelFunc
	done    chan struct{}
}

func newWatches(a *App) *watches { return &watches{app: a, work: map[string]*watching{}} }

// watchStore keeps what watches make: through the spool, like everything.
type watchStore struct{ a *App }

// Commit implements watch.Store.
func (s watchStore) Commit(ctx context.Context, events []ledger.Event) error {
	return s.a.commitEvents(ctx, events...)
}

// WatchState implements watch.Store.
func (s watchStore) WatchState(ctx context.Context, name string) ([]ledger.Watched, map[string][]byte, error) {
	return s.a.ledger.WatchState(ctx, name)
}

// HistoryOptions says how a watch's files are read.
func HistoryOptions(w *config.Watch) history.Options {
	o := history.Options{Format: history.Format(w.Format), Location: w.Location}
	for _, v := range []config.Value{w.Customer, w.Campaign} {
		if v.Field != "" && !slices.Contains(o.Fields, v.Field) {
			o.Fields = append(o.Fields, v.Field)
		}
	}
	return o
}

// named makes a function that takes a name from a message's fields, nil where there is
// none to take.
func named(v config.Value, fields []string) func(*history.Message) string {
	if v.Field == "" && v.Constant == "" {
		return nil
	}
	return func(m *history.Message) string {
		return v.Of(func(name string) string {
			if i := slices.Index(fields, name); i >= 0 && i < len(m.Extra) {
				return m.Extra[i]
			}
			return ""
		})
	}
}

// WatchRows says how records of a watch become rows under a configuration; nil is none,
// under which nobody's addresses are known.
func WatchRows(cfg *config.Config, w *config.Watch) *watch.Rows {
	fields := HistoryOptions(w).Fields
	if cfg == nil {
		return &watch.Rows{Watch: w.Name, Format: history.Format(w.Format), Source: w.Source,
			Identify: watch.Identify{Customer: named(w.Customer, fields), Campaign: named(w.Campaign, fields),
				Client: func(netip.Addr) (watch.Owner, bool) { return watch.Owner{Origin: string(policy.Customer)}, true }}}
	}
	topology := cfg.Topology()
	return &watch.Rows{Watch: w.Name, Format: history.Format(w.Format), Policy: cfg.Version, Source: w.Source,
		Identify: watch.Identify{Customer: named(w.Customer, fields), Campaign: named(w.Campaign, fields),
			Client: func(a netip.Addr) (watch.Owner, bool) { return ownerOf(topology, a) },
			User: func(user string) (string, bool) {
				u, ok := cfg.Users[user]
				return u.Customer, ok
			},
			Inside: func(a netip.Addr) string {
				for i := range topology.Inside {
					if topology.Inside[i].Address.Addr().Unmap() == a.Unmap() {
						return topology.Inside[i].Name
					}
				}
				return ""
			}}}
}

// ownerOf tells whose an address is: an inside host's, or a customer's network.
func ownerOf(t *policy.Topology, a netip.Addr) (watch.Owner, bool) {
	for i := range t.Inside {
		if t.Inside[i].Address.Addr().Unmap() == a.Unmap() {
			return watch.Owner{Origin: string(policy.Inside)}, true
		}
	}
	for i := range t.Customers {
		for _, n := range t.Customers[i].Networks {
			if n.Contains(a.Unmap()) {
				return watch.Owner{Origin: string(policy.Customer), Customer: t.Customers[i].Name}, true
			}
		}
	}
	return watch.Owner{}, false
}

// start begins a watch.
func (ws *watches) start(ctx context.Context, cfg config.Watch) error {
	a := ws.app
	rows := func() *watch.Rows {
		if r := a.now().watched[cfg.Name]; r != nil {
			return r
		}
		return WatchRows(a.now().cfg, &cfg)
	}
	w, err := watch.New(ctx, watch.Options{Name: cfg.Name, Files: cfg.Files, FromEnd: cfg.FromEnd, History: HistoryOptions(&cfg), Rows: rows, Store: watchStore{a},
		Report: a.reportOfLog(cfg.Name), Now: a.o.Now, After: a.o.After, Log: a.log})
	if err != nil {
		return err
	}
	follow, cancel := context.WithCancel(context.Background())
	x := &watching{cfg: cfg, watcher: w, cancel: cancel, done: make(chan struct{})}
	go func() { defer close(x.done); w.Follow(follow) }()
	ws.mu.Lock()
	ws.work[cfg.Name] = x
	ws.mu.Unlock()
	return nil
}

// apply makes the watches those of a configuration. One whose reading is the same goes
// on: whose mail is whose it asks of the configuration in force.
func (ws *watches) apply(ctx context.Context, wanted []config.Watch) error {
	keep := map[string]bool{}
	var begin []config.Watch
	for i := range wanted {
		ws.mu.Lock()
		x := ws.work[wanted[i].Name]
		ws.mu.Unlock()
		if x != nil && sameReading(&x.cfg, &wanted[i]) {
			keep[x.cfg.Name] = true
			continue
		}
		begin = append(begin, wanted[i])
	}
	ws.stop(func(name string) bool { return !keep[name] })
	var errs []error
	for _, w := range begin {
		errs = append(errs, ws.start(ctx, w))
	}
	return errors.Join(errs...)
}

func sameReading(a, b *config.Watch) bool {
	return a.Format == b.Format && slices.Equal(a.Files, b.Files) && a.Location.String() == b.Location.String() && a.FromEnd == b.FromEnd &&
		a.Customer.Field == b.Customer.Field && a.Campaign.Field == b.Campaign.Field
}

// stop ends the watches that are chosen.
func (ws *watches) stop(which func(name string) bool) {
	ws.mu.Lock()
	var out []*watching
	for name, x := range ws.work {
		if which(name) {
			out = append(out, x)
			delete(ws.work, name)
		}
	}
	ws.mu.Unlock()
	for _, x := range out {
		x.cancel()
	}
	for _, x := range out {
		<-x.done
	}
}

// states tells how the watches fare, in the order of the configuration.
func (ws *watches) states() (out []watch.State) {
	cfg := ws.app.now().cfg
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for i := range cfg.Watches {
		if x := ws.work[cfg.Watches[i].Name]; x != nil {
			out = append(out, x.watcher.State())
		}
	}
	return out
}

// complete gives the time up to which every hand-off is in the ledger: the present,
// without watches; with some, when each had last read its files to their end.
func (ws *watches) complete() time.Time {
	at := ws.app.o.Now()
	for _, s := range ws.states() {
		if s.Complete.Before(at) {
			at = s.Complete
		}
	}
	return at
}

// watchMetrics show how far the watches are.
type watchMetrics struct {
	ws                                           *watches
	lines, rows, unreadable, behind, failing, at *prometheus.Desc
}

func newWatchMetrics(ws *watches) *watchMetrics {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, []string{"name"}, nil) }
	return &watchMetrics{ws: ws,
		lines:      desc("postern_watch_lines_total", "Lines of another server's log that were read, since the start."),
		rows:       desc("postern_watch_rows_total", "Rows of the ledger that they made, since the start."),
		unreadable: desc("postern_watch_unreadable_total", "Lines that are not of the format that the configuration says, since the start."),
		behind:     desc("postern_watch_behind_octets", "Octets of the newest file that are not read yet."),
		failing:    desc("postern_watch_failing", "1 while a watch cannot read or commit."),
		at:         desc("postern_watch_latest_seconds", "Time of the newest line, in seconds since 1970.")}
}

// Describe implements prometheus.Collector.
func (m *watchMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.lines, m.rows, m.unreadable, m.behind, m.failing, m.at} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *watchMetrics) Collect(out chan<- prometheus.Metric) {
	for _, s := range m.ws.states() {
		put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			out <- prometheus.MustNewConstMetric(d, kind, v, s.Name)
		}
		put(m.lines, prometheus.CounterValue, float64(s.Lines))
		put(m.rows, prometheus.CounterValue, float64(s.Rows))
		put(m.unreadable, prometheus.CounterValue, float64(s.Unreadable))
		put(m.behind, prometheus.GaugeValue, float64(s.Behind))
		failing := 0.0
		if s.Err != "" {
			failing = 1
		}
		put(m.failing, prometheus.GaugeValue, failing)
		if !s.Latest.IsZero() {
			put(m.at, prometheus.GaugeValue, float64(s.Latest.Unix()))
		}
	}
}
