package egress_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/smtp"
)

// TestHosts: where the mail of a domain goes (RFC 5321, section 5.1; RFC 7505).
func TestHosts(t *testing.T) {
	z := newZone(t,
		"ordered.example. 60 IN MX 30 c.ordered.example.", "ordered.example. 60 IN MX 10 a.ordered.example.", "ordered.example. 60 IN MX 20 b.ordered.example.",
		"a.ordered.example. 60 IN A 192.0.2.1", "b.ordered.example. 60 IN A 192.0.2.2", "b.ordered.example. 60 IN AAAA 2001:db8::2", "c.ordered.example. 60 IN A 192.0.2.3",
		"bare.example. 60 IN A 192.0.2.9",
		"null.example. 60 IN MX 0 .",
		"partly.example. 60 IN MX 10 gone.partly.example.", "partly.example. 60 IN MX 20 here.partly.example.", "here.partly.example. 60 IN A 192.0.2.4",
		"nowhere.example. 60 IN MX 10 gone.nowhere.example.",
		"alias.example. 60 IN CNAME ordered.example.",
		"mute.example. 60 IN TXT \"no addresses\"",
		"broken.example. 60 IN MX 10 mx.broken.example.",
		"halfbroken.example. 60 IN MX 10 mx.halfbroken.example.", "mx.halfbroken.example. 60 IN A 192.0.2.5",
		"loop.example. 60 IN MX 10 us.loop.example.", "us.loop.example. 60 IN A 127.0.0.1",
	)
	z.fail("broken.example.", dns.RcodeServerFailure)
	z.fail("mx.halfbroken.example.", dns.RcodeServerFailure)
	tr := &egress.Transport{Resolver: z.resolver(t, time.Now), Port: 25, Own: func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }}
	for _, c := range []struct {
		domain string
		v4, v6 bool
		want   string
		is     error  // the error, where it is one that callers know
		says   string // the error's words
	}{
		{"ordered.example", true, false, "a.ordered.example 192.0.2.1:25, b.ordered.example 192.0.2.2:25, c.ordered.example 192.0.2.3:25", nil, ""},
		{"ordered.example", true, true, "a.ordered.example 192.0.2.1:25, b.ordered.example [2001:db8::2]:25, b.ordered.example 192.0.2.2:25, c.ordered.example 192.0.2.3:25", nil, ""},
		{"ordered.example", false, true, "b.ordered.example [2001:db8::2]:25", nil, ""},
		{"ORDERED.example.", true, false, "a.ordered.example 192.0.2.1:25, b.ordered.example 192.0.2.2:25, c.ordered.example 192.0.2.3:25", nil, ""},
		{"alias.example", true, false, "a.ordered.example 192.0.2.1:25, b.ordered.example 192.0.2.2:25, c.ordered.example 192.0.2.3:25", nil, ""},
		{"bare.example", true, true, "bare.example 192.0.2.9:25", nil, ""},
		{"partly.example", true, false, "here.partly.example 192.0.2.4:25", nil, ""},
		{"null.example", true, false, "", egress.ErrNullMX, "domain accepts no mail"},
		{"none.example", true, false, "", egress.ErrNoDomain, "no such domain"},
		{"nowhere.example", true, false, "", egress.ErrNoDomain, "no such domain"},
		{"mute.example", true, false, "", egress.ErrNoDomain, "has no address"},
		{"broken.example", true, false, "", nil, "SERVFAIL"},
		{"halfbroken.example", true, false, "", nil, "SERVFAIL"},
		{"loop.example", true, false, "", nil, "loops back to this node"},
	} {
		t.Run(fmt.Sprintf("%s v4=%v v6=%v", c.domain, c.v4, c.v6), func(t *testing.T) {
			hosts, err := tr.Hosts(t.Context(), c.domain, c.v4, c.v6)
			var got []string
			for _, h := range hosts {
				got = append(got, h.Name+" "+h.Addr.String())
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
			switch {
			case c.says == "" && err != nil, c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)), c.is != nil && !errors.Is(err, c.is):
				t.Errorf("error %v, want %q", err, c.says)
			case c.is == nil && (errors.Is(err, egress.ErrNoDomain) || errors.Is(err, egress.ErrNullMX)):
				t.Errorf("a fault that may pass is permanent: %v", err)
			}
		})
	}
}

// TestOnePreferenceIsShared: hosts of one preference get about the same share.
func TestOnePreferenceIsShared(t *testing.T) {
	z := newZone(t, "d.example. 60 IN MX 10 a.d.example.", "d.example. 60 IN MX 10 b.d.example.", "d.example. 60 IN MX 5 first.d.example.")
	r := z.resolver(t, time.Now)
	first := map[string]int{}
	for range 200 {
		hosts, err := r.MX(t.Context(), "d.example")
		if err != nil || len(hosts) != 3 || hosts[0] != "first.d.example" {
			t.Fatalf("%v, %v", hosts, err)
		}
		first[hosts[1]]++
	}
	if first["a.d.example"] < 50 || first["b.d.example"] < 50 {
		t.Errorf("shares: %v", first)
	}
}

// TestAnswersAreKept for their TTL, "no" for a minute, faults not at all; and what
// does not fit into a datagram is asked for over TCP.
func TestAnswersAreKept(t *testing.T) {
	z := newZone(t, "d.example. 300 IN MX 10 a.d.example.", "ill.example. 300 IN MX 10 a.d.example.")
	z.fail("ill.example.", dns.RcodeServerFailure)
	now := time.Now()
	r := z.resolver(t, func() time.Time { return now })
	ask := func(name string, want int) {
		t.Helper()
		_, _ = r.MX(t.Context(), name)
		z.mu.Lock()
		defer z.mu.Unlock()
		if got := z.asked[name+".MX"]; got != want {
			t.Errorf("%s was asked for %d times, want %d", name, got, want)
		}
	}
	ask("d.example", 1)
	ask("none.example", 1)
	ask("ill.example", 2) // two tries
	now = now.Add(59 * time.Second)
	ask("d.example", 1)
	ask("none.example", 1)
	ask("ill.example", 4)
	now = now.Add(2 * time.Second)
	ask("none.example", 2)
	now = now.Add(240 * time.Second)
	z.mu.Lock()
	z.big = true
	z.mu.Unlock()
	ask("d.example", 3) // over UDP and then over TCP
	if hosts, err := r.MX(t.Context(), "d.example"); err != nil || len(hosts) != 1 {
		t.Errorf("over TCP: %v, %v", hosts, err)
	}
}

// TestSourceIsBound: the connection comes from the address that was asked for, and a
// source that this machine does not have is a fault of ours that may pass.
func TestSourceIsBound(t *testing.T) {
	s := play(t, nil, []step{{"", "220 hi"}, {"EHLO gw.esp.example", "250 hi"}}, []step{{"", "220 hi"}, {"EHLO gw.esp.example", "250 hi"}})
	tr := &egress.Transport{Hostname: "gw.esp.example"}
	h := egress.Host{Name: "mx.there.example", Addr: s.addr}
	for _, source := range []netip.Addr{netip.MustParseAddr("127.0.0.77"), {}} {
		c, err := tr.Dial(t.Context(), source, h)
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		seen := s.peers[len(s.peers)-1]
		s.mu.Unlock()
		if c.Source != seen || (source.IsValid() && seen != source) || c.Security() != "" {
			t.Errorf("asked for %s, the peer sees %s, the connection says %s", source, seen, c.Source)
		}
		_ = c.Quit()
	}
	_, err := tr.Dial(t.Context(), netip.MustParseAddr("192.0.2.77"), h)
	if o := egress.FromError(err); err == nil || o.Status != egress.Deferred || o.Code != "4.4.1" || !strings.Contains(o.Reply, "mx.there.example") {
		t.Errorf("a foreign source: %v, %+v", err, o)
	}
}

// TestOpportunisticTLS: TLS where it works, clear text where it does not, and never a
// lost message for its sake.
func TestOpportunisticTLS(t *testing.T) {
	hello := []step{{"", "220 hi"}, {"EHLO", "250-hi\n250 STARTTLS"}}
	plain := []step{{"", "220 hi"}, {"EHLO", "250-hi\n250 STARTTLS"}, {"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "354 go"}, {"", "message: 250 2.0.0 taken"}}
	sent := []step{{"EHLO", "250 hi"}, {"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "354 go"}, {"", "message: 250 2.0.0 taken"}}
	for _, c := range []struct {
		name    string
		scripts [][]step
		secure  bool
		conns   int
	}{
		{"offered, with a certificate that nobody vouches for", [][]step{append(append(hello[:2:2], step{"STARTTLS", "220 go"}, step{"", "handshake"}), sent...)}, true, 1},
		{"refused with 454", [][]step{append(hello[:2:2], step{"STARTTLS", "454 4.7.0 not now"}), plain}, false, 2},
		{"broken: no handshake", [][]step{append(hello[:2:2], step{"STARTTLS", "220 go"}, step{"", "garbage"}), plain}, false, 2},
		{"broken: the peer hangs up", [][]step{append(hello[:2:2], step{"STARTTLS", "220 go"}, step{"", "hang up"}), plain}, false, 2},
		{"broken: clear text behind the reply", [][]step{append(hello[:2:2], step{"STARTTLS", "220 go\n250 injected"}), plain}, false, 2},
		{"not offered", [][]step{append([]step{{"", "220 hi"}}, sent...)}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, certificate(t), c.scripts...)
			tr := &egress.Transport{Hostname: "gw.esp.example", TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}}
			conn, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			o := egress.Judge(conn.Send(t.Context(), mail("hello\r\n")))
			if o.Status != egress.Delivered || o.Reply != "250 2.0.0 taken" || (conn.Security() != "") != c.secure {
				t.Errorf("%+v over %q", o, conn.Security())
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.peers) != c.conns || len(s.texts) != 1 || !strings.HasSuffix(s.texts[0], "hello\r\n") || !strings.HasPrefix(s.texts[0], "X-Stamp: 1\r\n") {
				t.Errorf("%d connections, texts %q", len(s.peers), s.texts)
			}
		})
	}
}

// TestNoConnection: what is said of peers that cannot be spoken to.
func TestNoConnection(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []step
		want   string
		code   string
	}{
		{"hangs up at once", []step{{"", "hang up"}}, "read greeting", "4.4.1"},
		{"421 in place of a greeting", []step{{"", "421 4.3.2 closing"}}, "421 4.3.2 closing", "4.3.2"},
		{"554 in place of a greeting", []step{{"", "554 5.7.1 not you"}}, "554 5.7.1 not you", "5.7.1"},
		{"no SMTP", []step{{"", "HTTP/1.1 400 Bad Request"}}, "malformed reply", "4.4.1"},
		{"neither EHLO nor HELO", []step{{"", "220 hi"}, {"EHLO", "502 5.5.1 what"}, {"HELO", "550 5.7.1 no"}}, "550 5.7.1 no", "5.7.1"},
		{"hangs up at EHLO", []step{{"", "220 hi"}, {"EHLO", "hang up"}}, "say EHLO", "4.4.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, nil, c.script)
			tr := &egress.Transport{Hostname: "gw.esp.example"}
			_, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr})
			if err == nil {
				t.Fatal("there is a connection")
			}
			if o := egress.FromError(err); o.Status != egress.Deferred || !strings.Contains(o.Reply, c.want) || o.Code != c.code {
				t.Errorf("%+v of %v", o, err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		tr := &egress.Transport{Hostname: "gw.esp.example"}
		_, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: netip.MustParseAddrPort("127.0.0.52:1")})
		if o := egress.FromError(err); err == nil || o.Status != egress.Deferred || !strings.Contains(o.Reply, "connect to mx.there.example [127.0.0.52]: ") || !strings.Contains(o.Reply, "refused") {
			t.Errorf("%+v of %v", o, err)
		}
	})
	t.Run("says nothing", func(t *testing.T) {
		s := play(t, nil, []step{{"EHLO", ""}})
		s.cut = true
		tr := &egress.Transport{Hostname: "gw.esp.example", Timeouts: smtp.Timeouts{Greeting: 50 * time.Millisecond}}
		_, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr})
		if o := egress.FromError(err); err == nil || o.Status != egress.Deferred || !strings.Contains(o.Reply, "timeout") {
			t.Errorf("%+v of %v", o, err)
		}
	})
}

// TestTransactions: one message over one connection, and what it comes to.
func TestTransactions(t *testing.T) {
	begin := []step{{"", "220 hi"}, {"EHLO", "250 hi"}}
	for _, c := range []struct {
		name      string
		script    []step
		status    egress.Status
		reply     string
		code      string
		ambiguous bool
		usable    bool // afterwards
	}{
		{"taken", []step{{"MAIL FROM:<n@acme.example>", "250 ok"}, {"RCPT TO:<r@there.example>", "250 ok"}, {"DATA", "354 go"}, {"", "message: 250 2.6.0 queued as 1"}}, egress.Delivered, "250 2.6.0 queued as 1", "2.0.0", false, true},
		{"refused at MAIL", []step{{"MAIL", "550 5.7.1 no"}}, egress.Failed, "550 5.7.1 no", "5.7.1", false, true},
		{"refused at RCPT without a code", []step{{"MAIL", "250 ok"}, {"RCPT", "550 no"}, {"RSET", "250 ok"}}, egress.Failed, "550 no", "5.0.0", false, true},
		{"put off at RCPT", []step{{"MAIL", "250 ok"}, {"RCPT", "451 4.7.1 later"}, {"RSET", "250 ok"}}, egress.Deferred, "451 4.7.1 later", "4.7.1", false, true},
		{"refused at DATA", []step{{"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "554 5.5.0 no"}, {"RSET", "250 ok"}}, egress.Failed, "554 5.5.0 no", "5.5.0", false, true},
		{"refused at the end", []step{{"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "354 go"}, {"", "message: 554 5.6.0 spam"}}, egress.Failed, "554 5.6.0 spam", "5.6.0", false, true},
		{"421 at the end", []step{{"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "354 go"}, {"", "message: 421 4.3.2 closing"}}, egress.Deferred, "421 4.3.2 closing", "4.3.2", false, false},
		{"hangs up before the message", []step{{"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "hang up"}}, egress.Deferred, "connection lost", "4.4.2", false, false},
		{"hangs up behind the message", []step{{"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "354 go"}, {"", "message: "}, {"", "hang up"}}, egress.Deferred, "after the end of data, the peer may have the message", "4.4.2", true, false},
		{"two codes in one reply", []step{{"MAIL", "250-ok\n550 no"}}, egress.Deferred, "malformed reply", "4.4.2", false, false},
		{"talks nonsense", []step{{"MAIL", "hello"}}, egress.Deferred, "malformed reply", "4.4.2", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, nil, append(begin[:2:2], c.script...))
			tr := &egress.Transport{Hostname: "gw.esp.example"}
			conn, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			o := egress.Judge(conn.Send(t.Context(), mail("hello\r\n.dot\r\n")))
			if o.Status != c.status || !strings.Contains(o.Reply, c.reply) || o.Code != c.code || o.Ambiguous != c.ambiguous || conn.Usable() != c.usable {
				t.Errorf("%+v, usable %v", o, conn.Usable())
			}
		})
	}
}

// TestConnectionIsUsedAgain: three messages over one connection.
func TestConnectionIsUsedAgain(t *testing.T) {
	one := []step{{"MAIL", "250 ok"}, {"RCPT", "250 ok"}, {"DATA", "354 go"}, {"", "message: 250 ok"}}
	bad := []step{{"MAIL", "250 ok"}, {"RCPT", "550 no"}, {"RSET", "250 ok"}}
	script := append([]step{{"", "220 hi"}, {"EHLO", "250 hi"}}, one...)
	script = append(append(script, bad...), one...)
	s := play(t, nil, append(script, step{"QUIT", "221 bye"}))
	tr := &egress.Transport{Hostname: "gw.esp.example"}
	conn, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []egress.Status{egress.Delivered, egress.Failed, egress.Delivered} {
		if o := egress.Judge(conn.Send(t.Context(), mail(fmt.Sprintf("message %d\r\n", n)))); o.Status != want {
			t.Errorf("message %d: %+v", n, o)
		}
	}
	if err := conn.Quit(); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) != 1 || len(s.texts) != 2 || !strings.Contains(s.texts[1], "message 2") {
		t.Errorf("%d connections, %q", len(s.peers), s.texts)
	}
}

// TestSlowPeer: a peer that does not answer in time is given up, and so is one in the
// middle of an exchange when the node stops.
func TestSlowPeer(t *testing.T) {
	script := []step{{"", "220 hi"}, {"EHLO", "250 hi"}, {"MAIL", "250 ok"}, {"RCPT", ""}, {"never", ""}}
	for _, stopping := range []bool{false, true} {
		s := play(t, nil, script)
		s.cut = true
		timeouts := smtp.Timeouts{Command: 100 * time.Millisecond}
		ctx, cancel := context.WithCancel(t.Context())
		if stopping {
			timeouts.Command = patience
		}
		tr := &egress.Transport{Hostname: "gw.esp.example", Timeouts: timeouts}
		conn, err := tr.Dial(ctx, netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr})
		if err != nil {
			t.Fatal(err)
		}
		if stopping {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		begin := time.Now()
		o := egress.Judge(conn.Send(ctx, mail("hello\r\n")))
		if o.Status != egress.Deferred || o.Ambiguous || conn.Usable() || time.Since(begin) > patience/2 {
			t.Errorf("stopping=%v: %+v after %s", stopping, o, time.Since(begin))
		}
		conn.Close()
		cancel()
	}
}
