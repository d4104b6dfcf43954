package bounce_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/bounce"
)

// known is a reply with what it is about.
type known struct{ source, provider, text, wants string }

func replies(t testing.TB) []known {
	t.Helper()
	b, err := os.ReadFile("testdata/replies.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []known
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		f := strings.SplitN(line, "|", 4)
		if len(f) != 4 {
			t.Fatalf("testdata/replies.txt: %q has not four parts", line)
		}
		k := known{strings.TrimSpace(f[0]), strings.TrimSpace(f[2]), strings.TrimSpace(f[3]), strings.TrimSpace(f[1])}
		for name := range strings.SplitSeq(k.wants, "/") {
			if _, ok := bounce.Parse(name); !ok {
				t.Fatalf("testdata/replies.txt: %q is no category", name)
			}
		}
		out = append(out, k)
	}
	return out
}

// TestReplies holds the classifier against what real receivers say.
func TestReplies(t *testing.T) {
	c := bounce.New()
	all := replies(t)
	if len(all) < 300 {
		t.Fatalf("%d replies are too few", len(all))
	}
	wrong := 0
	for _, k := range all {
		got := c.Classify(0, "", k.text, k.provider).Category.String()
		if !slices.Contains(strings.Split(k.wants, "/"), got) {
			wrong++
			t.Errorf("%s, want %s: %s: %s", got, k.wants, k.source, k.text)
		}
	}
	t.Logf("%d of %d replies agree", len(all)-wrong, len(all))
}

func TestHardness(t *testing.T) {
	c := bounce.New()
	for _, k := range []struct {
		name, enhanced, text, provider string
		code                           int
		category                       bounce.Category
		hard, suppress                 bool
	}{
		{name: "no such mailbox", code: 550, enhanced: "5.1.1", text: "550 5.1.1 User unknown", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "by its code alone", code: 550, enhanced: "5.1.1", text: "", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "refused for now", code: 450, enhanced: "4.1.1", text: "450 4.1.1 User unknown in virtual alias table", category: bounce.BadMailbox},
		{name: "tried for as long as it may be", code: 0, enhanced: "5.4.7", text: "given up after 72h0m0s: 450 4.1.1 User unknown", category: bounce.Expired},
		{name: "vague words", code: 550, text: "550 mailbox unavailable", category: bounce.BadMailbox, hard: true},
		{name: "which one provider means", code: 550, text: "550 mailbox unavailable", provider: "microsoft", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "the gateway's standard code for any refusal", code: 550, enhanced: "5.1.0", text: "550 5.1.0 no", category: bounce.BadMailbox, hard: true},
		{name: "a bad name behind a mailbox's code", code: 550, enhanced: "5.1.1", text: "550 5.7.1 IP address blacklisted by recipient", category: bounce.Blocklisted},
		{name: "frozen", code: 550, text: "550 Mailbox is frozen", category: bounce.InactiveMailbox, hard: true, suppress: true},
		{name: "null MX, in our words", enhanced: "5.1.10", text: "example.com takes no mail (null MX, RFC 7505)", category: bounce.BadDomain, hard: true, suppress: true},
		{name: "full", code: 552, enhanced: "5.2.2", text: "552 5.2.2 over quota", category: bounce.MailboxFull},
		{name: "unrouteable, says the receiver", code: 550, text: "550 Unrouteable address", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "unrouteable, says the host that reports", enhanced: "5.0.0", text: "Unrouteable address", category: bounce.BadDomain, hard: true, suppress: true},
		{name: "nothing at all", category: bounce.Other},
		{name: "an address that spells something", code: 550, text: "550 <spam.quota.virus@blacklist.example>... User unknown", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "an address that is glued to the words", code: 550, text: "550 over.quota@example.com:user not exist", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "lines", code: 550, text: "550-5.1.1 The account you tried\r\n550 5.1.1 to reach does\r\n   not exist", category: bounce.BadMailbox, hard: true, suppress: true},
		{name: "an address of the Internet is no status", code: 550, text: "550 5.7.1.5 said no", category: bounce.Other},
	} {
		t.Run(k.name, func(t *testing.T) {
			want := bounce.Result{Category: k.category, Hard: k.hard, Suppress: k.suppress}
			if got := c.Classify(k.code, k.enhanced, k.text, k.provider); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestPowerMTA holds the map onto PowerMTA's 17 categories, all of which are reached.
func TestPowerMTA(t *testing.T) {
	theirs := strings.Fields(`bad-mailbox inactive-mailbox bad-domain quota-issues spam-related policy-related routing-errors content-related
		message-expired relaying-issues no-answer-from-host bad-connection protocol-errors invalid-sender bad-configuration virus-related other`)
	reached := map[string]bool{}
	for _, c := range bounce.Categories() {
		if !slices.Contains(theirs, c.PowerMTA()) {
			t.Errorf("%s maps to %q, which PowerMTA has not", c, c.PowerMTA())
		}
		if back, ok := bounce.Parse(c.String()); !ok || back != c {
			t.Errorf("%s does not read back", c)
		}
		reached[c.PowerMTA()] = true
	}
	if len(theirs) != 17 || len(reached) != 17 {
		t.Errorf("%d of %d categories are reached", len(reached), len(theirs))
	}
}

// FuzzClassify: no reply makes it fail, and none that is transient is hard.
func FuzzClassify(f *testing.F) {
	for _, k := range replies(f)[:40] {
		f.Add(0, "", k.text, k.provider)
	}
	f.Add(550, "5.1.1", "550-5.1.1 <a@b>: x", "google")
	c := bounce.New()
	f.Fuzz(func(t *testing.T, code int, enhanced, text, provider string) {
		r := c.Classify(code, enhanced, text, provider)
		if r.Category.String() == "" || (r.Suppress && !r.Hard) || (r.Hard && code >= 400 && code < 500) {
			t.Fatalf("%d %q %q %q: %+v", code, enhanced, text, provider, r)
		}
		if again := c.Classify(code, enhanced, text, provider); again != r {
			t.Fatalf("%+v, then %+v", r, again)
		}
	})
}

// BenchmarkClassify goes through the table; ns/op is for one reply.
func BenchmarkClassify(b *testing.B) {
	c, all := bounce.New(), replies(b)
	b.ReportAllocs()
	defer processor(b)()
	for i := 0; b.Loop(); i++ {
		k := &all[i%len(all)]
		c.Classify(0, "", k.text, k.provider)
	}
}
