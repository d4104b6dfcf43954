package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"sort"
	"strings"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/suppress"
)

const suppressHelp = `add     puts addresses on a list: postern suppress add ADDRESS... FILE
rm      takes them off
get     says whether and why an address is on a customer's list or on everybody's; with -all on
        any. Exit status 1: it is on none
ls      shows a list; -n bounds it
count   counts lists
import  reads FILE, or standard input for "-": one address a line, or comma-separated columns
        that the first line names (address, customer, reason, detail, created, expires), packed
        with gzip or not. Bad lines are passed over and told of by line and column
export  writes a list in that form to standard output
erase   forgets an address on all lists: a hash stays, so that it is not mailed; with -entirely
        that goes as well

Without -customer the list is everybody's. Every act stands in the ledger with who did it.`

// suppressFlags are what the actions share.
type suppressFlags struct {
	customer, reason, note, expires string
	asJSON, all, entirely, own      bool
	limit, maxBad                   int
}

func runSuppress(ctx context.Context, e *env, args []string) error {
	f := flags("suppress")
	var o suppressFlags
	f.BoolVar(&o.asJSON, "json", false, "print JSON, one object a line")
	f.StringVar(&o.customer, "customer", "", "the list of the customer of this `NAME`")
	f.BoolVar(&o.all, "all", false, "every list")
	f.StringVar(&o.reason, "reason", "", "`REASON`: hard-bounce, complaint, manual, unsubscribe")
	f.StringVar(&o.note, "note", "", "`TEXT` for the record: why")
	f.StringVar(&o.expires, "for", "", "a `TIME` such as 720h, after which the entry ends; without it, never")
	f.BoolVar(&o.entirely, "entirely", false, "erase the hash too: the address can be mailed again")
	f.BoolVar(&o.own, "own", false, "import: no line may name another customer than -customer")
	f.IntVar(&o.limit, "n", 100, "ls: at most `N` entries")
	f.IntVar(&o.maxBad, "max-bad", 10_000, "import: stop behind `N` bad lines; -1 never")
	action, args, err := actionOf(f, args, []string{"add", "rm", "get", "ls", "count", "import", "export", "erase"})
	if err != nil {
		return err
	}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	words, file, err := suppressWords(action, rest)
	if err != nil {
		return err
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	switch action {
	case "add", "rm", "erase":
		return suppressAct(ctx, e, c, action, words, &o)
	case "get", "ls":
		return suppressShow(ctx, e, c, action, words, &o)
	case "count":
		return suppressCount(ctx, e, c, &o)
	case "import":
		return suppressImport(ctx, e, c, words[0], &o)
	}
	return suppressExport(ctx, e, c, &o)
}

// suppressWords splits the arguments of an action from the configuration, which stands
// last.
func suppressWords(action string, rest []string) (words []string, file string, err error) {
	want, how := 0, "takes one configuration file or folder"
	switch action {
	case "add", "rm", "erase":
		want, how = -1, "takes addresses and a configuration: postern suppress "+action+" ADDRESS... FILE"
	case "get":
		want, how = 1, "takes an address and a configuration: postern suppress get ADDRESS FILE"
	case "import":
		want, how = 1, "takes a file of addresses and a configuration: postern suppress import LIST FILE"
	}
	n := len(rest) - 1
	if n < 0 || (want >= 0 && n != want) || (want < 0 && n < 1) {
		return nil, "", &exitError{code: exitUsage, text: "suppress " + action + " " + how, hint: "postern help suppress"}
	}
	return rest[:n], rest[n], nil
}

func (o *suppressFlags) until() (time.Time, error) {
	if o.expires == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(o.expires)
	if err != nil || d <= 0 {
		return time.Time{}, usagef("suppress: -for %q is not a time such as 720h", o.expires)
	}
	return time.Now().Add(d).UTC().Truncate(time.Second), nil
}

func suppressAct(ctx context.Context, e *env, c *app.Client, action string, addresses []string, o *suppressFlags) error {
	until, err := o.until()
	if err != nil {
		return err
	}
	req := app.SuppressAction{Customer: o.customer, Addresses: addresses, Reason: o.reason, Expires: until, Entirely: o.entirely, By: operator(), Note: o.note}
	var done app.Done
	if err := remote(c.Post(ctx, "/suppressions/"+action, req, &done)); err != nil {
		return err
	}
	if o.asJSON {
		err = printJSON(e, done)
	} else {
		_, err = fmt.Fprintf(e.stdout, "%s: %s\n", action, plural(done.Changed, "entry", "entries"))
	}
	if err == nil && done.Changed == 0 {
		return &exitError{code: exitNo}
	}
	return err
}

// values makes the query that chooses lists.
func (o *suppressFlags) values() url.Values {
	q := url.Values{"by": {operator()}}
	for k, v := range map[string]string{"customer": o.customer, "reason": o.reason, "note": o.note} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if o.all {
		q.Set("all", "1")
	}
	return q
}

func suppressShow(ctx context.Context, e *env, c *app.Client, action string, words []string, o *suppressFlags) error {
	q, path := o.values(), "/suppressions"
	if action == "get" {
		path = "/suppressions/get"
		q.Set("address", words[0])
	} else {
		q.Set("limit", fmt.Sprint(o.limit))
	}
	var entries []app.SuppressEntry
	if err := remote(c.Get(ctx, path, q, &entries)); err != nil {
		return err
	}
	if err := printEntries(e, entries, o.asJSON); err != nil {
		return err
	}
	if len(entries) == 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

func printEntries(e *env, entries []app.SuppressEntry, asJSON bool) error {
	if asJSON {
		for i := range entries {
			if err := printJSON(e, entries[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(entries) == 0 {
		fmt.Fprintln(e.stdout, "no entry")
		return nil
	}
	w := table(e)
	fmt.Fprintln(w, "ADDRESS\tCUSTOMER\tREASON\tDETAIL\tSINCE\tUNTIL\tSOURCE")
	for i := range entries {
		x := &entries[i]
		until := "-"
		if !x.Expires.IsZero() {
			until = stampTime(x.Expires)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(x.Address), everybody(x.Customer), x.Reason, dash(printable(x.Detail)), stampTime(x.Created), until, dash(printable(x.Source)))
	}
	return w.Flush()
}

func everybody(customer string) string {
	if customer == "" {
		return "(everybody)"
	}
	return printable(customer)
}

func suppressCount(ctx context.Context, e *env, c *app.Client, o *suppressFlags) error {
	var counted []app.SuppressCount
	if err := remote(c.Get(ctx, "/suppressions/count", o.values(), &counted)); err != nil {
		return err
	}
	if o.asJSON {
		for i := range counted {
			if err := printJSON(e, counted[i]); err != nil {
				return err
			}
		}
		return nil
	}
	w := table(e)
	fmt.Fprintln(w, "CUSTOMER\tENTRIES\tBY REASON")
	for i := range counted {
		var by []string
		for reason, n := range counted[i].ByReason {
			by = append(by, fmt.Sprintf("%s %d", reason, n))
		}
		sort.Strings(by)
		fmt.Fprintf(w, "%s\t%d\t%s\n", everybody(counted[i].Customer), counted[i].Entries, strings.Join(by, ", "))
	}
	return w.Flush()
}

// suppressImport sends a file to the node as it is read.
func suppressImport(ctx context.Context, e *env, c *app.Client, name string, o *suppressFlags) error {
	var r io.Reader = e.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return &exitError{code: exitUsage, text: "suppress import: " + err.Error()}
		}
		defer f.Close()
		r = f
	}
	until, err := o.until()
	if err != nil {
		return err
	}
	q := o.values()
	q.Set("file", name)
	q.Set("max-bad", fmt.Sprint(o.maxBad))
	if !until.IsZero() {
		q.Set("expires", until.Format(time.RFC3339))
	}
	if o.own {
		q.Set("own", "1")
	}
	var out suppress.Imported
	if err := remote(c.Send(ctx, "/suppressions/import", q, r, &out)); err != nil {
		return err
	}
	return printImported(e, name, &out, o.asJSON)
}

// printImported tells of the bad lines on standard error, as file:line:column. A file with
// bad lines is exit 1, one that was given up exit 2.
func printImported(e *env, name string, out *suppress.Imported, asJSON bool) error {
	if asJSON {
		if err := printJSON(e, out); err != nil {
			return err
		}
	} else {
		for _, f := range out.Faults {
			fmt.Fprintf(e.stderr, "%s:%d:%d: %s\n", name, f.Line, f.Column, printable(f.Text))
		}
		if more := out.Bad - int64(len(out.Faults)); more > 0 {
			fmt.Fprintf(e.stderr, "%s: and %d more bad lines\n", name, more)
		}
		fmt.Fprintf(e.stdout, "import: %d lines, %d entries, %d bad lines\n", out.Lines, out.Entries, out.Bad)
	}
	switch {
	case out.Stopped != "":
		return &exitError{code: exitUsage, text: name + ": given up at " + out.Stopped + "; what stands before is on the list", hint: "mend the file, or raise -max-bad"}
	case out.Bad > 0:
		return &exitError{code: exitNo}
	}
	return nil
}

func suppressExport(ctx context.Context, e *env, c *app.Client, o *suppressFlags) error {
	_, err := c.Copy(ctx, "/suppressions/export", o.values(), e.stdout, app.EntriesTrailer)
	var r *app.RemoteError
	if err != nil && !errors.As(err, &r) && !errors.Is(err, app.ErrNotRunning) {
		return &exitError{code: exitUsage, text: "suppress export: " + err.Error()}
	}
	return remote(err)
}
