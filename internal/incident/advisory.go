package incident

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
)

// Advisory writes the document about an incident, as Markdown. Every number comes
// from the ledger; no recipient's address stands in it. hostname names the system,
// line the place of the filter in the configuration.
func (b *Book) Advisory(ctx context.Context, id, hostname, line string) (string, error) {
	s, err := b.Get(id)
	if err != nil {
		return "", err
	}
	im, err := b.Impact(ctx, id)
	if err != nil {
		return "", err
	}
	reports, err := b.o.Records.Reports(ctx, time.Time{}, time.Time{})
	if err != nil {
		return "", err
	}
	w := &strings.Builder{}
	fmt.Fprintf(w, "# Advisory %s\n\n", s.ID)
	fmt.Fprintf(w, "State: %s. Opened %s, last changed %s (all times UTC).\n\n", s.State, clock(s.Opening.Time), clock(s.Changed))
	systems(w, s, hostname)
	overview(w, s, im)
	diagnosis(w, s, line)
	impact(w, s, im, reports)
	solution(w, s)
	return w.String(), nil
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func filter(p ledger.Path) string {
	if p.Filter == "" {
		return "the default at the end of the list"
	}
	return fmt.Sprintf("filter %q", p.Filter)
}

// Steps names what each entry of an incident's timeline did: open, contained, released,
// repaired, closed, false-alarm.
func Steps(s *ledger.IncidentState) []string {
	out := make([]string, len(s.Timeline))
	for i := range s.Timeline {
		e := &s.Timeline[i]
		out[i] = e.State
		if i > 0 && len(s.Timeline[i-1].Contain) > 0 && len(e.Contain) == 0 {
			out[i] = "released"
		}
	}
	return out
}

func systems(w *strings.Builder, s *ledger.IncidentState, hostname string) {
	fmt.Fprintf(w, "## Systems affected\n\n- gateway %s", hostname)
	if s.Opening.Path.Listener != "" {
		fmt.Fprintf(w, ", listener %q", s.Opening.Path.Listener)
	}
	fmt.Fprintln(w)
	if s.Opening.Policy != "" {
		fmt.Fprintf(w, "- policy version %s\n", s.Opening.Policy)
	}
	if s.Opening.Source.IsValid() && s.Opening.Pool == "" {
		fmt.Fprintf(w, "- source address %s\n", s.Opening.Source)
	}
	if s.Opening.Pool != "" {
		fmt.Fprintf(w, "- source pool %q\n", s.Opening.Pool)
	}
	fmt.Fprintln(w)
}

func overview(w *strings.Builder, s *ledger.IncidentState, im *ledger.Impact) {
	fmt.Fprint(w, "## Overview\n\n")
	switch s.Opening.Trigger {
	case "bypassed":
		fmt.Fprintf(w, "Mail was reported that came from one of our addresses and did not pass the gateway.\n\n")
	case "guard":
		fmt.Fprintf(w, "The relay guard held mail of a stranger that was about to be relayed. %s\n\n", handed(im))
	default:
		fmt.Fprintf(w, "The gateway handed off mail that none of its customers had sent. %s\n\n", handed(im))
	}
}

func handed(im *ledger.Impact) string {
	if im.HandedOff == 0 {
		return "Nothing was handed off by this path."
	}
	return fmt.Sprintf("By this path %d messages were handed off to %d recipients (%d different), between %s and %s.", im.Messages, im.HandedOff, im.Recipients, clock(im.First), clock(im.Last))
}

func diagnosis(w *strings.Builder, s *ledger.IncidentState, line string) {
	o := &s.Opening
	fmt.Fprint(w, "## Diagnosis\n\n")
	fmt.Fprintf(w, "Noticed by %s. %s.\n\n", trigger(o.Trigger), sentence(o.Note))
	if o.Path != (ledger.Path{}) {
		at := ""
		if line != "" {
			at = " (" + line + ")"
		}
		fmt.Fprintf(w, "Cause: mail of origin %s that came in by listener %q %s by %s%s under policy %s.\n\n", o.Path.Origin, o.Path.Listener, letOut(o.Trigger), filter(o.Path), at, o.Policy)
	}
	if o.Peer.IsValid() {
		fmt.Fprintf(w, "Peer of the message that was noticed: %s. The message: %s (`postern trace -id %s`).\n\n", o.Peer, o.Message, o.Message)
	}
}

// sentence begins a note with a capital and leaves its full stop to the writer.
func sentence(s string) string {
	s = strings.TrimSuffix(cell(s), ".")
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

func trigger(s string) string {
	if s == "guard" {
		return "the relay guard"
	}
	return "a report judged " + s
}

func letOut(trigger string) string {
	if trigger == "guard" {
		return "was to be let out"
	}
	return "was let out"
}

func impact(w *strings.Builder, s *ledger.IncidentState, im *ledger.Impact, reports []ledger.Reported) {
	fmt.Fprint(w, "## Impact\n\n")
	fmt.Fprintf(w, "| what | count |\n|---|---:|\n| recipients handed off | %d |\n| messages | %d |\n| different recipients | %d |\n| bounced | %d |\n| held | %d |\n\n", im.HandedOff, im.Messages, im.Recipients, im.Bounced, im.Held)
	for _, t := range []struct {
		title  string
		counts []ledger.Count
	}{{"destination", im.Domains}, {"filter", im.Filters}, {"source address", im.Sources}, {"hour (UTC)", im.Hours}} {
		if len(t.counts) == 0 {
			continue
		}
		fmt.Fprintf(w, "| by %s | recipients |\n|---|---:|\n", t.title)
		for _, c := range t.counts {
			fmt.Fprintf(w, "| %s | %d |\n", cell(shown(c.Name)), c.Count)
		}
		fmt.Fprintln(w)
	}
	byProvider := map[string]int{}
	var order []string
	for i := range reports {
		if r := &reports[i]; Concerns(s, r) {
			k := fmt.Sprintf("%s from %s", r.Verdict, name(r.Provider))
			if byProvider[k] == 0 {
				order = append(order, k)
			}
			byProvider[k]++
		}
	}
	if len(order) > 0 {
		fmt.Fprint(w, "| reports | count |\n|---|---:|\n")
		for _, k := range order {
			fmt.Fprintf(w, "| %s | %d |\n", k, byProvider[k])
		}
		fmt.Fprintln(w)
	}
}

// Concerns reports whether a judged report is about an incident: mail that leaked by
// its path, or that bypassed the gateway.
func Concerns(s *ledger.IncidentState, r *ledger.Reported) bool {
	if s.Opening.Trigger == "bypassed" {
		return r.Verdict == "bypassed"
	}
	return r.Verdict == "leaked" && r.Path == s.Opening.Path
}

func shown(name string) string {
	if name == "" {
		return "(default)"
	}
	return name
}

func name(provider string) string {
	if provider == "" {
		return "a reporter who is not authenticated"
	}
	return provider
}

func solution(w *strings.Builder, s *ledger.IncidentState) {
	fmt.Fprint(w, "## Solution\n\n| time | step | by | note |\n|---|---|---|---|\n")
	for i, step := range Steps(s) {
		e := &s.Timeline[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", clock(e.Time), step, cell(e.By), cell(e.Note))
	}
	fmt.Fprintln(w)
	switch {
	case s.State == Open:
		fmt.Fprintf(w, "It is not contained yet: `postern incident contain %s`.\n", s.ID)
	case s.State == Contained:
		fmt.Fprintln(w, "The path is held. The policy is to be repaired: a filter that refuses strangers' mail has to stand before the one that delivers it, or the delivering filter has to name its origin.")
	case s.State == Repaired:
		fmt.Fprintln(w, "The policy has been repaired.")
	case s.State == Closed:
		fmt.Fprintln(w, "It is closed.")
	case s.State == FalseAlarm:
		fmt.Fprintln(w, "It was a false alarm.")
	}
}

// cell keeps a text within its cell.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ").Replace(s)
}
