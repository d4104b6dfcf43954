package monitor

import (
	"fmt"
	"math"

	"postern.dev/postern/internal/ledger"
)

// Shares of reports that cannot be read: what is usual, and what a change of a
// reporter's format makes of it.
const (
	usualUnread   = 0.01
	changedUnread = 0.3
	unreadOdds    = 1e5 // reports to a false alarm, at least
)

// parse is a CUSUM over the reports of one reporter.
type parse struct {
	sum     float64
	bad, of int
	alarmed bool
}

// maxReporters bounds the reporters that are told apart.
const maxReporters = 1000

// parsed scores whether a report could be read.
func (m *Monitor) parsed(e *ledger.Reported) {
	p := m.readable[e.Provider]
	if p == nil {
		if len(m.readable) >= maxReporters {
			return
		}
		p = &parse{}
		m.readable[e.Provider] = p
	}
	if p.sum == 0 {
		p.bad, p.of, p.alarmed = 0, 0, false
	}
	p.of++
	if e.Verdict == "malformed" {
		p.bad++
		p.sum += math.Log(changedUnread / usualUnread)
	} else {
		p.sum = math.Max(0, p.sum+math.Log((1-changedUnread)/(1-usualUnread)))
	}
	if p.sum < math.Log(unreadOdds) || p.alarmed {
		return
	}
	p.alarmed = true
	m.pending = append(m.pending, Alarm{Time: e.Time, Kind: Unread, Chart: Chart{"provider", e.Provider}, Observed: p.bad, Expected: usualUnread * float64(p.of),
		Text: fmt.Sprintf("%d of the last %d reports could not be read: has the format changed?", p.bad, p.of)})
}
