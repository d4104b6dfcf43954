package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

// maxHandOffs is how many hand-offs that could be the one are looked at; more blame
// nobody.
const maxHandOffs = 16

// far is how far from the arrival a hand-off of the same subject still speaks against
// *bypassed*: clocks and queues of a provider can be that wrong.
const far = 6 * time.Hour

// byHandOff decides by (source address, arrival, recipient domain, subject), where the
// address is ours: exactly one origin must have handed mail over there and then.
func (c *trial) byHandOff(ctx context.Context) (bool, error) {
	ip, at, domain := c.v.SourceIP, c.v.Arrived, c.rcptDomain()
	if !ip.IsValid() || !c.j.o.Sources(ip) || at.IsZero() || domain == "" {
		return false, nil
	}
	q := ledger.HandOffQuery{Source: ip, Domain: domain, From: at.Add(-c.j.o.Skew), To: at.Add(c.j.o.Skew), Limit: maxHandOffs, Subjects: c.subjects()}
	hs, err := c.j.o.Index.HandOffs(ctx, q)
	if err != nil {
		return false, err
	}
	if len(hs) == 0 {
		return c.noHandOff(ctx, q)
	}
	for _, h := range hs[1:] {
		if h.Origin != hs[0].Origin {
			c.key("hand-off", "of several origins", false)
			return false, nil
		}
	}
	return true, c.oneOf(ctx, hs, domain)
}

// subjects lists what the subject can have been when it was accepted, the unknown one
// among them; nil where the report does not show it.
func (c *trial) subjects() []uint64 {
	s, known := c.subject()
	if !known {
		return nil
	}
	out := []uint64{0}
	for _, spelt := range spellings(s) {
		out = append(out, ledger.SubjectHash(spelt))
	}
	return out
}

// noHandOff decides about mail from an address of ours which no hand-off explains. It is
// bypassed if the address is ours alone, the ledger covers the time, and the returned
// header, which would have a trace field of ours, has a trace and none.
func (c *trial) noHandOff(ctx context.Context, q ledger.HandOffQuery) (bool, error) {
	c.wait = true
	ip, at := c.v.SourceIP, c.v.Arrived
	if at.Before(c.j.o.Since.Add(c.j.o.Skew)) {
		return false, nil // before our time
	}
	if c.j.o.Shared(ip) {
		c.key("source-ip", ip.String()+", which others use too", false)
		return false, nil
	}
	others, err := c.others(ctx, q)
	if err != nil || others == notThis {
		return false, err
	}
	c.key("source-ip", ip.String(), true)
	c.key("hand-off", others+" to "+q.Domain+" about "+at.UTC().Format(time.RFC3339), false)
	c.v.Kind, c.v.Grade = Bypassed, GradeB
	if !c.ours() || c.r.Derived[message.DerivedArrival] == "date" {
		c.v.Grade = GradeC // the address or the time is the author's own word: no page on that
	}
	c.v.Reason = fmt.Sprintf("it came from %s, which is ours alone, and we handed nothing like it to %s then", ip, q.Domain)
	return true, nil
}

// notThis says that hand-offs of other mail are no proof against one of this.
const notThis = "?"

// others tells what else was handed over there and then: "none", or "none with its
// subject".
func (c *trial) others(ctx context.Context, q ledger.HandOffQuery) (string, error) {
	if len(q.Subjects) == 0 {
		return "none", nil
	}
	wide := q
	wide.From, wide.To, wide.Limit, wide.Subjects = q.From.Add(-far), q.To.Add(far), 1, q.Subjects[1:]
	hs, err := c.j.o.Index.HandOffs(ctx, wide)
	if err != nil {
		return "", err
	}
	if len(hs) > 0 {
		c.key("hand-off", "its subject at "+hs[0].Time.Format(time.RFC3339), true)
		return notThis, nil
	}
	q.Subjects, q.Limit = nil, 1
	if hs, err = c.j.o.Index.HandOffs(ctx, q); err != nil {
		return "", err
	}
	switch {
	case len(hs) == 0:
		return "none", nil
	case len(c.hops) == 0: // whoever took the trace out may have taken more out
		c.key("hand-off", "none with its subject, and no trace", false)
		return notThis, nil
	}
	return "none with its subject", nil
}

// oneOf concludes from the hand-offs that can have been the one.
func (c *trial) oneOf(ctx context.Context, hs []ledger.HandOff, domain string) error {
	row, err := c.j.o.Rows.Accepted(ctx, hs[0].ID)
	if err != nil {
		return err
	}
	if len(hs) == 1 {
		c.v.Recipient, c.v.Named = hs[0].Recipient, true
		c.key("hand-off", hs[0].ID.String(), true)
		return c.conclude(ctx, row, GradeB)
	}
	// Which of them it is remains open: no page on that, and no customer blamed for
	// another's mail.
	c.key("hand-off", fmt.Sprintf("%s to %s about then", atLeast(len(hs)), domain), true)
	if err := c.conclude(ctx, row, GradeC); err != nil {
		return err
	}
	return c.several(ctx, hs, row)
}

func atLeast(n int) string {
	if n == maxHandOffs {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

// several takes back what is true of one hand-off alone.
func (c *trial) several(ctx context.Context, hs []ledger.HandOff, first *ledger.Accepted) error {
	v := c.v
	v.Message, v.Recipient, v.Named, v.Address, v.Refusals, v.Chain = smtp.ID{}, -1, false, "", nil, nil
	v.Reason = fmt.Sprintf("one of %s hand-offs from %s about then, all of origin %s", atLeast(len(hs)), v.SourceIP, first.Origin)
	if len(hs) == maxHandOffs {
		v.Customer, v.Campaign, v.Path = "", "", ledger.Path{Origin: first.Origin}
		return nil
	}
	for i := range hs[1:] {
		row, err := c.j.o.Rows.Accepted(ctx, hs[i+1].ID)
		if err != nil {
			return err
		}
		if row.Customer != first.Customer {
			v.Customer = ""
		}
		if row.Campaign != first.Campaign || row.Customer != first.Customer {
			v.Campaign = ""
		}
		if row.Listener != first.Listener || filterOf(row, hs[i+1].Recipient) != v.Path.Filter {
			v.Path = ledger.Path{Origin: first.Origin}
		}
	}
	return nil
}

func filterOf(row *ledger.Accepted, i int) string {
	if i < len(row.Decisions) {
		return row.Decisions[i].Filter
	}
	return ""
}

// rcptDomain is the domain of the recipient, which redaction leaves.
func (c *trial) rcptDomain() string {
	for _, to := range c.r.OriginalTo {
		if _, d, ok := strings.Cut(to, "@"); ok {
			return strings.ToLower(strings.TrimSuffix(d, "."))
		}
	}
	return ""
}
