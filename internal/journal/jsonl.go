package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"

	"postern.dev/postern/internal/ledger"
)

// objects writes JSON lines: a number, a kind, the event's fields under the ledger's
// own names, and the envelope of the message that it is about.
type objects struct {
	wanted map[ledger.Kind]bool
	known  *envelopes
	mask   *masker
	buf    bytes.Buffer
	json   *json.Encoder
}

func newObjects(o Options) *objects {
	w := &objects{wanted: o.Events, known: newEnvelopes(o.Rows), mask: newMasker(o.Key)}
	w.json = json.NewEncoder(&w.buf)
	w.json.SetEscapeHTML(false)
	return w
}

func (w *objects) header() []byte { return nil }

// envelope is what the ledger knows from the message's acceptance.
type envelope struct {
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Customer  string `json:"customer,omitempty"`
	MessageID string `json:"message_id,omitempty"`
}

func (w *objects) lines(ctx context.Context, b []byte, seq uint64, e ledger.Event, raw []byte) ([]byte, error) {
	if e == nil {
		return w.line(b, seq, "unknown", struct {
			Stored []byte `json:"stored"`
		}{raw}, nil)
	}
	accepted, isAccepted := e.(*ledger.Accepted)
	if isAccepted {
		w.known.learn(accepted)
	}
	if w.wanted != nil && !w.wanted[e.Kind()] {
		return b, nil
	}
	var env *envelope
	if id, rcpt := about(e); !id.IsZero() {
		m, err := w.known.find(ctx, id)
		if err != nil {
			return b, err
		}
		if m != nil {
			env = &envelope{From: w.mask.address(m.from), To: w.mask.address(m.rcpt(rcpt)), Customer: m.customer, MessageID: w.mask.text(m.messageID)}
		}
	}
	w.mask.event(e)
	return w.line(b, seq, e.Kind().String(), e, env)
}

// line appends one line: the object of the event, with what we know of it around.
func (w *objects) line(b []byte, seq uint64, kind string, v any, env *envelope) ([]byte, error) {
	m := members{b: append(b, `{"seq":`...)}
	m.b = strconv.AppendUint(m.b, seq, 10)
	m.text("event", kind)
	if e, ok := v.(ledger.Event); !ok || !m.of(e) {
		w.buf.Reset()
		if err := w.json.Encode(v); err != nil {
			return b, err
		}
		object := w.buf.Bytes()
		if len(object) > len("{}\n") {
			m.b = append(m.b, ',')
		}
		m.b = harmless(m.b, object[1:len(object)-2])
	}
	if env != nil {
		m.envelope(env)
	}
	if m.err != nil {
		return b, m.err
	}
	return append(m.b, "}\n"...), nil
}

func (w *objects) gap(b []byte, p *place) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, p.Seq, 10)
	b = append(b, `,"event":"gap","time":"`...)
	b = p.gapTime().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","from":`...)
	b = strconv.AppendUint(b, p.GapFrom, 10)
	b = append(b, `,"to":`...)
	b = strconv.AppendUint(b, p.At, 10)
	return append(b, "}\n"...)
}

// harmless appends JSON with the characters escaped that JSON allows and terminals or
// readers may act on: DEL, the C1 controls, and what turns the direction of text. They
// stand in strings only.
func harmless(b, object []byte) []byte {
	from := 0
	for i := 0; i < len(object); i++ {
		if i+8 <= len(object) && tame(binary.LittleEndian.Uint64(object[i:])) {
			i += 7
			continue
		}
		n, r := 0, rune(0)
		switch c := object[i]; {
		case c == 0x7f:
			n, r = 1, 0x7f
		case c == 0xc2 && i+1 < len(object) && object[i+1] < 0xa0:
			n, r = 2, rune(object[i+1])
		case c == 0xe2 && i+2 < len(object) && object[i+1] == 0x80 && object[i+2] >= 0xaa && object[i+2] <= 0xae:
			n, r = 3, 0x2000+rune(object[i+2]&0x3f)
		case c == 0xe2 && i+2 < len(object) && object[i+1] == 0x81 && object[i+2] >= 0xa6 && object[i+2] <= 0xa9:
			n, r = 3, 0x2040+rune(object[i+2]&0x3f)
		}
		if n == 0 {
			continue
		}
		b = append(b, object[from:i]...)
		b = append(b, `\u`...)
		const hex = "0123456789abcdef"
		for shift := 12; shift >= 0; shift -= 4 {
			b = append(b, hex[r>>shift&15])
		}
		i += n - 1
		from = i + 1
	}
	return append(b, object[from:]...)
}

// tame reports that none of eight octets is DEL or above.
func tame(v uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	return (v|(v+ones))&highs == 0
}
