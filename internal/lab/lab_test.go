package lab_test

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

var noon = time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC)

func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(lab.Options{Seed: 7, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func provider(t *testing.T, l *lab.Lab, p message.Profile, b lab.Behaviour, domains ...string) *lab.Provider {
	t.Helper()
	out, err := l.AddProvider("p", domains, p, b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDNS(t *testing.T) {
	l := newLab(t)
	provider(t, l, message.ProfileAOL, lab.Behaviour{}, "aol.com", "aim.com")
	provider(t, l, message.ProfileYahoo, lab.Behaviour{}, "yahoo.com")
	if err := l.Record("null.example. 60 IN MX 0 ."); err != nil {
		t.Fatal(err)
	}
	if err := l.Record("no record at all"); err == nil {
		t.Error("a record that is none is taken")
	}
	l.Break("broken.example", true)
	for _, c := range []struct {
		name  string
		typ   uint16
		rcode int
		want  string
	}{
		{"aol.com.", dns.TypeMX, dns.RcodeSuccess, "10 mx.aol.com."},
		{"AIM.com.", dns.TypeMX, dns.RcodeSuccess, "10 mx.aol.com."},
		{"mx.aol.com.", dns.TypeA, dns.RcodeSuccess, "127.25.0.1"},
		{"mx.yahoo.com.", dns.TypeA, dns.RcodeSuccess, "127.25.0.2"},
		{"fbl.aol.com.", dns.TypeTXT, dns.RcodeSuccess, `"v=spf1 ip4:127.25.1.1 -all"`},
		{"null.example.", dns.TypeMX, dns.RcodeSuccess, "0 ."},
		{"aol.com.", dns.TypeAAAA, dns.RcodeSuccess, ""}, // the name is there, the type is not
		{"nowhere.example.", dns.TypeMX, dns.RcodeNameError, ""},
		{"broken.example.", dns.TypeMX, dns.RcodeServerFailure, ""},
		{"mx.broken.example.", dns.TypeA, dns.RcodeServerFailure, ""},
		{"notbroken.example.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(fmt.Sprintf("%s %s %s", c.name, dns.TypeToString[c.typ], network), func(t *testing.T) {
				m, err := ask(l, network, c.name, c.typ)
				if err != nil || m.Rcode != c.rcode {
					t.Fatalf("%v, rcode %s", err, dns.RcodeToString[m.Rcode])
				}
				var got []string
				for _, rr := range m.Answer {
					got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
				}
				if strings.Join(got, ",") != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
	l.Break("broken.example", false)
	if m, err := ask(l, "udp", "broken.example.", dns.TypeMX); err != nil || m.Rcode != dns.RcodeNameError {
		t.Errorf("mended: %v, %v", m, err)
	}
}

func ask(l *lab.Lab, network, name string, typ uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, typ)
	m, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(q, l.Resolver().String())
	return m, err
}

// session opens a session with a provider from an address.
func session(t *testing.T, l *lab.Lab, p *lab.Provider, source string) *smtp.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	nc, err := d.Dial("tcp", net.JoinHostPort(p.MX, fmt.Sprint(l.Port)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	c, err := smtp.NewClient(ctx, nc, smtp.Timeouts{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Hello(ctx, "gw.esp.example"); err != nil {
		t.Fatal(err)
	}
	return c
}

// send gives the reply that decided.
func send(t *testing.T, c *smtp.Client, from, to, mark string) *smtp.Reply {
	t.Helper()
	f, err := smtp.ParseMailbox(from)
	if err != nil {
		t.Fatal(err)
	}
	r, err := smtp.ParseMailbox(to)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res := c.Send(ctx, &smtp.Mail{From: f, To: []smtp.Recipient{{Path: r}}, Body: strings.NewReader(letter(to, mark))})
	if res.Err != nil && res.Mail == nil {
		t.Fatal(res.Err)
	}
	for _, r := range append([]*smtp.Reply{res.Mail}, res.Rcpt...) {
		if r != nil && !r.Positive() {
			return r
		}
	}
	return res.Data
}

func letter(to, mark string) string {
	return "Received: from app by gw.esp.example (Postern) with ESMTP id 06h0zy32ne1vrrs81m00; Sun, 1 Jun 2008 11:59:58 +0000\r\n" +
		"From: News <news@acme.example>\r\nTo: <" + to + ">\r\nSubject: hello\r\nDate: Sun, 1 Jun 2008 11:59:00 +0000\r\nMessage-ID: <m1@acme.example>\r\n" +
		"List-Unsubscribe: <https://acme.example/u?to=" + strings.Replace(to, "@", "%40", 1) + ">\r\nX-Lab-Id: " + mark + "\r\n\r\nDear " + to + ",\r\nhere is the news.\r\n"
}

func TestGreylist(t *testing.T) {
	l := newLab(t)
	p := provider(t, l, message.ProfileAOL, lab.Behaviour{Greylist: true}, "aol.com")
	for i, c := range []struct {
		source, from, to string
		code             int
	}{
		{"127.22.0.1", "n@acme.example", "a@aol.com", 451},
		{"127.22.0.1", "n@acme.example", "a@aol.com", 250},
		{"127.22.0.9", "n@acme.example", "a@aol.com", 250}, // the same network
		{"127.21.0.1", "n@acme.example", "a@aol.com", 451}, // another
		{"127.22.0.1", "n@acme.example", "b@aol.com", 451}, // another recipient
		{"127.22.0.1", "m@acme.example", "a@aol.com", 451}, // another sender
	} {
		if r := send(t, session(t, l, p, c.source), c.from, c.to, fmt.Sprintf("customer-%d", i)); r.Code != c.code {
			t.Errorf("try %d: %v, want %d", i, r, c.code)
		}
	}
	if n := p.Count(func(*lab.Delivery) bool { return true }); n != 2 {
		t.Errorf("%d arrived", n)
	}
}

func TestThrottle(t *testing.T) {
	l := newLab(t)
	p := provider(t, l, message.ProfileAOL, lab.Behaviour{Throttle: 2}, "aol.com")
	c := session(t, l, p, "127.22.0.1")
	for i, want := range []int{250, 250, 421} {
		if r := send(t, c, "n@acme.example", "a@aol.com", fmt.Sprintf("customer-%d", i)); r.Code != want {
			t.Fatalf("message %d: %v, want %d", i, r, want)
		}
	}
	if c.Usable() {
		t.Error("the connection can be used after 421")
	}
	if r := send(t, session(t, l, p, "127.22.0.1"), "n@acme.example", "a@aol.com", "customer-9"); r.Code != 250 {
		t.Errorf("a new connection: %v", r)
	}
}

func TestRefuse(t *testing.T) {
	l := newLab(t)
	usual := provider(t, l, message.ProfileAOL, lab.Behaviour{}, "aol.com")
	full := smtp.NewReply(452, smtp.EnhancedCode{4, 2, 2}, "mailbox full")
	own := provider(t, l, message.ProfileAOL, lab.Behaviour{Refuse: func(to smtp.Path) *smtp.Reply {
		if to.Local == "full" {
			return full
		}
		return nil
	}}, "full.example")
	for _, c := range []struct {
		p    *lab.Provider
		to   string
		code int
	}{{usual, "unknown7@aol.com", 550}, {usual, "known@aol.com", 250}, {own, "full@full.example", 452}, {own, "unknown@full.example", 250}} {
		if r := send(t, session(t, l, c.p, "127.22.0.1"), "n@acme.example", c.to, "customer-1"); r.Code != c.code {
			t.Errorf("%s: %v, want %d", c.to, r, c.code)
		}
	}
}

// TestActors: customers and strangers come from addresses of their own and sign what
// they make.
func TestActors(t *testing.T) {
	l := newLab(t)
	p := provider(t, l, message.ProfileAOL, lab.Behaviour{}, "aol.com")
	at := fmt.Sprintf("%s:%d", p.MX, l.Port)
	ctx := t.Context()
	tally, err := l.AddCustomer(3, "coda", "coda.example", at).Send(ctx, 5, []string{"aol.com", "aim.com"}, nil)
	if err != nil || tally.Accepted != 5 || tally.Attempted != 5 {
		t.Fatalf("%+v, %v", tally, err)
	}
	if tally := l.AddSpammer(9, at).Spam(ctx, 4, "aol.com", nil); tally.Accepted != 4 {
		t.Fatalf("%+v", tally)
	}
	if tally := l.AddSpammer(9, "127.25.0.200:9").Spam(ctx, 2, "aol.com", nil); tally.Refused != 2 || tally.Attempted != 2 {
		t.Errorf("nobody listens: %+v", tally)
	}
	strangers := 0
	for _, d := range p.Received() {
		want := "127.10.3.1"
		if d.ByStranger() {
			strangers++
			want = "127.66.0.9"
		}
		if d.Peer.String() != want || d.Mark == "" || !strings.Contains(string(d.Data), "X-Lab-Id: "+d.Mark+"\r\n") || !strings.HasPrefix(string(d.Data), "Return-Path: <"+d.From.String()+">\r\n") {
			t.Errorf("from %s, mark %q\n%s", d.Peer, d.Mark, d.Data)
		}
	}
	if strangers != 4 {
		t.Errorf("%d by strangers", strangers)
	}
}

// TestRedaction holds each provider's complaint against what that provider is seen to
// leave and to take out.
func TestRedaction(t *testing.T) {
	pseudonym := regexp.MustCompile(`^[0-9a-f]{32}@mail\.example$`)
	const rcpt = "reader.one@mail.example"
	for _, c := range []struct {
		profile  message.Profile
		agent    string
		fields   string // of the report part besides type, agent and version, a blank between
		noFields string
		clear    bool // the recipient stands in it somewhere
		hashed   bool
	}{
		{message.ProfileAOL, "AOL SComp", "Source-IP Redacted-Address", "Original-Mail-From Original-Rcpt-To", false, false},
		{message.ProfileYahoo, "Yahoo!-Mail-Feedback/2.0", "Original-Mail-From Original-Rcpt-To", "Source-IP", true, false},
		{message.ProfileJMRP, "", "", "Source-IP Original-Mail-From Feedback-Type", true, false},
		{message.ProfileJMRP2026, "JMRP/1.0", "", "Source-IP Original-Mail-From Original-Rcpt-To Arrival-Date Received-Date", true, false},
		{message.ProfileValidity, "ReturnPathFBL/2.0", "Source-IP Original-Mail-From Arrival-Date Abuse-Type Subscription-Link Source", "", false, true},
		{message.ProfileComcast, "", "Original-Message-ID Source-IP", "Original-Rcpt-To", false, false},
		{message.ProfileZoho, "", "Source-IP Received-Date", "Original-Mail-From Original-Rcpt-To", true, false},
	} {
		t.Run(string(c.profile), func(t *testing.T) {
			l := newLab(t)
			p := provider(t, l, c.profile, lab.Behaviour{}, "mail.example")
			if r := send(t, session(t, l, p, "127.21.0.5"), "bounce+token@bounce.esp.example", rcpt, "customer-1"); r.Code != 250 {
				t.Fatal(r)
			}
			d := p.Received()[0]
			raw := p.Complaint(&d, smtp.Path{Local: "fbl", Domain: "fbl.esp.example"})
			r, err := message.ParseReport(raw)
			if err != nil {
				t.Fatal(err)
			}
			if c.agent != "" && r.UserAgent != c.agent {
				t.Errorf("agent %q", r.UserAgent)
			}
			for name := range strings.FieldsSeq(c.fields) {
				if message.Get(r.Fields, name) == "" {
					t.Errorf("no %s", name)
				}
			}
			for name := range strings.FieldsSeq(c.noFields) {
				if v := message.Get(r.Fields, name); v != "" {
					t.Errorf("%s: %s", name, v)
				}
			}
			survives(t, r)
			if got := strings.Contains(strings.ToLower(string(raw)), "reader.one"); got != c.clear {
				t.Errorf("the recipient's local part stands in it: %v\n%s", got, raw)
			}
			if c.hashed && (len(r.OriginalTo) != 1 || !pseudonym.MatchString(r.OriginalTo[0])) {
				t.Errorf("recipient %q", r.OriginalTo)
			}
			if next := p.Complaint(&d, smtp.Path{Local: "fbl", Domain: "fbl.esp.example"}); string(next) == string(raw) {
				t.Error("the second complaint is the first")
			}
		})
	}
}

// survives checks what every provider leaves: what decides whether we sent it.
func survives(t *testing.T, r *message.Report) {
	t.Helper()
	if r.Original == nil {
		t.Fatal("no original")
	}
	for name, want := range map[string]string{"Message-ID": "<m1@acme.example>", "Subject": "hello", "Date": "Sun, 1 Jun 2008 11:59:00 +0000"} {
		if got := r.Original.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if ids := r.Original.ReceivedIDs("gw.esp.example"); len(ids) != 1 || ids[0] != "06h0zy32ne1vrrs81m00" {
		t.Errorf("our trace: %q", ids)
	}
	if r.SourceIP.String() != "127.21.0.5" {
		t.Errorf("source %s", r.SourceIP)
	}
	if r.Arrival.IsZero() || r.Arrival.Sub(noon).Abs() > time.Minute {
		t.Errorf("arrival %s", r.Arrival)
	}
}
