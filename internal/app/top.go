package app

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/queue"
)

type (
	// TopRates are recipients a second, over the last ten seconds.
	TopRates struct {
		In       float64 `json:"in"` // that came; of a site, that became ready for the first time
		Out      float64 `json:"out"`
		Deferred float64 `json:"deferred"`
		Failed   float64 `json:"failed"`
	}

	// TopRow is one site, or one pool.
	TopRow struct {
		Name        string    `json:"name"`
		Provider    string    `json:"provider,omitempty"`
		Pools       []string  `json:"pools,omitempty"`
		Queued      int       `json:"queued"` // recipients that are not done with, held ones among them
		Ready       int       `json:"ready"`
		Suspended   int       `json:"suspended"`
		Connections int       `json:"connections"`
		Idle        int       `json:"idle"`
		Rates       TopRates  `json:"per_second"`
		Until       time.Time `json:"until,omitzero"` // nothing is tried before
		Last        string    `json:"last,omitempty"` // the latest reply that was no success
		LastAt      time.Time `json:"last_at,omitzero"`
	}

	// TopTotals are recipients since the start.
	TopTotals struct {
		In       uint64 `json:"in"`
		Out      uint64 `json:"out"`
		Deferred uint64 `json:"deferred"`
		Failed   uint64 `json:"failed"`
	}

	// TopView is the queue at one moment.
	TopView struct {
		Time        time.Time `json:"time"`
		Hostname    string    `json:"hostname"`
		Waiting     int       `json:"waiting"`
		Held        int       `json:"held"`
		Ready       int       `json:"ready"`
		Suspended   int       `json:"suspended"`
		Connections int       `json:"connections"`
		Rates       TopRates  `json:"per_second"`
		Totals      TopTotals `json:"since_start"`
		Sites       []TopRow  `json:"sites"`
		SitesInAll  int       `json:"sites_in_all"` // more than Sites has where a limit was asked for
		Pools       []TopRow  `json:"pools"`
		PoolsInAll  int       `json:"pools_in_all"`
	}
)

// topOrders are what rows can be sorted by, the largest first but for the name.
var topOrders = []struct {
	name string
	less func(a, b *TopRow) int
}{
	{"queued", func(a, b *TopRow) int { return cmp.Compare(b.Queued, a.Queued) }},
	{"ready", func(a, b *TopRow) int { return cmp.Compare(b.Ready, a.Ready) }},
	{"suspended", func(a, b *TopRow) int { return cmp.Compare(b.Suspended, a.Suspended) }},
	{"connections", func(a, b *TopRow) int { return cmp.Compare(b.Connections, a.Connections) }},
	{"in", func(a, b *TopRow) int { return cmp.Compare(b.Rates.In, a.Rates.In) }},
	{"out", func(a, b *TopRow) int { return cmp.Compare(b.Rates.Out, a.Rates.Out) }},
	{"deferred", func(a, b *TopRow) int { return cmp.Compare(b.Rates.Deferred, a.Rates.Deferred) }},
	{"failed", func(a, b *TopRow) int { return cmp.Compare(b.Rates.Failed, a.Rates.Failed) }},
	{"last", func(a, b *TopRow) int { return b.LastAt.Compare(a.LastAt) }},
	{"name", func(a, b *TopRow) int { return cmp.Compare(a.Name, b.Name) }},
}

// TopOrders names what the rows of Top can be sorted by.
func TopOrders() (names []string) {
	for _, o := range topOrders {
		names = append(names, o.name)
	}
	return names
}

// queueTop gives the queue at this moment: the rows that come first by one order.
func (a *App) queueTop(r *http.Request) (any, error) {
	q := r.URL.Query()
	by := cmp.Or(q.Get("sort"), topOrders[0].name)
	i := slices.Index(TopOrders(), by)
	if i < 0 {
		return nil, fmt.Errorf("sort by %q: it is one of %s", by, strings.Join(TopOrders(), ", "))
	}
	limit := 0
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("limit %q is not a number of rows", s)
		}
		limit = n
	}
	t := a.queue.Top()
	v := &TopView{Time: t.Time, Hostname: a.now().cfg.Node.Hostname, Waiting: t.Waiting, Held: t.Held, Ready: t.Ready, Suspended: t.Suspended,
		Connections: t.Connections, Rates: TopRates(t.Rates), Totals: TopTotals{t.In, t.Out, t.Deferred, t.Failed}}
	v.Sites, v.SitesInAll = topRows(t.Sites, topOrders[i].less, limit)
	v.Pools, v.PoolsInAll = topRows(t.Pools, topOrders[i].less, limit)
	return v, nil
}

func topRows(rows []queue.TopRow, less func(a, b *TopRow) int, limit int) (out []TopRow, all int) {
	out = make([]TopRow, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		out = append(out, TopRow{Name: r.Name, Provider: r.Provider, Pools: r.Pools, Queued: r.Queued, Ready: r.Ready, Suspended: r.Suspended,
			Connections: r.Connections, Idle: r.Idle, Rates: TopRates(r.Rates), Until: r.Until, Last: safe(r.Last), LastAt: r.LastAt})
	}
	slices.SortStableFunc(out, func(a, b TopRow) int { return less(&a, &b) })
	all = len(out)
	if limit > 0 && all > limit {
		out = out[:limit]
	}
	return out, all
}
