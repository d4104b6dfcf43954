package app

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the node's counters, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	verdicts *prometheus.CounterVec
	guard    prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		events:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_events_total", Help: "Ledger events by kind, since the start."}, []string{"kind"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_verdicts_total", Help: "Reports judged, by verdict and provider."}, []string{"verdict", "provider"}),
		guard:    prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_guard_trips_total", Help: "Stranger's messages that the relay guard stopped or would have stopped."}),
	}
	m.registry.MustRegister(m.events, m.verdicts, m.guard, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge registers a value that is read when somebody asks.
func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}
