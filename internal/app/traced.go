package app

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"postern.dev/postern/internal/ledger"
)

// add puts an event into a message's life: as JSON, and as a line for people.
func (t *Traced) add(e ledger.Event) {
	b, err := json.Marshal(struct {
		Kind  string       `json:"kind"`
		Event ledger.Event `json:"event"`
	}{e.Kind().String(), e})
	if err == nil {
		t.Events = append(t.Events, b)
	}
	when := e.When().UTC().Format("2006-01-02 15:04:05.000")
	for i, line := range lines(e) {
		if i > 0 {
			when = strings.Repeat(" ", len(when))
		}
		t.Text = append(t.Text, fmt.Sprintf("%s  %s", when, safe(line)))
	}
}

// safe keeps other people's words from acting on a terminal.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func filterName(s string) string { return or(s, "(default)") }

func peerOf(a netip.AddrPort) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

// lines tells an event in words.
func lines(e ledger.Event) []string {
	switch e := e.(type) {
	case *ledger.Accepted:
		return acceptedLines(e)
	case *ledger.Attempted:
		return []string{fmt.Sprintf("attempt %d failed from %s to %s [%s]: %s; next at %s", e.Attempt, addrOf(e.Source), or(e.Host, "-"), peerOf(e.Peer), e.Reply, e.Next.UTC().Format("15:04:05"))}
	case *ledger.HandedOff:
		return []string{fmt.Sprintf("handed off recipient %d to %s [%s] from %s, pool %s, attempt %d, after %.3f s%s", e.Recipient, or(e.Host, "-"), peerOf(e.Peer), addrOf(e.Source), or(e.Pool, "-"), e.Attempt, e.Seconds, strings.TrimSuffix(" over "+e.TLS, " over ")),
			"peer said: " + e.Reply}
	case *ledger.Bounced:
		dsn := "no DSN was due"
		if !e.DSN.IsZero() {
			dsn = "DSN " + e.DSN.String()
		}
		return []string{fmt.Sprintf("gave up recipient %d at %s: %s; %s", e.Recipient, or(e.Host, "-"), e.Reply, dsn)}
	case *ledger.Held:
		return []string{fmt.Sprintf("held recipient %d: %s", e.Recipient, e.Reason)}
	case *ledger.Released:
		return []string{fmt.Sprintf("released recipient %d by %s", e.Recipient, e.By)}
	case *ledger.Dropped:
		return []string{fmt.Sprintf("dropped recipient %d by %s: %s", e.Recipient, e.By, e.Reason)}
	case *ledger.GuardTripped:
		what := "held"
		if e.Observed {
			what = "only watched"
		}
		return []string{fmt.Sprintf("relay guard %s recipient %d, a stranger's on its way to %s", what, e.Recipient, e.Host)}
	case *ledger.Reported:
		return []string{fmt.Sprintf("reported by %s (%s): %s, grade %s, decided by %s", or(e.Provider, "somebody"), e.Format, e.Verdict, e.Grade, strings.Join(e.Keys, " "))}
	}
	return []string{e.Kind().String()}
}

func addrOf(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

func acceptedLines(e *ledger.Accepted) []string {
	who := "origin " + e.Origin
	if e.Customer != "" {
		who += ", customer " + e.Customer
	}
	if e.AuthUser != "" {
		who += ", user " + e.AuthUser
	}
	out := []string{fmt.Sprintf("accepted by listener %s from %s (%s), %s", or(e.Listener, "-"), peerOf(e.Peer), or(e.Helo, "-"), who),
		fmt.Sprintf("sender <%s>, Message-ID <%s>, %d octets, policy %s%s", e.Sender, e.MessageID, e.Size, e.Policy, strings.TrimSuffix(", "+e.TLS, ", "))}
	if !e.Parent.IsZero() {
		out = append(out, "sent on from message "+e.Parent.String())
	}
	for i := range e.Decisions {
		d := &e.Decisions[i]
		line := fmt.Sprintf("recipient %d <%s>: %s by filter %s", i, d.Recipient, d.Disposition, filterName(d.Filter))
		if d.Line != "" {
			line += " (" + d.Line + ")"
		}
		if d.Inside != "" {
			line += ", inside host " + d.Inside
		} else if d.Pool != "" {
			line += ", pool " + d.Pool
		}
		if len(d.Logs) > 0 {
			line += ", logged " + strings.Join(d.Logs, ", ")
		}
		out = append(out, line)
	}
	return out
}
