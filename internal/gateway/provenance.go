package gateway

import (
	"context"
	"errors"
	"strings"

	"postern.dev/postern/internal/ledger"
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

// ourReceived gives the id of a Received field that this host wrote.
func ourReceived(value, hostname string) (smtp.ID, bool) {
	_, rest, ok := strings.Cut(strings.ToLower(value), " by "+hostname+" (postern) with ")
	if !ok {
		return smtp.ID{}, false
	}
	_, rest, ok = strings.Cut(rest, " id ")
	if !ok {
		return smtp.ID{}, false
	}
	id, err := smtp.ParseID(strings.TrimRight(strings.Fields(rest + " x")[0], ";"))
	return id, err == nil
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
