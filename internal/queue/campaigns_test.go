package queue

import (
	"fmt"
	"runtime"
	"testing"

	"postern.dev/postern/internal/spool"
)

// BenchmarkCampaigns tells what one campaign costs whose mail is ready at one site: the
// flow, its lane and its place in the turns.
func BenchmarkCampaigns(b *testing.B) {
	q := &Queue{}
	rq := &ready{site: &site{}, lanes: map[*flow]*lane{}, heap: -1}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range b.N {
		m := &spool.Message{Customer: fmt.Sprint("customer", i%1000), Campaign: fmt.Sprintf("campaign-of-spring-%d", i)}
		f := q.flows.take(keyOf(m, &spool.Recipient{Pool: "general"}))
		ln := q.laneOf(rq, f)
		ln.n++
		rq.count(ln, 1)
		rq.enter(ln)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "B/campaign")
	runtime.KeepAlive(q)
	runtime.KeepAlive(rq)
}

// TestCampaignsBeyondTheBound share the turn of their customer, and are counted.
func TestCampaignsBeyondTheBound(t *testing.T) {
	q := &Queue{}
	take := func(customer, campaign string) *flow {
		return q.flows.take(keyOf(&spool.Message{Customer: customer, Campaign: campaign}, &spool.Recipient{Pool: "general"}))
	}
	q.flows.campaigns = maxCampaigns - 1 // as if so many were there
	own := take("acme", "last")
	if one, two := take("acme", "beyond"), take("acme", "far beyond"); own.campaign != "last" || one != two || one.campaign != "" || one == take("globex", "beyond") {
		t.Errorf("%+v, %+v, %+v", own, one, two)
	}
	if again := take("acme", "last"); again != own {
		t.Error("a campaign that is told apart is not any more")
	}
	if now, shared := q.Campaigns(); now != maxCampaigns || shared != 3 {
		t.Errorf("%d campaigns, %d recipients share a turn", now, shared)
	}
	q.flows.give(own.number)
	q.flows.give(own.number)
	if free := take("acme", "beyond"); free.campaign != "beyond" {
		t.Errorf("there is room again: %+v", free)
	}
}
