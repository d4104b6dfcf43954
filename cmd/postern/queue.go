package main

import (
	"context"
	"fmt"
	"net/url"

	"postern.dev/postern/internal/app"
)

func runQueue(ctx context.Context, e *env, args []string) error {
	if len(args) == 0 {
		return usagef("queue needs an action: ls, show, hold, release, bounce, retry, drop")
	}
	action, args := args[0], args[1:]
	f := flags("queue")
	asJSON := f.Bool("json", false, "")
	var s app.QueueAction
	f.StringVar(&s.ID, "id", "", "")
	f.StringVar(&s.Domain, "domain", "", "")
	f.StringVar(&s.Pool, "pool", "", "")
	f.StringVar(&s.Customer, "customer", "", "")
	f.StringVar(&s.Incident, "incident", "", "")
	f.StringVar(&s.State, "state", "", "")
	f.StringVar(&s.Note, "note", "", "")
	f.IntVar(&s.Limit, "limit", 0, "")
	all := f.Bool("all", false, "")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if action == "show" && len(rest) == 2 {
		s.ID, rest = rest[0], rest[1:]
	}
	file, err := oneFile("queue "+action, rest)
	if err != nil {
		return err
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	s.By = operator()
	switch action {
	case "ls", "show":
		return queueList(ctx, e, c, s.QueueSelect, *asJSON)
	case "hold", "release", "bounce", "retry", "drop":
		if s.QueueSelect == (app.QueueSelect{}) && !*all {
			return &exitError{code: exitUsage, text: "queue " + action + " of everything?", hint: "choose with -id, -domain, -pool, -customer, -incident or -state, or say -all"}
		}
		var done app.Done
		if err := remote(c.Post(ctx, "/queue/"+action, s, &done)); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(e, done)
		}
		fmt.Fprintf(e.stdout, "%s: %d recipients\n", action, done.Changed)
		return nil
	}
	return usagef("unknown queue action %q: ls, show, hold, release, bounce, retry, drop", action)
}

func queueList(ctx context.Context, e *env, c *app.Client, s app.QueueSelect, asJSON bool) error {
	q := url.Values{}
	for k, v := range map[string]string{"id": s.ID, "domain": s.Domain, "pool": s.Pool, "customer": s.Customer, "incident": s.Incident, "state": s.State} {
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
