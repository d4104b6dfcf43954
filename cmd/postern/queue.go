package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"postern.dev/postern/internal/app"
)

func runQueue(ctx context.Context, e *env, args []string) error {
	f := flags("queue")
	asJSON := f.Bool("json", false, "print JSON, one object a line")
	var s app.QueueAction
	var o app.QueueOrder
	f.StringVar(&s.ID, "id", "", "choose by message `ID`")
	f.StringVar(&s.Domain, "domain", "", "choose by the recipient's `DOMAIN`")
	f.StringVar(&s.Pool, "pool", "", "choose by pool `NAME`")
	f.StringVar(&s.Customer, "customer", "", "choose by customer `NAME`")
	f.StringVar(&s.Incident, "incident", "", "choose what an incident's containment holds, by its `ID`")
	f.StringVar(&s.State, "state", "", "choose by `STATE`: pending or held")
	f.StringVar(&s.Site, "site", "", "choose by `SITE`, as queue sites has it; for orders, or a domain of it")
	f.StringVar(&s.Provider, "provider", "", "choose by provider `NAME`")
	f.StringVar(&s.Campaign, "campaign", "", "choose by campaign `NAME`")
	f.StringVar(&s.Held, "held", "", "choose what is held for a reason that begins with `TEXT`, as 'relay guard'")
	f.DurationVar(&o.For, "for", 0, "suspend for a `TIME`, as 2h; else until it is resumed")
	f.StringVar(&o.Source, "source", "", "suspend, resume: what goes out from this `ADDRESS` of ours")
	f.StringVar(&o.Order, "order", "", "resume this one: `ORDER`, as queue orders names it")
	f.StringVar(&o.To, "to", "", "rebind to pool `NAME`")
	f.StringVar(&s.Note, "note", "", "`TEXT` for the record: why")
	f.IntVar(&s.Limit, "limit", 0, "at most `N` recipients, oldest first")
	all := f.Bool("all", false, "hold, release, bounce, retry, drop, resume: everything")
	var t topOptions
	f.StringVar(&t.sort, "sort", "queued", "top: sort rows by `COLUMN`: queued, ready, out, deferred, last and so on")
	f.StringVar(&t.by, "by", "site", "top: a row is a `THING`: site or pool")
	f.DurationVar(&t.every, "every", time.Second, "top: `TIME` from picture to picture")
	f.IntVar(&t.count, "n", 0, "top: print `N` pictures, and no screen")
	f.IntVar(&t.rows, "rows", 0, "top: at most `N` rows")
	once := f.Bool("once", false, "top: print one picture, as -n 1")
	action, args, err := actionOf(f, args, []string{"ls", "show", "sites", "hold", "release", "bounce", "retry", "drop", "suspend", "resume", "rebind", "orders", "top"})
	if err != nil {
		return err
	}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if action == "show" && len(rest) == 2 {
		s.ID, rest = rest[0], rest[1:]
	}
	if action == "show" && s.ID == "" {
		return usagef("queue show takes a message and a configuration: postern queue show ID FILE")
	}
	file, err := oneFile("queue "+action, rest)
	if err != nil {
		return err
	}
	chosen := s.QueueSelect
	chosen.Limit = 0 // some of everything
	if err := queueChoice(action, chosen != (app.QueueSelect{}) || o.Order != "" || o.Source != "", *all); err != nil {
		return err
	}
	if o.Source != "" && action != "suspend" && action != "resume" {
		return usagef("queue %s knows no -source: what waits has none yet", action)
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	s.By = operator()
	switch action {
	case "ls":
		return queueList(ctx, e, c, s.QueueSelect, *asJSON)
	case "show":
		return queueShow(ctx, e, c, s.QueueSelect, *asJSON)
	case "sites":
		return queueSites(ctx, e, c, *asJSON)
	case "orders":
		return queueOrders(ctx, e, c, *asJSON)
	case "top":
		if t.json = *asJSON; *once {
			t.count = 1
		}
		return queueTop(ctx, e, c, t)
	case "suspend", "resume", "rebind":
		o.QueueSelect, o.All, o.By, o.Note = s.QueueSelect, *all, s.By, s.Note
		return queueOrder(ctx, e, c, action, o, *asJSON)
	}
	return queueAct(ctx, e, c, action, s, *asJSON)
}

// queueChoice makes sure that an act reaches what it is meant to reach. Suspending or
// rebinding everything is refused: it stops or moves all mail, and "all" is what one says
// by habit after hold or retry.
func queueChoice(action string, chosen, all bool) error {
	if slices.Contains([]string{"ls", "show", "sites", "orders", "top"}, action) {
		return nil
	}
	order := action == "suspend" || action == "rebind"
	how := "choose with -id, -site, -provider, -domain, -pool, -customer or -campaign"
	switch {
	case all && order:
		return &exitError{code: exitUsage, text: "queue " + action + " knows no -all", hint: how}
	case all && chosen:
		return &exitError{code: exitUsage, text: "queue " + action + ": -all, or what is chosen?", hint: "say one of them"}
	case !all && !chosen && order:
		return &exitError{code: exitUsage, text: "queue " + action + " of everything?", hint: how}
	case !all && !chosen:
		return &exitError{code: exitUsage, text: "queue " + action + " of everything?", hint: how + ", -incident, -state or -held, or say -all"}
	}
	return nil
}

// queueAct acts on what is chosen. It is exit 1 where that is nothing.
func queueAct(ctx context.Context, e *env, c *app.Client, action string, s app.QueueAction, asJSON bool) error {
	var done app.Done
	if err := remote(c.Post(ctx, "/queue/"+action, s, &done)); err != nil {
		return err
	}
	if asJSON {
		if err := printJSON(e, done); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "%s: %s\n", action, count(done.Changed, "recipient"))
	}
	if done.Changed == 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// queueShow prints every recipient of one message that is not done with.
func queueShow(ctx context.Context, e *env, c *app.Client, s app.QueueSelect, asJSON bool) error {
	var rows []app.QueueRow
	if err := remote(c.Get(ctx, "/queue", url.Values{"id": {s.ID}}, &rows)); err != nil {
		return err
	}
	if len(rows) == 0 {
		return &exitError{code: exitNo, text: fmt.Sprintf("message %s is not in the queue", s.ID), hint: "postern trace -id " + s.ID + " tells what became of it"}
	}
	for i := range rows {
		r := &rows[i]
		if asJSON {
			if err := printJSON(e, r); err != nil {
				return err
			}
			continue
		}
		w := table(e)
		if i == 0 {
			fmt.Fprintf(w, "message\t%s\naccepted\t%s, origin %s, customer %s\nsender\t<%s>\n", r.ID, stampTime(r.Accepted), r.Origin, dash(r.Customer), r.Sender)
		}
		fmt.Fprintf(w, "recipient %d\t<%s> %s by filter %s, pool %s\n", r.Recipient, r.Address, r.State, filterName(r.Filter), dash(r.Pool))
		if i == 0 && (r.Campaign != "" || r.Priority != "normal") {
			fmt.Fprintf(w, "campaign\t%s, priority %s\n", dash(r.Campaign), r.Priority)
		}
		if r.Site != "" {
			fmt.Fprintf(w, "\tsite %s\n", r.Site)
		}
		fmt.Fprintf(w, "\t%s, next %s\n", count(r.Attempts, "attempt"), stampTime(r.Next))
		if r.Reason != "" {
			fmt.Fprintf(w, "\t%s\n", printable(r.Reason))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func queueList(ctx context.Context, e *env, c *app.Client, s app.QueueSelect, asJSON bool) error {
	q := url.Values{}
	for k, v := range map[string]string{"id": s.ID, "domain": s.Domain, "pool": s.Pool, "customer": s.Customer, "incident": s.Incident, "state": s.State,
		"site": s.Site, "provider": s.Provider, "campaign": s.Campaign, "held": s.Held} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if s.Limit > 0 {
		q.Set("limit", fmt.Sprint(s.Limit))
	}
	var rows []app.QueueRow
	if err := remote(c.Get(ctx, "/queue", q, &rows)); err != nil {
		return err
	}
	if asJSON {
		for i := range rows {
			if err := printJSON(e, rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		fmt.Fprintln(e.stdout, "nothing waits")
		return nil
	}
	w := table(e)
	fmt.Fprintln(w, "MESSAGE\tRECIPIENT\tORIGIN\tPOOL\tSTATE\tATTEMPTS\tNEXT\tREASON")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, r.Address, r.Origin, dash(r.Pool), r.State, r.Attempts, stampTime(r.Next), dash(printable(r.Reason)))
	}
	return w.Flush()
}

// printable keeps a peer's words from acting on the terminal.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			out[i] = '?'
		}
	}
	return string(out)
}
