package queue

import (
	"bytes"
	"encoding/hex"
	"io"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// wanted reports whether a DSN is due. There is none to the null reverse-path (RFC
// 5321, section 4.5.5), none that NOTIFY forbids, and none for a stranger's message:
// its reverse-path may be forged, and the DSN would be backscatter.
func (d *delivery) wanted(action string) bool {
	o := policy.Origin(d.m.Origin)
	if d.m.From.IsNull() || (o != policy.Customer && o != policy.Inside) {
		return false
	}
	n := d.r.Notify
	switch action {
	case "delayed":
		return n == 0 || n&smtp.NotifyDelay != 0
	case "relayed":
		return n&smtp.NotifySuccess != 0
	}
	return n == 0 || n&smtp.NotifyFailure != 0
}

// notify puts a DSN into the batch and gives its id; the zero ID where none is due.
func (d *delivery) notify(b *spool.Batch, action string, o egress.Outcome, now time.Time) smtp.ID {
	if !d.wanted(action) {
		return smtp.ID{}
	}
	var random [14]byte
	if _, err := io.ReadFull(d.q.o.Random, random[:]); err != nil {
		d.q.o.Log.Error("no randomness for a DSN", "err", err)
		return smtp.ID{}
	}
	id := smtp.NewID(now, [6]byte(random[:6]))
	_, _, host, _ := d.where()
	dsn := &message.DSN{
		From: d.rt.Postmaster.String(), To: d.m.From.String(), Date: now, MessageID: id.String() + "@" + d.rt.Hostname, Boundary: "postern-" + hex.EncodeToString(random[6:]),
		ReportingMTA: d.rt.Hostname, EnvID: d.m.EnvID, Arrival: d.m.Accepted, HeaderOnly: action != "failed" || d.m.Return != "FULL", UTF8: d.m.UTF8, EightBit: true,
		Returned:   d.returned(),
		Recipients: []message.DSNStatus{{ORcpt: d.r.ORcpt, Final: d.r.To.String(), Action: action, Status: o.Code, RemoteMTA: host, Diagnostic: o.Reply, LastAttempt: now}},
	}
	if action == "delayed" {
		dsn.Recipients[0].WillRetry = d.m.Accepted.Add(d.expire())
	}
	body := d.q.o.Store.NewBody()
	text, marks := d.signed(message.BuildDSN(dsn), now)
	if _, err := body.Write(text); err != nil {
		d.q.o.Log.Error("DSN not written", "err", err)
		return smtp.ID{}
	}
	rcpt, err := policy.Normalise(d.m.From)
	if err != nil {
		return smtp.ID{}
	}
	m := &spool.Message{ID: id, Accepted: now, EightBit: true, UTF8: d.m.UTF8, Origin: string(policy.Self), Policy: d.m.Policy, Size: body.Size(),
		Recipients: []spool.Recipient{{To: d.m.From, Notify: smtp.NotifyNever, Inside: d.rt.InsideFor(rcpt), Pool: d.rt.DefaultPool}}}
	b.Message, b.Body = m, body
	b.Events = append(b.Events, ledger.Encode(&ledger.Accepted{Time: now, ID: id, Parent: d.m.ID, Origin: m.Origin, MessageID: dsn.MessageID, DKIM: marks, Size: m.Size, Policy: m.Policy,
		Decisions: []ledger.Decided{{Recipient: rcpt.String(), Disposition: string(policy.Deliver), Pool: m.Recipients[0].Pool, Inside: m.Recipients[0].Inside}}}))
	return id
}

// signed puts signatures before a message of Postern's own, and gives the hashes that the
// ledger knows them by. A key that fails costs the signature and not the notice: its
// sender would never know.
func (d *delivery) signed(text []byte, now time.Time) ([]byte, []uint64) {
	if d.rt.Sign == nil {
		return text, nil
	}
	fields, marks, err := d.rt.Sign(text, now)
	if err != nil {
		d.q.o.Log.Error("DSN not signed", "id", d.m.ID.String(), "err", err)
		return text, nil
	}
	hashes := make([]uint64, 0, len(marks))
	for _, m := range marks {
		hashes = append(hashes, ledger.DKIMHash(m))
	}
	return append(bytes.Join(fields, nil), text...), hashes
}

// returned reads the beginning of the message for the DSN.
func (d *delivery) returned() []byte {
	if d.body == nil {
		_, body, err := d.q.o.Store.Open(d.m.ID)
		if err != nil {
			return nil
		}
		defer body.Close()
		b, _ := io.ReadAll(io.LimitReader(body, 64<<10))
		return b
	}
	if _, err := d.body.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	var b bytes.Buffer
	_, _ = io.CopyN(&b, d.body, 64<<10)
	return b.Bytes()
}
