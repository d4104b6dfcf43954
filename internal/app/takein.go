package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/watch"
)

// arrivalPrefix begins the listener's name of what an intake has brought in.
const arrivalPrefix = "intake "

// takeIn makes a report durable that came in by another way than SMTP, and lets it be
// judged. It is a message in the spool like one that came by mail: held until its verdict
// is durable. Listener tells where it came in.
func (a *App) takeIn(ctx context.Context, listener string, m *inbox.Mail, peer netip.Addr) error {
	var random [6]byte
	if _, err := io.ReadFull(a.o.Random, random[:]); err != nil {
		return fmt.Errorf("take in a report: %w", err)
	}
	now := a.o.Now()
	g := a.now()
	to := g.reportsTo(listener)
	if p, err := smtp.ParseMailbox(m.To); err == nil && p.Domain != "" {
		to = p
	}
	var from smtp.Path
	if p, err := smtp.ParseMailbox(m.From); err == nil {
		from = p
	}
	msg := &spool.Message{ID: smtp.NewID(now, random), Accepted: now, From: from, EightBit: true, Origin: string(policy.Stranger), Listener: listener, Policy: g.cfg.Version,
		Recipients: []spool.Recipient{{To: to, State: spool.Held, Reason: spool.ReasonConsume}}}
	if peer.IsValid() {
		msg.Peer = peer.String()
	}
	body := a.spool.NewBody()
	defer body.Discard()
	if _, err := body.Write(m.Raw); err != nil {
		return fmt.Errorf("take in a report: %w", err)
	}
	msg.Size = body.Size()
	row := &ledger.Accepted{Time: now, ID: msg.ID, Listener: listener, Origin: msg.Origin, Sender: from.String(), Size: msg.Size, Policy: msg.Policy,
		Decisions: []ledger.Decided{{Recipient: to.String(), Disposition: "consume"}}}
	if peer.IsValid() {
		row.Peer = netip.AddrPortFrom(peer, 0)
	}
	if _, err := a.spool.Commit(ctx, &spool.Batch{Message: msg, Body: body, Events: [][]byte{ledger.Encode(row)}}); err != nil {
		return fmt.Errorf("take in a report: %w", err)
	}
	a.intake.add(msg)
	return nil
}

// reportsTo is the address that a report counts as sent to where it does not say itself.
func (g *generation) reportsTo(listener string) smtp.Path {
	name := strings.TrimPrefix(listener, arrivalPrefix)
	for i := range g.cfg.Intakes {
		if in := &g.cfg.Intakes[i]; in.Name == name && in.To.Domain != "" {
			return in.To
		}
	}
	return smtp.Path{Local: "reports", Domain: g.cfg.Node.Hostname}
}

// vouched names the provider for whom an intake vouches, "" where it does not, or where
// the report came in by another way.
func (g *generation) vouched(listener string) string {
	name, ok := strings.CutPrefix(listener, arrivalPrefix)
	if !ok {
		return ""
	}
	for i := range g.cfg.Intakes {
		if g.cfg.Intakes[i].Name == name {
			return g.cfg.Intakes[i].Provider
		}
	}
	return ""
}

// reportOfLog takes in what another server's log tells of a complaint or a late bounce:
// the same lines make the same report, which counts once.
func (a *App) reportOfLog(name string) func(context.Context, *history.Record) error {
	return func(ctx context.Context, r *history.Record) error {
		err := a.takeIn(ctx, watch.Listener(name), LogNotice(r).Mail("reports@"+a.now().cfg.Node.Hostname), netip.Addr{})
		if errors.Is(err, spool.ErrFull) {
			a.log.Warn("report of a log waits for room", "watch", name)
		}
		return err
	}
}

// LogNotice makes a notice of a complaint or a late bounce that a log tells of.
func LogNotice(r *history.Record) *inbox.Notice {
	m := r.Message
	n := &inbox.Notice{Bounce: r.Kind == history.Bounced, From: "log.invalid", Time: r.Time, Recipient: r.Recipient, Sender: m.Sender, MessageID: m.MessageID, Subject: m.Subject,
		SourceIP: r.Source, Feedback: r.Feedback, UserAgent: r.Reporter, Status: r.Status, Reason: r.Reply}
	if n.Bounce && n.Status == "" {
		n.Status = "5.0.0"
	}
	return n
}
