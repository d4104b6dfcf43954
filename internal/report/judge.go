package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	// HandOffsOf runs fn over the hand-offs of a message until it gives false.
	HandOffsOf(ctx context.Context, id smtp.ID, fn func(*ledger.HandedOff) bool) error
}

// Index finds messages by what a report shows of them.
type Index interface {
	ByMessageID(ctx context.Context, messageID string) ([]smtp.ID, error)
	ByDKIM(ctx context.Context, hash uint64) ([]smtp.ID, error)
	HandOffs(ctx context.Context, q ledger.HandOffQuery) ([]ledger.HandOff, error)
}

// Seen tells what was judged before.
type Seen interface {
	SeenReport(ctx context.Context, identity string) (bool, error)
	ReportsAbout(ctx context.Context, id smtp.ID, limit int) ([]ledger.Reported, error)
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
	Sources   func(netip.Addr) bool       // reports our own sending addresses
	Shared    func(netip.Addr) bool       // reports those that others send from too; none where nil
	Sink      func(recipient string) bool // reports recipients to whom a stranger's mail may go (policy.Topology.DeclaredSink); none where nil
	Providers []Provider
	Profiles  []Profile // the shipped ones where nil
	// Of mail that other servers sent, whose logs fill the ledger: which watch belongs to a
	// host of that name, and its rows by queue id. Nil where nothing is watched.
	Hosts     map[string]string
	Watched   Watched
	Since     time.Time     // the ledger covers hand-offs from here on
	Skew      time.Duration // of clocks; 15 minutes where zero
	Forwarded time.Duration // how long after a hand-off mail may arrive by way of others; 5 days where zero
	// Complainers is how many may complain of mail that went to one recipient before it
	// counts as replayed: the recipient, and those to whom he forwards; 3 where zero.
	Complainers int
	Now         func() time.Time // time.Now where nil
	// Settle is how long a row may take to the ledger: a verdict that rests on a missing
	// one is put off by that much where the report is younger; 2 minutes where zero.
	Settle time.Duration
	// Complete gives the time up to which every hand-off is in the ledger, where it is
	// filled from logs that lag; nil where it is not.
	Complete func() time.Time
	Patience time.Duration // how long in all a report may wait; an hour where zero
}

// Judge gives verdicts. It is made anew with each configuration.
type Judge struct{ o Options }

// New makes a Judge.
func New(o Options) *Judge {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Skew, 15 * time.Minute}, {&o.Forwarded, 5 * 24 * time.Hour}, {&o.Settle, 2 * time.Minute}, {&o.Patience, time.Hour}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Complainers == 0 {
		o.Complainers = 3
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Profiles == nil {
		o.Profiles = readProfiles()
	}
	o.Hostname = strings.ToLower(strings.TrimSuffix(o.Hostname, "."))
	for _, f := range []*func(netip.Addr) bool{&o.Sources, &o.Shared} {
		if *f == nil {
			*f = func(netip.Addr) bool { return false }
		}
	}
	if o.Sink == nil {
		o.Sink = func(string) bool { return false }
	}
	return &Judge{o: o}
}

// Input is a report as it came in.
type Input struct {
	Raw  []byte
	Auth mailauth.Results // the zero Results where it was not checked
	Peer netip.Addr       // that delivered it; the zero Addr for a file
	To   smtp.Path        // envelope recipient: a bounce's names its stamp
	// Provider is for whom the way vouches by which the report came in, "" for nobody.
	Provider string
	// Received is when it came in. A report without it is judged for good at once.
	Received time.Time
}

// trial is one report under judgement.
type trial struct {
	j       *Judge
	in      Input
	now     time.Time
	r       *message.Report
	v       *Verdict
	profile *Profile           // what the report says it is; nil where it is nothing known
	hops    []message.Received // of the returned mail
	way     way
	forged  string // a stamp that we never minted
	wait    bool   // the verdict rests on a row that may be under way
}

// Judge reads a report and decides. An error is a failure of the ledger, never of the
// report: what cannot be read is malformed.
func (j *Judge) Judge(ctx context.Context, in Input) (*Verdict, error) {
	v := &Verdict{Recipient: -1, Grade: GradeC, Keys: []Key{}}
	c := &trial{j: j, in: in, v: v, now: j.o.Now()}
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
	c.read(r)
	if seen, err := j.o.Seen.SeenReport(ctx, v.Identity); err != nil {
		return nil, fmt.Errorf("judge report: %w", err)
	} else if seen {
		v.Kind, v.Reason = Duplicate, "this report has been judged before"
		return v, nil
	}
	if why := c.impostor(); why != "" {
		v.Kind, v.Reason = Malformed, why
		return v, nil
	}
	for _, step := range []func(context.Context) (bool, error){c.byStamp, c.byTrace, c.byQueue, c.byMessageID, c.bySignature, c.byHandOff} {
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

// read takes over what the report says.
func (c *trial) read(r *message.Report) {
	v := c.v
	c.r, c.profile, c.hops = r, profileOf(c.j.o.Profiles, r), readHops(r.Original)
	if c.profile != nil {
		v.Profile = c.profile.Name
	}
	v.Format, v.FeedbackType, v.SourceIP, v.Arrived, v.Identity = string(r.Format), r.FeedbackType, r.SourceIP, r.Arrival, c.identity()
	v.Complainer, v.Domain = c.complainer(), c.rcptDomain()
	c.way = c.traced()
	v.Way = c.way.String()
}

// mayWait reports whether a verdict that rests on what is missing can be put off: the
// report is young, or the ledger is behind the time that it speaks of.
func (c *trial) mayWait() bool {
	o := &c.j.o
	if c.in.Received.IsZero() || !c.now.Before(c.in.Received.Add(o.Patience)) {
		return false
	}
	if o.Complete != nil {
		at := c.v.Arrived
		if at.IsZero() || at.After(c.in.Received) {
			at = c.in.Received // nobody complains of what is still to come
		}
		return at.Add(o.Settle).After(o.Complete())
	}
	return c.now.Before(c.in.Received.Add(o.Settle))
}

// identity tells reports apart. The provider belongs to it: else a forged copy of a
// report, sent first, would make a duplicate of the true one and keep it from paging.
func (c *trial) identity() string {
	if c.v.Authenticated {
		return c.v.Provider + ":" + c.r.Identity()
	}
	return c.r.Identity()
}

func (c *trial) key(name, value string, supports bool) {
	c.v.Keys = append(c.v.Keys, Key{Name: name, Value: value, Supports: supports})
}

// about puts the row's facts into the verdict, with the path of the recipient that
// it went out to.
func (c *trial) about(row *ledger.Accepted) {
	c.v.Message, c.v.Customer, c.v.Campaign, c.v.Peer, c.v.Policy = row.ID, row.Customer, row.Campaign, row.Peer.Addr(), row.Policy
	i := c.v.Recipient
	if i < 0 || i >= len(row.Decisions) {
		i = 0
		for k := range row.Decisions {
			if domainOf(row.Decisions[k].Recipient) == c.rcptDomain() {
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
	c.v.Grade = watchedGrade(row, grade)
	origin, err := c.provenance(ctx, row)
	if err != nil {
		return err
	}
	if origin != "stranger" {
		why, err := c.replayed(ctx, row)
		if err != nil {
			return err
		}
		if why != "" {
			c.again(row, why)
			return nil
		}
		c.sent(row)
		return nil
	}
	emitted, err := c.emitted(ctx, row)
	if err != nil {
		return err
	}
	if !emitted {
		c.wait = true // its hand-off may be under way to the ledger
		c.v.Kind = Foreign
		c.v.Reason = "a stranger's message that we took in and handed to nobody outside"
		return nil
	}
	c.v.Kind = Leaked
	c.v.Reason = fmt.Sprintf("we emitted it and nobody of ours sent it: %s handed it in by listener %s, filter %s let it out", row.Peer.Addr(), row.Listener, filterName(c.v.Path.Filter))
	return nil
}

func (c *trial) sent(row *ledger.Accepted) {
	c.v.Kind = Sent
	when := row.Time.Format("2006-01-02 15:04:05")
	c.v.Reason = fmt.Sprintf("%s sent it through listener %s on %s", nameOf(row), row.Listener, when)
	if row.Origin == "inside" {
		c.v.Reason = fmt.Sprintf("an inside host (%s) sent it on %s", row.Peer.Addr(), when)
	}
	switch c.way {
	case forwarded:
		c.v.Reason += "; somebody has forwarded it"
	case listed:
		c.v.Reason += "; a list has sent it on"
	}
}

// maxChain bounds how often mail is followed through inside hosts.
const maxChain = 8

// provenance follows what an inside host has sent on to the message that it came from,
// and gives whose it is: a trusted address does not launder a stranger's message. The
// customer of the first message is the customer of the last. Postern's own mail about a
// message, a DSN, is its own.
func (c *trial) provenance(ctx context.Context, row *ledger.Accepted) (origin string, err error) {
	origin = row.Origin
	c.v.Chain = nil
	for at := row; at.Origin == "inside" || at.Origin == "stranger"; {
		parent, err := c.parent(ctx, at)
		if err != nil || parent == nil || len(c.v.Chain) == maxChain {
			return origin, err
		}
		c.v.Chain = append(c.v.Chain, parent.ID)
		if parent.Origin == "stranger" {
			origin = "stranger"
		}
		if parent.Customer != "" && c.v.Customer == "" {
			c.v.Customer, c.v.Campaign = parent.Customer, parent.Campaign
		}
		at = parent
	}
	return origin, nil
}

// parent finds the row that a message came from: the one that the gateway has linked it
// to, else the latest earlier one with the same Message-ID. nil where there is none.
func (c *trial) parent(ctx context.Context, row *ledger.Accepted) (*ledger.Accepted, error) {
	candidates := []smtp.ID{row.Parent}
	if row.Parent.IsZero() {
		if row.MessageID == "" || row.Origin != "inside" {
			return nil, nil
		}
		ids, err := c.j.o.Index.ByMessageID(ctx, row.MessageID)
		if err != nil {
			return nil, err
		}
		candidates = slices.DeleteFunc(ids, func(id smtp.ID) bool { return bytes.Compare(id[:], row.ID[:]) >= 0 })
		slices.Reverse(candidates)
	}
	for _, id := range candidates {
		parent, err := c.j.o.Rows.Accepted(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		return parent, err
	}
	return nil, nil
}

func nameOf(row *ledger.Accepted) string {
	if row.Watch != "" && row.Customer == "" && row.Origin == "customer" {
		return "a customer of " + row.Watch
	}
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
	emitted := false
	err := c.j.o.Rows.HandOffsOf(ctx, row.ID, func(h *ledger.HandedOff) bool {
		if h.Recipient < len(row.Decisions) && (row.Decisions[h.Recipient].Inside != "" || c.j.o.Sink(row.Decisions[h.Recipient].Recipient)) {
			return true
		}
		c.v.Source, emitted = h.Source, true
		return false
	})
	return emitted, err
}

// unknown decides when no key leads anywhere.
func (c *trial) unknown() {
	c.wait = c.wait || c.j.o.Complete != nil // logs that lag may still bring the row
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
