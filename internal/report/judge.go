package report

import (
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
	j  *Judge
	in Input
	r  *message.Report
	v  *Verdict
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
	c.r = r
	v.Format, v.FeedbackType, v.SourceIP, v.Arrived, v.Identity = string(r.Format), r.FeedbackType, r.SourceIP, r.Arrival, r.Identity()
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

// byStamp decides by a stamp of ours. A token whose code is wrong is a forgery only
// where no redaction can have touched it.
func (c *trial) byStamp(ctx context.Context) (bool, error) {
	forged := ""
	for _, s := range c.candidates() {
		t, err := c.j.o.Ring().Verify(s)
		if errors.Is(err, stamp.ErrForged) || errors.Is(err, stamp.ErrUnknownKey) {
			forged = s
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
			c.v.Recipient = int(t.Recipient)
		}
		if why := c.contradiction(row, t); why != "" {
			c.v.Kind, c.v.Grade = Replayed, GradeB
			c.about(row)
			c.v.Reason = "a true stamp on mail that is not the one it was minted for: " + why
			return true, nil
		}
		return true, c.conclude(ctx, row, GradeA)
	}
	if forged != "" && !c.redacted() {
		c.key("stamp", forged[:8]+"...", false)
		c.v.Kind, c.v.Grade = Forged, GradeB
		c.v.Reason = "it carries a stamp that we never minted"
		return true, nil
	}
	return false, nil
}

// redacted reports a report whose provider has changed the original's text.
func (c *trial) redacted() bool {
	if c.r.Original == nil {
		return false
	}
	for _, f := range c.r.Original.Header {
		if strings.Contains(strings.ToLower(f.Value), "redacted") {
			return true
		}
	}
	return false
}

// contradiction looks for what makes a true stamp impossible here. The address that
// the mail came from never suffices: it may have been forwarded.
func (c *trial) contradiction(row *ledger.Accepted, t stamp.Token) string {
	if t.Customer != stamp.CustomerTag(row.Customer) {
		return "it names another customer"
	}
	if c.r.Original != nil && row.Subject != 0 {
		if s := message.Get(c.r.Original.Header, "Subject"); s != "" && ledger.SubjectHash(s) != row.Subject && !c.redacted() && !strings.Contains(s, "=?") {
			return "its subject is another"
		}
	}
	if !c.v.Arrived.IsZero() && c.v.Arrived.Before(row.Time.Add(-c.j.o.Skew)) {
		return "it arrived before the message was accepted"
	}
	return ""
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
		c.key("received-id", id.String(), true)
		grade := GradeB
		if c.v.SourceIP.IsValid() && c.j.o.Sources(c.v.SourceIP) {
			c.key("source-ip", c.v.SourceIP.String(), true)
			if c.r.Derived[message.DerivedSourceIP] != "received" { // what the original says proves less than what the reporter saw
				grade = GradeA
			}
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
		rows = append(rows, row)
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
	c.key(name, value, true)
	return true, c.conclude(ctx, rows[len(rows)-1], GradeB)
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
		// Which of them it is remains open: no page on that.
		c.key("hand-off", fmt.Sprintf("%d to %s about then", len(hs), domain), true)
		return true, c.conclude(ctx, row, GradeC)
	}
	c.key("hand-off", hs[0].ID.String(), true)
	return true, c.conclude(ctx, row, GradeB)
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
	c.v.Path = ledger.Path{Listener: row.Listener, Origin: row.Origin}
	if i < len(row.Decisions) {
		c.v.Recipient, c.v.Path.Filter, c.v.Pool = i, row.Decisions[i].Filter, row.Decisions[i].Pool
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
