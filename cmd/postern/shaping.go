package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/shaping"
)

// shapingFlags are the flags of all shaping actions.
type shapingFlags struct {
	app.ShapingQuery
	json, all    bool
	config, note string
}

func runShaping(ctx context.Context, e *env, args []string) error {
	f := flags("shaping")
	var o shapingFlags
	f.BoolVar(&o.json, "json", false, "print JSON, one object a line (not rules)")
	f.BoolVar(&o.all, "all", false, "ls: of a week; explain: the rules for every destination too")
	f.StringVar(&o.config, "config", "", "explain, test: by this configuration (`FILE`)")
	f.StringVar(&o.Destination, "destination", "", "test: a domain, or a destination's `NAME`")
	f.StringVar(&o.Source, "source", "", "explain: from this `ADDRESS` of ours")
	f.StringVar(&o.Pool, "pool", "", "explain: by this pool (`NAME`)")
	f.StringVar(&o.Customer, "customer", "", "explain: of this customer (`NAME`)")
	f.StringVar(&o.Campaign, "campaign", "", "explain: of this campaign (`NAME`)")
	f.StringVar(&o.MX, "mx", "", "explain: these exchangers (`HOSTS`) and no DNS")
	f.StringVar(&o.note, "note", "", "undo: `TEXT` for the record: why")
	if len(args) > 0 && args[0] == "suspend" {
		return &exitError{code: exitUsage, text: "shaping suspends by rules", hint: "postern queue suspend does it by hand"}
	}
	action, args, err := actionOf(f, args, []string{"explain", "ls", "undo", "test", "rules"})
	if err != nil {
		return err
	}
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	switch action {
	case "explain":
		return shapingExplain(ctx, e, &o, rest)
	case "ls":
		return shapingList(ctx, e, &o, rest)
	case "undo":
		return shapingUndo(ctx, e, &o, rest)
	case "test":
		return shapingTest(ctx, e, &o, rest)
	}
	if len(rest) > 0 {
		return usagef("shaping rules takes no argument")
	}
	_, err = e.stdout.Write(config.ShippedRules())
	return err
}

// shapingOf reads the rules of a configuration, or those that come with the program.
func shapingOf(e *env, file string) (*config.Config, *shaping.Shaping, error) {
	cfg := &config.Config{Shaping: config.Shipped()}
	if file != "" {
		var err error
		if cfg, err = loadConfig(e, file, false, nil); err != nil {
			return nil, nil, err
		}
	}
	p, err := shaping.Compile(cfg.Shaping)
	if err != nil {
		return nil, nil, err
	}
	return cfg, shaping.New(shaping.Options{Program: p}), nil
}

// given is a look-up that somebody has made already.
type given []string

// MX implements app.MXLookup.
func (g given) MX(context.Context, string) ([]string, error) { return g, nil }

func shapingExplain(ctx context.Context, e *env, o *shapingFlags, rest []string) error {
	if len(rest) == 2 && o.config == "" {
		o.config, rest = rest[1], rest[:1]
	}
	if len(rest) != 1 {
		return &exitError{code: exitUsage, text: "shaping explain takes one domain, address or destination", hint: "postern shaping explain gmail.com -config postern.hcl"}
	}
	o.Destination = rest[0]
	cfg, s, err := shapingOf(e, o.config)
	if err != nil {
		return err
	}
	var x app.ShapingExplained
	if o.config != "" && o.MX == "" {
		q := url.Values{"destination": {o.Destination}, "pool": {o.Pool}, "source": {o.Source}, "customer": {o.Customer}, "campaign": {o.Campaign}}
		err := app.NewClient(cfg.Node.Socket).Get(ctx, "/shaping/explain", q, &x)
		switch {
		case err == nil:
			return printShaping(e, o, &x)
		case !errors.Is(err, app.ErrNotRunning):
			return remote(err)
		}
	}
	var dns app.MXLookup
	if o.MX != "" {
		dns = given(strings.Split(o.MX, ","))
		o.MX = ""
	} else if r, err := egress.NewResolver(cfg.Node.Resolver, time.Now); err == nil {
		dns = r
	}
	if o.Pool == "" {
		o.Pool = cfg.Node.DefaultPool
	}
	t, mx, err := app.ResolveTraffic(ctx, s, dns, &o.ShapingQuery)
	if err != nil {
		return &exitError{code: exitUsage, text: err.Error(), hint: "-mx mx1.example.com,mx2.example.com spares the look-up"}
	}
	x = app.ExplainShaping(s, t, mx, time.Now())
	return printShaping(e, o, &x)
}

func printShaping(e *env, o *shapingFlags, x *app.ShapingExplained) error {
	if o.json {
		return printJSON(e, x)
	}
	w := table(e)
	fmt.Fprintf(w, "destination\t%s\n", o.Destination)
	if len(x.MX) > 0 {
		fmt.Fprintf(w, "exchangers\t%s\n", strings.Join(x.MX, ", "))
	}
	if x.Provider == "" {
		fmt.Fprintf(w, "provider\tnone that the rules know\n")
	} else {
		fmt.Fprintf(w, "provider\t%s\t\t%s\n", x.Provider, x.Where)
	}
	what := "its own hosts"
	if x.Provider != "" && !x.Separate {
		what = "all of the provider's hosts"
	}
	fmt.Fprintf(w, "site\t%s (%s)\n", x.Site, what)
	if x.Pool != "" || x.Source.IsValid() {
		fmt.Fprintf(w, "leaving by\tpool %s, source %s\n", dash(x.Pool), sourceName(x))
	}
	name := "limits"
	for _, l := range x.Limits {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, l.Name, l.Value, l.Where)
		name = ""
	}
	if len(x.Limits) == 0 {
		fmt.Fprintf(w, "limits\tnone but those of limits and retry\n")
	}
	explainedWarmup(w, x)
	name = "rules"
	general := 0
	for _, r := range x.Rules {
		if r.General && !o.all {
			general++
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, r.Name, r.Does, r.Where)
		name = ""
	}
	if general > 0 {
		fmt.Fprintf(w, "%s\t%s for every destination\t-all shows them\n", name, plural(general, "rule", "rules"))
	}
	explainedState(w, x)
	return w.Flush()
}

func sourceName(x *app.ShapingExplained) string {
	if !x.Source.IsValid() {
		return "any"
	}
	return x.Source.String()
}

func explainedWarmup(w io.Writer, x *app.ShapingExplained) {
	u := x.Warmup
	switch {
	case u == nil:
	case u.Over:
		fmt.Fprintf(w, "warm-up\t%s\tover, after %d days\t%s\n", u.Name, u.Days, u.Where)
	default:
		fmt.Fprintf(w, "warm-up\t%s\tday %d of %d: %d messages today to each site\t%s\n", u.Name, u.Day, u.Days, u.Messages, u.Where)
	}
}

// explainedState tells what is in force, and when the next message may go.
func explainedState(w io.Writer, x *app.ShapingExplained) {
	if !x.Node {
		fmt.Fprintf(w, "in force\tnot known: no running node was asked\n")
		return
	}
	name := "in force"
	for i := range x.InForce {
		a := &x.InForce[i]
		fmt.Fprintf(w, "%s\t%s\t%s %s until %s\t%s\n", name, a.ID, a.Does, a.Binds, untilTime(a.Until), printable(cause(a)))
		name = ""
	}
	if len(x.InForce) == 0 {
		fmt.Fprintf(w, "in force\tnothing\n")
	}
	name = "waits"
	for i := range x.Waits {
		l := &x.Waits[i]
		until := "when that is over"
		if !l.Until.IsZero() {
			until = "until " + preciseTime(l.Until)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, strings.TrimSpace(l.Limit+" "+l.Value), until+": "+printable(l.Why))
		name = ""
	}
	if !x.Counted && x.Site != "" {
		fmt.Fprintf(w, "waits\tnothing has gone there of late, so no rate is used up\n")
	}
	switch {
	case !x.Blocked && len(x.Waits) > 0 && !x.Next.IsZero():
		fmt.Fprintf(w, "next\t%s\n", preciseTime(x.Next))
	case !x.Blocked && len(x.Waits) > 0:
		fmt.Fprintf(w, "next\twhen a connection has room for it\n")
	case !x.Blocked:
		fmt.Fprintf(w, "next\tnow, as far as shaping goes\n")
	case x.Next.IsZero():
		fmt.Fprintf(w, "next\twhen the action is undone\n")
	default:
		fmt.Fprintf(w, "next\t%s\n", stampTime(x.Next))
	}
}

// preciseTime prints a time that may be a moment away.
func preciseTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

func untilTime(t time.Time) string {
	if t.IsZero() {
		return "it is undone"
	}
	return stampTime(t)
}

// cause tells why an action is in force.
func cause(a *app.ShapingAction) string {
	if a.Rule == "" {
		return strings.TrimSuffix(a.By+": "+a.Note, ": ")
	}
	return "rule " + a.Rule + ": " + a.Reply
}

func shapingList(ctx context.Context, e *env, o *shapingFlags, rest []string) error {
	file, err := oneFile("shaping ls", rest)
	if err != nil {
		return err
	}
	c, err := node(e, file)
	if err != nil {
		return err
	}
	q := url.Values{}
	if o.all {
		q.Set("all", "1")
	}
	var list []app.ShapingAction
	if err := remote(c.Get(ctx, "/shaping", q, &list)); err != nil {
		return err
	}
	if o.json {
		for i := range list {
			if err := printJSON(e, list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		fmt.Fprintln(e.stdout, "nothing is in force")
		return nil
	}
	w := table(e)
	fmt.Fprintln(w, "ACTION\tDOES\tBINDS\tSINCE\tUNTIL\tCAUSE")
	for i := range list {
		a := &list[i]
		until := stampTime(a.Until)
		if !a.Undone.IsZero() {
			until = "undone by " + a.UndoneBy
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.ID, does(a), a.Binds, stampTime(a.From), until, printable(cause(a)))
	}
	return w.Flush()
}

// does tells what an action does, with its measure.
func does(a *app.ShapingAction) string {
	s := a.Does
	if a.Rate != "" {
		s += " to " + a.Rate
	}
	if a.Connections > 0 {
		s += " to " + count(a.Connections, "connection")
	}
	return s
}

func shapingUndo(ctx context.Context, e *env, o *shapingFlags, rest []string) error {
	if len(rest) != 2 {
		return &exitError{code: exitUsage, text: "shaping undo takes an action and a configuration: postern shaping undo ID FILE", hint: "postern shaping ls FILE lists them"}
	}
	c, err := node(e, rest[1])
	if err != nil {
		return err
	}
	var a app.ShapingAction
	if err := remote(c.Post(ctx, "/shaping/undo", app.ShapingUndo{ID: rest[0], By: operator(), Note: o.note}, &a)); err != nil {
		return err
	}
	if o.json {
		return printJSON(e, a)
	}
	fmt.Fprintf(e.stdout, "%s: %s of %s is undone\n", a.ID, a.Does, a.Binds)
	return nil
}

// tested is what a reply sets off.
type tested struct {
	Line        int      `json:"line"`
	Destination string   `json:"destination,omitempty"`
	Reply       string   `json:"reply"`
	Rules       []string `json:"rules"`
	Does        []string `json:"does"`
	Where       []string `json:"where"`
}

func shapingTest(ctx context.Context, e *env, o *shapingFlags, rest []string) error {
	if len(rest) != 1 {
		return &exitError{code: exitUsage, text: "shaping test takes one file of replies, or - for standard input", hint: "echo '421 4.7.28 ...' | postern shaping test -destination gmail -"}
	}
	_, s, err := shapingOf(e, o.config)
	if err != nil {
		return err
	}
	in := e.stdin
	if rest[0] != "-" {
		file, err := os.Open(rest[0])
		if err != nil {
			return usagef("%v", err)
		}
		defer file.Close()
		in = file
	}
	replies, err := readReplies(in, o.Destination)
	if err != nil {
		return usagef("%s: %v", rest[0], err)
	}
	unmatched := 0
	for i := range replies {
		r := &replies[i]
		t, _, err := app.ResolveTraffic(ctx, s, given(nil), &app.ShapingQuery{Destination: r.destination})
		if err != nil {
			return usagef("%s:%d: %v", rest[0], r.line, err)
		}
		out := tested{Line: r.line, Destination: r.destination, Reply: r.Text, Rules: []string{}, Does: []string{}, Where: []string{}}
		for _, m := range s.Try(t.Provider, r.Reply) {
			out.Rules, out.Does, out.Where = append(out.Rules, m.Name), append(out.Does, m.Does), append(out.Where, m.Where)
		}
		if len(out.Rules) == 0 && r.Code >= 400 {
			unmatched++
		}
		if err := printTested(e, o, &out); err != nil {
			return err
		}
	}
	if unmatched > 0 {
		return &exitError{code: exitNo, text: fmt.Sprintf("%s no rule off", plural(unmatched, "reply sets", "replies set"))}
	}
	return nil
}

func printTested(e *env, o *shapingFlags, t *tested) error {
	if o.json {
		return printJSON(e, t)
	}
	fmt.Fprintf(e.stdout, "%d: %s\n", t.Line, printable(strings.TrimSpace(t.Destination+" "+t.Reply)))
	for i := range t.Rules {
		fmt.Fprintf(e.stdout, "   %s (%s): %s\n", t.Rules[i], t.Where[i], t.Does[i])
	}
	if len(t.Rules) == 0 {
		fmt.Fprintf(e.stdout, "   no rule: it goes the way of its code\n")
	}
	return nil
}

// readReply is one reply of a file.
type readReply struct {
	shaping.Reply
	line        int
	destination string
}

// readReplies reads replies, one a line, each with the destination before it or the
// given one. The lines of a long reply ("421-...") are put together. Empty lines and
// those that begin with # are passed over.
func readReplies(in io.Reader, destination string) (out []readReply, err error) {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 1<<20)
	var open *readReply
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		dest := destination
		if _, _, ok := replyCode(line); !ok {
			first, after, _ := strings.Cut(line, " ")
			dest, line = first, strings.TrimSpace(after)
		}
		code, more, ok := replyCode(line)
		if !ok {
			return nil, fmt.Errorf("line %d: no reply code", n)
		}
		text := strings.TrimSpace(line[min(4, len(line)):])
		if open != nil && open.Code == code {
			open.Text += " " + strings.TrimSpace(strings.TrimPrefix(text, open.Enhanced))
		} else {
			out = append(out, readReply{Reply: shaping.Reply{Code: code, Text: line[:3] + " " + text}, line: n, destination: dest})
			open = &out[len(out)-1]
			if word, _, _ := strings.Cut(text, " "); strings.Count(word, ".") == 2 && len(word) <= 9 && strings.Trim(word, "0123456789.") == "" {
				open.Enhanced = word
			}
		}
		if !more {
			open = nil
		}
	}
	return out, sc.Err()
}

// replyCode reads the code of a reply, and whether more lines follow.
func replyCode(line string) (code int, more, ok bool) {
	if len(line) < 3 || (len(line) > 3 && line[3] != ' ' && line[3] != '-') {
		return 0, false, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		code = code*10 + int(c-'0')
	}
	return code, len(line) > 3 && line[3] == '-', code >= 200 && code < 600
}
