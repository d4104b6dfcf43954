package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
)

// contradiction looks for what makes it impossible that a row's message is the one
// reported. The address that the mail came from never suffices: it may have been
// forwarded.
func (c *trial) contradiction(row *ledger.Accepted) string {
	if s, known := c.subject(); known && row.Subject != 0 && !sameSubject(s, row.Subject) {
		return "its subject is another"
	}
	if !c.v.Arrived.IsZero() && c.v.Arrived.Before(row.Time.Add(-c.j.o.Skew)) {
		return "it arrived before the message was accepted"
	}
	return ""
}

// subject gives the returned Subject, if it can be compared: not where a provider may
// have changed it, or a list has encoded it anew.
func (c *trial) subject() (string, bool) {
	if c.r.Original == nil {
		return "", false
	}
	s := c.r.Original.Get("Subject")
	return s, s != "" && (len(s) > maxSubject || !pseudonymous(s) && !strings.Contains(s, "=?"))
}

// maxPrefixes is how many words a list or a filter may have put before a subject:
// "[list] ", "Fwd: ", "***SPAM*** ".
const maxPrefixes = 5

// maxSubject is the length of a subject above which it is taken as it stands.
const maxSubject = 4 << 10

// spellings gives a subject and what is left of it without its first words.
func spellings(s string) []string {
	out := []string{s}
	if len(s) > maxSubject {
		return out
	}
	for range maxPrefixes {
		_, rest, more := strings.Cut(s, " ")
		if !more {
			break
		}
		s = strings.TrimLeft(rest, " ")
		out = append(out, s)
	}
	return out
}

func sameSubject(s string, hash uint64) bool {
	for _, spelt := range spellings(s) {
		if ledger.SubjectHash(spelt) == hash {
			return true
		}
	}
	return false
}

// replayed tells what speaks against it that this is the very mail which one of ours
// sent: somebody has it and sends it again, with our signature on it. "" where nothing
// does. It never rests on an address alone, and forwarded mail and mail from a list
// needs many complainers.
func (c *trial) replayed(ctx context.Context, row *ledger.Accepted) (string, error) {
	if why := c.contradiction(row); why != "" {
		return why, nil
	}
	if c.way == stray {
		if d := c.rcptDomain(); d != "" && !sentTo(row, d) {
			return fmt.Sprintf("it went to %s, where it was not sent, and nobody in its trace had it from us", d), nil
		}
		if c.stated() {
			return fmt.Sprintf("it came from %s, and nobody in its trace had it from us", c.v.SourceIP), nil
		}
	}
	if why, err := c.stale(ctx, row); why != "" || err != nil {
		return why, err
	}
	return c.crowd(ctx, row)
}

// stated reports a source address that the reporter states, or has written into the mail
// as what it saw, and that is not ours.
func (c *trial) stated() bool {
	return c.v.SourceIP.IsValid() && c.r.Derived[message.DerivedSourceIP] != "received" && !c.j.o.Sources(c.v.SourceIP)
}

// sentTo reports a message with a recipient in a domain.
func sentTo(row *ledger.Accepted, domain string) bool {
	for i := range row.Decisions {
		if domainOf(row.Decisions[i].Recipient) == domain {
			return true
		}
	}
	return len(row.Decisions) == 0
}

func domainOf(address string) string {
	return strings.ToLower(strings.TrimSuffix(address[strings.LastIndexByte(address, '@')+1:], "."))
}

// stale finds mail that arrived long after we had handed it over for the last time, as
// the reporter himself says.
func (c *trial) stale(ctx context.Context, row *ledger.Accepted) (string, error) {
	if !c.ours() && (c.way == direct || !c.stated()) || c.r.Derived[message.DerivedArrival] != "" || c.v.Arrived.IsZero() || c.v.Arrived.Before(row.Time.Add(c.j.o.Forwarded)) {
		return "", nil
	}
	var last time.Time
	err := c.j.o.Rows.HandOffsOf(ctx, row.ID, func(h *ledger.HandedOff) bool {
		last = h.Time
		return c.v.Arrived.After(last.Add(c.j.o.Forwarded)) // until one is near
	})
	if err != nil || last.IsZero() || !c.v.Arrived.After(last.Add(c.j.o.Forwarded)) {
		return "", err
	}
	return fmt.Sprintf("it arrived from %s %d days after we had handed it over", c.v.SourceIP, int(c.v.Arrived.Sub(last).Hours()/24)), nil
}

// maxAbout bounds how many reports about one message are read.
const maxAbout = 256

// crowd counts those who complain of one message. A stamp is one recipient's: more than a
// few complainers with one, or more than a message has recipients, and somebody sends it
// about. Only reports of authenticated reporters count; a list has many readers.
func (c *trial) crowd(ctx context.Context, row *ledger.Accepted) (string, error) {
	if !c.v.Authenticated || c.way == direct {
		return "", nil
	}
	allowed := c.j.o.Complainers
	if !c.v.Named {
		allowed += len(row.Decisions) - 1
	}
	if c.way == listed {
		allowed *= 10
	}
	seen := map[uint64]bool{c.v.Complainer: true}
	rs, err := c.j.o.Seen.ReportsAbout(ctx, row.ID, maxAbout)
	if err != nil {
		return "", err
	}
	for i := range rs {
		r := &rs[i]
		if r.Provider == "" || r.Complainer == 0 || c.v.Named && r.Rcpt != c.v.Recipient {
			continue
		}
		seen[r.Complainer] = true
	}
	if len(seen) <= allowed {
		return "", nil
	}
	return fmt.Sprintf("%d people complain of it, and it was sent to %d", len(seen), max(1, allowed-c.j.o.Complainers+1)), nil
}

// complainer tells those who complain apart: by the recipient as the report has it, a
// provider's pseudonym included; by the report where the recipient is left out.
func (c *trial) complainer() uint64 {
	if len(c.r.OriginalTo) > 0 && c.r.Derived[message.DerivedOriginalTo] != "to" {
		to := strings.ToLower(c.r.OriginalTo[0])
		if local, _, _ := strings.Cut(to, "@"); local != "" && !strings.Contains(local, "redacted") && !strings.Contains(local, "undisclosed") {
			return xxhash.Sum64String(to)
		}
	}
	return xxhash.Sum64String(c.v.Identity)
}
