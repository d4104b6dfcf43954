package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/ledger"
)

// metrics are the node's counters, in a registry of its own.
type metrics struct {
	registry     *prometheus.Registry
	events       *prometheus.CounterVec
	verdicts     *prometheus.CounterVec
	guard        prometheus.Counter
	alarms       *prometheus.CounterVec
	shaping      *prometheus.CounterVec
	suppressed   *prometheus.CounterVec
	suppressions *prometheus.CounterVec

	kinds        [256]prometheus.Counter // of events, by the octet that they begin with
	sessions     *prometheus.CounterVec
	open         *prometheus.GaugeVec
	refused      [gateway.Reasons]prometheus.Counter
	accepted     prometheus.Histogram
	sync         prometheus.Histogram
	syncFailures prometheus.Counter
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
	m.alarms = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_rate_alarms_total", Help: "Rates that departed from what was to be expected, by kind."}, []string{"kind"})
	m.registry.MustRegister(m.alarms)
	m.registry.MustRegister(m.suppressed, m.suppressions)
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_refusals_total", Help: "Replies that refused a session, a sender, a recipient or a message, by reason."}, []string{"reason"})
	for r := range gateway.Reasons {
		m.refused[r] = refusals.WithLabelValues(r.String())
	}
	m.sessions = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_sessions_total", Help: "SMTP sessions begun, by listener."}, []string{"listener"})
	m.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "postern_sessions_open", Help: "SMTP sessions under way, by listener."}, []string{"listener"})
	m.accepted = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "postern_accept_seconds", Help: "From the first octet of a message's data until message and ledger entry were durable.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}})
	m.sync = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "postern_spool_sync_seconds", Help: "How long an fdatasync of the spool's log took.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}})
	m.syncFailures = prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_spool_failures_total", Help: "Groups of commits that the disk did not take."})
	m.registry.MustRegister(m.events, m.verdicts, m.guard, m.shaping, refusals, m.sessions, m.open, m.accepted, m.sync, m.syncFailures,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// event counts an event on its way into the ledger. Only the ledger's follower calls it.
func (m *metrics) event(kind byte) {
	c := m.kinds[kind]
	if c == nil {
		c = m.events.WithLabelValues(ledger.Kind(kind).String())
		m.kinds[kind] = c
	}
	c.Inc()
}

// listenerMeter counts the sessions of one listener.
type listenerMeter struct {
	begun prometheus.Counter
	open  prometheus.Gauge
}

// Opened implements gateway.SessionMeter.
func (l *listenerMeter) Opened() { l.begun.Inc(); l.open.Inc() }

// Closed implements gateway.SessionMeter.
func (l *listenerMeter) Closed() { l.open.Dec() }

// Sessions implements gateway.Meter.
func (m *metrics) Sessions(listener string) gateway.SessionMeter {
	return &listenerMeter{m.sessions.WithLabelValues(listener), m.open.WithLabelValues(listener)}
}

// Refused implements gateway.Meter.
func (m *metrics) Refused(r gateway.Reason) { m.refused[r].Inc() }

// Accepted implements gateway.Meter.
func (m *metrics) Accepted(took time.Duration) { m.accepted.Observe(took.Seconds()) }

// stores registers what is read off spool and ledger when somebody asks.
func (m *metrics) stores(a *App) {
	m.gauge("postern_spool_failed", "1 once something promised could not be kept: no mail is taken until a restart.", func() float64 { return flag(a.spool.Err() != nil) })
	m.gauge("postern_spool_trouble", "1 while the last group of commits did not become durable.", func() float64 { return flag(a.spool.Trouble() != nil) })
	m.gauge("postern_ledger_failed", "1 once the ledger's index could not be written: no mail is taken until a restart.", func() float64 { return flag(a.ledger.Err() != nil) })
	m.gauge("postern_suppression_failed", "1 once the suppression list could not be written: no mail is taken until a restart.", func() float64 { return flag(a.suppression.list.Err() != nil) })
	m.gauge("postern_postmaster_held_today", "Messages to the postmaster that were held since midnight UTC.", func() float64 { n, _, _ := a.gateway.PostmasterHeld(); return float64(n) })
	m.gauge("postern_ledger_behind_octets", "Octets of the spool's log that the ledger's index has not seen.", func() float64 { return behind(a.spool.Durable(), a.ledger.Position()) })
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// behind is the way from a position in the log to its end. Positions count segments in
// their upper half; one between the two counts in full.
func behind(end, seen uint64) float64 {
	if seen >= end {
		return 0
	}
	const segment = 64 << 20
	return float64(end>>32-seen>>32)*segment + float64(end&(1<<32-1)) - float64(seen&(1<<32-1))
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
