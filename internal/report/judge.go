package report

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// Rows reads messages of the ledger.
type Rows interface {
	Accepted(ctx context.Context, id smtp.ID) (*ledger.Accepted, error)
	History(ctx context.Context, id smtp.ID) ([]ledger.Event, error)
}

// Index finds messages by what a report shows of them.
type Index interface {
	ByMessageID(ctx context.Context, messageID string) ([]smtp.ID, error)
	ByDKIM(ctx context.Context, hash uint64) ([]smtp.ID, error)
	HandOffs(ctx context.Context, q ledger.HandOffQuery) ([]ledger.HandedOff, error)
}

// Seen tells whether a report was judged before.
type Seen interface {
	SeenReport(ctx context.Context, identity string) (bool, error)
}

// Provider is a reporter who is believed when his mail comes from his domains or
// networks.
type Provider struct {
	Name     string
	Domains  []string
	Networks []netip.Prefix
}

// Options are what a Judge is made of.
type Options struct {
	Rows      Rows
	Index     Index
	Seen      Seen
	Ring      func() *stamp.Ring
	Hostname  string
	Sources   func(netip.Addr) bool // reports our own sending addresses, used by nobody else
	Providers []Provider
	Since     time.Time     // the ledger covers hand-offs from here on
	Skew      time.Duration // of clocks; 15 minutes where zero
	Forwarded time.Duration // how long after a hand-off a complaint's arrival date may lie; 5 days where zero
}

// Judge gives verdicts. It is made anew with each configuration.
type Judge struct{ o Options }

// New makes a Judge.
func New(o Options) *Judge {
	if o.Skew == 0 {
		o.Skew = 15 * time.Minute
	}
	if o.Forwarded == 0 {
		o.Forwarded = 5 * 24 * time.Hour
	}
	return &Judge{o: o}
}

// Input is a report as it came in.
type Input struct {
	Raw  []byte
	Auth mailauth.Results
	Peer netip.Addr // that delivered it; the zero Addr for a file
	To   smtp.Path  // envelope recipient: a bounce's names its stamp
}

// trial is one report under judgement.
type trial struct {
	j      *Judge
	in     Input
	r      *message.Report
	v      *Verdict
	forged string // a stamp that we never minted
}

// Judge reads a report and decides. An error is a failure of the ledger, never of the
// report: what cannot be read is malformed.
func (j *Judge) Judge(ctx context.Context, in Input) (*Verdict, error) {
	v := &Verdict{Recipient: -1, Grade: GradeC, Keys: []Key{}}
	c := &trial{j: j, in: in, v: v}
	c.authenticate()
	r, err := message.ParseReport(in.Raw)
	if err != nil {
		v.Kind, v.Reason = Malformed, "the mail is not a complaint or bounce in any known shape"
		return v, nil
	}
	if r.Format.Answer() {
		v.Kind, v.Format, v.Reason = Malformed, string(r.Format), "an "+string(r.Format)+", which reports nothing"
		if r.Format == message.FormatChallenge {
			v.Reason = "a filter's challenge, which reports nothing"
		}
		return v, nil
	}
	c.r = r
	v.Format, v.FeedbackType, v.SourceIP, v.Arrived, v.Identity = string(r.Format), r.FeedbackType, r.SourceIP, r.Arrival, c.identity()
	if seen, err := j.o.Seen.SeenReport(ctx, v.Identity); err != nil {
		return nil, fmt.Errorf("judge report: %w", err)
	} else if seen {
		v.Kind, v.Reason = Duplicate, "this report has been judged before"
		return v, nil
	}
	for _, step := range []func(context.Context) (bool, error){c.byStamp, c.byTrace, c.byMessageID, c.bySignature, c.byHandOff} {
		done, err := step(ctx)
		if err != nil {
			return nil, fmt.Errorf("judge report: %w", err)
		}
		if done {
			return c.weigh(), nil
		}
	}
	c.unknown()
	return c.weigh(), nil
}

// identity tells reports apart. The provider belongs to it: else a forged copy of a
// report, sent first, would make a duplicate of the true one and keep it from paging.
func (c *trial) identity() string {
	if c.v.Authenticated {
		return c.v.Provider + ":" + c.r.Identity()
	}
	return c.r.Identity()
}

// authenticate settles whether the reporter is who he says: a provider that the
// operator has named.
func (c *trial) authenticate() {
	for _, p := range c.j.o.Providers {
		for _, d := range c.in.Auth.Vouchers() {
			for _, own := range p.Domains {
				if d == own || strings.HasSuffix(d, "."+own) {
					c.v.Provider, c.v.Authenticated = p.Name, true
					return
				}
			}
		}
		for _, n := range p.Networks {
			if c.in.Peer.IsValid() && n.Contains(c.in.Peer.Unmap()) {
				c.v.Provider, c.v.Authenticated = p.Name, true
				return
			}
		}
	}
}

// weigh takes the grade down where the reporter is not authenticated: anybody can
// mail the report address.
func (c *trial) weigh() *Verdict {
	if !c.v.Authenticated && (c.v.Kind == Leaked || c.v.Kind == Bypassed) {
		c.v.Grade = GradeC
		c.v.Reason += "; the reporter is not authenticated"
	}
	return c.v
}

func (c *trial) key(name, value string, supports bool) {
	c.v.Keys = append(c.v.Keys, Key{Name: name, Value: value, Supports: supports})
}

// about puts the row's facts into the verdict, with the path of the recipient that
// it went out to.
func (c *trial) about(row *ledger.Accepted) {
	c.v.Message, c.v.Customer, c.v.Peer, c.v.Policy = row.ID, row.Customer, row.Peer.Addr(), row.Policy
	i := c.v.Recipient
	if i < 0 || i >= len(row.Decisions) {
		i = 0
		for k := range row.Decisions {
			if _, d, _ := strings.Cut(row.Decisions[k].Recipient, "@"); strings.EqualFold(d, c.rcptDomain()) {
				i = k
			}
		}
	}
	c.v.Named = c.v.Named && i >= 0 && i < len(row.Decisions) || len(row.Decisions) == 1
	c.v.Path = ledger.Path{Listener: row.Listener, Origin: row.Origin}
	if i < len(row.Decisions) {
		c.v.Recipient, c.v.Path.Filter, c.v.Pool = i, row.Decisions[i].Filter, row.Decisions[i].Pool
	}
	if c.v.Named {
		c.v.Address = row.Decisions[c.v.Recipient].Recipient
		c.refusals()
	}
}

// refusals takes what a bounce says of the recipient: the group that names it, or the
// only one there is, since a host that forwards names another address.
func (c *trial) refusals() {
	if !c.r.Format.Bounce() {
		return
	}
	for i := range c.r.Recipients {
		d := &c.r.Recipients[i]
		if len(c.r.Recipients) == 1 || strings.EqualFold(d.Final, c.v.Address) || strings.EqualFold(d.Original, c.v.Address) {
			c.v.Refusals = append(c.v.Refusals, Refusal{Action: d.Action, Status: d.Status, Text: d.Diagnostic})
		}
	}
}

// conclude says what a row of ours means: a customer's message was sent; a
// stranger's that we emitted has leaked; what an inside host re-sent is whose its
// parent was.
func (c *trial) conclude(ctx context.Context, row *ledger.Accepted, grade Grade) error {
	c.about(row)
	c.v.Grade = grade
	switch row.Origin {
	case "customer", "self":
		c.v.Kind = Sent
		c.v.Reason = fmt.Sprintf("%s sent it through listener %s on %s", nameOf(row), row.Listener, row.Time.Format("2006-01-02 15:04:05"))
		return nil
	case "inside":
		c.v.Kind = Sent
		c.v.Reason = fmt.Sprintf("an inside host (%s) sent it on %s", row.Peer.Addr(), row.Time.Format("2006-01-02 15:04:05"))
		return nil
	}
	emitted, err := c.emitted(ctx, row)
	if err != nil {
		return err
	}
	if !emitted {
		c.v.Kind = Foreign
		c.v.Reason = "a stranger's message that we took in and handed to nobody outside"
		return nil
	}
	c.v.Kind = Leaked
	c.v.Reason = fmt.Sprintf("we emitted it and nobody of ours sent it: %s handed it in by listener %s, filter %s let it out", row.Peer.Addr(), row.Listener, filterName(c.v.Path.Filter))
	return nil
}

func nameOf(row *ledger.Accepted) string {
	if row.Customer != "" {
		return "customer " + row.Customer
	}
	return "Postern itself"
}

func filterName(s string) string {
	if s == "" {
		return "(default)"
	}
	return fmt.Sprintf("%q", s)
}

// emitted reports whether the message was handed off, to anybody but an inside host.
func (c *trial) emitted(ctx context.Context, row *ledger.Accepted) (bool, error) {
	events, err := c.j.o.Rows.History(ctx, row.ID)
	if err != nil {
		return false, err
	}
	for _, e := range events {
		h, ok := e.(*ledger.HandedOff)
		if !ok || (h.Recipient < len(row.Decisions) && row.Decisions[h.Recipient].Inside != "") {
			continue
		}
		c.v.Source = h.Source
		return true, nil
	}
	return false, nil
}

// unknown decides when no key leads anywhere.
func (c *trial) unknown() {
	switch {
	case c.forged != "" && !c.redacted():
		c.key("stamp", c.forged[:8]+"...", false)
		c.v.Kind, c.v.Grade = Forged, GradeB
		c.v.Reason = "it carries a stamp that we never minted"
	case c.r.Format.Bounce() && !c.v.SourceIP.IsValid() && c.in.Peer.IsValid():
		c.v.Kind = Foreign
		c.v.Reason = "a bounce to no return path of ours, and nothing in it is: somebody has used our name as sender"
	case c.v.SourceIP.IsValid() && !c.j.o.Sources(c.v.SourceIP):
		c.key("source-ip", c.v.SourceIP.String(), false)
		c.v.Kind, c.v.Grade = Foreign, GradeB
		c.v.Reason = fmt.Sprintf("it came from %s, which is not ours, and nothing in it is", c.v.SourceIP)
	case c.r.Original == nil && !c.v.SourceIP.IsValid():
		c.v.Kind = Malformed
		c.v.Reason = "the report names neither a source nor the mail it is about"
	default:
		c.v.Kind = Undecidable
		c.v.Reason = "too little is left in the report to tell"
	}
}
