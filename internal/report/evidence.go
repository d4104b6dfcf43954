package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
			c.expired(t)
			return true, nil
		}
		if err != nil {
			return false, err
		}
		c.key("stamp", t.Message.String(), true)
		if t.Recipient != stamp.NoRecipient {
			c.v.Recipient, c.v.Named = int(t.Recipient), true
		}
		if t.Customer != stamp.CustomerTag(row.Customer) {
			c.again(row, "it names another customer")
			return true, nil
		}
		grade := GradeB // the stamp is true; whether this is its mail shows in the way that it went
		if c.way == direct || c.r.Format.Bounce() || c.way == unseen && !c.stated() {
			grade = GradeA
		}
		return true, c.conclude(ctx, row, grade)
	}
	return false, nil
}

// expired is a true stamp without a row.
func (c *trial) expired(t stamp.Token) {
	c.v.Kind, c.v.Grade, c.v.Message = Expired, GradeA, t.Message
	c.v.Reason = fmt.Sprintf("a stamp of ours from %s, older than what the ledger keeps", t.Message.Time().Format("2006-01-02"))
	if t.Message.Time().After(c.j.o.Since.Add(c.j.o.Skew)) {
		c.wait = true // its row may be under way
		c.v.Reason = fmt.Sprintf("a stamp of ours from %s, of which this ledger has no row", t.Message.Time().Format("2006-01-02"))
	}
}

// again says that a message of ours was sent once more by somebody else.
func (c *trial) again(row *ledger.Accepted, why string) {
	c.v.Kind, c.v.Grade = Replayed, GradeB
	c.about(row)
	c.v.Reason = "somebody has sent a message of ours once more, or its marks on another: " + why
}

// pseudonymous reports a text that has what providers put in place of a recipient's local
// part: the word, or 32 hexadecimal digits by themselves.
func pseudonymous(s string) bool {
	const word = "redacted"
	hex, run := 0, 0 // of the letters and digits that stand here
	for i := 0; i <= len(s); i++ {
		if i < len(s) && wordByte(s[i]) {
			run++
			if c := s[i]; c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' {
				hex++
			}
			if s[i]|0x20 == 'd' && i+1 >= len(word) && strings.EqualFold(s[i+1-len(word):i+1], word) {
				return true
			}
			continue
		}
		if run == 32 && hex == 32 {
			return true
		}
		hex, run = 0, 0
	}
	return false
}

func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
}

// redacted reports a report whose provider has changed the original's text: a word
// for it, or the 32 hexadecimal digits that stand for a local part.
func (c *trial) redacted() bool {
	if c.r.Original == nil {
		return false
	}
	if c.profile != nil && c.profile.Redacts != RedactsNothing {
		return true
	}
	for _, f := range c.r.Original.Header {
		if !strings.EqualFold(f.Name, "DKIM-Signature") && pseudonymous(f.Value) {
			return true
		}
	}
	return false
}

// byTrace decides by the id in a Received field of ours.
func (c *trial) byTrace(ctx context.Context) (bool, error) {
	if c.r.Original == nil {
		return false, nil
	}
	ours := 0
	for _, rc := range c.hops {
		if rc.By != c.j.o.Hostname {
			continue
		}
		id, err := smtp.ParseID(rc.ID)
		if err != nil {
			continue
		}
		if ours++; ours > maxOfOurs {
			break
		}
		row, err := c.j.o.Rows.Accepted(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			c.key("received-id", rc.ID, false)
			c.wait = true
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

// Bounds on the work that one report may make.
const (
	maxSignatures = 16 // of the returned mail that are looked up
	maxOfOurs     = 16 // trace fields that name us
	maxSharing    = 64 // messages that share a Message-ID or a signature
)

func (c *trial) bySignature(ctx context.Context) (bool, error) {
	if c.r.Original == nil {
		return false, nil
	}
	for n, v := range message.All(c.r.Original.Header, "DKIM-Signature") {
		if n == maxSignatures {
			break
		}
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
	if len(ids) > maxSharing {
		c.key(name, value+", of very many", false)
		return false, nil
	}
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
	c.wait = c.wait || !emitted // its hand-off may be under way to the ledger
	return emitted, err
}

// ours reports a source address that is ours, as the reporter himself saw it: what the
// original's trace fields say, anybody can have written.
func (c *trial) ours() bool {
	return c.v.SourceIP.IsValid() && c.j.o.Sources(c.v.SourceIP) && c.r.Derived[message.DerivedSourceIP] != "received"
}
