package ledger_test

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/ledger"
)

// TestImpactCountsEveryWay: each breakdown sums up to the whole, hour by hour, and what
// went by another path, or was held twice, counts nowhere or once.
func TestImpactCountsEveryWay(t *testing.T) {
	l := openOn(t, vfs.NewMem())
	defer l.Close()
	p := ledger.Path{Listener: "internet", Filter: "aol", Origin: "stranger"}
	customers := ledger.Path{Listener: "injection", Filter: "aol", Origin: "customer"}
	var log [][]byte
	add := func(e ledger.Event) { log = append(log, ledger.Encode(e)) }
	hours, sources, domains := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range 50 {
		h := &ledger.HandedOff{Time: epoch.Add(time.Duration(i) * 7 * time.Minute), ID: id(i / 2), Recipient: i % 2, Address: fmt.Sprintf("V%d@aol.com", i%20), Domain: []string{"aol.com", "aim.com", "aol.com"}[i%3],
			Path: p, Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(i % 4)})}
		add(h)
		hours[h.Time.Format("2006-01-02T15")]++
		sources[h.Source.String()]++
		domains[h.Domain]++
		other := *h
		other.Path, other.ID = customers, id(1000+i)
		add(&other)
	}
	for _, path := range []ledger.Path{p, p, customers} { // held, let go and held again
		add(&ledger.Held{Time: epoch, ID: id(700), Recipient: 0, Path: path, Reason: "incident"})
	}
	add(&ledger.Held{Time: epoch, ID: id(700), Recipient: 1, Path: p, Reason: "incident"})
	add(&ledger.Bounced{Time: epoch, ID: id(701), Path: p})
	add(&ledger.Bounced{Time: epoch, ID: id(702), Path: customers})
	add(&ledger.GuardTripped{Time: epoch, ID: id(703), Path: p})
	if err := l.Apply(uint64(len(log)), log); err != nil {
		t.Fatal(err)
	}
	im, err := l.Impact(ctx, p, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if im.HandedOff != 50 || im.Messages != 25 || im.Recipients != 20 || im.Held != 2 || im.Bounced != 1 || im.Guard != 1 || !im.First.Equal(epoch) || !im.Last.Equal(epoch.Add(49*7*time.Minute)) {
		t.Errorf("got %+v", im)
	}
	for _, c := range []struct {
		name string
		got  []ledger.Count
		want map[string]int
	}{{"destination", im.Domains, domains}, {"source", im.Sources, sources}, {"hour", im.Hours, hours}, {"filter", im.Filters, map[string]int{"aol": 50}}} {
		got := map[string]int{}
		for _, n := range c.got {
			got[n.Name] += n.Count
		}
		if !maps.Equal(got, c.want) || len(c.got) != len(c.want) {
			t.Errorf("by %s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if part, err := l.Impact(ctx, p, epoch.Add(time.Hour), epoch.Add(2*time.Hour)); err != nil || part.HandedOff != hours["2008-06-01T13"] {
		t.Errorf("the second hour: %+v, %v", part, err)
	}
}
