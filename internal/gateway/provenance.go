package gateway

import (
	"context"
	"errors"
	"strings"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// trace finds the message that an inside host sends on: by our origin token, by a
// stamp, by the id in a Received field of ours, by Message-ID. What came from a
// stranger stays a stranger's: a trusted address does not launder it.
func (m *incoming) trace(ctx context.Context) error {
	for _, id := range m.ancestors() {
		done, err := m.inherit(ctx, id)
		if done || err != nil {
			return err
		}
	}
	mid := strings.Trim(m.head.get("message-id"), "<> ")
	if mid == "" {
		return nil
	}
	ids, err := m.s.gateway.o.Memory.ByMessageID(ctx, mid)
	if err != nil {
		return err
	}
	for _, id := range ids {
		done, err := m.inherit(ctx, id)
		if done || err != nil {
			return err
		}
	}
	return nil
}

// ancestors lists the ids of ours that the header names, best evidence first.
func (m *incoming) ancestors() []smtp.ID {
	var ids []smtp.ID
	ring := m.s.gateway.o.Ring()
	for i := range m.head.fields {
		f := &m.head.fields[i]
		switch f.name {
		case "x-postern-origin", "x-postern-stamp":
			for _, s := range stamp.Find(f.value()) {
				if t, err := ring.Verify(s); err == nil {
					ids = append(ids, t.Message)
				}
			}
		case "received":
			if id, ok := ourReceived(f.value(), m.s.generation.Hostname); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// ourReceived gives the id of a Received field that names this host as its writer.
func ourReceived(value, hostname string) (smtp.ID, bool) {
	r := message.ParseReceived(value)
	if !strings.EqualFold(r.By, hostname) {
		return smtp.ID{}, false
	}
	id, err := smtp.ParseID(r.ID)
	return id, err == nil
}

// isForgery reports a field that says of itself that we wrote it, and that this client
// cannot have from us: the tokens of ours are set anew for whoever sends, an inside
// host may send on our trace fields, and a stranger brings nothing that carries a
// stamp of ours, but for a reply, which names the message that it answers.
func (m *incoming) isForgery(f *rawField) bool {
	switch {
	case strings.HasPrefix(f.name, "x-postern-"):
		return true
	case f.name == "received":
		origin, _, _ := m.s.origin()
		return origin != policy.Inside && m.namesUs(f.value())
	case f.name == "in-reply-to" || f.name == "references" || m.origin != policy.Stranger:
		return false
	}
	ring := m.s.gateway.o.Ring()
	for _, s := range stamp.Find(f.value()) {
		if _, err := ring.Verify(s); err == nil {
			return true
		}
	}
	return false
}

// namesUs reports a trace field that gives this host as the one that received, however
// it is laid out.
func (m *incoming) namesUs(received string) bool {
	host := m.s.generation.Hostname
	if strings.EqualFold(message.ParseReceived(received).By, host) {
		return true
	}
	words := strings.ToLower(strings.Join(strings.Fields(received), " "))
	return strings.Contains(" "+words, " by "+strings.ToLower(host)+" ")
}

// inherit takes over the origin of an earlier message, if the ledger knows it.
func (m *incoming) inherit(ctx context.Context, id smtp.ID) (bool, error) {
	row, err := m.s.gateway.o.Memory.Accepted(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m.parent = id
	if policy.Origin(row.Origin) == policy.Stranger {
		m.origin = policy.Stranger
	}
	return true, nil
}
