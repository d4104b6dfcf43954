package ledger

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/smtp"
)

// oldEntries are the keys that an event of the first layout had, of the kinds that were
// kept otherwise.
func oldEntries(e Event, ev []byte) [][2][]byte {
	room := suffix(e.When(), ev)
	sfx := room[:]
	switch e := e.(type) {
	case *Accepted:
		return [][2][]byte{{key(keyEvent, e.ID[:], sfx), ev}, {key(keyTime, sfx), e.ID[:]}, {key(keyMID, hash8(e.MessageID), e.ID[:]), nil},
			{key(keyRcpt, hash8(RecipientKey(e.Decisions[0].Recipient)), sfx), e.ID[:]}}
	case *HandedOff:
		a := e.Source.As16()
		return [][2][]byte{{key(keyEvent, e.ID[:], sfx), ev}, {key('s', a[:], hash8(e.Domain), sfx), e.ID[:]}, {key(keyPath, e.Path.key(), sfx), ev}}
	}
	var r rows
	r.event(e, ev)
	var out [][2][]byte
	for i := range r.all {
		out = append(out, [2][]byte{r.key(i), r.all[i].value})
	}
	return out
}

// TestMigrate: a ledger of the first layout answers like one of today's.
func TestMigrate(t *testing.T) {
	fs := vfs.NewMem()
	at := time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC)
	id := smtp.NewID(at, [6]byte{1})
	p := Path{Listener: "internet", Filter: "aol", Origin: "stranger"}
	events := []Event{
		&Accepted{Time: at, ID: id, Origin: "stranger", MessageID: "m@x", Decisions: []Decided{{Recipient: "V@aol.com"}}},
		&HandedOff{Time: at.Add(time.Second), ID: id, Address: "V@aol.com", Domain: "aol.com", Path: p},
		&Refused{Time: at, Listener: "internet", Recipient: "a@b"},
		&Reported{Time: at, Identity: "i", Subject: id, Verdict: "leaked"},
		&ShapingChanged{Time: at, Action: "S1", State: ShapingBegan},
		&ShapingChanged{Time: at.Add(time.Second), Action: "S1", State: ShapingUndone},
		&PolicyLoaded{Time: at, Policy: "p"},
	}
	db, err := pebble.Open("l", &pebble.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		for _, kv := range oldEntries(e, Encode(e)) {
			if err := db.Set(kv[0], kv[1], pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Set(metaPosition, u64(7), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		l, err := Open("l", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if h, err := l.History(ctx, id); err != nil || len(h) != 3 {
			t.Errorf("history: %v, %v", h, err)
		}
		if _, err := l.Accepted(ctx, id); err != nil {
			t.Error(err)
		}
		if ids, err := l.ByRecipient(ctx, "v@AOL.com", at, at.Add(time.Second), 10); err != nil || len(ids) != 1 {
			t.Errorf("by recipient: %v, %v", ids, err)
		}
		if hs, err := l.HandOffs(ctx, HandOffQuery{Domain: "aol.com", From: at, To: at.Add(time.Minute)}); err != nil || len(hs) != 1 || hs[0].Origin != "stranger" {
			t.Errorf("hand-offs: %v, %v", hs, err)
		}
		if im, err := l.Impact(ctx, p, time.Time{}, time.Time{}); err != nil || im.HandedOff != 1 || im.Recipients != 1 {
			t.Errorf("impact: %+v, %v", im, err)
		}
		if in, err := l.ShapingInForce(ctx, at.Add(time.Hour)); err != nil || len(in) != 0 {
			t.Errorf("in force: %v, %v", in, err)
		}
		if seen, err := l.SeenReport(ctx, "i"); err != nil || !seen {
			t.Errorf("seen: %v, %v", seen, err)
		}
		if l.Position() != 7 {
			t.Errorf("position %d", l.Position())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
