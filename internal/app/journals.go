package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/journal"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/spool"
)

// journals are the log files of the node, and what of the spool they and the ledger
// still need.
type journals struct {
	app   *App
	spool *spool.Spool

	change  sync.Mutex // one set of log files after the other
	mu      sync.Mutex
	ledger  uint64 // the ledger is durable up to here
	running map[string]*running
}

// running is one log file at work.
type running struct {
	cfg     config.LogFile
	journal *journal.Journal
	cancel  context.CancelFunc
	done    chan struct{}
}

func newJournals(a *App, s *spool.Spool) *journals {
	return &journals{app: a, spool: s, running: map[string]*running{}}
}

// forget lets the spool go of what neither the ledger nor a log file needs. A log file
// that is late holds back as much as its backlog allows, and nothing while the disk is
// nearly full: mail comes first.
func (js *journals) forget() {
	js.mu.Lock()
	pos := js.ledger
	for _, r := range js.running {
		if js.spool.Low() {
			break
		}
		at := r.journal.Position()
		// The segment of the position stays, be it at its end: the journal tells by it
		// that nothing is missing.
		pos = min(pos, max(at-min(at, 1), js.spool.Within(r.cfg.Backlog)))
	}
	js.mu.Unlock()
	if !js.spool.Low() {
		pos = js.app.webhooks.floor(pos, js.spool.Within)
	}
	js.spool.Forget(pos)
}

// indexed tells that the ledger is durable up to a position.
func (js *journals) indexed(pos uint64) {
	js.mu.Lock()
	js.ledger = max(js.ledger, pos)
	js.mu.Unlock()
	js.forget()
}

// open opens one log file; it does not follow yet.
func (js *journals) open(f config.LogFile) (*running, error) {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o750); err != nil {
		return nil, fmt.Errorf("log file %q: %w", f.Name, err)
	}
	state := js.app.o.Config.Node.State
	o := journal.Options{Name: f.Name, Format: journal.Format(f.Format), Path: f.Path, Position: filepath.Join(state, "logs", f.Name+".position"),
		RotateSize: f.Rotate.Octets, RotateEvery: f.Rotate.Age, Keep: journal.Keep{Age: f.Keep.Age, Octets: f.Keep.Octets}, Compress: f.Compress,
		Source: js.spool, Rows: caughtUp{js.app}, Saved: func(uint64) { js.forget() }, Log: js.app.log, Now: js.app.o.Now}
	if f.Addresses == "hashed" {
		key, err := logKey(filepath.Join(state, "log.key"), js.app.o.Random)
		if err != nil {
			return nil, fmt.Errorf("log file %q: %w", f.Name, err)
		}
		o.Key = key
	}
	if len(f.Events) > 0 {
		o.Events, o.Records = map[ledger.Kind]bool{}, map[string]bool{}
		for _, e := range f.Events {
			o.Records[e] = true
			for k := ledger.KindAccepted; k.String() != "unknown"; k++ {
				if k.String() == e {
					o.Events[k] = true
				}
			}
		}
	}
	j, err := journal.Open(o)
	if err != nil {
		return nil, err
	}
	r := &running{cfg: f, journal: j, done: make(chan struct{})}
	js.mu.Lock()
	js.running[f.Name] = r
	js.mu.Unlock()
	return r, nil
}

// start lets an opened log file follow.
func (r *running) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.journal.Follow(ctx)
	}()
}

// stop ends a log file that follows, or one that has only been opened.
func (js *journals) stop(r *running) {
	if r.cancel == nil {
		r.start()
	}
	r.cancel()
	<-r.done
	js.mu.Lock()
	delete(js.running, r.cfg.Name)
	js.mu.Unlock()
}

// apply makes the log files those of a configuration: what has changed or gone ends,
// and what is new begins; what stays is opened anew where somebody has moved it. On an
// error the former ones go on.
func (js *journals) apply(files []config.LogFile) error {
	js.change.Lock()
	defer js.change.Unlock()
	wanted := map[string]config.LogFile{}
	for _, f := range files {
		wanted[f.Name] = f
	}
	var former []config.LogFile
	for name, r := range js.all() {
		if f, stays := wanted[name]; stays && reflect.DeepEqual(f, r.cfg) {
			delete(wanted, name)
			r.journal.Reopen()
			continue
		}
		former = append(former, r.cfg)
		js.stop(r)
	}
	var begun []*running
	for _, f := range wanted {
		r, err := js.open(f)
		if err != nil {
			for _, r := range begun {
				js.stop(r)
			}
			return errors.Join(err, js.restore(former))
		}
		begun = append(begun, r)
	}
	for _, r := range begun {
		r.start()
	}
	js.forget()
	return nil
}

// restore begins again what was stopped for others.
func (js *journals) restore(files []config.LogFile) error {
	var errs []error
	for _, f := range files {
		r, err := js.open(f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.start()
	}
	return errors.Join(errs...)
}

// all gives the log files at work.
func (js *journals) all() map[string]*running {
	js.mu.Lock()
	defer js.mu.Unlock()
	out := map[string]*running{}
	for name, r := range js.running {
		out[name] = r
	}
	return out
}

// close ends all log files; each writes what is durable before.
func (js *journals) close() {
	js.change.Lock()
	defer js.change.Unlock()
	for _, r := range js.all() {
		js.stop(r)
	}
}

// status tells how the log files fare, in the order of the configuration.
func (js *journals) status() (out []LogStatus) {
	all := js.all()
	for _, f := range js.app.now().cfg.LogFiles {
		if r := all[f.Name]; r != nil {
			s := r.journal.State()
			out = append(out, LogStatus{Name: s.Name, Format: string(s.Format), Path: s.Path, Events: s.Seq, Behind: js.spool.Behind(s.At), Gaps: s.Gaps, Error: s.Err})
		}
	}
	return out
}

// logKey reads the key under which addresses are hashed, or makes one.
func logKey(name string, random io.Reader) ([]byte, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, 32)
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("make key of hashed addresses: %w", err)
		}
		if err := writeSecret(name, b); err != nil {
			return nil, fmt.Errorf("write key of hashed addresses: %w", err)
		}
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key of hashed addresses: %w", err)
	}
	if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key of hashed addresses %s: others can read it (mode %04o); chmod 600 it", name, st.Mode().Perm())
	}
	if len(b) < 32 {
		return nil, fmt.Errorf("read key of hashed addresses %s: %d octets, 32 are wanted", name, len(b))
	}
	return b, nil
}

// writeSecret writes a file that only its owner can read, all of it or nothing.
func writeSecret(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// journalMetrics shows how far the log files are behind.
type journalMetrics struct {
	js                            *journals
	behind, events, gaps, failing *prometheus.Desc
}

func newJournalMetrics(js *journals) *journalMetrics {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, []string{"name"}, nil) }
	return &journalMetrics{js: js,
		behind:  desc("postern_log_file_behind_octets", "Octets of the spool's log between what a log file has and what is durable."),
		events:  desc("postern_log_file_events_total", "Ledger events that a log file has seen since it was new."),
		gaps:    desc("postern_log_file_gaps_total", "Times that a log file was so late that events are missing in it, since the start."),
		failing: desc("postern_log_file_failing", "1 while a log file cannot be written.")}
}

// Describe implements prometheus.Collector.
func (m *journalMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.behind, m.events, m.gaps, m.failing} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *journalMetrics) Collect(out chan<- prometheus.Metric) {
	for _, s := range m.js.status() {
		failing := 0.0
		if s.Error != "" {
			failing = 1
		}
		out <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, float64(s.Behind), s.Name)
		out <- prometheus.MustNewConstMetric(m.events, prometheus.CounterValue, float64(s.Events), s.Name)
		out <- prometheus.MustNewConstMetric(m.gaps, prometheus.CounterValue, float64(s.Gaps), s.Name)
		out <- prometheus.MustNewConstMetric(m.failing, prometheus.GaugeValue, failing, s.Name)
	}
}
