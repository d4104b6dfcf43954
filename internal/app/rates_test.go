package app

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
)

// TestRates: mail of a stranger that goes to a host outside is told of; to an inside host,
// to a sink, and what a former run has done, is not.
func TestRates(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var text strings.Builder
	a := &App{started: at, metrics: newMetrics(), log: slog.New(slog.NewTextHandler(&text, nil))}
	a.current.Store(&generation{routing: &queue.Routing{Inside: map[string]netip.AddrPort{"desk": netip.MustParseAddrPort("10.9.0.7:25")}}, sink: func(r string) bool { return r == "archive@x.example" }})
	w := newRates(a)
	event := func(when time.Time, peer, to string) {
		w.event(ledger.Encode(&ledger.HandedOff{Time: when, Address: to, Domain: "x.example", Peer: netip.MustParseAddrPort(peer), Path: ledger.Path{Listener: "internet", Origin: "stranger"}}))
	}
	event(at.Add(-time.Hour), "192.0.2.1:25", "victim@x.example")
	event(at, "10.9.0.7:25", "desk@x.example")
	event(at, "192.0.2.1:25", "archive@x.example")
	w.event(ledger.Encode(&ledger.PolicyLoaded{Time: at}))
	w.event([]byte{byte(ledger.KindHandedOff), 0xff})
	w.tell(at)
	if text.Len() > 0 {
		t.Fatalf("told of %s", text.String())
	}
	event(at, "192.0.2.1:25", "victim@x.example")
	w.tell(at.Add(time.Minute))
	if strings.Count(text.String(), "kind=emitted") != 1 {
		t.Errorf("told of %s", text.String())
	}
	counted := 0.0
	families, err := a.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "postern_rate_alarms_total" {
			counted = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if counted != 1 {
		t.Errorf("%v alarms are counted", counted)
	}
}
