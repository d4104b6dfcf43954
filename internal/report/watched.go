package report

import (
	"context"
	"strings"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

// Watched finds the messages of another server by its own id of them: one for each
// recipient.
type Watched interface {
	ByQueue(ctx context.Context, watch, queue string) ([]smtp.ID, error)
}

// byQueue decides by the queue id that a watched server has put into its Received
// field. Servers use ids again, so what contradicts is no match.
func (c *trial) byQueue(ctx context.Context) (bool, error) {
	if c.r.Original == nil || c.j.o.Watched == nil || len(c.j.o.Hosts) == 0 {
		return false, nil
	}
	for _, v := range message.All(c.r.Original.Header, "Received") {
		rc := message.ParseReceived(v)
		watch := c.j.o.Hosts[strings.ToLower(rc.By)]
		if watch == "" || rc.ID == "" {
			continue
		}
		ids, err := c.j.o.Watched.ByQueue(ctx, watch, rc.ID)
		if err != nil {
			return false, err
		}
		if done, err := c.among(ctx, ids, "queue-id", rc.ID); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// watchedGrade takes the grade down where the row is another server's word: a log is
// written after the fact, and not by us.
func watchedGrade(row *ledger.Accepted, g Grade) Grade {
	if row.Watch != "" && g == GradeA {
		return GradeB
	}
	return g
}

// whose chooses among the rows that a key leads to, and tells whether the recipient is
// certain. A watched server's message has a row for each recipient: the one that the
// report names, as far as it does, and rather one that left than one that went to a
// filter on the same host.
func (c *trial) whose(rows []*ledger.Accepted) (row *ledger.Accepted, exact bool) {
	row = rows[len(rows)-1]
	if row.Watch == "" || len(rows) == 1 {
		return row, true
	}
	best := -1
	for _, r := range rows {
		if len(r.Decisions) != 1 {
			continue
		}
		fit := 0
		if r.Decisions[0].Inside == "" {
			fit++
		}
		to := r.Decisions[0].Recipient
		if _, d, _ := strings.Cut(to, "@"); strings.EqualFold(d, c.rcptDomain()) {
			fit += 2
		}
		named := c.names(to)
		if named {
			fit += 4
		}
		if fit >= best {
			row, best, exact = r, fit, named
		}
	}
	return row, exact
}

// names reports that the report itself names a recipient in clear.
func (c *trial) names(address string) bool {
	for _, to := range c.r.OriginalTo {
		if strings.EqualFold(to, address) {
			return true
		}
	}
	for i := range c.r.Recipients {
		if strings.EqualFold(c.r.Recipients[i].Final, address) || strings.EqualFold(c.r.Recipients[i].Original, address) {
			return true
		}
	}
	return false
}
