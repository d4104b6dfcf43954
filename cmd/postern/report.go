package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// judged is one line of postern report -json.
type judged struct {
	File string `json:"file"`
	*report.Verdict
	Error string `json:"error,omitempty"`
}

func runReport(ctx context.Context, e *env, args []string) error {
	f := flags("report")
	asJSON := f.Bool("json", false, "print JSON, one object a line")
	cfg := f.String("config", "", "ask the ledger of the running node of this configuration (`FILE|DIR`)")
	x := exporting{format: f.String("format", "json", "export: the `FORM`: arf, xarf or json"), to: f.String("to", "abuse@receiver.invalid", "export as arf: the `ADDRESS` that it is for"),
		by: f.String("by", "postern.invalid", "export as xarf: the `DOMAIN` that sends it"), config: cfg}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 && rest[0] == "export" {
		return x.run(ctx, e, rest[1:])
	}
	if len(rest) == 0 {
		return &exitError{code: exitUsage, text: "report needs files of saved mail", hint: "postern help report"}
	}
	judge := offline
	if *cfg != "" {
		c, err := node(e, *cfg)
		if err != nil {
			return err
		}
		judge = func(ctx context.Context, raw []byte) (*report.Verdict, error) {
			var v report.Verdict
			return &v, remote(c.Post(ctx, "/judge", app.JudgeRequest{Raw: raw}, &v))
		}
	}
	bad, pages := false, false
	for _, name := range rest {
		j := judged{File: name}
		raw, err := os.ReadFile(name)
		if err == nil {
			j.Verdict, err = judge(ctx, raw)
		}
		if err != nil {
			j.Verdict, j.Error, bad = nil, strings.TrimPrefix(err.Error(), "open "+name+": "), true
		}
		if err := printJudged(e, &j, *asJSON); err != nil {
			return err
		}
		pages = pages || (j.Verdict != nil && (j.Kind == report.Leaked || j.Kind == report.Bypassed))
	}
	switch {
	case bad:
		return &exitError{code: exitUsage}
	case pages:
		return &exitError{code: exitNo}
	}
	return nil
}

func printJudged(e *env, j *judged, asJSON bool) error {
	if asJSON {
		return printJSON(e, j)
	}
	if j.Verdict == nil {
		fmt.Fprintf(e.stderr, "postern: %s: %s\n", j.File, j.Error)
		return nil
	}
	fmt.Fprintf(e.stdout, "%s: %s, grade %s\n  %s\n", j.File, j.Kind, j.Grade, printable(j.Reason))
	if j.Format != "" {
		fmt.Fprintf(e.stdout, "  says    %s\n", printable(says(j.Verdict)))
	}
	for _, k := range j.Keys {
		sign := "for"
		if !k.Supports {
			sign = "against"
		}
		fmt.Fprintf(e.stdout, "  %-7s %s %s\n", sign, k.Name, printable(k.Value))
	}
	return nil
}

// says tells what a report itself states.
func says(v *report.Verdict) string {
	out := v.Format
	if v.FeedbackType != "" {
		out += ", " + v.FeedbackType
	}
	if v.SourceIP.IsValid() {
		out += ", from " + v.SourceIP.String()
	}
	if !v.Arrived.IsZero() {
		out += ", arrived " + stampTime(v.Arrived)
	}
	return out
}

// offline reads without a ledger: it tells what is malformed from what can be judged,
// and what the report says, and nothing more.
func offline(ctx context.Context, raw []byte) (*report.Verdict, error) {
	ring, err := stamp.NewRing([]stamp.Key{{Secret: make([]byte, 32), Created: time.Unix(0, 0)}})
	if err != nil {
		return nil, err
	}
	nothing := emptyLedger{}
	j := report.New(report.Options{Rows: nothing, Index: nothing, Seen: nothing, Ring: func() *stamp.Ring { return ring }, Sources: func(netip.Addr) bool { return false }})
	v, err := j.Judge(ctx, report.Input{Raw: raw})
	if err != nil || v.Kind == report.Malformed {
		return v, err
	}
	v.Kind, v.Grade, v.Keys = report.Undecidable, report.GradeC, []report.Key{}
	v.Reason = "it can be read; whether we sent it only a ledger knows: name a running node's configuration with -config"
	return v, nil
}

// emptyLedger knows nothing.
type emptyLedger struct{}

func (emptyLedger) Accepted(context.Context, smtp.ID) (*ledger.Accepted, error) {
	return nil, ledger.ErrNotFound
}
func (emptyLedger) HandOffsOf(context.Context, smtp.ID, func(*ledger.HandedOff) bool) error {
	return nil
}
func (emptyLedger) ByMessageID(context.Context, string) ([]smtp.ID, error) { return nil, nil }
func (emptyLedger) ByDKIM(context.Context, uint64) ([]smtp.ID, error)      { return nil, nil }
func (emptyLedger) HandOffs(context.Context, ledger.HandOffQuery) ([]ledger.HandOff, error) {
	return nil, nil
}
func (emptyLedger) SeenReport(context.Context, string) (bool, error) { return false, nil }
func (emptyLedger) ReportsAbout(context.Context, smtp.ID, int) ([]ledger.Reported, error) {
	return nil, nil
}

func printImpact(e *env, id string, im *ledger.Impact) error {
	w := table(e)
	fmt.Fprintf(w, "incident\t%s\npath\tlistener %s, filter %s, origin %s\n", id, dash(im.Path.Listener), filterName(im.Path.Filter), dash(im.Path.Origin))
	fmt.Fprintf(w, "handed off\t%d recipients, %d different, of %d messages\n", im.HandedOff, im.Recipients, im.Messages)
	fmt.Fprintf(w, "bounced\t%d\nheld\t%d\nfirst\t%s\nlast\t%s\n", im.Bounced, im.Held, stampTime(im.First), stampTime(im.Last))
	for _, t := range []struct {
		title string
		rows  []ledger.Count
	}{{"destination", im.Domains}, {"filter", im.Filters}, {"source", im.Sources}, {"hour", im.Hours}} {
		for i, c := range t.rows {
			title := ""
			if i == 0 {
				title = "by " + t.title
			}
			fmt.Fprintf(w, "%s\t%6d  %s\n", title, c.Count, filterName(c.Name))
		}
	}
	return w.Flush()
}

func runKeys(_ context.Context, e *env, args []string) error {
	f := flags("keys")
	asJSON := f.Bool("json", false, "ls: print JSON, one object a line")
	action, args, err := actionOf(f, args, []string{"ls", "rotate"})
	if err != nil {
		return err
	}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	file, err := oneFile("keys "+action, rest)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(e, file, false, nil)
	if err != nil {
		return err
	}
	ring, err := app.LoadKeys(cfg.Node.Keys)
	if errors.Is(err, os.ErrNotExist) {
		return &exitError{code: exitNo, text: err.Error(), hint: "the first postern serve makes the first key"}
	}
	if err != nil {
		return err
	}
	if action == "ls" {
		return listKeys(e, ring.Keys(), *asJSON)
	}
	next, err := ring.Rotate(time.Now(), randomSource())
	if err != nil {
		return err
	}
	if err := app.WriteKeys(cfg.Node.Keys, next); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s has %s now; postern reload puts the new one into force\n", cfg.Node.Keys, count(len(next.Keys()), "key"))
	return nil
}

// listKeys shows the keys without their secrets.
func listKeys(e *env, keys []stamp.Key, asJSON bool) error {
	mints := -1 // the newest that is not retired, as in stamp.NewRing
	for i, k := range keys {
		if !k.Retired && (mints < 0 || !k.Created.Before(keys[mints].Created)) {
			mints = i
		}
	}
	w := table(e)
	if !asJSON {
		fmt.Fprintln(w, "KEY\tCREATED\tSTATE")
	}
	for i, k := range keys {
		state := "verifies"
		if i == mints {
			state = "mints"
		}
		if asJSON {
			if err := printJSON(e, struct {
				Key     uint8     `json:"key"`
				Created time.Time `json:"created"`
				State   string    `json:"state"`
			}{k.ID, k.Created, state}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", k.ID, stampTime(k.Created), state)
	}
	return w.Flush()
}
