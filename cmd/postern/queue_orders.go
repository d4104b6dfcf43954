package main

import (
	"context"
	"fmt"
	"strings"

	"postern.dev/postern/internal/app"
)

// queueOrder gives an order: suspend, resume or rebind. It is exit 1 where it changes
// nothing.
func queueOrder(ctx context.Context, e *env, c *app.Client, action string, o app.QueueOrder, asJSON bool) error {
	if action == "rebind" {
		return queueRebind(ctx, e, c, o, asJSON)
	}
	var out []app.OrderView
	if err := remote(c.Post(ctx, "/queue/"+action, o, &out)); err != nil {
		return err
	}
	for i := range out {
		if asJSON {
			if err := printJSON(e, out[i]); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(e.stdout, "%s: order %s, %s\n", action, out[i].Order, out[i].Scope)
		printShared(e, &out[i])
	}
	return nil
}

// printShared tells which site a domain was taken for, and who else is there.
func printShared(e *env, o *app.OrderView) {
	switch {
	case o.Named == "":
	case o.SharedInAll == 0:
		fmt.Fprintf(e.stdout, "%s goes to site %s, and no other domain that the queue knows does\n", o.Named, o.Site)
	default:
		more := ""
		if n := o.SharedInAll - len(o.Shared); n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(e.stdout, "%s goes to site %s, which it shares with %s%s; -domain %s is this domain alone\n", o.Named, o.Site, strings.Join(o.Shared, ", "), more, o.Named)
	}
}

func queueRebind(ctx context.Context, e *env, c *app.Client, o app.QueueOrder, asJSON bool) error {
	if o.To == "" {
		return usagef("queue rebind needs a pool: -to NAME")
	}
	var done app.Done
	if err := remote(c.Post(ctx, "/queue/rebind", o, &done)); err != nil {
		return err
	}
	if asJSON {
		if err := printJSON(e, done); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "rebind to pool %s: %s\n", o.To, count(done.Changed, "recipient"))
	}
	if done.Changed == 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// queueOrders lists the suspensions in force.
func queueOrders(ctx context.Context, e *env, c *app.Client, asJSON bool) error {
	var out []app.OrderView
	if err := remote(c.Get(ctx, "/queue/orders", nil, &out)); err != nil {
		return err
	}
	if len(out) == 0 && !asJSON {
		fmt.Fprintln(e.stdout, "nothing is suspended")
		return nil
	}
	w := table(e)
	if !asJSON {
		fmt.Fprintln(w, "ORDER\tSUSPENDED\tFROM\tUNTIL\tBY\tNOTE")
	}
	for i := range out {
		o := &out[i]
		if asJSON {
			if err := printJSON(e, o); err != nil {
				return err
			}
			continue
		}
		end := "-"
		if !o.Until.IsZero() {
			end = stampTime(o.Until)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", o.Order, o.Scope, stampTime(o.From), end, dash(o.By), dash(printable(o.Note)))
	}
	return w.Flush()
}

// queueSites lists the sites that have something ready, or connections.
func queueSites(ctx context.Context, e *env, c *app.Client, asJSON bool) error {
	var out []app.SiteView
	if err := remote(c.Get(ctx, "/queue/sites", nil, &out)); err != nil {
		return err
	}
	if len(out) == 0 && !asJSON {
		fmt.Fprintln(e.stdout, "nothing is ready")
		return nil
	}
	w := table(e)
	if !asJSON {
		fmt.Fprintln(w, "SITE\tPROVIDER\tPOOL\tREADY\tSUSPENDED\tCONNECTIONS\tNOT BEFORE\tLAST FAILURE")
	}
	for i := range out {
		s := &out[i]
		if asJSON {
			if err := printJSON(e, s); err != nil {
				return err
			}
			continue
		}
		until := "-"
		if !s.Until.IsZero() {
			until = stampTime(s.Until)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", s.Site, dash(s.Provider), dash(s.Pool), s.Ready, s.Suspended, s.Connections, until, dash(printable(s.Last)))
	}
	return w.Flush()
}
