package egress_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/smtp"
)

func secureScript(after ...step) []step {
	return append([]step{{"", "220 hi"}, {"EHLO", "250-hi\n250 STARTTLS"}, {"STARTTLS", "220 go"}}, after...)
}

// TestDemandedTLS: mail that demands TLS never goes in clear text, nor to a host whose
// certificate is not right.
func TestDemandedTLS(t *testing.T) {
	server := certificate(t)
	leaf, err := x509.ParseCertificate(server.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)
	works := secureScript(step{"", "handshake"}, step{"EHLO", "250 hi"})
	breaks := secureScript(step{"", "handshake"})
	notOffered := []step{{"", "220 hi"}, {"EHLO", "250 hi"}, {"QUIT", "221 bye"}}
	for _, c := range []struct {
		name   string
		demand *egress.Security
		script []step
		want   string // of Security, where there is a connection
		code   string // where there is none
		says   string
	}{
		{"required, not offered", &egress.Security{Mode: egress.Required}, notOffered, "", "4.7.4", "does not offer STARTTLS"},
		{"required, garbage", &egress.Security{Mode: egress.Required}, secureScript(step{"", "garbage"}), "", "4.7.5", ""},
		{"required, refused", &egress.Security{Mode: egress.Required}, []step{{"", "220 hi"}, {"EHLO", "250-hi\n250 STARTTLS"}, {"STARTTLS", "454 4.7.0 not now"}}, "", "4.7.5", "454 4.7.0 not now"},
		{"required, of anybody", &egress.Security{Mode: egress.Required}, works, "TLS 1.3 TLS_AES_128_GCM_SHA256", "", ""},
		{"verify, not offered", &egress.Security{Mode: egress.Verified}, notOffered, "", "4.7.4", "does not offer STARTTLS"},
		{"verify, of anybody", &egress.Security{Mode: egress.Verified}, breaks, "", "4.7.5", "unknown authority"},
		{"verify, trusted", &egress.Security{Mode: egress.Verified, Roots: trusted}, works, "TLS 1.3 TLS_AES_128_GCM_SHA256 verified", "", ""},
		{"verify, another name", &egress.Security{Mode: egress.Verified, Roots: trusted, Names: []string{"mx.elsewhere.example"}}, breaks, "", "4.7.5", "is for mx.there.example, not for mx.elsewhere.example"},
		{"verify, one of the names", &egress.Security{Mode: egress.Verified, Roots: trusted, Names: []string{"mx.elsewhere.example", ".there.example"}}, works, "TLS 1.3 TLS_AES_128_GCM_SHA256 verified", "", ""},
		{"verify, a suffix is one label", &egress.Security{Mode: egress.Verified, Roots: trusted, Names: []string{".example"}}, breaks, "", "4.7.5", "not for .example"},
		{"none, though offered", &egress.Security{Mode: egress.Clear}, []step{{"", "220 hi"}, {"EHLO", "250-hi\n250 STARTTLS"}}, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, server, c.script)
			tr := &egress.Transport{Hostname: "gw.esp.example", TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}}
			conn, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr, Security: c.demand})
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if conn.Security() != c.want {
					t.Errorf("got %q", conn.Security())
				}
				if meets := conn.Meets(&egress.Security{Mode: egress.Required}); meets != (c.want != "") || conn.Meets(&egress.Security{Mode: egress.Verified}) || !conn.Meets(nil) || !conn.Meets(c.demand) {
					t.Errorf("it meets what it must not, or the other way round")
				}
				return
			}
			if err == nil {
				t.Fatalf("a connection with %q", conn.Security())
			}
			o := egress.FromError(err)
			if !egress.Insecure(err) || o.Status != egress.Deferred || o.Code != c.code || !strings.Contains(o.Reply, c.says) || !strings.Contains(o.Reply, "mx.there.example [127.0.0.51]") {
				t.Errorf("got %+v", o)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.peers) != 1 {
				t.Errorf("%d connections", len(s.peers))
			}
		})
	}
}

// TestBrokenTLSIsRemembered: a host whose TLS has failed is spoken to in clear text for
// an hour, by opportunistic mail only.
func TestBrokenTLSIsRemembered(t *testing.T) {
	plain := []step{{"", "220 hi"}, {"EHLO", "250-hi\n250 STARTTLS"}}
	broken := secureScript(step{"", "garbage"})
	s := play(t, certificate(t), broken, plain, plain, broken, secureScript(step{"", "handshake"}, step{"EHLO", "250 hi"}))
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	tr := &egress.Transport{Hostname: "gw.esp.example", TLS: &tls.Config{InsecureSkipVerify: true}, Now: func() time.Time { return now }}
	dial := func(demand *egress.Security) (string, error) {
		conn, err := tr.Dial(t.Context(), netip.Addr{}, egress.Host{Name: "mx.there.example", Addr: s.addr, Security: demand})
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.Security(), nil
	}
	for i, c := range []struct {
		after  time.Duration
		demand *egress.Security
		secure bool
		fails  bool
	}{
		{0, nil, false, false},                                    // two connections
		{59 * time.Minute, nil, false, false},                     // one
		{0, &egress.Security{Mode: egress.Required}, false, true}, // tries TLS all the same
		{2 * time.Minute, nil, true, false},
	} {
		now = now.Add(c.after)
		got, err := dial(c.demand)
		if (err != nil) != c.fails || (got != "") != c.secure {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) != 5 {
		t.Errorf("%d connections, want 5", len(s.peers))
	}
}

// TestSessionsResume: the second connection of a source to a host resumes, with every
// version; another source's does not, and one that is verified never rests on one that
// was not.
func TestSessionsResume(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server := certificate(t)
			server.MaxVersion = version
			leaf, err := x509.ParseCertificate(server.Certificates[0].Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			trusted := x509.NewCertPool()
			trusted.AddCert(leaf)
			talk := secureScript(step{"", "handshake"}, step{"EHLO", "250 hi"}, step{"QUIT", "221 bye"})
			s := play(t, server, talk, talk, talk, talk, talk, talk)
			tr := &egress.Transport{Hostname: "gw.esp.example", TLS: &tls.Config{InsecureSkipVerify: true}}
			verify := &egress.Security{Mode: egress.Verified, Roots: trusted}
			for i, c := range []struct {
				source  string
				demand  *egress.Security
				resumed bool
			}{
				{"127.0.0.2", nil, false}, {"127.0.0.2", nil, true}, {"127.0.0.3", nil, false},
				{"127.0.0.2", verify, false}, {"127.0.0.2", verify, true}, {"127.0.0.2", &egress.Security{Mode: egress.Required}, true},
			} {
				conn, err := tr.Dial(t.Context(), netip.MustParseAddr(c.source), egress.Host{Name: "mx.there.example", Addr: s.addr, Security: c.demand})
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasSuffix(conn.Security(), " resumed") != c.resumed || strings.Contains(conn.Security(), "verified") != (c.demand == verify) {
					t.Errorf("connection %d: %s", i+1, conn.Security())
				}
				if err := conn.Quit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestInsecureIsToldApart from other faults.
func TestInsecureIsToldApart(t *testing.T) {
	if egress.Insecure(errors.New("x")) || egress.Insecure(&smtp.Reply{Code: 450}) || egress.Insecure(nil) {
		t.Error("every fault is one of security")
	}
}
