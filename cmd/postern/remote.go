package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
)

// node finds the admin socket of the node that a configuration describes.
func node(e *env, path string) (*app.Client, error) {
	cfg, diags := config.Load(path, config.Options{AnyDay: true})
	if diags.HasErrors() {
		diags.Write(e.stderr, isTerminal(e.stderr))
		return nil, &exitError{code: exitUsage, text: fmt.Sprintf("%s does not load: %s", path, diags.Count())}
	}
	return app.NewClient(cfg.Node.Socket), nil
}

// operator names who is at the keyboard, for the record.
func operator() string {
	if s := os.Getenv("SUDO_USER"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// remote puts a node's refusal into an exit status.
func remote(err error) error {
	var r *app.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, app.ErrNotRunning):
		return &exitError{code: exitUsage, text: err.Error(), hint: "start it with postern serve FILE"}
	case errors.As(err, &r) && r.Status == 404:
		return &exitError{code: exitNo, text: r.Error(), hint: r.Hint}
	case errors.As(err, &r):
		return &exitError{code: exitUsage, text: r.Error(), hint: r.Hint}
	}
	return err
}

// oneFile takes the single configuration argument that stands last.
func oneFile(name string, args []string) (string, error) {
	if len(args) != 1 {
		return "", &exitError{code: exitUsage, text: fmt.Sprintf("%s takes one configuration file or folder", name), hint: "postern help " + strings.Fields(name)[0]}
	}
	return args[0], nil
}

// printJSON writes one object a line.
func printJSON(e *env, v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false) // it is read by jq and by people, not in a page
	return enc.Encode(v)
}

// count says how many of something there are.
func count(n int, one string) string { return plural(n, one, one+"s") }

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// table aligns columns.
func table(e *env) *tabwriter.Writer { return tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0) }

// stamp prints a time for people; the zero time is "-".
func stampTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// dash stands for nothing in a table.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func runStatus(ctx context.Context, e *env, args []string) error {
	f := flags("status")
	asJSON := f.Bool("json", false, "print one JSON object")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	file, err := oneFile("status", rest)
	if err != nil {
		return err
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	var s app.Status
	if err := remote(c.Get(ctx, "/status", nil, &s)); err != nil {
		return err
	}
	if *asJSON {
		return printJSON(e, s)
	}
	w := table(e)
	fmt.Fprintf(w, "node\t%s\nversion\t%s\nup since\t%s\npolicy\t%s, %s, guard %s\n", s.Hostname, s.Version, stampTime(s.Started), s.Policy, count(s.Filters, "filter"), s.Guard)
	waived := ""
	if s.Waived > 0 {
		waived = fmt.Sprintf(", %s waived", count(s.Waived, "finding"))
	}
	fmt.Fprintf(w, "proof\t%s%s\n", s.Proof, waived)
	fmt.Fprintf(w, "listeners\t%s\nqueue\t%d waiting, %d held\nincidents\t%d open\n", strings.Join(s.Listeners, ", "), s.Waiting, s.Held, s.Incidents)
	for _, l := range s.LogFiles {
		fmt.Fprintf(w, "log file\t%s: %s, %s, %s\n", l.Name, l.Path, count(int(l.Events), "event"), logState(&l))
	}
	for i := range s.Watches {
		x := &s.Watches[i]
		fmt.Fprintf(w, "watch\t%s: %s, %s, %s, %s\n", x.Name, x.Format, count(int(x.Lines), "line"), count(int(x.Rows), "row"), watchState(x))
	}
	for _, text := range s.Warnings {
		fmt.Fprintf(w, "warning\t%s\n", text)
	}
	return w.Flush()
}

// watchState says in words how a watch fares.
func watchState(x *app.WatchStatus) string {
	switch {
	case x.Error != "":
		return printable(x.Error)
	case x.Complete.IsZero():
		return "reading"
	case x.Unreadable > 0:
		return fmt.Sprintf("%d unreadable", x.Unreadable)
	}
	return "up to date as of " + stampTime(x.Complete)
}

// logState says in words how a log file fares.
func logState(l *app.LogStatus) string {
	state := "up to date"
	if l.Behind > 0 {
		state = fmt.Sprintf("%d octets behind", l.Behind)
	}
	if l.Gaps > 0 {
		state += ", " + count(l.Gaps, "gap")
	}
	if l.Error != "" {
		state += ", failing: " + l.Error
	}
	return state
}

func runHealth(ctx context.Context, e *env, args []string) error {
	rest, err := parse(flags("health"), args)
	if err != nil {
		return err
	}
	file, err := oneFile("health", rest)
	if err != nil {
		return err
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	var said []byte
	if err := remote(c.Get(ctx, "/readyz", nil, &said)); err != nil {
		return err
	}
	_, err = e.stdout.Write(said)
	return err
}

func runReload(ctx context.Context, e *env, args []string) error {
	f := flags("reload")
	reason := f.String("reason", "", "`TEXT` for the record: why")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	file, err := oneFile("reload", rest)
	if err != nil {
		return err
	}
	c, err := node(e, file) // also prints what is wrong with the file, where the user sits
	if err != nil {
		return err
	}
	var out app.Reloaded
	full, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if err := remote(c.Post(ctx, "/reload", app.ReloadRequest{By: operator(), Reason: *reason, File: full}, &out)); err != nil {
		return err
	}
	for _, d := range out.Diagnostics {
		fmt.Fprintln(e.stderr, d)
	}
	fmt.Fprintf(e.stdout, "policy %s is in force, %s\n", out.Policy, count(out.Filters, "filter"))
	return nil
}

func runTrace(ctx context.Context, e *env, args []string) error {
	f := flags("trace")
	asJSON := f.Bool("json", false, "print JSON, one object a line")
	id := f.String("id", "", "the message with this `ID` of ours")
	mid := f.String("message-id", "", "messages with this Message-ID `FIELD`")
	rcpt := f.String("recipient", "", "the latest messages to this `ADDRESS`")
	limit := f.Int("limit", 10, "at most `N` messages")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) == 2 && *id == "" { // postern trace ID FILE
		*id, rest = rest[0], rest[1:]
	}
	file, err := oneFile("trace", rest)
	if err != nil {
		return err
	}
	if *id == "" && *mid == "" && *rcpt == "" {
		return &exitError{code: exitUsage, text: "trace needs one of -id, -message-id, -recipient", hint: "postern help trace"}
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	q := url.Values{"limit": {fmt.Sprint(*limit)}}
	for k, v := range map[string]string{"id": *id, "message-id": *mid, "recipient": *rcpt} {
		if v != "" {
			q.Set(k, v)
		}
	}
	var traced []app.Traced
	if err := remote(c.Get(ctx, "/trace", q, &traced)); err != nil {
		return err
	}
	return printTraces(e, traced, *asJSON)
}

func printTraces(e *env, traced []app.Traced, asJSON bool) error {
	for i := range traced {
		if asJSON {
			if err := printJSON(e, traced[i]); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(e.stdout)
		}
		fmt.Fprintf(e.stdout, "message %s\n", traced[i].ID)
		for _, line := range traced[i].Text {
			fmt.Fprintln(e.stdout, "  "+line)
		}
	}
	return nil
}
