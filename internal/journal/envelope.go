package journal

import (
	"context"
	"errors"
	"fmt"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// message is what later events about a message are told with.
type message struct {
	from, customer, messageID, helo, peer, policy string
	size                                          int64
	rcpts                                         []string
	pools                                         []string
}

// rcpt gives a recipient, "" where the index names none.
func (m *message) rcpt(i int) string {
	if m == nil || i < 0 || i >= len(m.rcpts) {
		return ""
	}
	return m.rcpts[i]
}

// maxKnown bounds the messages in memory. One that is older is looked up.
const maxKnown = 1 << 15

// envelopes knows the messages that events are about. It keeps two halves, and lets
// the older go when the younger is full.
type envelopes struct {
	rows       Rows
	young, old map[smtp.ID]*message
}

func newEnvelopes(r Rows) *envelopes {
	return &envelopes{rows: r, young: map[smtp.ID]*message{}, old: map[smtp.ID]*message{}}
}

// learn keeps a message that has just been accepted.
func (k *envelopes) learn(a *ledger.Accepted) *message {
	m := &message{from: a.Sender, customer: a.Customer, messageID: a.MessageID, helo: a.Helo, policy: a.Policy, size: a.Size}
	if a.Peer.IsValid() {
		m.peer = a.Peer.Addr().Unmap().String()
	}
	m.rcpts = make([]string, len(a.Decisions))
	m.pools = make([]string, len(a.Decisions))
	for i := range a.Decisions {
		m.rcpts[i], m.pools[i] = a.Decisions[i].Recipient, a.Decisions[i].Pool
	}
	k.keep(a.ID, m)
	return m
}

func (k *envelopes) keep(id smtp.ID, m *message) {
	if len(k.young) >= maxKnown/2 {
		k.young, k.old = make(map[smtp.ID]*message, maxKnown/2), k.young
	}
	k.young[id] = m
}

// find gives the message that an event is about, nil where the ledger has none.
func (k *envelopes) find(ctx context.Context, id smtp.ID) (*message, error) {
	if id.IsZero() {
		return nil, nil
	}
	if m, ok := k.young[id]; ok {
		return m, nil
	}
	if m, ok := k.old[id]; ok {
		k.keep(id, m)
		return m, nil
	}
	a, err := k.rows.Accepted(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		k.keep(id, nil)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up message %s: %w", id, err)
	}
	return k.learn(a), nil
}

// about gives the message and the recipient that an event is about; -1 for all of it.
func about(e ledger.Event) (id smtp.ID, rcpt int) {
	switch e := e.(type) {
	case *ledger.Attempted:
		return e.ID, e.Recipient
	case *ledger.HandedOff:
		return e.ID, e.Recipient
	case *ledger.Bounced:
		return e.ID, e.Recipient
	case *ledger.Held:
		return e.ID, e.Recipient
	case *ledger.Released:
		return e.ID, e.Recipient
	case *ledger.Dropped:
		return e.ID, e.Recipient
	case *ledger.GuardTripped:
		return e.ID, e.Recipient
	case *ledger.Reported:
		return e.Subject, e.Rcpt
	}
	return smtp.ID{}, -1
}
