package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/verify"
)

const watchHelp = `With a configuration it follows the logs of its watch blocks until SIGINT or SIGTERM, reads
the reports of its intakes, and gives verdicts, as serve does; it opens no listener and
sends no mail. The other commands ask it like any node.

With -once it reads FILES... to their ends, logs and saved reports alike, and sums up:
messages, hand-offs, customers, the time they span, complaints and their verdicts. What a
file is, it finds out; compressed ones (.gz, .zst) are read too. Nothing is kept. -config
says which addresses, customers and providers are ours. Exit status with -once: 1 a
report was leaked or bypassed, 2 a file cannot be read.`

func runWatch(ctx context.Context, e *env, args []string) error {
	f := flags("watch")
	once := f.Bool("once", false, "read the files to their ends and sum up")
	asJSON := f.Bool("json", false, "with -once: print JSON")
	cfg := f.String("config", "", "with -once: whose mail is whose, by a configuration (`FILE|DIR`)")
	format := f.String("format", "", "with -once: the `FORMAT` of the logs, where it cannot be told")
	customer := f.String("customer", "", "with -once: the `FIELD` of the log that names the customer")
	zone := f.String("timezone", "UTC", "with -once: the `ZONE` of times that have none")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if *once {
		if len(rest) == 0 {
			return &exitError{code: exitUsage, text: "watch -once needs files", hint: "postern help watch"}
		}
		o := onceOptions{config: *cfg, format: *format, customer: *customer, zone: *zone, json: *asJSON}
		return watchOnce(ctx, e, &o, rest)
	}
	file, err := oneFile("watch", rest)
	if err != nil {
		return err
	}
	return watchAlong(ctx, e, file)
}

// watchAlong runs a node that takes no mail.
func watchAlong(ctx context.Context, e *env, file string) error {
	late, err := within(app.DefaultBudget)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(e, file, true, late)
	if err != nil {
		return err
	}
	if len(cfg.Watches)+len(cfg.Intakes) == 0 {
		return &exitError{code: exitUsage, text: file + " has neither a watch nor an intake", hint: "docs/watch.md; postern watch -once FILES... reads logs without a configuration"}
	}
	log := logger(e.stderr, &cfg.Node)
	a, err := app.New(ctx, app.Options{Path: file, Config: cfg, Log: log, By: operator(), Budget: app.DefaultBudget, Late: late, NoMail: true})
	var refused *app.NotClosedError
	if errors.As(err, &refused) && refused.Outcome.Status == verify.Unknown {
		return &exitError{code: exitUsage, text: err.Error()}
	}
	if err != nil {
		return &exitError{code: exitNo, text: err.Error()}
	}
	if err := a.Start(ctx); err != nil {
		return &exitError{code: exitNo, text: err.Error()}
	}
	fmt.Fprintf(e.stdout, "ready: policy %s, %s, %s\n", cfg.Version, plural(len(cfg.Watches), "watch", "watches"), count(len(cfg.Intakes), "intake"))
	failed := untilStopped(ctx, a, log)
	stop, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := errors.Join(failed, a.Stop(stop)); err != nil {
		return &exitError{code: exitNo, text: err.Error()}
	}
	return nil
}

// zoneOf reads the name of a time zone.
func zoneOf(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, usagef("%q is not a time zone", name)
	}
	return loc, nil
}
