package history_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/history"
)

var reference = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// files are the fixtures, in the shapes that the servers' documentation gives.
var files = map[history.Format]string{history.Postfix: "postfix.log", history.Exim: "exim.log", history.Haraka: "haraka.log", history.PowerMTA: "powermta.csv",
	history.KumoMTA: "kumomta.jsonl", history.Manifest: "manifest.jsonl"}

func fixture(t testing.TB, f history.Format) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + files[f])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parser(f history.Format) *history.Parser {
	return history.New(history.Options{Format: f, Reference: reference, Fields: []string{"vmta", "sasl_username", "tenant", "user", "customer"}})
}

// short shows a record in one line.
func short(r *history.Record) string {
	m := r.Message
	who := m.User
	switch {
	case m.Own:
		who = "own"
	case who == "":
		who = m.Client.String()
	}
	s := fmt.Sprintf("%s %s %s <%s> by %s", r.Time.UTC().Format("15:04:05"), r.Kind, r.Recipient, m.MessageID, who)
	if r.First {
		s += " first"
	}
	if r.Inside {
		s += " inside"
	}
	if r.Source.IsValid() {
		s += " from " + r.Source.String()
	}
	if r.Peer.IsValid() {
		s += " to " + r.Peer.String()
	}
	if r.Reply != "" {
		s += " " + r.Reply
	}
	if v := strings.Join(m.Extra, ""); v != "" {
		s += " [" + strings.Join(m.Extra, ",") + "]"
	}
	return s
}

func read(p *history.Parser, text []byte) (out []string) {
	for line := range bytes.Lines(text) {
		rs := p.Line(line)
		for i := range rs {
			out = append(out, short(&rs[i]))
		}
	}
	return out
}

func TestFormats(t *testing.T) {
	want := map[history.Format][]string{
		history.Postfix: {
			"12:00:02 handed-off ann@aol.example <m1@acme.example> by acme-app first to 203.0.113.25:25 250 2.0.0 Ok: queued as ABC (x) [,acme-app,,,]",
			"12:00:03 deferred bob@slow.example <m1@acme.example> by acme-app first connect to slow.example[203.0.113.26]:25: Connection timed out [,acme-app,,,]",
			"12:10:03 failed bob@slow.example <m1@acme.example> by acme-app to [2001:db8::26]:25 host slow.example[2001:db8::26] said: 550 5.1.1 <bob@slow.example>: no such user (in reply to RCPT TO command) [,acme-app,,,]",
			"12:10:04 handed-off b-1@news.acme.example <20261130.6A77D1C040@mx1.esp.example> by own first to 10.1.0.9:25 250 ok",
			"11:20:00 handed-off c@aol.example <spam@bad.example> by 198.51.100.66 first inside to 127.0.0.1:10024 250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4cQ3xT2Yz0zB6",
			"11:20:01 handed-off c@aol.example <spam@bad.example> by 198.51.100.66 first to 203.0.113.25:25 250 ok",
		},
		history.Exim: {
			`11:00:01 handed-off ann@aol.example <m1@acme.example> by acme-app first from 198.51.100.7 to 203.0.113.25:25 250 2.0.0 Ok: queued as \"X\" [,,,acme-app,]`,
			"12:00:02 deferred bob@slow.example <m1@acme.example> by acme-app first defer (110): Connection timed out [,,,acme-app,]",
			"12:30:02 failed bob@slow.example <m1@acme.example> by acme-app to 203.0.113.26:0 550 5.1.1 no such user [,,,acme-app,]",
			"12:30:04 handed-off news@acme.example <> by own first inside",
			"12:40:01 handed-off c@aol.example <spam@bad.example> by 198.51.100.66 first to 203.0.113.25:0 250 ok",
		},
		history.Haraka: {"12:00:02 handed-off ann@aol.example <m1@acme.example> by acme-app first to 203.0.113.25:25 2.0.0 Ok: queued as X [,,,acme-app,]"},
		history.PowerMTA: {
			"11:00:00 received ann@aol.example <m1@acme.example> by 10.1.0.5 first [acme-1,,,,]",
			`11:00:01 deferred ann@aol.example <m1@acme.example> by 10.1.0.5 from 198.51.100.7 to 203.0.113.25:25 451 4.2.0 try "later", please [acme-1,,,,]`,
			"11:10:00 handed-off ann@aol.example <m1@acme.example> by 10.1.0.5 from 198.51.100.7 to 203.0.113.25:25 250 2.0.0 ok [acme-1,,,,]",
			"11:00:02 failed bob@slow.example <m2@acme.example> by 10.1.0.5 first from 198.51.100.7 to 203.0.113.26:25 550 5.1.1 no such user [acme-1,,,,]",
			"12:00:02 bounced eve@late.example <m3@acme.example> by invalid IP 552 full",
			"13:00:02 complained ann@aol.example <m1@acme.example> by invalid IP from 198.51.100.7",
		},
		history.KumoMTA: {
			"12:00:00 received ann@aol.example <m1@acme.example> by acme-app first [,,acme,,]",
			"12:00:01 deferred ann@aol.example <m1@acme.example> by acme-app from 198.51.100.7 to 203.0.113.25:25 451 try later [,,acme,,]",
			"12:10:00 handed-off ann@aol.example <m1@acme.example> by acme-app from 198.51.100.7 to 203.0.113.25:25 250 OK ids=8a54 [,,acme,,]",
			"12:00:00 failed bob@slow.example <> by invalid IP first 550 5.1.1 no such user [,,acme,,]",
			"14:46:40 complained fbl@esp.example <> by invalid IP from 198.51.100.7",
		},
		history.Manifest: {
			"12:00:00 handed-off ann@aol.example <m1@acme.example> by invalid IP first from 198.51.100.7 to 203.0.113.25:25 [,,,,acme]",
			"12:00:00 failed bob@slow.example <> by invalid IP first 550 5.1.1 no",
		},
	}
	for f, w := range want {
		t.Run(string(f), func(t *testing.T) {
			p := parser(f)
			if d := cmp.Diff(w, read(p, fixture(t, f))); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestSubjects(t *testing.T) {
	for f, want := range map[history.Format]string{history.Postfix: "Spring from the shop", history.KumoMTA: "a \"b\" é", history.Exim: `A \"quoted\" H=subject`} {
		p := parser(f)
		got := ""
		for line := range bytes.Lines(fixture(t, f)) {
			if rs := p.Line(line); len(rs) > 0 && got == "" {
				got = rs[0].Message.Subject
			}
		}
		if got != want {
			t.Errorf("%s: subject %q, want %q", f, got, want)
		}
	}
}

// TestCheckpoints cuts each fixture behind each line, and goes on with a parser that
// knows only the checkpoints: nothing changes.
func TestCheckpoints(t *testing.T) {
	for f := range files {
		lines := bytes.SplitAfter(fixture(t, f), []byte("\n"))
		want := read(parser(f), fixture(t, f))
		for cut := range lines {
			p, states := parser(f), map[string][]byte{}
			var got []string
			for i, line := range lines {
				got = append(got, read(p, line)...)
				for _, c := range p.Checkpoint() {
					if c.State == nil {
						delete(states, c.Queue)
					} else {
						states[c.Queue] = c.State
					}
				}
				if i == cut {
					head := p.Head()
					p = parser(f)
					p.SetHead(head)
					p.Restore(states)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%s, cut behind line %d: -want +got\n%s", f, cut+1, d)
			}
		}
	}
}

// TestTableIsBounded lets messages begin that never end.
func TestTableIsBounded(t *testing.T) {
	p := history.New(history.Options{Format: history.Postfix, Reference: reference, MaxOpen: 100})
	for i := range 10_000 {
		p.Line(fmt.Appendf(nil, "Nov 30 12:00:00 mx1 postfix/smtpd[1]: %010X: client=a[10.0.0.1]", i))
		p.Line(fmt.Appendf(nil, "Nov 30 12:00:00 mx1 postfix/cleanup[1]: %010X: message-id=<%d@a>", i, i))
	}
	if n := p.Open(); n > 102 {
		t.Errorf("%d messages are kept", n)
	}
	if c := p.Counts(); c.Forgotten < 9_000 {
		t.Errorf("only %d are counted as forgotten", c.Forgotten)
	}
}

func TestYears(t *testing.T) {
	for _, c := range []struct {
		line string
		ref  time.Time
		want string
	}{
		{"Dec 31 23:00:00", time.Date(2027, 1, 1, 3, 0, 0, 0, time.UTC), "2026-12-31"},
		{"Jan  1 01:00:00", time.Date(2027, 1, 1, 3, 0, 0, 0, time.UTC), "2027-01-01"},
		{"Feb 29 01:00:00", time.Date(2027, 1, 1, 3, 0, 0, 0, time.UTC), "2024-02-29"},
	} {
		p := history.New(history.Options{Format: history.Postfix, Reference: c.ref})
		rs := p.Line([]byte("<22>" + c.line + " h postfix/smtp[1]: 4F2A91C03E: to=<a@b>, relay=b[192.0.2.1]:25, delay=0, dsn=2.0.0, status=sent (ok)"))
		if len(rs) != 1 || rs[0].Time.Format("2006-01-02") != c.want {
			t.Errorf("%s: got %v, want %s", c.line, rs, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	for i, format := range history.Formats() {
		for line := range bytes.Lines(fixture(f, format)) {
			f.Add(uint8(i), line)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		format := history.Formats()[int(which)%len(history.Formats())]
		p, before := parser(format), bytes.Clone(text)
		defer func() {
			if !bytes.Equal(text, before) {
				t.Fatalf("the lines were changed: %q, were %q", text, before)
			}
		}()
		for line := range bytes.Lines(text) {
			for _, r := range p.Line(line) {
				if r.Message == nil || r.Kind == 0 || len(r.Reply) > 2000 {
					t.Fatalf("record %+v", r)
				}
			}
		}
		for _, c := range p.Checkpoint() {
			if c.State != nil && !json.Valid(c.State) {
				t.Fatalf("state %q", c.State)
			}
		}
	})
}

// FuzzObject holds the reader of JSON against the standard one: an object that the
// latter takes with a time and a recipient makes a record.
func FuzzObject(f *testing.F) {
	for line := range bytes.Lines(fixture(f, history.Manifest)) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsAny(line, "\n\r") {
			return
		}
		var v struct {
			Time      string `json:"time"`
			Recipient string `json:"recipient"`
			Status    string `json:"status"`
		}
		d := json.NewDecoder(bytes.NewReader(line))
		if d.Decode(&v) != nil || !json.Valid(line) || v.Status != "" || v.Recipient == "" || strings.ContainsAny(v.Recipient, "<>") {
			return
		}
		at, err := time.Parse(time.RFC3339, v.Time)
		if err != nil || at.IsZero() || bytes.Count(line, []byte(`"time"`)) != 1 || bytes.Count(line, []byte(`"recipient"`)) != 1 || bytes.Contains(line, []byte(`\`)) || bytes.Count(line, []byte("[")) > 30 || bytes.Count(line, []byte("{")) > 30 {
			return
		}
		if strings.Contains(string(line), `"status"`) || !strings.Contains(string(line), `"recipient"`) {
			return
		}
		if rs := parser(history.Manifest).Line(line); len(rs) != 1 {
			t.Fatalf("%q made %d records", line, len(rs))
		}
	})
}

// BenchmarkLines reads lines as a busy server writes them: each message is another.
func BenchmarkLines(b *testing.B) {
	for _, format := range history.Formats() {
		b.Run(string(format), func(b *testing.B) {
			text := bytes.Split(bytes.TrimSpace(many(b, format, 2000)), []byte("\n"))
			p := parser(format)
			p.Checkpoint()
			records, size := 0, 0
			for i := 0; b.Loop(); i++ {
				line := text[i%len(text)]
				records += len(p.Line(line))
				size += len(line)
				if i%4096 == 0 {
					p.Checkpoint()
				}
			}
			b.SetBytes(int64(size / b.N))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
			b.ReportMetric(float64(records)/float64(b.N), "records/line")
		})
	}
}

// many writes a fixture out many times, for other messages each.
func many(t testing.TB, f history.Format, n int) []byte {
	var b bytes.Buffer
	text := string(fixture(t, f))
	for i := range n {
		id := fmt.Sprintf("%04X", i)
		s := strings.NewReplacer("4F2A91C0", "4F2A"+id, "6A77D1C0", "6A77"+id, "4cQ3xT", "4c"+id, "1vPab", "1"+id, "1hXyZ", "1"+id, "-42CC-", "-"+id+"-", "1d98076a", "1d98"+id,
			"2d98076a", "2d98"+id, "<m1@", "<m1-"+id+"@", "ann@", "ann"+id+"@").Replace(text)
		if f == history.PowerMTA && i > 0 {
			_, s, _ = strings.Cut(s, "\n")
		}
		b.WriteString(s)
	}
	return b.Bytes()
}
