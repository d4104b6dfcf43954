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

func systems(w *strings.Builder, s *ledger.IncidentState, hostname string) {
	fmt.Fprintf(w, "## Systems affected\n\n- gateway %s, listener %q\n- policy version %s\n", hostname, s.Opening.Path.Listener, s.Opening.Policy)
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
	return fmt.Sprintf("By this path %d messages were handed off to %d recipients, %d different, between %s and %s.", im.Messages, im.HandedOff, im.Recipients, clock(im.First), clock(im.Last))
}

func diagnosis(w *strings.Builder, s *ledger.IncidentState, line string) {
	o := &s.Opening
	fmt.Fprint(w, "## Diagnosis\n\n")
	fmt.Fprintf(w, "Trigger: %s. %s.\n\n", o.Trigger, strings.TrimSuffix(o.Note, "."))
	if o.Path != (ledger.Path{}) {
		at := ""
		if line != "" {
			at = " (" + line + ")"
		}
		fmt.Fprintf(w, "Cause: mail of origin %s that came in by listener %q was let out by %s%s under policy %s.\n\n", o.Path.Origin, o.Path.Listener, filter(o.Path), at, o.Policy)
	}
	if o.Peer.IsValid() {
		fmt.Fprintf(w, "First peer seen: %s. First message: %s.\n\n", o.Peer, o.Message)
	}
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
			fmt.Fprintf(w, "| %s | %d |\n", c.Name, c.Count)
		}
		fmt.Fprintln(w)
	}
	byProvider := map[string]int{}
	var order []string
	for i := range reports {
		if r := &reports[i]; r.Path == s.Opening.Path && r.Verdict != "duplicate" {
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

func name(provider string) string {
	if provider == "" {
		return "a reporter who is not authenticated"
	}
	return provider
}

func solution(w *strings.Builder, s *ledger.IncidentState) {
	fmt.Fprint(w, "## Solution\n\n| time | state | by | note |\n|---|---|---|---|\n")
	for i := range s.Timeline {
		e := &s.Timeline[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", clock(e.Time), e.State, e.By, cell(e.Note))
	}
	fmt.Fprintln(w)
	switch {
	case s.State == Open:
		fmt.Fprintf(w, "It is not contained yet: `postern incident contain %s`.\n", s.ID)
	case s.State == Contained:
		fmt.Fprintln(w, "The path is held. The policy is to be repaired: a filter that refuses strangers' mail has to stand before the one that delivers it, or the delivering filter has to name its origin.")
	case s.State == Repaired:
		fmt.Fprintln(w, "The policy has been repaired.")
	}
}

// cell keeps a text within its cell.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ").Replace(s)
}
