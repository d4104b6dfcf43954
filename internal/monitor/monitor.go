package monitor

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"postern.dev/postern/internal/ledger"
)

// Kind is what an alarm is about.
type Kind string

// The kinds.
const (
	Rate     Kind = "rate"     // more complaints than the mail that went out lets expect
	Silence  Kind = "silence"  // a reporter has fallen silent
	Unread   Kind = "unread"   // the reports of a reporter cannot be read any more
	Emitted  Kind = "emitted"  // mail that nobody of ours sent was handed to a host outside
	Rejected Kind = "rejected" // a host outside refused mail that nobody of ours sent
	DMARC    Kind = "dmarc"    // a receiver has counted more from an address of ours than we handed it
)

// Chart names what is counted: a provider, customer, campaign, pool, source or verdict.
type Chart struct {
	Of   string `json:"of"`
	Name string `json:"name"`
}

// Alarm is one thing that somebody has to look at.
type Alarm struct {
	Time     time.Time   `json:"time"`
	Kind     Kind        `json:"kind"`
	Chart    Chart       `json:"chart"`
	Path     ledger.Path `json:"path,omitzero"`
	Observed int         `json:"observed"`
	Expected float64     `json:"expected"`
	Since    time.Time   `json:"since,omitzero"` // the counts begin here
	Text     string      `json:"text"`           // one sentence, for people
}

// Options are what a Monitor is made of; all may be zero.
type Options struct {
	// FalseAlarms is how many the rate charts of all kinds may give in a year, whatever
	// their number; 1 where zero.
	FalseAlarms float64
	Charts      int                   // most that are kept; those that had mail last stay; 20,000 where zero
	Share       float64               // of messages that are complained of, before anything is known; 0.0002 where zero
	Inside      func(netip.Addr) bool // reports hosts within the house; none where nil
	Sink        func(string) bool     // reports recipients to whom anybody's mail may go; none where nil
}

// Monitor follows the charts. Its methods may be called from any goroutine.
type Monitor struct {
	o Options

	mu       sync.Mutex
	charts   map[Chart]*chart
	laws     map[string]*law // by provider; "" is of all
	groups   map[string]string
	readable map[string]*parse
	told     map[string]time.Time
	counts   map[dayCount]int
	pending  []Alarm
	hour     int64 // that is under way; 0 before the first event
}

// New makes a Monitor.
func New(o Options) *Monitor {
	if o.FalseAlarms == 0 {
		o.FalseAlarms = 1
	}
	if o.Charts == 0 {
		o.Charts = 20_000
	}
	if o.Share == 0 {
		o.Share = 0.0002 // single opt-in: Mailchimp 2006
	}
	if o.Inside == nil {
		o.Inside = func(netip.Addr) bool { return false }
	}
	if o.Sink == nil {
		o.Sink = func(string) bool { return false }
	}
	return &Monitor{o: o, charts: map[Chart]*chart{}, laws: map[string]*law{"": newLaw()}, groups: map[string]string{}, readable: map[string]*parse{},
		told: map[string]time.Time{}, counts: map[dayCount]int{}}
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

func timeOf(hour int64) time.Time { return time.Unix(hour*3600, 0).UTC() }

// Observe takes an event into account; those that say nothing of rates are passed over.
func (m *Monitor) Observe(e ledger.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := e.(type) {
	case *ledger.HandedOff:
		m.handedOff(e)
	case *ledger.Reported:
		m.reported(e)
	case *ledger.Bounced:
		if e.Path.Origin == "stranger" && e.Peer.IsValid() && !m.o.Inside(e.Peer.Addr().Unmap()) {
			m.stranger(Rejected, e.Path, e.Time, fmt.Sprintf("%s refused mail that nobody of ours sent: %.200q", cmp.Or(e.Host, e.Peer.String()), e.Reply))
		}
	}
}

// maxGroups bounds the domains of which it is remembered who has their mailboxes.
const maxGroups = 200_000

func (m *Monitor) handedOff(e *ledger.HandedOff) {
	if e.Peer.IsValid() && m.o.Inside(e.Peer.Addr().Unmap()) {
		return
	}
	if e.Path.Origin == "stranger" && !m.o.Sink(e.Address) {
		m.stranger(Emitted, e.Path, e.Time, fmt.Sprintf("mail that nobody of ours sent was handed to %s", cmp.Or(e.Host, e.Peer.String())))
	}
	group := cmp.Or(e.Provider, e.Domain)
	if m.groups[e.Domain] != group && len(m.groups) < maxGroups {
		m.groups[e.Domain] = group
	}
	m.count(e, group)
	hour := hourOf(e.Time)
	for _, k := range keys(group, e.Customer, e.Campaign, e.Pool, e.Source) {
		m.chart(k, hour).send(hour, 1)
	}
}

// keys lists the charts of a message or a complaint.
func keys(group, customer, campaign, pool string, source netip.Addr) []Chart {
	out := make([]Chart, 0, 5)
	add := func(of, name string) {
		if name != "" {
			out = append(out, Chart{of, name})
		}
	}
	add("provider", group)
	add("customer", customer)
	if campaign != "" {
		add("campaign", customer+"/"+campaign)
	}
	add("pool", pool)
	if source.IsValid() {
		add("source", source.Unmap().String())
	}
	return out
}

// reported counts a report. Only those of reporters who are who they say count, and of
// each only the first.
func (m *Monitor) reported(e *ledger.Reported) {
	if e.Provider == "" || e.Verdict == "duplicate" || e.Format == "dsn" {
		return
	}
	m.parsed(e)
	if e.Verdict == "malformed" {
		return
	}
	group := e.Provider
	if g := m.groups[e.Domain]; g != "" {
		group = g
	}
	if !e.Arrived.IsZero() && e.Verdict == "sent" {
		m.law(group).observe(e.Time.Sub(e.Arrived))
		m.laws[""].observe(e.Time.Sub(e.Arrived))
	}
	hour := hourOf(e.Time)
	source := e.SourceIP
	if e.Verdict != "sent" {
		m.chart(Chart{"verdict", e.Verdict}, hour).got++
	}
	if e.Verdict == "foreign" || e.Verdict == "replayed" || e.Verdict == "expired" {
		return // none of them came by what is counted here
	}
	for _, k := range keys(group, e.Customer, e.Campaign, e.Pool, source) {
		if c := m.charts[k]; c != nil {
			c.got++
		}
	}
}

// law is the delay law of a provider. There are as many as providers that report.
func (m *Monitor) law(group string) *law {
	l := m.laws[group]
	if l == nil {
		if len(m.laws) > 1000 {
			return m.laws[""]
		}
		l = newLaw()
		m.laws[group] = l
	}
	return l
}

func (m *Monitor) chart(k Chart, hour int64) *chart {
	c := m.charts[k]
	if c == nil {
		if len(m.charts) >= m.o.Charts {
			m.evict()
		}
		prior := m.o.Share
		if k.Of == "verdict" {
			prior = 0.1 // an hour
		}
		c = newChart(prior, hour)
		m.charts[k] = c
	}
	return c
}

// evict lets a tenth of the charts go, those that had mail longest ago.
func (m *Monitor) evict() {
	ks := make([]Chart, 0, len(m.charts))
	for k := range m.charts {
		ks = append(ks, k)
	}
	slices.SortFunc(ks, func(a, b Chart) int { return cmp.Compare(m.charts[a].touched, m.charts[b].touched) })
	for _, k := range ks[:len(ks)/10+1] {
		delete(m.charts, k)
	}
}

// stranger raises an alarm about mail that nobody of ours sent: one a day for each path.
func (m *Monitor) stranger(kind Kind, p ledger.Path, at time.Time, text string) {
	m.raise(string(kind)+"\x00"+p.Listener+"\x00"+p.Filter, Alarm{Time: at, Kind: kind, Path: p, Observed: 1, Text: text})
}

// raise keeps an alarm for the next Tick, unless the same was raised within the day.
func (m *Monitor) raise(about string, a Alarm) {
	if last, ok := m.told[about]; ok && a.Time.Sub(last) < quiet {
		return
	}
	if len(m.told) > 10_000 {
		clear(m.told)
	}
	m.told[about] = a.Time
	m.pending = append(m.pending, a)
}

// Tick closes the hours that have ended and gives the alarms that are new. It is to be
// called at least once an hour; hours that it was not called in are closed in turn.
func (m *Monitor) Tick(now time.Time) []Alarm {
	m.mu.Lock()
	defer m.mu.Unlock()
	hour := hourOf(now)
	if m.hour == 0 || hour-m.hour > horizon {
		m.hour = hour
	}
	for ; m.hour < hour; m.hour++ {
		m.close(m.hour)
	}
	out := m.pending
	m.pending = nil
	return out
}

// threshold shares the false alarms of a year among the charts.
func (m *Monitor) threshold() float64 {
	return math.Log(365 * 24 * float64(max(len(m.charts), 1)) / m.o.FalseAlarms)
}

func (m *Monitor) close(hour int64) {
	for _, l := range m.laws {
		l.fit()
	}
	threshold, end := m.threshold(), timeOf(hour+1)
	for k, c := range m.charts {
		l, exposure := m.laws[""], 1.0
		if k.Of == "provider" && m.laws[k.Name] != nil {
			l = m.laws[k.Name]
		}
		if k.Of != "verdict" {
			exposure = c.exposure(hour, l)
		}
		rise := c.close(hour, exposure, threshold)
		if rise && end.Sub(c.alarmed) >= quiet {
			c.alarmed = end
			m.pending = append(m.pending, Alarm{Time: end, Kind: Rate, Chart: k, Observed: c.observed, Expected: c.expected, Since: timeOf(c.since),
				Text: fmt.Sprintf("%d complaints since %s where %.1f were to be expected", c.observed, timeOf(c.since).Format("2006-01-02 15:04"), c.expected)})
			c.sum = 0
		}
		if k.Of == "provider" && !c.silent && c.shape > priorShape+1 && c.mute() {
			c.silent = true
			m.pending = append(m.pending, Alarm{Time: end, Kind: Silence, Chart: k, Expected: c.unheard,
				Text: fmt.Sprintf("no complaint, where %.0f were to be expected since the last", c.unheard)})
		}
	}
	slices.SortFunc(m.pending, func(a, b Alarm) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Chart.Of, b.Chart.Of), cmp.Compare(a.Chart.Name, b.Chart.Name))
	})
}
