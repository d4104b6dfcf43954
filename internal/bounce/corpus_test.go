package bounce_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/bounce"
	"postern.dev/postern/internal/message"
)

// sisimai says which of our categories its reasons may mean. They are cut otherwise than
// ours: "filtered" is whatever a receiver refuses behind RCPT, "mailererror" the failure
// of a program that delivers, "notaccept" a host that takes no mail at all.
var sisimai = map[string][]bounce.Category{
	"authfailure":     {bounce.Authentication},
	"badreputation":   {bounce.Blocklisted},
	"blocked":         {bounce.Blocklisted, bounce.Authentication, bounce.RateLimited, bounce.Policy, bounce.Protocol},
	"contenterror":    {bounce.Content},
	"expired":         {bounce.Expired, bounce.NoAnswer, bounce.Connection, bounce.Routing},
	"failedstarttls":  {bounce.TLS},
	"filtered":        {bounce.BadMailbox, bounce.InactiveMailbox, bounce.Policy, bounce.Spam, bounce.Other},
	"hostunknown":     {bounce.BadDomain},
	"mailboxfull":     {bounce.MailboxFull},
	"mailererror":     {bounce.RemoteSystem, bounce.Other, bounce.Policy},
	"networkerror":    {bounce.Routing, bounce.NoAnswer, bounce.Connection},
	"norelaying":      {bounce.Relaying},
	"notaccept":       {bounce.BadDomain, bounce.Policy, bounce.Routing, bounce.RemoteSystem},
	"policyviolation": {bounce.Policy, bounce.Authentication, bounce.Content},
	"rejected":        {bounce.InvalidSender, bounce.Authentication, bounce.Policy, bounce.Blocklisted},
	"requireptr":      {bounce.Authentication},
	"securityerror":   {bounce.Authentication, bounce.Relaying, bounce.Virus, bounce.TLS, bounce.Policy},
	"spamdetected":    {bounce.Spam},
	"suspend":         {bounce.InactiveMailbox},
	"syntaxerror":     {bounce.Protocol},
	"systemerror":     {bounce.RemoteSystem, bounce.Routing},
	"toomanyconn":     {bounce.RateLimited},
	"userunknown":     {bounce.BadMailbox},
}

var replyIn = regexp.MustCompile(`(?m)[45]\d\d[ -](?:[45]\.\d|\S+ )[^\n]*(?:\n[ \t]+[^\n]+)*`)

// refusalOf gives the words of the refusal in a bounce: of its status part, or the first
// line of prose that looks like a reply.
func refusalOf(raw []byte, recipient int) (status, text string) {
	if r, err := message.ParseReport(raw); err == nil && len(r.Recipients) >= recipient {
		d := r.Recipients[recipient-1]
		if d.Diagnostic != "" {
			return d.Status, d.Diagnostic
		}
	}
	_, body, _ := strings.Cut(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n\n")
	return "", replyIn.FindString(body)
}

// TestCorpus holds the classifier against bounces that somebody else has labelled, and
// that the rules were not written for.
func TestCorpus(t *testing.T) {
	dir := "../../../shared/corpus/sisimai-sample"
	table, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Skipf("the samples are not here: %v", err)
	}
	c := bounce.New()
	judged, agree := 0, 0
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		may, known := sisimai[f[7]]
		if !known || len(f[4]) != 1 {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, "maildir/bsd", f[0]))
		if err != nil {
			t.Fatal(err)
		}
		status, text := refusalOf(raw, int(f[4][0]-'0'))
		if text == "" {
			continue // a bounce without the receiver's words: nothing to classify
		}
		judged++
		if got := c.Classify(0, status, text, "").Category; slices.Contains(may, got) {
			agree++
		} else {
			t.Logf("%s: %s, where others say %s: %.150q", f[0], got, f[7], text)
		}
	}
	t.Logf("%d of %d agree", agree, judged)
	if agree*100 < judged*85 {
		t.Errorf("only %d of %d agree", agree, judged)
	}
}
