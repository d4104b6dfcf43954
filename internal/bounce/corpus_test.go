package bounce_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern.dev/postern/internal/bounce"
	"postern.dev/postern/internal/message"
)

// sisimai says which of our categories its reasons may mean. They are cut otherwise than
// ours: "filtered" is whatever a receiver refuses behind RCPT, "mailererror" the failure
// of a program that delivers, "notaccept" a host that takes no mail at all; a name that
// does not resolve is "networkerror", a connection refused or reset is "blocked", an "inactive
// email address" is "userunknown".
var sisimai = map[string][]bounce.Category{
	"authfailure":     {bounce.Authentication},
	"badreputation":   {bounce.Blocklisted, bounce.RateLimited},
	"blocked":         {bounce.Blocklisted, bounce.Authentication, bounce.RateLimited, bounce.Policy, bounce.Protocol, bounce.NoAnswer, bounce.Connection},
	"contenterror":    {bounce.Content},
	"expired":         {bounce.Expired, bounce.NoAnswer, bounce.Connection, bounce.Routing},
	"failedstarttls":  {bounce.TLS},
	"filtered":        {bounce.BadMailbox, bounce.InactiveMailbox, bounce.Policy, bounce.Spam, bounce.Other},
	"hostunknown":     {bounce.BadDomain},
	"mailboxfull":     {bounce.MailboxFull},
	"mailererror":     {bounce.RemoteSystem, bounce.Other, bounce.Policy},
	"networkerror":    {bounce.Routing, bounce.NoAnswer, bounce.Connection, bounce.BadDomain},
	"norelaying":      {bounce.Relaying},
	"notaccept":       {bounce.BadDomain, bounce.Policy, bounce.Routing, bounce.RemoteSystem},
	"policyviolation": {bounce.Policy, bounce.Authentication, bounce.Content, bounce.Protocol},
	"rejected":        {bounce.InvalidSender, bounce.Authentication, bounce.Policy, bounce.Blocklisted},
	"requireptr":      {bounce.Authentication},
	"securityerror":   {bounce.Authentication, bounce.Relaying, bounce.Virus, bounce.TLS, bounce.Policy},
	"spamdetected":    {bounce.Spam},
	"suspend":         {bounce.InactiveMailbox},
	"syntaxerror":     {bounce.Protocol},
	"systemerror":     {bounce.RemoteSystem, bounce.Routing},
	"toomanyconn":     {bounce.RateLimited},
	"userunknown":     {bounce.BadMailbox, bounce.InactiveMailbox},
}

// expected is a row of the table: what another reader makes of one recipient of a
// bounce.
type expected struct {
	file           string
	recipient      int // from 1
	status, reason string
}

// invented reports a status code that no mail holds: the other reader's own numbers for
// its reasons. Of those only the class can agree, but for a delay, which some of them call
// permanent.
func (e expected) invented() bool {
	return strings.Contains(e.status, ".0.9") || strings.HasSuffix(e.status, ".0.0")
}

func table(t testing.TB) (dir string, rows []expected) {
	t.Helper()
	if dir = os.Getenv("POSTERN_CORPUS"); dir == "" {
		dir = "../../../shared/corpus"
	}
	dir = filepath.Join(dir, "sisimai-sample")
	b, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Skipf("the samples are not here: set POSTERN_CORPUS: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if n, err := strconv.Atoi(f[4]); err == nil && len(f) > 7 {
			rows = append(rows, expected{f[0], n, f[5], f[7]})
		}
	}
	return filepath.Join(dir, "maildir/bsd"), rows
}

// TestCorpus reads bounces that somebody else has labelled, and that neither the reader
// nor the rules name: status, category and recipient of each row of the table. Nothing
// that the mail says of people is printed.
func TestCorpus(t *testing.T) {
	dir, rows := table(t)
	c := bounce.New()
	right, misses := 0, map[string]int{}
	for _, e := range rows {
		raw, err := os.ReadFile(filepath.Join(dir, e.file))
		if err != nil {
			t.Fatal(err)
		}
		wrong := compare(c, e, raw)
		if wrong == "" {
			right++
			continue
		}
		what, _, _ := strings.Cut(wrong, ":")
		misses[what]++
		t.Logf("%s, recipient %d: %s", e.file, e.recipient, wrong)
	}
	t.Logf("%d of %d rows right (%.1f %%); wrong: %v", right, len(rows), 100*float64(right)/float64(len(rows)), misses)
	if right*100 < len(rows)*97 {
		t.Errorf("only %d of %d rows are right", right, len(rows))
	}
}

// compare tells what is wrong with what is read of a row; "" where all is right.
func compare(c *bounce.Classifier, e expected, raw []byte) string {
	r, err := message.ParseReport(raw)
	switch {
	case err != nil:
		return "unread: " + err.Error()
	case !r.Format.Bounce():
		return "unread: taken for " + string(r.Format)
	case len(r.Recipients) < e.recipient:
		return fmt.Sprintf("recipient: %d found", len(r.Recipients))
	}
	d := r.Recipients[e.recipient-1]
	if a := d.Address(); !strings.Contains(a, "@") || strings.ContainsAny(a, " <>") || !concerns(r, a) {
		return "recipient: none that the returned mail or the report's text is for"
	}
	if d.Status != e.status && !(e.invented() && d.Status != "" && (d.Status[0] == e.status[0] || d.Action == "delayed")) {
		return fmt.Sprintf("status: %q, where others say %s (%s)", d.Status, e.status, e.reason)
	}
	got := c.Classify(0, d.Status, d.Diagnostic, "").Category
	if !slices.Contains(sisimai[e.reason], got) {
		return fmt.Sprintf("category: %s, where others say %s: %.200q", got, e.reason, d.Diagnostic)
	}
	return ""
}

// concerns reports an address that is neither who wrote the bounce nor who got it, unless
// he wrote to himself.
func concerns(r *message.Report, address string) bool {
	author := message.Address(message.Get(r.Header, "To"))
	if !strings.EqualFold(address, r.From) && !strings.EqualFold(address, author) {
		return true
	}
	return r.Original != nil && strings.EqualFold(message.Address(r.Original.Get("To")), address)
}
