package report_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// class is a kind of mail that is complained of, and what is to be said of it.
type class struct {
	name    string
	want    report.Kind
	also    report.Kind // as right
	leak    bool        // one of the ten kinds of leak that must be found
	share   int
	unknown bool // the reporter is nobody that we know
}

// Classes whose names the world asks for.
const (
	ofForwarded, ofList, ofLate, ofOtherID = "customer's, forwarded", "customer's, from a list", "customer's, 200 days late", "customer's, Message-ID made by the receiver"
	ofStripped, ofBare, ofRetired, ofLost  = "customer's, no stamp left", "customer's, nothing but its subject left", "customer's, key retired", "customer's, key lost"
	ofPurged, ofInside, ofSelf             = "customer's, row purged", "an inside host's own", "a DSN of our own"
	leakInside, leakStolen, leakReplay     = "leak: by an inside host", "leak: stolen credential", "leak: DKIM replay"
	leakBypass, leakForged, leakExpired    = "leak: another process on our address", "leak: with forged stamps", "leak: with a stamp of a lost key"
	leakForwarded, leakList, leakLate      = "leak: forwarded", "leak: from a list", "leak: 200 days late"
	leakEarly, leakKept                    = "leak: complaint before its hand-off is indexed", "leak: DKIM replay, trace kept"
	notOurs, notOursMarked                 = "not ours", "not ours, with marks copied from ours"
	tellLeak, tellBypass                   = "a leak, told by a stranger", "a made-up bypass, told by a stranger"
)

func classes() []class {
	return []class{
		{name: "customer's, direct", want: report.Sent, share: 12},
		{name: ofForwarded, want: report.Sent, share: 5}, {name: ofList, want: report.Sent, share: 4}, {name: ofLate, want: report.Sent, share: 4},
		{name: ofOtherID, want: report.Sent, share: 3}, {name: ofStripped, want: report.Sent, share: 3}, {name: ofBare, want: report.Sent, share: 3},
		{name: ofRetired, want: report.Sent, share: 2}, {name: ofLost, want: report.Sent, share: 2}, {name: ofPurged, want: report.Expired, share: 2},
		{name: ofInside, want: report.Sent, share: 2}, {name: ofSelf, want: report.Sent, share: 1},
		{name: "leak: filter order", want: report.Leaked, leak: true, share: 4}, {name: leakInside, want: report.Leaked, leak: true, share: 4},
		{name: leakStolen, want: report.Sent, share: 4}, {name: leakReplay, want: report.Replayed, leak: true, share: 3}, {name: leakKept, want: report.Replayed, leak: true, share: 1},
		{name: leakBypass, want: report.Bypassed, leak: true, share: 4}, {name: leakForged, want: report.Leaked, leak: true, share: 4}, {name: leakExpired, want: report.Leaked, leak: true, share: 4},
		{name: leakForwarded, want: report.Leaked, leak: true, share: 4}, {name: leakList, want: report.Leaked, leak: true, share: 4}, {name: leakLate, want: report.Leaked, leak: true, share: 4},
		{name: leakEarly, want: report.Leaked, leak: true, share: 1},
		{name: notOurs, want: report.Foreign, share: 4}, {name: notOursMarked, want: report.Replayed, also: report.Foreign, share: 2},
		{name: tellLeak, want: report.Leaked, share: 2, unknown: true}, {name: tellBypass, want: report.Bypassed, share: 2, unknown: true},
	}
}

const (
	gateway      = "gw.esp.example"
	customers    = 50
	replays      = 4 // messages that somebody sends about
	messageBlock = 200
)

var (
	begin   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	span    = 30 * 24 * time.Hour
	evil    = netip.MustParseAddr("192.0.2.66")
	alumni  = netip.MustParseAddr("192.0.2.77")
	listing = netip.MustParseAddr("192.0.2.88")
)

// world is a month of mail: n messages, of which complaints come back.
type world struct {
	seed       uint64
	n          int
	complaints int
	classes    []class
	deal       []int // of classes, by complaint
	ring, lost *stamp.Ring
	reporters  []report.Profile
	sources    []netip.Addr
}

func newWorld(t testing.TB, seed uint64, n, complaints int) *world {
	w := &world{seed: seed, n: n, complaints: complaints, classes: classes(), lost: newRing(t, 77)}
	for i := range w.classes {
		for range w.classes[i].share {
			w.deal = append(w.deal, i)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	rng.Shuffle(len(w.deal), func(i, j int) { w.deal[i], w.deal[j] = w.deal[j], w.deal[i] })
	for i := range 40 {
		w.sources = append(w.sources, netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)}))
	}
	w.reporters = report.Profiles()
	first, second := counter(3), counter(9)
	old, err := stamp.NewKey(1, begin.Add(-90*24*time.Hour), &first)
	if err != nil {
		t.Fatal(err)
	}
	old.Retired = true
	live, err := stamp.NewKey(2, begin.Add(-24*time.Hour), &second)
	if err != nil {
		t.Fatal(err)
	}
	if w.ring, err = stamp.NewRing([]stamp.Key{old, live}); err != nil {
		t.Fatal(err)
	}
	return w
}

// retired is the ring as it was when its older key minted.
func (w *world) retired(t testing.TB) *stamp.Ring {
	old := w.ring.Keys()[:1]
	old[0].Retired = false
	r, err := stamp.NewRing(old)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) isOurs(a netip.Addr) bool {
	return a.Is4() && a.As4()[0] == 203 && a.As4()[3] >= 10 && a.As4()[3] < 50
}

// stride is the distance between messages that are complained of.
func (w *world) stride() int { return w.n / w.complaints }

// letter is one message as its sender made it.
type letter struct {
	i        int
	class    *class // nil where nobody complains
	rng      *rand.Rand
	id       smtp.ID
	inbound  smtp.ID // that an inside host has had it as
	at       time.Time
	handed   time.Time
	customer string
	subject  string
	source   netip.Addr
	reporter *report.Profile
	rcpt     string
	mid      string
	dkim     string
	replay   int // which message somebody sends about
}

func (l *letter) is(name string) bool { return l.class != nil && l.class.name == name }

// among reports one of several classes.
func (l *letter) among(names ...string) bool {
	for _, n := range names {
		if l.is(n) {
			return true
		}
	}
	return false
}

// letter makes message i. Those of a block are one customer's campaign, sent within
// minutes from a few sources: most have its subject.
func (w *world) letter(i int) *letter {
	l := &letter{i: i, rng: rand.New(rand.NewPCG(w.seed, uint64(i)+1000))}
	if s := w.stride(); i%s == 0 && i/s < w.complaints {
		l.class = &w.classes[w.deal[(i/s)%len(w.deal)]]
	}
	block, in := i/messageBlock, i%messageBlock
	blocks := (w.n + messageBlock - 1) / messageBlock
	l.at = begin.Add(span / time.Duration(blocks) * time.Duration(block)).Add(time.Duration(in) * 300 * time.Millisecond)
	c := (block * 7) % customers
	l.customer = fmt.Sprintf("customer%02d", c)
	l.subject = fmt.Sprintf("News number %d of %s", block, l.customer)
	if l.rng.IntN(4) == 0 {
		l.subject = fmt.Sprintf("Your order %d", l.rng.IntN(1e7))
	}
	l.source = w.sources[(c%4)*10+l.rng.IntN(10)]
	l.reporter = &w.reporters[l.rng.IntN(len(w.reporters))]
	l.rcpt = fmt.Sprintf("reader%d@%s", l.rng.IntN(1e6), mailboxDomain(l.reporter))
	l.mid = fmt.Sprintf("m%d.%d@%s.example", i, l.rng.IntN(1e9), l.customer)
	l.dkim = fmt.Sprintf("sig%dx%d", w.seed, i)
	w.alter(l)
	l.id = smtp.NewID(l.at, [6]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i), 1, 1})
	l.inbound = smtp.NewID(l.at.Add(-time.Minute), [6]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i), 2, 2})
	l.handed = l.at.Add(time.Duration(1+l.rng.IntN(20000)) * time.Millisecond)
	return l
}

// mailboxDomain is where the mailboxes of a reporter are.
func mailboxDomain(p *report.Profile) string { return strings.ReplaceAll(p.Name, "-", "") + ".example" }

// alter makes of a message what its class says.
func (w *world) alter(l *letter) {
	if l.class == nil {
		return
	}
	if l.reporter.Name == "cfbl" && (l.class.leak || l.class.unknown || !strings.HasPrefix(l.class.name, "customer's, direct")) {
		l.reporter = &w.reporters[0] // none but a customer's message has a CFBL-Address
		l.rcpt = fmt.Sprintf("reader%d@%s", l.rng.IntN(1e6), mailboxDomain(l.reporter))
	}
	switch {
	case l.among(leakReplay, leakKept):
		l.replay = (l.i / w.stride()) % (replays - 1)
		if l.is(leakKept) {
			l.replay = replays - 1
		}
	case l.is(leakStolen):
		l.subject = fmt.Sprintf("Claim %d now", l.rng.IntN(1e7))
	case l.class.leak || l.class.unknown || l.among(notOurs, notOursMarked):
		l.customer, l.subject = "", fmt.Sprintf("You have won %d", l.rng.IntN(1e7))
		l.mid = fmt.Sprintf("s%d.%d@spam.example", l.i, l.rng.IntN(1e9))
	case l.among(ofInside, ofSelf):
		l.customer = ""
	case l.is(ofPurged):
		l.at = l.at.Add(-90 * 24 * time.Hour)
	}
}

// base is a message that went to somebody who sends it about.
func (w *world) base(n int) *letter {
	l := w.letter(n*messageBlock + 1)
	l.class, l.i = nil, w.n+n
	l.rcpt = fmt.Sprintf("box%d@mailbox.example", n)
	l.id = smtp.NewID(l.at, [6]byte{9, 9, byte(n), 9, 3, 3})
	return l
}

// rows are what the ledger has of a message.
func (w *world) rows(l *letter) []ledger.Event {
	a := &ledger.Accepted{Time: l.at, ID: l.id, Listener: "injection", Peer: netip.MustParseAddrPort("10.1.0.5:4000"), Origin: "customer", Customer: l.customer, AuthUser: l.customer,
		MessageID: l.mid, Subject: ledger.SubjectHash(l.subject), DKIM: []uint64{ledger.DKIMHash(l.dkim)}, Size: 4000, Policy: "p1", Campaign: fmt.Sprint(l.i / messageBlock),
		Decisions: []ledger.Decided{{Recipient: l.rcpt, Disposition: "deliver", Filter: "general", Pool: "general"}}}
	switch {
	case l.among(notOurs, notOursMarked, leakBypass, tellBypass, leakReplay, leakKept, ofPurged):
		return nil // never through us, or no more in the ledger
	case l.is(leakForwarded):
		a.Decisions[0].Recipient = fmt.Sprintf("graduate%d@alumni.example", l.i)
	case l.is(leakList), l.is(ofList):
		a.Decisions[0].Recipient = "members@lists.example"
	case l.is(ofForwarded):
		a.Decisions[0].Recipient = fmt.Sprintf("graduate%d@alumni.example", l.i)
	case l.is(ofInside):
		a.Origin, a.Listener, a.AuthUser = "inside", "inside", ""
	case l.is(ofSelf):
		a.Origin, a.Listener, a.AuthUser, a.Peer = "self", "", "", netip.AddrPort{}
	}
	if l.class != nil && (l.class.leak || l.class.unknown) {
		a.Origin, a.Listener, a.AuthUser, a.Peer, a.DKIM = "stranger", "internet", "", netip.AddrPortFrom(evil, 999), nil
		a.Decisions[0].Filter, a.Decisions[0].Pool = "range", "aol"
	}
	h := &ledger.HandedOff{Time: l.handed, ID: l.id, Address: a.Decisions[0].Recipient, Domain: a.Decisions[0].Recipient[strings.IndexByte(a.Decisions[0].Recipient, '@')+1:],
		Path: ledger.Path{Listener: a.Listener, Filter: a.Decisions[0].Filter, Origin: a.Origin}, Policy: "p1", Customer: l.customer, Pool: a.Decisions[0].Pool, Source: l.source,
		Peer: netip.MustParseAddrPort("192.0.2.25:25"), Host: "mx." + l.rcpt, Reply: "250 2.0.0 ok", Attempt: 1, Campaign: a.Campaign, Subject: a.Subject}
	out := []ledger.Event{a, h}
	if l.is(leakInside) {
		out = append(w.throughInside(l, a, h), out...)
	}
	return out
}

// throughInside makes the row of a stranger's message that an inside host has sent on.
// The gateway has traced half of them itself; of the others the Message-ID tells.
func (w *world) throughInside(l *letter, a *ledger.Accepted, h *ledger.HandedOff) []ledger.Event {
	in := *a
	in.ID, in.Time = l.inbound, l.at.Add(-time.Minute)
	in.Decisions = []ledger.Decided{{Recipient: "desk@replies.esp.example", Disposition: "deliver", Filter: "replies", Inside: "mailroom"}}
	to := &ledger.HandedOff{Time: l.at.Add(-50 * time.Second), ID: in.ID, Address: "desk@replies.esp.example", Domain: "replies.esp.example",
		Path: ledger.Path{Listener: "internet", Filter: "replies", Origin: "stranger"}, Subject: in.Subject}
	a.Listener, a.Peer, a.Parent = "inside", netip.MustParseAddrPort("10.9.0.7:5000"), in.ID
	if l.i/w.stride()%2 == 0 {
		a.Origin, a.Parent = "inside", smtp.ID{}
		h.Path.Origin = "inside"
	}
	h.Path.Listener = "inside"
	return []ledger.Event{&in, to}
}
