package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
	"postern.dev/postern/internal/stamp"
)

var ctx = context.Background()

const configuration = `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "127.0.0.1:2525"
  from    = "strangers"
}
listener "injection" {
  address = "127.0.0.1:2587"
  from    = "customers"
}
accept  = ["bounce.esp.example", "fbl.esp.example"]
reports = ["fbl@fbl.esp.example"]
customer "acme" {
  networks = ["127.10.1.0/24"]
  senders  = ["news.acme.example"]
}
inside "room" {
  address = "127.0.0.9:25"
  domains = ["bounce.esp.example"]
  resends = true
}
pool "general" { sources = ["127.0.0.21"] }
`

const defaults = `
filter "room" {
  if   = rcpt.domain == "bounce.esp.example"
  then = deliver()
}
filter "resent" {
  if   = origin == "inside"
  then = deliver()
}
`

// world is a gateway over a disk in memory.
type world struct {
	t       testing.TB
	fs      *faultfs.FS
	spool   *spool.Spool
	gateway *gateway.Gateway
	ring    *stamp.Ring
	now     time.Time

	mu       sync.Mutex
	added    []*spool.Message
	consumed []*spool.Message
	bounced  []string
	held     string                       // incident that holds everything
	rows     map[smtp.ID]*ledger.Accepted // that the memory knows
	memory   error
	auth     func(raw []byte) string
	name     string
}

// newWorld makes a gateway whose configuration ends with the given filters.
func newWorld(t testing.TB, filters string) *world {
	t.Helper()
	return newWorldLogging(t, filters, nil)
}

// newWorldMeter makes one that counts, and whose storage may be said to have failed.
func newWorldMeter(t testing.TB, filters string, m gateway.Meter, sound func() error) *world {
	t.Helper()
	return newWorldWith(t, filters, func(o *gateway.Options) { o.Meter, o.Sound = m, sound })
}

// newWorldLogging makes one that logs to where the test can read it.
func newWorldLogging(t testing.TB, filters string, log *slog.Logger) *world {
	t.Helper()
	return newWorldWith(t, filters, func(o *gateway.Options) { o.Log = log })
}

func newWorldWith(t testing.TB, filters string, change func(*gateway.Options)) *world {
	t.Helper()
	w := &world{t: t, fs: faultfs.New(), now: time.Unix(1.7e9, 0).UTC(), rows: map[smtp.ID]*ledger.Accepted{}}
	cfg, ds := config.Load("postern.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(configuration + filters), nil }})
	if ds.HasErrors() {
		t.Fatal(ds[0].Error())
	}
	var err error
	if w.spool, _, err = spool.Open(ctx, spool.Options{FS: w.fs, SegmentSize: 64 << 10, InlineBody: 8 << 10, Reserve: 1 << 10}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.spool.Close() })
	random := rand.NewChaCha8([32]byte{1})
	k, err := stamp.NewKey(1, w.now, random)
	if err != nil {
		t.Fatal(err)
	}
	if w.ring, err = stamp.NewRing([]stamp.Key{k}); err != nil {
		t.Fatal(err)
	}
	g := &gateway.Generation{Version: "v1", Hostname: "gw.esp.example", Program: cfg.Program, CustomerOf: func(string) string { return "" }}
	o := gateway.Options{Generation: func() *gateway.Generation { return g }, Store: w.spool, Outbound: w, Gate: w, Memory: w,
		Ring: func() *stamp.Ring { return w.ring }, Consume: w.consume, Bounce: w.bounce, Authentication: w,
		Namer: func(context.Context, netip.Addr) string { return w.name }, Now: func() time.Time { return w.now }, Random: random}
	change(&o)
	w.gateway = gateway.New(o)
	return w
}

func (w *world) Add(m *spool.Message) { w.mu.Lock(); defer w.mu.Unlock(); w.added = append(w.added, m) }

func (w *world) consume(m *spool.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.consumed = append(w.consumed, m)
}

func (w *world) bounce(_ smtp.ID, rcpt int, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bounced = append(w.bounced, fmt.Sprint(rcpt, " ", reason))
}

// Holds implements gateway.Gate.
func (w *world) Holds(_, _, _ string, _ netip.Addr, _ string) (string, bool) {
	return w.held, w.held != ""
}

// Accepted implements gateway.Memory.
func (w *world) Accepted(_ context.Context, id smtp.ID) (*ledger.Accepted, error) {
	if w.memory != nil {
		return nil, w.memory
	}
	if row := w.rows[id]; row != nil {
		return row, nil
	}
	return nil, ledger.ErrNotFound
}

// ByMessageID implements gateway.Memory.
func (w *world) ByMessageID(_ context.Context, mid string) (ids []smtp.ID, err error) {
	for id, row := range w.rows {
		if row.MessageID == mid {
			ids = append(ids, id)
		}
	}
	return ids, w.memory
}

// Authenticate implements gateway.Authentication.
func (w *world) Authenticate(_ context.Context, _ *smtp.Peer, _ smtp.Path, r io.Reader) (spf, dkim, dmarc string) {
	raw, err := io.ReadAll(r)
	if err != nil || w.auth == nil {
		return "none", "none", "none"
	}
	return "none", w.auth(raw), "none"
}

// client is where mail comes from: a listener and an address.
type client struct{ listener, addr string }

var (
	stranger = client{"internet", "192.0.2.7"}
	acme     = client{"injection", "127.10.1.1"}
	room     = client{"injection", "127.0.0.9"}
)

// send runs one transaction and gives the reply that decided.
func (w *world) send(from client, data string, to ...string) *smtp.Reply {
	w.t.Helper()
	peer := &smtp.Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr(from.addr), 4000), Helo: "client.example", ESMTP: true}
	s, refused := w.gateway.Listener(from.listener, false).NewSession(ctx, peer)
	if refused != nil {
		return refused
	}
	defer s.Close()
	sender := smtp.Path{Local: "n", Domain: "news.acme.example"}
	if r := s.Mail(ctx, sender, smtp.MailParams{}); r != nil {
		return r
	}
	for _, rcpt := range to {
		p, err := smtp.ParseMailbox(rcpt)
		if err != nil {
			w.t.Fatal(err)
		}
		if r := s.Rcpt(ctx, p, smtp.RcptParams{}); r != nil {
			return r
		}
	}
	return s.Data(ctx, strings.NewReader(data))
}

// accepted sends and wants 250; it gives the message and what the spool keeps of it.
func (w *world) accepted(from client, data string, to ...string) (*spool.Message, string) {
	w.t.Helper()
	r := w.send(from, data, to...)
	text, ok := strings.CutPrefix(r.String(), "250 2.0.0 accepted as ")
	id, err := smtp.ParseID(text)
	if !ok || err != nil {
		w.t.Fatalf("got %s", r)
	}
	m, body, err := w.spool.Open(id)
	if errors.Is(err, spool.ErrUnknown) {
		return nil, ""
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil || int64(len(b)) != m.Size {
		w.t.Fatalf("%d octets of %d, %v", len(b), m.Size, err)
	}
	return m, string(b)
}

func (w *world) events() (out []ledger.Event) {
	w.t.Helper()
	for at := uint64(0); at < w.spool.Durable(); {
		raw, next, err := w.spool.Read(ctx, at, 100)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range raw {
			e, err := ledger.Decode(b)
			if err != nil {
				w.t.Fatal(err)
			}
			out = append(out, e)
		}
		at = next
	}
	return out
}

// leftovers lists the files of bodies on the disk.
func (w *world) leftovers() (names []string) {
	for _, dir := range []string{"tmp", "big"} {
		in, _ := w.fs.List(dir)
		names = append(names, in...)
	}
	return names
}

// TestAccepted: message and ledger entry stand together; the entry tells the whole
// story.
func TestAccepted(t *testing.T) {
	w := newWorld(t, defaults)
	m, text := w.accepted(acme, "Subject: hello\r\nMessage-ID: <1@x>\r\n\r\n"+strings.Repeat("body\r\n", 10), "a@far.example", "b@far.example")
	if !strings.HasPrefix(text, "Received: from client.example (unknown [127.10.1.1])\r\n\tby gw.esp.example (Postern) with ESMTP id "+m.ID.String()+";\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\nSubject: hello\r\n") {
		t.Errorf("got\n%s", text)
	}
	if len(w.added) != 1 || len(m.Recipients) != 2 || m.Recipients[0].Pool != "general" || m.Origin != "customer" || m.Customer != "acme" {
		t.Errorf("queued %d, message %+v", len(w.added), m)
	}
	es := w.events()
	if len(es) != 1 {
		t.Fatalf("%d events", len(es))
	}
	e := es[0].(*ledger.Accepted)
	if e.ID != m.ID || e.Peer.String() != "127.10.1.1:4000" || e.MessageID != "1@x" || e.Customer != "acme" || len(e.Decisions) != 2 || e.Size != m.Size || e.Policy != "v1" || e.Subject == 0 {
		t.Errorf("event %+v", e)
	}
}

func TestReplies(t *testing.T) {
	filters := defaults + `
filter "no-x" {
  if   = header("X-Bad") == "yes" && rcpt.local == "picky"
  then = reject(550, "5.7.9", "not this one")
}
filter "few" {
  if    = rcpt.domain == "few.example"
  limit = "2/1h"
}
`
	many := func(name string, n int) string {
		return strings.Repeat(name+": x\r\n", n) + "\r\nbody\r\n"
	}
	for _, c := range []struct {
		name string
		from client
		data string
		to   []string
		want string
	}{
		{"a stranger may not relay", stranger, "x", []string{"a@far.example"}, "550 5.7.1 relaying denied"},
		{"nor by a percent sign", stranger, "x", []string{"a%far.example@bounce.esp.example"}, "550 5.7.1"},
		{"an address literal", acme, "x", []string{"a@[192.0.2.1]"}, "550 5.1.2"},
		{"a wrong domain", acme, "x", []string{"a@b..example"}, "553 5.1.3"},
		{"somebody without a name", client{"injection", "192.0.2.7"}, "x", nil, "554 5.7.1 this listener is not for you"},
		{"101 hops", acme, many("Received", 101), []string{"a@far.example"}, "554 5.4.6"},
		{"100 hops", acme, many("Received", 100), []string{"a@far.example"}, "250 2.0.0"},
		{"10,001 fields", acme, many("X", 10_001), []string{"a@far.example"}, "552 5.3.4"},
		{"10,000 fields", acme, many("X", 10_000), []string{"a@far.example"}, "250 2.0.0"},
		{"a header of a mebibyte", acme, "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", []string{"a@far.example"}, "552 5.3.4"},
		{"all refused by the header", acme, "X-Bad: yes\r\n\r\n", []string{"picky@far.example"}, "550 5.7.9 not this one"},
		{"an inside host with one refused", room, "X-Bad: yes\r\n\r\n", []string{"a@bounce.esp.example", "picky@elsewhere.example"}, "250 2.0.0"},
		{"under the limit", acme, "x: y\r\n\r\n", []string{"a@few.example", "b@few.example"}, "250 2.0.0"},
		{"over the limit", acme, "x: y\r\n\r\n", []string{"a@few.example", "b@few.example", "c@few.example"}, "451 4.7.1"},
		{"no header", acme, "just a line\r\n", []string{"a@far.example"}, "250 2.0.0"},
		{"nothing", acme, "", []string{"a@far.example"}, "250 2.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, filters)
			r := w.send(c.from, c.data, c.to...)
			if !strings.HasPrefix(r.String(), c.want) {
				t.Errorf("got %s", r)
			}
			if got := w.spool.Stats().Messages; (got == 1) != r.Positive() || got > 1 {
				t.Errorf("%d messages in the spool after %s", got, r)
			}
			if left := w.leftovers(); len(left) > 0 && !r.Positive() {
				t.Errorf("%v stays behind", left)
			}
		})
	}
}

// TestCustomerGetsDSN: where one recipient of a customer's message is refused by what
// stands in it, the others get it and the refused one a DSN; a stranger's is refused
// as a whole.
func TestCustomerGetsDSN(t *testing.T) {
	picky := `
filter "no-x" {
  if   = header("X-Bad") == "yes" && rcpt.local == "picky"
  then = reject(550, "5.7.9", "not this one")
}
`
	w := newWorld(t, picky+defaults)
	m, _ := w.accepted(acme, "X-Bad: yes\r\n\r\n", "picky@far.example", "a@far.example")
	if !slices.Equal(w.bounced, []string{"0 not this one"}) || m.Recipients[0].State != spool.Held || m.Recipients[1].State != spool.Pending || len(w.added) != 1 {
		t.Errorf("bounced %q, recipients %+v", w.bounced, m.Recipients)
	}
	if r := w.send(stranger, "X-Bad: yes\r\n\r\n", "a@bounce.esp.example", "picky@bounce.esp.example"); !strings.HasPrefix(r.String(), "550 5.7.9") {
		t.Errorf("a stranger: %s", r)
	}
	if len(w.bounced) != 1 {
		t.Errorf("a stranger's refusal bounces: %q", w.bounced)
	}
}

func TestHoldAndConsume(t *testing.T) {
	w := newWorld(t, defaults)
	w.held = "INC-1"
	if m, _ := w.accepted(acme, "x: y\r\n\r\n", "a@far.example"); m.Recipients[0].State != spool.Held || m.Recipients[0].Reason != "incident INC-1" {
		t.Errorf("got %+v", m.Recipients[0])
	}
	if e, ok := w.events()[1].(*ledger.Held); !ok || e.Incident != "INC-1" {
		t.Errorf("no row says that it is held")
	}
	if m, _ := w.accepted(stranger, "x: y\r\n\r\n", "fbl@fbl.esp.example"); m.Recipients[0].Reason != spool.ReasonConsume || len(w.consumed) != 1 || len(w.added) != 1 {
		t.Errorf("a report: %+v, %d to be read, %d to be delivered", m.Recipients[0], len(w.consumed), len(w.added))
	}
}

// TestSetHeader: each recipient has its own field, the others the original.
func TestSetHeader(t *testing.T) {
	w := newWorld(t, `
filter "mark" {
  if         = rcpt.local == "a"
  set_header = { "X-Class" = "gold" }
}
`+defaults)
	m, text := w.accepted(acme, "X-Class: as sent\r\nX-Postern-Class: forged\r\nSubject: s\r\n\r\n", "a@far.example", "b@far.example")
	if strings.Contains(text, "X-Class") || strings.Contains(text, "forged") ||
		!slices.Equal(m.Recipients[0].Headers, []string{"X-Class: gold"}) || !slices.Equal(m.Recipients[1].Headers, []string{"X-Class: as sent"}) {
		t.Errorf("recipients %+v\n%s", m.Recipients, text)
	}
}

// TestFactsOfContent: names and signatures reach the policy; the message is read as it
// came, whether it stands in memory or in a file.
func TestFactsOfContent(t *testing.T) {
	filters := `
filter "signed" {
  if   = dkim == "pass" && client.name == "mx.far.example"
  then = deliver()
}
`
	for _, size := range []int{10, 100_000} {
		w := newWorld(t, filters)
		data := "Subject: x\r\n folded\r\n\r\n" + strings.Repeat("0123456\r\n", size/9)
		w.name = "mx.far.example"
		w.auth = func(raw []byte) string {
			if string(raw) == data {
				return "pass"
			}
			return "fail"
		}
		w.accepted(stranger, data, "a@bounce.esp.example")
		w.name = "other.example"
		if r := w.send(stranger, data, "a@bounce.esp.example"); r.Positive() {
			t.Errorf("another name: %s", r)
		}
	}
}

// TestForgeries: what says of itself that we wrote it, and cannot be ours, goes.
func TestForgeries(t *testing.T) {
	w := newWorld(t, defaults)
	token := w.ring.Mint(stamp.Token{Message: smtp.NewID(w.now, [6]byte{1}), Customer: stamp.CustomerTag("acme"), Recipient: 0})
	ours := "Received: from x (x [127.10.1.1])\r\n\tby gw.esp.example (Postern) with ESMTP id 06a1b2c3d4e5f6g7h8j9;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
	for _, c := range []struct {
		name, field                  string
		byStranger, byAcme, byInside bool // it stays
	}{
		{"our trace field, as we write it", ours, false, false, true},
		{"on one line", strings.ReplaceAll(ours, "\r\n\t", " "), false, false, true},
		{"in capitals", "RECEIVED: FROM X BY GW.ESP.EXAMPLE (POSTERN) WITH ESMTP ID 1; X\r\n", false, false, true},
		{"with a trailing dot", "Received: from x by gw.esp.example. with ESMTP; x\r\n", false, false, true},
		{"folded oddly", "Received: from x\r\n   by\r\n\t gw.esp.example\r\n with SMTP; x\r\n", false, false, true},
		{"with a comment before", "Received: (by a) by gw.esp.example; x\r\n", false, false, true},
		{"somebody else's trace field", "Received: from gw.esp.example by mx.far.example with SMTP; x\r\n", true, true, true},
		{"a longer name", "Received: from x by agw.esp.example with SMTP; x\r\n", true, true, true},
		{"a stamp", "X-Postern-Stamp: " + token + "\r\n", false, false, false},
		{"a stamp that is none", "x-postern-stamp : none\r\n", false, false, false},
		{"an origin", "X-Postern-Origin: " + token + "\r\n", false, false, false},
		{"a field of ours to come", "X-Postern-New: x\r\n", false, false, false},
		{"a name that begins otherwise", "X-Posterns: x\r\n", true, true, true},
		{"a true stamp elsewhere", "Feedback-ID: x:" + token + ":y\r\n", false, true, true},
		{"in a Message-ID", "Message-ID: <" + strings.ToUpper(token) + "@gw.esp.example>\r\n", false, true, true},
		{"folded before it", "X-Any:\r\n " + token + "\r\n", false, true, true},
		{"a stamp with a wrong code", "Feedback-ID: " + token[:len(token)-2] + "00\r\n", true, true, true},
		{"the message that is answered", "In-Reply-To: <" + token + "@gw.esp.example>\r\n", true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range []struct {
				who   string
				from  client
				to    string
				stays bool
			}{{"stranger", stranger, "a@bounce.esp.example", c.byStranger}, {"customer", acme, "a@far.example", c.byAcme}, {"inside host", room, "a@far.example", c.byInside}} {
				_, text := w.accepted(p.from, "X-First: 1\r\n"+c.field+"Subject: s\r\n\r\n"+c.field, p.to)
				head, body, _ := strings.Cut(text, "\r\n\r\n")
				if got := strings.Contains(head+"\r\n", "\r\n"+c.field); got != p.stays {
					t.Errorf("from a %s: it stays: %v, want %v\n%s", p.who, got, p.stays, head)
				}
				if !strings.Contains(head, "X-First: 1\r\n") || !strings.Contains(head, "Subject: s") || body != c.field {
					t.Errorf("from a %s: something else is changed\n%s", p.who, text)
				}
			}
		})
	}
}

// TestInsideHostCarriesOrigin: what an inside host sends on is a stranger's if the
// message it came from was, by whatever the header still tells of it.
func TestInsideHostCarriesOrigin(t *testing.T) {
	w := newWorld(t, defaults)
	id := smtp.NewID(w.now, [6]byte{9})
	w.rows[id] = &ledger.Accepted{ID: id, Origin: "stranger", MessageID: "known@far.example"}
	token := w.ring.Mint(stamp.Token{Message: id, Recipient: 0})
	for _, c := range []struct{ name, head, want string }{
		{"our token", "X-Postern-Origin: " + token + "\r\n", "stranger"},
		{"our trace field, folded", "Received: from x (y [192.0.2.7])\r\n\tby gw.esp.example (Postern) with ESMTP id " + id.String() + "\r\n\tfor <a@b>;\r\n\tx\r\n", "stranger"},
		{"its Message-ID", "Message-ID: <known@far.example>\r\n", "stranger"},
		{"nothing", "Subject: new\r\n", "inside"},
		{"an id that is not known", "Received: from x by gw.esp.example with ESMTP id " + smtp.NewID(w.now, [6]byte{8}).String() + "; x\r\n", "inside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.send(room, c.head+"\r\nbody\r\n", "a@far.example")
			if c.want == "stranger" {
				if !strings.HasPrefix(r.String(), "550 5.7.1 relaying denied") {
					t.Errorf("got %s", r)
				}
			} else if !r.Positive() {
				t.Errorf("got %s", r)
			}
		})
	}
	w.memory = errors.New("ledger is away")
	if r := w.send(room, "Message-ID: <known@far.example>\r\n\r\n", "a@far.example"); !strings.HasPrefix(r.String(), "451 4.3.0") {
		t.Errorf("without memory: %s", r)
	}
}

// TestHundredThousandRecipients of one message make one record.
func TestHundredThousandRecipients(t *testing.T) {
	w := newWorld(t, defaults)
	var to []string
	for i := range 100_000 {
		to = append(to, fmt.Sprintf("reader%d@far.example", i))
	}
	m, _ := w.accepted(acme, "Subject: s\r\n\r\n", to...)
	if len(m.Recipients) != len(to) || m.Recipients[99_999].To.Local != "reader99999" {
		t.Errorf("%d recipients", len(m.Recipients))
	}
}

// FuzzHeader sends any header as a stranger: what is kept has one trace field of ours,
// the first, and no field that only we may write, as another reader sees it.
func FuzzHeader(f *testing.F) {
	w := newWorld(f, defaults)
	for _, s := range []string{
		"Subject: x\r\n\r\nbody\r\n", "", "\r\n", "no header\r\n", " folded: first\r\n\r\n",
		"X-Postern-Stamp: a\r\nx-postern-origin\t: b\r\n c\r\n\r\nX-Postern-Stamp: c\r\n",
		"Received: from x\r\n\tby gw.esp.example (Postern) with SMTP id 1; x\r\nbroken\r\nX-Postern-Stamp: d\r\n\r\n",
		"A: b\r\n \r\nX-Postern-Stamp: e\r\n\r\n", "From x@y Mon Jan 1\r\nX-Postern-Stamp: f\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		w.t = t
		in = bytes.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(in, []byte("\x00"), nil), []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		r := w.send(stranger, string(in), "a@bounce.esp.example")
		id, err := smtp.ParseID(strings.TrimPrefix(r.String(), "250 2.0.0 accepted as "))
		if err != nil {
			return // refused
		}
		body, err := w.spool.OpenBody(id)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		checkHeader(t, b)
		if _, err := w.spool.Commit(ctx, &spool.Batch{Changes: []spool.Change{{ID: id, State: spool.Settled}}}); err != nil {
			t.Fatal(err)
		}
	})
}
