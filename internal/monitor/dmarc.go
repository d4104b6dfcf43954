package monitor

import (
	"fmt"
	"net/netip"
	"time"

	"postern.dev/postern/internal/ledger"
)

// dayCount is what hand-offs are counted by for DMARC: the UTC day, the source address
// and who has the mailboxes.
type dayCount struct {
	day    int64
	source netip.Addr
	group  string
}

// Bounds of those counts.
const (
	countedDays = 10
	maxCounts   = 500_000
)

func dayOf(t time.Time) int64 { return t.Unix() / 86400 }

func (m *Monitor) count(e *ledger.HandedOff, group string) {
	if !e.Source.IsValid() {
		return
	}
	k := dayCount{dayOf(e.Time), e.Source.Unmap(), group}
	if m.counts[k] == 0 && len(m.counts) >= maxCounts {
		for old := range m.counts {
			if old.day <= k.day-countedDays {
				delete(m.counts, old)
			}
		}
		if len(m.counts) >= maxCounts {
			return
		}
	}
	m.counts[k]++
}

// Aggregate is what a receiver has counted (RFC 7489, section 7.2) of one source in one
// report: the sum of its rows for the address, whatever the From domain.
type Aggregate struct {
	Reporter   string // who has the mailboxes, as hand-offs name him: a provider or a domain
	Begin, End time.Time
	Source     netip.Addr // of ours
	Count      int
}

// Slack of a comparison: a reporter's day is not ours, and forwarders give a message on
// more than once.
const (
	slackShare = 0.02
	slackCount = 10
)

// Compare holds a receiver's count against ours. More than was handed over is mail that
// went past us or was not noted: the only sign of it where a receiver sends no complaints.
// The whole days that the report touches count for us. Authenticated reports alone are to
// be given to it.
func (m *Monitor) Compare(a Aggregate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ours := 0
	for day := dayOf(a.Begin); day <= dayOf(a.End.Add(-time.Second)); day++ {
		ours += m.counts[dayCount{day, a.Source.Unmap(), a.Reporter}]
	}
	if float64(a.Count) <= float64(ours)*(1+slackShare)+slackCount {
		return
	}
	m.raise("dmarc\x00"+a.Reporter+"\x00"+a.Source.String()+a.Begin.String(), Alarm{Time: a.End, Kind: DMARC, Chart: Chart{"source", a.Source.Unmap().String()}, Observed: a.Count, Expected: float64(ours), Since: a.Begin,
		Text: fmt.Sprintf("%s has counted %d messages from %s, and we handed it %d: at least %d went past us", a.Reporter, a.Count, a.Source, ours, a.Count-ours)})
}
