package app

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/webhook"
)

// webhooks are the receivers that are told of events.
type webhooks struct {
	app  *App
	mu   sync.Mutex
	work []*hooking
	cfg  []config.Webhook
}

// hooking is one webhook at work.
type hooking struct {
	cfg    config.Webhook
	hook   *webhook.Webhook
	cancel context.CancelFunc
	done   chan struct{}
}

func newWebhooks(a *App) *webhooks { return &webhooks{app: a} }

// floor is the position in the spool before which no webhook needs anything: one that is
// late holds back as much as its backlog allows.
func (ws *webhooks) floor(pos uint64, within func(octets int64) uint64) uint64 {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, x := range ws.work {
		at := x.hook.State().At
		pos = min(pos, max(at-min(at, 1), within(x.cfg.Backlog)))
	}
	return pos
}

// apply makes the webhooks those of a configuration.
func (ws *webhooks) apply(wanted []config.Webhook) error {
	if reflect.DeepEqual(wanted, ws.cfg) {
		return nil
	}
	ws.stop()
	a := ws.app
	var errs []error
	for _, cfg := range wanted {
		kinds := map[ledger.Kind]bool{}
		for k := ledger.KindAccepted; k.String() != "unknown"; k++ {
			for _, e := range cfg.Events {
				kinds[k] = kinds[k] || e == k.String()
			}
		}
		w, err := webhook.Open(webhook.Options{Name: cfg.Name, URL: cfg.URL, Secret: func() ([]byte, error) { return secretFile(cfg.Secret) }, Sign: inbox.Sign, Events: kinds,
			Position: filepath.Join(a.o.Config.Node.State, "webhooks", cfg.Name+".position"), Timeout: cfg.Timeout, Source: a.spool, Saved: a.journals.forget, Now: a.o.Now, After: a.o.After, Log: a.log})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		x := &hooking{cfg: cfg, hook: w, cancel: cancel, done: make(chan struct{})}
		go func() { defer close(x.done); w.Follow(ctx) }()
		ws.mu.Lock()
		ws.work = append(ws.work, x)
		ws.mu.Unlock()
	}
	ws.cfg = wanted
	return errors.Join(errs...)
}

func (ws *webhooks) stop() {
	ws.mu.Lock()
	work := ws.work
	ws.work = nil
	ws.mu.Unlock()
	for _, x := range work {
		x.cancel()
	}
	for _, x := range work {
		<-x.done
	}
}

// webhookMetrics show how far the webhooks are.
type webhookMetrics struct {
	ws                           *webhooks
	sent, refused, gaps, failing *prometheus.Desc
	behind                       *prometheus.Desc
}

func newWebhookMetrics(ws *webhooks) *webhookMetrics {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, []string{"name"}, nil) }
	return &webhookMetrics{ws: ws,
		sent:    desc("postern_webhook_sent_total", "Events that a webhook has taken, since the start."),
		refused: desc("postern_webhook_refused_total", "Events that a webhook has refused for good, since the start."),
		gaps:    desc("postern_webhook_gaps_total", "Times that a webhook was so late that events were lost to it, since the start."),
		failing: desc("postern_webhook_failing", "1 while a webhook does not take what it is sent."),
		behind:  desc("postern_webhook_behind_octets", "Octets of the spool's log between what a webhook has and what is durable.")}
}

// Describe implements prometheus.Collector.
func (m *webhookMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.sent, m.refused, m.gaps, m.failing, m.behind} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *webhookMetrics) Collect(out chan<- prometheus.Metric) {
	m.ws.mu.Lock()
	defer m.ws.mu.Unlock()
	for _, x := range m.ws.work {
		s := x.hook.State()
		put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			out <- prometheus.MustNewConstMetric(d, kind, v, s.Name)
		}
		failing := 0.0
		if s.Err != "" {
			failing = 1
		}
		put(m.sent, prometheus.CounterValue, float64(s.Sent))
		put(m.refused, prometheus.CounterValue, float64(s.Refused))
		put(m.gaps, prometheus.CounterValue, float64(s.Gaps))
		put(m.failing, prometheus.GaugeValue, failing)
		put(m.behind, prometheus.GaugeValue, float64(m.ws.app.spool.Behind(s.At)))
	}
}
