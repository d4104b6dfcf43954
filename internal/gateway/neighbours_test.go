package gateway_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/smtp"
)

// TestStrangersThatShareOneAddress: fifty in a row from an address behind a NAT are
// told of once, and as long as nobody else comes.
func TestStrangersThatShareOneAddress(t *testing.T) {
	for _, c := range []struct {
		name, listener, peer string
		sessions             int
		want                 string
		warnings             int
	}{
		{"one short", "internet", "192.168.0.1", 49, "[]", 0},
		{"private", "internet", "192.168.0.1", 50, "[{internet 192.168.0.1}]", 1},
		{"once", "internet", "192.168.0.1", 500, "[{internet 192.168.0.1}]", 1},
		{"loopback", "internet", "127.0.0.1", 50, "[{internet 127.0.0.1}]", 1},
		{"mapped", "internet", "::ffff:172.17.0.1", 50, "[{internet 172.17.0.1}]", 1},
		{"loopback of IPv6", "internet", "::1", 50, "[{internet ::1}]", 1},
		{"unique local", "internet", "fd00::1", 50, "[{internet fd00::1}]", 1},
		{"link-local", "internet", "fe80::1%eth0", 50, "[{internet fe80::1}]", 1},
		{"carrier's NAT", "internet", "100.64.0.9", 50, "[{internet 100.64.0.9}]", 1},
		{"beyond the carrier's", "internet", "100.128.0.9", 50, "[]", 0},
		{"on the Internet", "internet", "203.0.113.9", 500, "[]", 0},
		{"customers", "injection", "127.10.1.5", 500, "[]", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			w := newWatched(t, &log)
			w.arrive(c.listener, c.peer, c.sessions)
			if got := fmt.Sprint(w.SharedAddresses()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if n := strings.Count(log.String(), "strangers share one address"); n != c.warnings {
				t.Errorf("%d warnings, want %d:\n%s", n, c.warnings, log.String())
			}
		})
	}
}

// TestSharedAddressEnds: one other stranger ends the alarm, and fifty more raise it
// again.
func TestSharedAddressEnds(t *testing.T) {
	var log bytes.Buffer
	w := newWatched(t, &log)
	w.arrive("internet", "192.168.0.1", 60)
	w.arrive("internet", "203.0.113.9", 1)
	if got := w.SharedAddresses(); len(got) != 0 {
		t.Errorf("the alarm lasts: %v", got)
	}
	w.arrive("internet", "192.168.0.1", 49)
	if got := w.SharedAddresses(); len(got) != 0 {
		t.Errorf("49 after the other: %v", got)
	}
	w.arrive("internet", "192.168.0.1", 1)
	want := []gateway.SharedAddress{{Listener: "internet", Address: netip.MustParseAddr("192.168.0.1")}}
	if got := w.SharedAddresses(); !slices.Equal(got, want) || strings.Count(log.String(), "strangers share") != 2 {
		t.Errorf("got %v and\n%s", got, log.String())
	}
}

type watched struct {
	*gateway.Gateway
	t *testing.T
}

func newWatched(t *testing.T, log *bytes.Buffer) *watched {
	t.Helper()
	return &watched{newWorldLogging(t, "", slog.New(slog.NewTextHandler(log, nil))).gateway, t}
}

// arrive lets sessions of one peer begin.
func (w *watched) arrive(listener, peer string, sessions int) {
	w.t.Helper()
	b := w.Listener(listener, false)
	for i := range sessions {
		s, reply := b.NewSession(ctx, &smtp.Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr(peer), uint16(1024+i))})
		if reply != nil {
			w.t.Fatal(reply)
		}
		s.Close()
	}
}
