package monitor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
)

var (
	start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	ours  = netip.MustParseAddr("203.0.113.5")
	mx    = netip.MustParseAddrPort("192.0.2.25:25")
)

func handOff(at time.Time, origin string) *ledger.HandedOff {
	return &ledger.HandedOff{Time: at, Domain: "yahoo.com", Provider: "yahoo", Customer: "acme", Campaign: "spring", Pool: "general", Source: ours, Peer: mx, Host: "mx.yahoo.com", Path: ledger.Path{Listener: "l", Origin: origin}}
}

func reported(at time.Time, verdict string) *ledger.Reported {
	return &ledger.Reported{Time: at, Provider: "yfbl", Format: "arf", Verdict: verdict, Domain: "yahoo.com", Customer: "acme", Campaign: "spring", Pool: "general", SourceIP: ours, Arrived: at.Add(-10 * time.Hour)}
}

func of(alarms []Alarm, k Kind) (out []Alarm) {
	for _, a := range alarms {
		if a.Kind == k {
			out = append(out, a)
		}
	}
	return out
}

// TestLaw: the law goes where the delays are, and a few outliers do not take it away.
func TestLaw(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	l := newLaw()
	if w := l.within(7 * 24); math.Abs(w-0.86) > 0.08 {
		t.Errorf("%.2f within a week before anything is known, measured were 0.91", w)
	}
	for range 3000 {
		l.observe(time.Duration(math.Exp(math.Log(6)+1.2*rng.NormFloat64()) * float64(time.Hour)))
	}
	l.observe(-time.Hour)
	l.observe(4000 * 24 * time.Hour)
	l.fit()
	if w := l.within(6); math.Abs(w-0.5) > 0.05 {
		t.Errorf("%.2f within the true median", w)
	}
	sum := 0.0
	for _, s := range l.share {
		sum += s
	}
	if sum < 0.95 || sum > 1 {
		t.Errorf("shares sum up to %.3f", sum)
	}
}

// TestChartsOfOneComplaint: a complaint counts for its provider, as the recipient's domain
// tells, and for customer, campaign, pool and source.
func TestChartsOfOneComplaint(t *testing.T) {
	m := New(Options{})
	m.Tick(start)
	m.Observe(handOff(start, "customer"))
	m.Observe(reported(start, "sent"))
	for _, v := range []string{"duplicate", "malformed", "foreign"} {
		m.Observe(reported(start, v))
	}
	nobody := reported(start, "sent")
	nobody.Provider = ""
	m.Observe(nobody)
	for _, k := range []Chart{{"provider", "yahoo"}, {"customer", "acme"}, {"campaign", "acme/spring"}, {"pool", "general"}, {"source", ours.String()}} {
		c := m.charts[k]
		if c == nil || c.got != 1 || len(c.sent) != 1 || c.sent[0].n != 1 {
			t.Errorf("%v: %+v", k, c)
		}
	}
	if c := m.charts[Chart{"verdict", "foreign"}]; c == nil || c.got != 1 {
		t.Errorf("foreign: %+v", c)
	}
}

// hours sends n messages and gets r reports in each hour, and gives the alarms.
func hours(m *Monitor, from time.Time, count, n, r int, verdict string) (out []Alarm) {
	for h := range count {
		at := from.Add(time.Duration(h) * time.Hour)
		for range n {
			m.Observe(handOff(at, "customer"))
		}
		for range r {
			m.Observe(reported(at, verdict))
		}
		out = append(out, m.Tick(at.Add(time.Hour))...)
	}
	return out
}

// TestSilence: a reporter of one complaint an hour stops.
func TestSilence(t *testing.T) {
	m := New(Options{Share: 0.02})
	m.Tick(start)
	if a := of(hours(m, start, 20*24, 50, 1, "sent"), Silence); len(a) > 0 {
		t.Fatalf("while it reports: %+v", a)
	}
	from := start.Add(20 * 24 * time.Hour)
	a := of(hours(m, from, 10*24, 50, 0, "sent"), Silence)
	if len(a) != 1 || a[0].Chart != (Chart{"provider", "yahoo"}) {
		t.Fatalf("silent: %+v", a)
	}
	if late := a[0].Time.Sub(from); late > 48*time.Hour || late < 12*time.Hour {
		t.Errorf("after %s", late)
	} else {
		t.Logf("after %s", late)
	}
	if again := of(hours(m, from.Add(10*24*time.Hour), 24, 50, 1, "sent"), Silence); len(again) > 0 {
		t.Errorf("it reports again: %+v", again)
	}
}

// TestSilenceWithoutMail: nobody complains of mail that did not go out.
func TestSilenceWithoutMail(t *testing.T) {
	m := New(Options{Share: 0.02})
	m.Tick(start)
	hours(m, start, 20*24, 50, 1, "sent")
	after := start.Add(20 * 24 * time.Hour)
	hours(m, after, 24*24, 0, 0, "sent") // what went out before is heard of less and less
	if a := of(hours(m, after.Add(35*24*time.Hour), 30*24, 0, 0, "sent"), Silence); len(a) > 0 {
		t.Errorf("%+v", a)
	}
}

func TestUnread(t *testing.T) {
	m := New(Options{})
	for i := range 1000 {
		v := "sent"
		if i%150 == 0 {
			v = "malformed"
		}
		m.Observe(reported(start, v))
	}
	if a := of(m.Tick(start), Unread); len(a) > 0 {
		t.Fatalf("a few: %+v", a)
	}
	n := 0
	for ; n < 50; n++ {
		m.Observe(reported(start, "malformed"))
		if a := of(m.Tick(start), Unread); len(a) == 1 {
			break
		}
	}
	if n > 10 {
		t.Errorf("seen at report %d", n)
	}
	m.Observe(reported(start, "malformed"))
	if a := of(m.Tick(start), Unread); len(a) > 0 {
		t.Errorf("told twice: %+v", a)
	}
}

// TestStrangers: mail that nobody of ours sent is an alarm at the first, once a day for
// each path; inside hosts are none of that.
func TestStrangers(t *testing.T) {
	inside := netip.MustParseAddr("10.9.0.7")
	m := New(Options{Inside: func(a netip.Addr) bool { return a == inside }})
	m.Observe(handOff(start, "customer"))
	in := handOff(start, "stranger")
	in.Peer = netip.AddrPortFrom(inside, 25)
	m.Observe(in)
	m.Observe(&ledger.Bounced{Time: start, Path: ledger.Path{Listener: "l", Origin: "stranger"}}) // never reached anybody
	m.Observe(&ledger.Bounced{Time: start, Path: ledger.Path{Listener: "l", Origin: "customer"}, Peer: mx, Reply: "550 no"})
	if a := m.Tick(start); len(a) > 0 {
		t.Fatalf("%+v", a)
	}
	for i := range 3 {
		m.Observe(handOff(start.Add(time.Duration(i)*time.Hour), "stranger"))
		m.Observe(&ledger.Bounced{Time: start.Add(time.Duration(i) * time.Hour), Path: ledger.Path{Listener: "l", Origin: "stranger"}, Peer: mx, Reply: "550 no\r\n"})
	}
	a := m.Tick(start.Add(3 * time.Hour))
	if len(of(a, Emitted)) != 1 || len(of(a, Rejected)) != 1 {
		t.Errorf("%+v", a)
	}
	m.Observe(handOff(start.Add(30*time.Hour), "stranger"))
	if a := of(m.Tick(start.Add(31*time.Hour)), Emitted); len(a) != 1 {
		t.Errorf("the next day: %+v", a)
	}
}

func TestDMARC(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name       string
		begin, end time.Time
		source     netip.Addr
		count      int
		want       int // alarms
	}{
		{"as many", start, start.Add(day), ours, 1000, 0},
		{"a few more", start, start.Add(day), ours, 1025, 0},
		{"many more", start, start.Add(day), ours, 1100, 1},
		{"a day that is not ours", start.Add(-7 * time.Hour), start.Add(17 * time.Hour), ours, 1000, 0},
		{"another day", start.Add(-2 * day), start.Add(-day), ours, 100, 1},
		{"another address", start, start.Add(day), netip.MustParseAddr("203.0.113.6"), 100, 1},
		{"nothing to speak of", start.Add(-2 * day), start.Add(-day), ours, 5, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := New(Options{})
			for range 1000 {
				m.Observe(handOff(start.Add(time.Hour), "customer"))
			}
			m.Compare(Aggregate{Reporter: "yahoo", Begin: c.begin, End: c.end, Source: c.source, Count: c.count})
			m.Compare(Aggregate{Reporter: "yahoo", Begin: c.begin, End: c.end, Source: c.source, Count: c.count})
			if a := of(m.Tick(start.Add(2*day)), DMARC); len(a) != c.want {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestBounds: campaigns without end do not fill the memory, and one that goes on sending
// stays.
func TestBounds(t *testing.T) {
	m := New(Options{Charts: 100})
	m.Tick(start)
	for i := range 5000 {
		e := handOff(start.Add(time.Duration(i)*time.Minute), "customer")
		e.Campaign = fmt.Sprint(i)
		m.Observe(e)
		if len(m.charts) > 100 {
			t.Fatalf("%d charts", len(m.charts))
		}
	}
	if m.charts[Chart{"customer", "acme"}] == nil {
		t.Error("who sends all the time is forgotten")
	}
	for i := range 20_000 {
		m.Observe(&ledger.Bounced{Time: start, Path: ledger.Path{Listener: fmt.Sprint(i), Origin: "stranger"}, Peer: mx})
	}
	if len(m.told) > 10_001 {
		t.Errorf("%d alarms are remembered", len(m.told))
	}
}

// TestGap: a node that was off for a year does not close every hour of it.
func TestGap(t *testing.T) {
	m := New(Options{})
	m.Tick(start)
	hours(m, start, 24, 10, 1, "sent")
	if a := m.Tick(start.Add(400 * 24 * time.Hour)); len(a) > 0 {
		t.Errorf("%+v", a)
	}
}
