package main

import (
	"flag"
	"time"

	"postern.dev/postern/internal/app"
)

// budgetFlag is the flag for how long reading and proving may take.
func budgetFlag(f *flag.FlagSet) *time.Duration {
	return f.Duration("budget", app.DefaultBudget, "the `TIME` that it may take; what is not settled then is unknown (0: no limit)")
}

// within reports whether a budget that begins now is spent.
func within(budget time.Duration) (func() bool, error) {
	if budget < 0 {
		return nil, usagef("-budget is a time such as 60s")
	}
	return app.Late(budget), nil
}
