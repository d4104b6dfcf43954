package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

// NotClosedError tells that a policy was refused, since the prover found it open or
// could not tell.
type NotClosedError struct {
	Outcome *proof.Outcome
	Text    string // the findings that are not waived, for people
}

// Error gives the status and the findings.
func (e *NotClosedError) Error() string {
	faults, _, _ := e.Outcome.Count()
	found, what := "1 finding", "not proven to be closed"
	if faults != 1 {
		found = fmt.Sprintf("%d findings", faults)
	}
	if e.Outcome.Status == verify.Open {
		what = "open"
	}
	return fmt.Sprintf("the policy is %s (%s) and is not loaded\n%s", what, found, e.Text)
}

// DefaultBudget is how long reading and proving a policy may take where nobody says.
const DefaultBudget = 60 * time.Second

// Late reports whether a time that begins now is over; never for 0.
func Late(budget time.Duration) func() bool {
	begin := time.Now() // a wait is measured by the machine's own clock
	return func() bool { return budget > 0 && time.Since(begin) > budget }
}

// prove proves a configuration's policy, and refuses what is neither closed nor
// waived, or was not proved before it was late.
func prove(cfg *config.Config, now time.Time, late func() bool) (*proof.Outcome, error) {
	o := proof.Apply(verify.Check(cfg.Program, verify.Options{NoWarnings: true, Late: late}), cfg.Waivers, now)
	if o.Status == verify.Closed {
		return o, nil
	}
	var b strings.Builder
	w := proof.Writer{W: &b, Config: cfg}
	for i := range o.Result.Findings {
		if f := &o.Result.Findings[i]; f.Severity == verify.Fault && o.Waived[i] == nil {
			w.Finding(f, nil, false)
		}
	}
	return o, &NotClosedError{Outcome: o, Text: strings.TrimRight(b.String(), "\n")}
}

// logProof says at every start and reload what has been waived.
func (a *App) logProof(cfg *config.Config, o *proof.Outcome) {
	for i := range o.Result.Findings {
		if w := o.Waived[i]; w != nil {
			f := &o.Result.Findings[i]
			a.log.Warn("finding waived", "code", f.Code, "filter", f.Filter, "at", f.Pos.String(), "finding", f.Message, "until", w.Until, "reason", w.Reason, "waiver", w.Pos.String())
		}
	}
	for _, s := range expiring(cfg.Waivers, a.o.Now()) {
		a.log.Warn(s)
	}
	for _, w := range o.Idle(cfg.Waivers) {
		a.log.Warn("waiver covers nothing and can go", "code", w.Code, "filter", w.Filter, "until", w.Until, "waiver", w.Pos.String())
	}
}

// proofMetrics shows the proof of the running policy, as it is when somebody asks: a
// waiver that has ended meanwhile makes it open.
type proofMetrics struct {
	app    *App
	status *prometheus.Desc
	expiry *prometheus.Desc
	soon   *prometheus.Desc
}

func newProofMetrics(a *App) *proofMetrics {
	return &proofMetrics{app: a,
		status: prometheus.NewDesc("postern_policy_proof_status", "What the prover says of the running policy, with waivers that have not ended: 1 for the status that it has.", []string{"status"}, nil),
		expiry: prometheus.NewDesc("postern_waiver_expiry_seconds", "When a waiver of the running policy ends, in seconds since 1970.", []string{"code", "filter"}, nil),
		soon:   prometheus.NewDesc("postern_policy_waivers_ending", "Waivers of the running policy that end within 7 days or have ended: after it the configuration does not load.", nil, nil)}
}

// Describe implements prometheus.Collector.
func (m *proofMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.status
	out <- m.expiry
	out <- m.soon
}

// Collect implements prometheus.Collector.
func (m *proofMetrics) Collect(out chan<- prometheus.Metric) {
	g := m.app.now()
	have := proof.Apply(g.proof.Result, g.cfg.Waivers, m.app.o.Now()).Status
	for _, s := range []verify.Status{verify.Closed, verify.Open, verify.Unknown} {
		value := 0.0
		if s == have {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(m.status, prometheus.GaugeValue, value, string(s))
	}
	out <- prometheus.MustNewConstMetric(m.soon, prometheus.GaugeValue, float64(len(expiring(g.cfg.Waivers, m.app.o.Now()))))
	for i := range g.cfg.Waivers {
		w := &g.cfg.Waivers[i]
		out <- prometheus.MustNewConstMetric(m.expiry, prometheus.GaugeValue, float64(w.Until.Unix()), string(w.Code), w.Filter)
	}
}
