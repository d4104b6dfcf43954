package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
)

// incidentFlags are the flags of all incident actions.
type incidentFlags struct {
	json, all, falseAlarm, mail, drop bool
	note, source, pool                string
}

func runIncident(ctx context.Context, e *env, args []string) error {
	f := flags("incident")
	var o incidentFlags
	f.BoolVar(&o.json, "json", false, "print JSON, one object a line (not advisory)")
	f.BoolVar(&o.all, "all", false, "ls: closed ones too")
	f.BoolVar(&o.falseAlarm, "false-alarm", false, "close: it was none")
	f.BoolVar(&o.mail, "mail", false, "release: what it holds goes on")
	f.BoolVar(&o.drop, "drop", false, "release: what it holds is discarded")
	f.StringVar(&o.note, "note", "", "`TEXT` for the record: why")
	f.StringVar(&o.source, "source", "", "contain: what comes from these addresses (`CIDR`)")
	f.StringVar(&o.pool, "pool", "", "contain: what leaves by this pool (`NAME`)")
	action, args, err := actionOf(f, args, []string{"ls", "show", "contain", "release", "repaired", "close", "advisory"})
	if err != nil {
		return err
	}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if o.mail && o.drop {
		return usagef("incident: -mail and -drop exclude each other")
	}
	id := ""
	if action != "ls" {
		if len(rest) != 2 {
			return usagef("incident %[1]s takes an incident and a configuration: postern incident %[1]s INC-... FILE", action)
		}
		id, rest = rest[0], rest[1:]
	}
	file, err := oneFile("incident "+action, rest)
	if err != nil {
		return err
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	switch action {
	case "ls":
		return incidentList(ctx, e, c, o)
	case "show":
		return incidentShow(ctx, e, c, id, o)
	case "advisory":
		var text []byte
		if err := remote(c.Get(ctx, "/incidents/"+id+"/advisory", nil, &text)); err != nil {
			return err
		}
		_, err := e.stdout.Write(text)
		return err
	}
	return incidentAct(ctx, e, c, action, id, o)
}

func incidentList(ctx context.Context, e *env, c *app.Client, o incidentFlags) error {
	path := "/incidents"
	if o.all {
		path += "?all=1"
	}
	var rows []app.IncidentView
	if err := remote(c.Get(ctx, path, nil, &rows)); err != nil {
		return err
	}
	if o.json {
		for i := range rows {
			if err := printJSON(e, rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		if o.all {
			fmt.Fprintln(e.stdout, "there has been no incident")
		} else {
			fmt.Fprintln(e.stdout, "no incident is open")
		}
		return nil
	}
	w := table(e)
	fmt.Fprintln(w, "INCIDENT\tSTATE\tTRIGGER\tLISTENER\tFILTER\tORIGIN\tPEER\tOPENED\tREPORTS")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.ID, r.State, r.Trigger, dash(r.Path.Listener), filterName(r.Path.Filter), dash(r.Path.Origin), addr(r.Peer), stampTime(r.Opened), r.Reports)
	}
	return w.Flush()
}

// filterName shows the default decision by name.
func filterName(s string) string {
	if s == "" {
		return "(default)"
	}
	return s
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

func incidentShow(ctx context.Context, e *env, c *app.Client, id string, o incidentFlags) error {
	var v app.IncidentView
	if err := remote(c.Get(ctx, "/incidents/"+id, nil, &v)); err != nil {
		return err
	}
	if o.json {
		return printJSON(e, v)
	}
	w := table(e)
	fmt.Fprintf(w, "incident\t%s, %s\nopened\t%s by %s\n", v.ID, v.State, stampTime(v.Opened), v.Trigger)
	fmt.Fprintf(w, "path\tlistener %s, filter %s, origin %s\npeer\t%s\npolicy\t%s\npool\t%s from %s\nmessage\t%s\nreports\t%d\n",
		dash(v.Path.Listener), filterName(v.Path.Filter), dash(v.Path.Origin), addr(v.Peer), v.Policy, dash(v.Pool), addr(v.Source), dash(v.Message), v.Reports)
	for _, h := range v.Contain {
		fmt.Fprintf(w, "contained\t%s\n", containment(h))
	}
	fmt.Fprintf(w, "holds\t%s\n", count(v.Held, "recipient"))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range v.Timeline {
		fmt.Fprintln(e.stdout, "  "+line)
	}
	return nil
}

func containment(c ledger.Containment) string {
	var parts []string
	if c.Path != nil {
		parts = append(parts, fmt.Sprintf("what comes in by listener %s, filter %s, of origin %s", c.Path.Listener, filterName(c.Path.Filter), c.Path.Origin))
	}
	if c.Source.IsValid() {
		parts = append(parts, "what comes from "+c.Source.String())
	}
	if c.Pool != "" {
		parts = append(parts, "what leaves by pool "+c.Pool)
	}
	return strings.Join(parts, ", ")
}

func incidentAct(ctx context.Context, e *env, c *app.Client, action, id string, o incidentFlags) error {
	a := app.IncidentAction{By: operator(), Note: o.note, Release: o.mail, Drop: o.drop}
	if o.falseAlarm {
		a.Outcome = "false-alarm"
	}
	if o.source != "" {
		p, err := policy.ParsePrefix(o.source)
		if err != nil {
			return usagef("-source: %v", err)
		}
		a.Contain = append(a.Contain, ledger.Containment{Source: p})
	}
	if o.pool != "" {
		a.Contain = append(a.Contain, ledger.Containment{Pool: o.pool})
	}
	var v app.IncidentView
	if err := remote(c.Post(ctx, "/incidents/"+id+"/"+action, a, &v)); err != nil {
		return err
	}
	if o.json {
		return printJSON(e, v)
	}
	switch {
	case action == "contain":
		fmt.Fprintf(e.stdout, "%s is %s:\n", v.ID, v.State)
		for _, h := range v.Contain {
			fmt.Fprintf(e.stdout, "  %s is held\n", containment(h))
		}
	case action == "release":
		fmt.Fprintf(e.stdout, "%s contains nothing more; it is %s\n", v.ID, v.State)
		if v.Held > 0 {
			fmt.Fprintf(e.stderr, "hint: %s still held: postern incident release -mail or -drop %s\n", plural(v.Held, "recipient is", "recipients are"), v.ID)
		}
	default:
		fmt.Fprintf(e.stdout, "%s is %s\n", v.ID, v.State)
	}
	return nil
}

func runImpact(ctx context.Context, e *env, args []string) error {
	f := flags("impact")
	asJSON := f.Bool("json", false, "print one JSON object")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return usagef("impact takes an incident and a configuration: postern impact INC-... FILE")
	}
	c, err := node(e, rest[1])
	if err != nil {
		return err
	}
	var im ledger.Impact
	if err := remote(c.Get(ctx, "/incidents/"+rest[0]+"/impact", nil, &im)); err != nil {
		return err
	}
	if *asJSON {
		return printJSON(e, im)
	}
	return printImpact(e, rest[0], &im)
}
