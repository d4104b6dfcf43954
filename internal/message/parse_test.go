package message_test

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/message"
)

var rewrite = flag.Bool("rewrite", false, "write what is read into the expected files")

func fixtures(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/reports/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".eml")] = b
	}
	return out
}

// TestParseReport reads a mail of every shape and compares with the JSON beside it.
func TestParseReport(t *testing.T) {
	for name, msg := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			r, err := message.ParseReport(msg)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = nil
			got, err := json.MarshalIndent(struct {
				*message.Report
				Identity  string
				MessageID string `json:"OriginalMessageID"`
			}{r, r.Identity(), r.OriginalMessageID()}, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "reports", name+".json")
			if *rewrite {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.TrimSpace(string(want)), string(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestLineEndsDoNotMatter reads every fixture with the other line end.
func TestLineEndsDoNotMatter(t *testing.T) {
	for name, msg := range fixtures(t) {
		lf := strings.ReplaceAll(string(msg), "\r\n", "\n")
		a, errA := message.ParseReport([]byte(lf))
		b, errB := message.ParseReport([]byte(strings.ReplaceAll(lf, "\n", "\r\n")))
		if errA != nil || errB != nil {
			t.Errorf("%s: %v, %v", name, errA, errB)
			continue
		}
		if strings.Contains(name, "base64") {
			continue // its line ends are not touched
		}
		a.Original, b.Original = nil, nil
		if d := cmp.Diff(a, b, addrs); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestNotReports(t *testing.T) {
	for name, msg := range map[string]string{
		"empty":               "",
		"plain mail":          "From: a@b.example\nSubject: hello\n\nhello\n",
		"forwarded mail":      "From: a@b.example\nSubject: Fwd: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nFrom: c@d.example\n\nhello\n--b--\n",
		"read receipt":        "From: a@b.example\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n--b\n\nread\n--b\nContent-Type: message/disposition-notification\n\nFinal-Recipient: rfc822;a@b.example\n--b--\n",
		"jmrp without a mail": "From: staff@hotmail.example\nSubject: complaint about message from 192.0.2.1\n\nsorry\n",
		"about a bounce":      "From: A <a@b.example>\nSubject: Re: Undelivered Mail Returned to Sender\n\nI have this bounce:\n\n<c@d.example>: 550 5.1.1 no such user\n",
		"system mail":         "From: root@b.example\nAuto-Submitted: auto-generated\nSubject: cron\n\n/bin/x: error 550 in line 4, mail root@b.example\n",
		"newsletter":          "From: News <news@b.example>\nPrecedence: bulk\nSubject: Ten reasons why mail bounces\n\nRead more at https://b.example/\n",
		"bounce of nobody":    "Return-Path: <>\nFrom: mailer-daemon@b.example\nSubject: failure notice\n\nSomething failed. Nobody knows what.\n",
		"quotes a report":     "From: a@b.example\nContent-Type: text/plain\n\nFeedback-Type: abuse\nVersion: 1\n",
	} {
		if r, err := message.ParseReport([]byte(msg)); !errors.Is(err, message.ErrNotReport) || r != nil {
			t.Errorf("%s: got %v, %v", name, r, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	f := fixtures(t)
	seen := map[string]string{}
	for name, msg := range f {
		r, err := message.ParseReport(msg)
		if err != nil {
			t.Fatal(err)
		}
		if other := seen[r.Identity()]; other != "" {
			t.Errorf("%s and %s have one identity", name, other)
		}
		seen[r.Identity()] = name
		if again, _ := message.ParseReport(msg); again.Identity() != r.Identity() {
			t.Errorf("%s: the identity changes", name)
		}
	}
	// Without a Message-ID of its own a report is known by what it is about.
	without := func(old, with string) string {
		s := strings.Replace(string(f["arf-minimal-derived"]), "Message-ID: <r2@provider.example>\n", "", 1)
		r, err := message.ParseReport([]byte(strings.ReplaceAll(s, old, with)))
		if err != nil {
			t.Fatal(err)
		}
		return r.Identity()
	}
	if without("someone@", "somebody@") == without("", "") {
		t.Error("another recipient does not change the identity")
	}
	if without("FW: Spring", "FW: Sommer") != without("zzz", "") {
		t.Error("the report's subject changes the identity")
	}
}

func TestReceivedIDs(t *testing.T) {
	r, err := message.ParseReport(fixtures(t)["arf-full"])
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Original.ReceivedIDs("MTA7.esp.example"); len(got) != 1 || got[0] != "0gg0000000000000abcd" {
		t.Errorf("got %q", got)
	}
}

// TestBombs gives mail that is made to cost much.
func TestBombs(t *testing.T) {
	nested := strings.Repeat("Content-Type: multipart/mixed; boundary=b\n\n--b\n", 10_000)
	many := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 200_000)
	deep := strings.Repeat("Content-Type: message/rfc822\n\n", 50_000)
	fields := strings.Repeat("A: b\n", 500_000)
	groups := "Content-Type: message/delivery-status\n\n" + strings.Repeat("Final-Recipient: rfc822;a@b.example\n\n", 100_000)
	rubbish := "Content-Type: message/delivery-status\n\n" + strings.Repeat("rubbish\n", 100_000)
	for name, msg := range map[string]string{"nested": nested, "many": many, "deep": deep, "fields": fields, "groups": groups, "rubbish": rubbish,
		"one line": strings.Repeat("x", 1<<22), "colons": strings.Repeat(":", 1<<22), "folds": "A: b\n" + strings.Repeat(" \n", 1<<20)} {
		t.Run(name, func(t *testing.T) {
			parts := 0
			if err := message.Walk([]byte(msg), message.Limits{}, func(p *message.Part) error {
				if parts++; p.Depth >= 32 {
					t.Errorf("depth %d", p.Depth)
				}
				return nil
			}); err != nil || parts > 1000 {
				t.Errorf("%d parts, %v", parts, err)
			}
			// What is a report among them is of no interest.
			_, _ = message.ParseReport([]byte(msg))
		})
	}
}

// bounceHead makes of any text what may be a bounce.
const bounceHead = "Return-Path: <>\nFrom: MAILER-DAEMON@b.example\nTo: a@b.example\nSubject: failure notice\n"

// TestBouncesOfBombs gives bounces that are made to cost much: within a second of
// processor time each, whatever is in them, and memory within a few times their size.
func TestBouncesOfBombs(t *testing.T) {
	const n = 2 << 20
	fill := func(s string) string { return strings.Repeat(s, n/len(s)) }
	html := "Content-Type: text/html\n\n"
	for name, body := range map[string]string{
		"addresses in one line": "\n" + fill("@"),
		"many addresses":        "\n" + fill("<a@b.example>: 550 5.1.1 no\n"),
		"list of addresses":     "\n" + fill("a@b.example, "),
		"labels":                "\n" + fill("to: to: "),
		"replies":               "\n" + fill("550 550-550 5.1.1 "),
		"fields":                "\n" + fill("From: a\n"),
		"fields and text":       "\n" + fill("From: a\nTo: b\ntext\n"),
		"quoted":                "\n" + fill("> From: a\n"),
		"empty lines":           "\n" + fill("\n"),
		"dialog":                "\n" + fill(">>> RCPT TO:<a@b.example>\n<<< 550 no\n"),
		"tags":                  html + fill("<"),
		"styles":                html + fill("<style>"),
		"titles":                html + fill("<title>x</title>"),
		"entities":              html + fill("&lt;"),
		"braces":                "\n" + `{"notificationType":` + fill("["),
		"JSON":                  "\n" + `{"xarf_version":"4","evidence":[` + fill(`{"payload":""},`),
		"escapes":               "Content-Transfer-Encoding: quoted-printable\n\n" + fill("=41"),
		"base64":                "Content-Transfer-Encoding: base64\n\n" + fill("QUFB"),
		"shift sequences":       "Content-Type: text/plain; charset=iso-2022-jp\n\n" + fill("\x1b$B!!\x1b(B"),
		"unknown charset":       "Content-Type: text/plain; charset=\xff\xfe\n\n" + fill("\xe9"),
		"parts of text":         "Content-Type: multipart/mixed; boundary=b\n\n" + fill("--b\n\n550 <a@b.example> failed\n"),
		"parts of HTML":         "Content-Type: multipart/mixed; boundary=b\n\n" + fill("--b\nContent-Type: text/html\n\n<p>550 failed\n"),
		"parts of status":       "Content-Type: multipart/report; boundary=b\n\n" + fill("--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822;a\n"),
		"mails in mails":        fill("Content-Type: message/rfc822\n\n" + bounceHead),
		"boundaries":            "Content-Type: multipart/mixed; boundary=b\n\n" + fill("--bb\n"),
		"same boundary within":  fill("Content-Type: multipart/mixed; boundary=b\n\n--b\n"),
		"long field":            "X: " + fill("x") + "\n\n550 <a@b.example>\n",
		"failed recipients":     "X-Failed-Recipients: " + fill("a@b.example,") + "\n\nfailed\n",
	} {
		t.Run(name, func(t *testing.T) {
			msg := []byte(bounceHead + body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := processorTime(t)
			_, _ = message.ParseReport(msg) // what it is is of no interest
			took := processorTime(t) - start
			runtime.ReadMemStats(&after)
			if took > 2*time.Second {
				t.Errorf("%v of processor time", took)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 64*n {
				t.Errorf("%d MiB allocated in all", got>>20)
			}
		})
	}
}

// TestLargeMail reads a bounce that returns very much: what is kept of it is little.
func TestLargeMail(t *testing.T) {
	size := 1 << 28
	if os.Getenv("POSTERN_SOAK") != "" {
		size = 1 << 30
	}
	head := bounceHead + "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nfailed\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; b.example\n\nFinal-Recipient: rfc822; c@d.example\nAction: failed\nStatus: 5.1.1\n\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <m@b.example>\nSubject: s\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\n\n"
	msg := make([]byte, size)
	n := copy(msg, head)
	line := []byte(strings.Repeat("QUFB", 19) + "\n")
	for n < len(msg) {
		n += copy(msg[n:], line)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := message.ParseReport(msg)
	runtime.ReadMemStats(&after)
	if err != nil || len(r.Recipients) != 1 || r.OriginalMessageID() != "m@b.example" || len(r.Original.Body) > 64<<10 {
		t.Fatalf("%v, %+v", err, r)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d MiB allocated beside the mail", got>>20)
	}
}

// FuzzParseReport finds mail that breaks the reader.
func FuzzParseReport(f *testing.F) {
	for _, msg := range fixtures(f) {
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, err := message.ParseReport(msg)
		if (r == nil) != (err != nil) || (err != nil && !errors.Is(err, message.ErrNotReport)) {
			t.Fatalf("got %v, %v", r, err)
		}
		if r == nil {
			return
		}
		if r.Format == "" || r.Incidents < 1 || len(r.Identity()) != 32 {
			t.Fatalf("got %+v", r)
		}
		if r.Original != nil && len(r.Original.Body) > 64<<10 {
			t.Fatalf("%d octets of the original", len(r.Original.Body))
		}
		for _, f := range append(r.Fields, r.Header...) {
			if strings.ContainsAny(f.Name, "\r\n:") || strings.ContainsAny(f.Value, "\r\n") {
				t.Fatalf("field %q: %q", f.Name, f.Value)
			}
		}
	})
}

func BenchmarkParseReport(b *testing.B) {
	msg := fixtures(b)["arf-full"]
	big := strings.Replace(string(msg), "Everything must go.", strings.Repeat("Everything must go, and nothing shall stay.\r\n", 160), 1)
	for name, m := range map[string][]byte{"2kB": msg, "10kB": []byte(big)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(m)))
			for b.Loop() {
				if _, err := message.ParseReport(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
