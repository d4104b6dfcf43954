package app

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the node's counters, in a registry of its own.
type metrics struct {
	registry     *prometheus.Registry
	events       *prometheus.CounterVec
	verdicts     *prometheus.CounterVec
	guard        prometheus.Counter
	suppressed   *prometheus.CounterVec
	suppressions *prometheus.CounterVec
	shaping      *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		events:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_events_total", Help: "Ledger events by kind, since the start."}, []string{"kind"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_verdicts_total", Help: "Reports judged, by verdict and provider."}, []string{"verdict", "provider"}),
		guard:    prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_guard_trips_total", Help: "Stranger's messages that the relay guard stopped or would have stopped."}),
	}
	m.shaping = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_shaping_actions_total", Help: "Actions that shaping rules brought into force, by what they do and rule."}, []string{"does", "rule"})
	m.suppressed = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_suppressed_total", Help: "Recipients of customers' mail that the suppression list kept from being mailed, by where."}, []string{"at"})
	m.suppressions = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_suppressions_total", Help: "Addresses put on the suppression list since the start, by reason."}, []string{"reason"})
	m.registry.MustRegister(m.suppressed, m.suppressions)
	m.registry.MustRegister(m.events, m.verdicts, m.guard, m.shaping, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge registers a value that is read when somebody asks.
func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// neighbourMetrics shows what the gateway watches of the addresses that strangers
// come from, as it is when somebody asks.
type neighbourMetrics struct {
	app  *App
	desc *prometheus.Desc
}

func newNeighbourMetrics(a *App) *neighbourMetrics {
	return &neighbourMetrics{app: a, desc: prometheus.NewDesc("postern_strangers_share_one_address",
		"1 while the last strangers' sessions of a listener all came from one private or loopback address: a NAT or proxy in front.", []string{"listener", "address"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *neighbourMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.desc }

// Collect implements prometheus.Collector.
func (m *neighbourMetrics) Collect(out chan<- prometheus.Metric) {
	for _, s := range m.app.gateway.SharedAddresses() {
		out <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, 1, s.Listener, s.Address.String())
	}
}
