package report

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// candidates lists the places where a stamp can stand, best first.
func (c *trial) candidates() (out []string) {
	add := func(ss ...string) {
		for _, s := range ss {
			if !slices.Contains(out, s) && len(out) < 64 {
				out = append(out, s)
			}
		}
	}
	for _, local := range []string{c.in.To.Local, c.r.OriginalFrom} {
		local, _, _ = strings.Cut(local, "@")
		if t, ok := stamp.FromReturnPath(local); ok {
			add(t)
		}
	}
	if c.r.Original == nil {
		return out
	}
	h := c.r.Original.Header
	for _, name := range []string{"X-Postern-Stamp", "CFBL-Feedback-ID", "Return-Path", "Message-ID", "Feedback-ID", "List-Unsubscribe"} {
		for _, v := range message.All(h, name) {
			add(stamp.Find(v)...)
		}
	}
	for _, f := range h {
		switch strings.ToLower(f.Name) {
		case "in-reply-to", "references": // they name the message that this one answers
			continue
		}
		add(stamp.Find(f.Value)...)
	}
	return out
}

// byStamp decides by a stamp of ours. A token whose code is wrong is kept for the end:
// who leaks through us could carry one, and must not hide the leak by it.
func (c *trial) byStamp(ctx context.Context) (bool, error) {
	for _, s := range c.candidates() {
		t, err := c.j.o.Ring().Verify(s)
		if errors.Is(err, stamp.ErrForged) || errors.Is(err, stamp.ErrUnknownKey) {
			c.forged = s
			continue
		}
		if err != nil {
			continue
		}
		row, err := c.j.o.Rows.Accepted(ctx, t.Message)
		if errors.Is(err, ledger.ErrNotFound) {
			c.key("stamp", t.Message.String(), true)
			c.v.Kind, c.v.Grade, c.v.Message = Expired, GradeA, t.Message
			c.v.Reason = fmt.Sprintf("a stamp of ours from %s, older than what the ledger keeps", t.Message.Time().Format("2006-01-02"))
			return true, nil
		}
		if err != nil {
			return false, err
		}
		c.key("stamp", t.Message.String(), true)
		if t.Recipient != stamp.NoRecipient {
			c.v.Recipient, c.v.Named = int(t.Recipient), true
		}
		why := c.contradiction(row)
		if t.Customer != stamp.CustomerTag(row.Customer) {
			why = "it names another customer"
		}
		if why != "" {
			c.v.Kind, c.v.Grade = Replayed, GradeB
			c.about(row)
			c.v.Reason = "a true stamp on mail that is not the one it was minted for: " + why
			return true, nil
		}
		return true, c.conclude(ctx, row, GradeA)
	}
	return false, nil
}

// pseudonym is what providers put in place of a recipient's local part.
var pseudonym = regexp.MustCompile(`(?i)redacted|\b[0-9a-f]{32}\b`)

// redacted reports a report whose provider has changed the original's text: a word
// for it, or the 32 hexadecimal digits that stand for a local part.
func (c *trial) redacted() bool {
	if c.r.Original == nil {
		return false
	}
	for _, f := range c.r.Original.Header {
		if !strings.EqualFold(f.Name, "DKIM-Signature") && pseudonym.MatchString(f.Value) {
			return true
		}
	}
	return false
}

// contradiction looks for what makes it impossible that a row's message is the one
// reported. The address that the mail came from never suffices: it may have been
// forwarded.
func (c *trial) contradiction(row *ledger.Accepted) string {
	if c.r.Original != nil && row.Subject != 0 {
		if s := message.Get(c.r.Original.Header, "Subject"); s != "" && !sameSubject(s, row.Subject) && !pseudonym.MatchString(s) && !strings.Contains(s, "=?") {
			return "its subject is another"
		}
	}
	if !c.v.Arrived.IsZero() && c.v.Arrived.Before(row.Time.Add(-c.j.o.Skew)) {
		return "it arrived before the message was accepted"
	}
	return ""
}

// sameSubject compares a subject with a hash. Lists and filters put words of theirs
// before it: "[list] ", "Fwd: ", "***SPAM*** ".
func sameSubject(s string, hash uint64) bool {
	for range 6 {
		if ledger.SubjectHash(s) == hash {
			return true
		}
		_, rest, more := strings.Cut(s, " ")
		if !more {
			return false
		}
		s = strings.TrimLeft(rest, " ")
	}
	return false
}

// byTrace decides by the id in a Received field of ours.
func (c *trial) byTrace(ctx context.Context) (bool, error) {
	if c.r.Original == nil {
		return false, nil
	}
	for _, v := range message.All(c.r.Original.Header, "Received") {
		rc := message.ParseReceived(v)
		if rc.By != c.j.o.Hostname {
			continue
		}
		id, err := smtp.ParseID(rc.ID)
		if err != nil {
			continue
		}
		row, err := c.j.o.Rows.Accepted(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			c.key("received-id", rc.ID, false)
			continue
		}
		if err != nil {
			return false, err
		}
		if c.contradiction(row) != "" { // anybody can copy a field out of a message that he got
			c.key("received-id", id.String(), false)
			continue
		}
		grade := GradeB
		if fits, err := c.fits(ctx, row); err != nil {
			return false, err
		} else if !fits {
			c.key("received-id", id.String(), false)
			continue
		}
		c.key("received-id", id.String(), true)
		if c.v.SourceIP.IsValid() && c.j.o.Sources(c.v.SourceIP) {
			c.key("source-ip", c.v.SourceIP.String(), true)
		}
		if c.ours() {
			grade = GradeA
		}
		return true, c.conclude(ctx, row, grade)
	}
	return false, nil
}

func (c *trial) byMessageID(ctx context.Context) (bool, error) {
	if c.r.Original == nil {
		return false, nil
	}
	mid := strings.Trim(message.Get(c.r.Original.Header, "Message-ID"), "<> ")
	if mid == "" {
		return false, nil
	}
	ids, err := c.j.o.Index.ByMessageID(ctx, mid)
	if err != nil {
		return false, err
	}
	return c.among(ctx, ids, "message-id", mid)
}

func (c *trial) bySignature(ctx context.Context) (bool, error) {
	if c.r.Original == nil {
		return false, nil
	}
	for _, v := range message.All(c.r.Original.Header, "DKIM-Signature") {
		for tag := range strings.SplitSeq(v, ";") {
			b, ok := strings.CutPrefix(strings.TrimSpace(tag), "b=")
			if !ok {
				continue
			}
			ids, err := c.j.o.Index.ByDKIM(ctx, ledger.DKIMHash(b))
			if err != nil {
				return false, err
			}
			if done, err := c.among(ctx, ids, "dkim", b[:min(len(b), 16)]); done || err != nil {
				return done, err
			}
		}
	}
	return false, nil
}

// among takes the row that the key leads to. A Message-ID that strangers and
// customers share proves nothing for the stranger's one: a customer's row wins only
// if it is the only one.
func (c *trial) among(ctx context.Context, ids []smtp.ID, name, value string) (bool, error) {
	var rows []*ledger.Accepted
	for _, id := range ids {
		row, err := c.j.o.Rows.Accepted(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		if c.contradiction(row) == "" {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return false, nil
	}
	for _, r := range rows[1:] {
		if r.Origin != rows[0].Origin {
			c.key(name, value, false)
			return false, nil
		}
	}
	row, exact := c.whose(rows)
	if fits, err := c.fits(ctx, row); err != nil || !fits {
		return false, err
	}
	c.key(name, value, true)
	err := c.conclude(ctx, row, GradeB)
	c.v.Named = c.v.Named && exact
	return true, err
}

// fits reports whether a row can explain mail that the reporter saw come from an
// address of ours. A stranger's message that we handed to nobody cannot.
func (c *trial) fits(ctx context.Context, row *ledger.Accepted) (bool, error) {
	if row.Origin != "stranger" || !c.ours() {
		return true, nil
	}
	emitted, err := c.emitted(ctx, row)
	return emitted, err
}

// ours reports a source address that is ours, as the reporter himself saw it: what the
// original's trace fields say, anybody can have written.
func (c *trial) ours() bool {
	return c.v.SourceIP.IsValid() && c.j.o.Sources(c.v.SourceIP) && c.r.Derived[message.DerivedSourceIP] != "received"
}

// byHandOff decides by (source address, arrival, recipient domain), where the
// address is ours: exactly one origin must have handed mail over there and then.
func (c *trial) byHandOff(ctx context.Context) (bool, error) {
	ip, at, domain := c.v.SourceIP, c.v.Arrived, c.rcptDomain()
	if !ip.IsValid() || !c.j.o.Sources(ip) || at.IsZero() {
		return false, nil
	}
	if domain == "" {
		return false, nil
	}
	hs, err := c.j.o.Index.HandOffs(ctx, ledger.HandOffQuery{Source: ip, Domain: domain, From: at.Add(-c.j.o.Skew), To: at.Add(c.j.o.Skew)})
	if err != nil {
		return false, err
	}
	if len(hs) == 0 {
		if at.Before(c.j.o.Since.Add(c.j.o.Skew)) {
			return false, nil // before our time
		}
		c.key("source-ip", ip.String(), true)
		c.key("hand-off", "none to "+domain+" about "+at.UTC().Format(time.RFC3339), false)
		c.v.Kind, c.v.Grade = Bypassed, GradeB
		if !c.ours() || c.r.Derived[message.DerivedArrival] == "date" {
			c.v.Grade = GradeC // the address or the time is the author's own word: no page on that
		}
		c.v.Reason = fmt.Sprintf("it came from %s, which is ours alone, and we handed nothing to %s then", ip, domain)
		return true, nil
	}
	for _, h := range hs[1:] {
		if h.Path.Origin != hs[0].Path.Origin {
			c.key("hand-off", "of several origins", false)
			return false, nil
		}
	}
	row, err := c.j.o.Rows.Accepted(ctx, hs[0].ID)
	if err != nil {
		return false, err
	}
	if len(hs) > 1 {
		// Which of them it is remains open: no page on that, and no customer blamed
		// for another's mail.
		c.key("hand-off", fmt.Sprintf("%d to %s about then", len(hs), domain), true)
		if err := c.conclude(ctx, row, GradeC); err != nil {
			return false, err
		}
		c.several(hs)
		return true, nil
	}
	c.key("hand-off", hs[0].ID.String(), true)
	return true, c.conclude(ctx, row, GradeB)
}

// several takes back what is true of one hand-off alone.
func (c *trial) several(hs []ledger.HandedOff) {
	c.v.Message, c.v.Recipient = smtp.ID{}, -1
	c.v.Reason = fmt.Sprintf("one of %d hand-offs from %s about then, all of origin %s", len(hs), c.v.SourceIP, hs[0].Path.Origin)
	for i := range hs {
		if hs[i].Customer != hs[0].Customer {
			c.v.Customer = ""
		}
		if hs[i].Path != hs[0].Path {
			c.v.Path = ledger.Path{Origin: hs[0].Path.Origin}
		}
	}
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
