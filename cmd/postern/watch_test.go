package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/message"
)

// look runs watch -once -json and gives its sum.
func look(t *testing.T, want int, args ...string) (s tally) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Main(append([]string{"watch", "-once", "-json"}, args...), strings.NewReader(""), &out, &errs); code != want {
		t.Fatalf("exit status %d, want %d\n%s%s", code, want, &out, &errs)
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestWatchOnce looks at the fixtures of every format, plain and compressed.
func TestWatchOnce(t *testing.T) {
	dir := "../../internal/history/testdata/"
	for _, c := range []struct {
		file                                 string
		messages, handed, failed, unreadable int64
		reports                              int
	}{
		{"postfix.log", 5, 4, 1, 0, 0},
		{"exim.log", 4, 3, 1, 0, 0},
		{"haraka.log", 1, 1, 0, 0, 0},
		{"powermta.csv", 2, 1, 1, 0, 2},
		{"kumomta.jsonl", 2, 1, 1, 0, 1},
		{"manifest.jsonl", 2, 1, 1, 2, 0},
	} {
		s := look(t, 0, dir+c.file)
		if s.Messages != c.messages || s.HandedOff != c.handed || s.Failed != c.failed || s.Unreadable != c.unreadable || s.Reports != c.reports {
			t.Errorf("%s: %+v", c.file, s)
		}
	}
	b, err := os.ReadFile(dir + "powermta.csv")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "acct.csv.gz")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(b)
	w.Close()
	if err := os.WriteFile(name, z.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := look(t, 0, "-customer", "vmta", name); s.Customers["acme-1"] != 1 || s.Verdicts["sent"] != 1 {
		t.Errorf("%+v", s)
	}
	look(t, exitUsage, filepath.Join(t.TempDir(), "none"))
}

// TestWatchOnceJudges: with a configuration, complaints about the mail of a log are told
// apart: a customer's, a stranger's that leaked, and mail of nobody here.
func TestWatchOnceJudges(t *testing.T) {
	dir := t.TempDir()
	cfg := filepath.Join(dir, "postern.hcl")
	text := `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
watch "mx1" {
  format   = "postfix"
  files    = ["` + dir + `/mail.log"]
  hostname = "mx1.esp.example"
  source   = "198.51.100.7"
}
customer "acme" {
  networks = ["10.1.0.0/24"]
  senders  = ["news.acme.example"]
}
pool "general" { sources = ["198.51.100.7"] }
provider "aol" { domains = ["fbl.aol.com"] }
`
	log, err := os.ReadFile("../../internal/history/testdata/postfix.log")
	if err != nil {
		t.Fatal(err)
	}
	complaint := func(mid, rcpt, source string) []byte {
		return message.BuildARF(&message.Complaint{From: "scomp@fbl.aol.com", To: "fbl@esp.example", Date: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), MessageID: "r." + mid, Boundary: "b", SourceIP: netip.MustParseAddr(source),
			Arrival: time.Date(2026, 11, 30, 12, 21, 0, 0, time.UTC), Rcpt: rcpt, Original: []byte("Message-ID: <" + mid + ">\r\nTo: <" + rcpt + ">\r\n\r\nbody\r\n")})
	}
	for name, b := range map[string][]byte{"postern.hcl": []byte(text), "mail.log": log, "1.eml": complaint("m1@acme.example", "ann@aol.example", "198.51.100.7"),
		"2.eml": complaint("spam@bad.example", "c@aol.example", "198.51.100.7"), "3.eml": complaint("x@y.example", "c@aol.example", "192.0.2.1")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := look(t, exitNo, "-config", cfg, filepath.Join(dir, "mail.log"), filepath.Join(dir, "1.eml"), filepath.Join(dir, "2.eml"), filepath.Join(dir, "3.eml"))
	if s.Verdicts["sent"] != 1 || s.Verdicts["leaked"] != 1 || s.Verdicts["foreign"] != 1 || s.Customers["acme"] == 0 || s.Strangers == 0 {
		t.Errorf("%+v", s)
	}
}

// TestWatchRealServers sends mail through Debian's Postfix and Exim and reads the logs
// that they write: what arrived was handed off, what was refused failed.
func TestWatchRealServers(t *testing.T) {
	t.Run("Postfix", func(t *testing.T) {
		need(t, "postfix")
		if os.Geteuid() != 0 {
			t.Skip("Postfix needs root to run")
		}
		dir, err := os.MkdirTemp("/tmp", "postern-postfix-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		in, out := freePort(t, "127.0.0.61"), freePort(t, "127.0.0.62")
		s := newSink(t, fmt.Sprintf("127.0.0.62:%d", out))
		listen := fmt.Sprintf("127.0.0.61:%d", in)
		runPostfix(t, dir, listen, fmt.Sprintf("[127.0.0.62]:%d", out), "smtp_tls_security_level = none\nenable_long_queue_ids = yes\nheader_checks = regexp:{{/^Subject:/ INFO}}\n")
		passOn(t, listen, s)
		awaitLog(t, filepath.Join(dir, "log"), ": removed", 3)
		readLog(t, filepath.Join(dir, "log"))
	})
	t.Run("Exim", func(t *testing.T) {
		out := freePort(t, "127.0.0.64")
		listen := fmt.Sprintf("127.0.0.63:%d", freePort(t, "127.0.0.63"))
		s := newSink(t, fmt.Sprintf("127.0.0.64:%d", out))
		dir, _ := startExim(t, listen, fmt.Sprintf("log_selector = +subject +received_recipients +smtp_confirmation +outgoing_interface\nbegin routers\nall:\n  driver = manualroute\n  transport = out\n  route_list = * 127.0.0.64\n  self = send\nbegin transports\nout:\n  driver = smtp\n  port = %d\n  hosts_avoid_tls = *\n", out))
		passOn(t, listen, s)
		awaitLog(t, filepath.Join(dir, "mainlog"), "Completed", 3)
		readLog(t, filepath.Join(dir, "mainlog"))
	})
}

// passOn sends three mails by a server, and waits until they have arrived.
func passOn(t *testing.T, listen string, s *sink) {
	t.Helper()
	swaks := need(t, "swaks")
	for i := range 3 {
		out, err := exec.Command(swaks, "--server", listen, "--from", "news@acme.example", "--to", fmt.Sprintf("r%d@sink.example", i), "--header", fmt.Sprintf("Message-Id: <m%d@acme.example>", i), "--header", "Subject: Spring is here").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if err := s.await(deadline(t, 30*time.Second), func(got map[string]int) bool { return len(got) == 3 }); err != nil {
		t.Fatal("the mails did not arrive")
	}
}

// awaitLog waits until a log has a text so many times.
func awaitLog(t *testing.T, name, text string, n int) {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	for {
		b, _ := os.ReadFile(name)
		if bytes.Count(b, []byte(text)) >= n {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the log has no %q\n%s", text, b)
		}
	}
}

// readLog looks at a server's own log.
func readLog(t *testing.T, name string) {
	t.Helper()
	s := look(t, 0, name)
	if s.Messages != 3 || s.HandedOff != 3 || s.Failed != 0 || s.Unreadable != 0 || s.Orphans != 0 || s.Domains["sink.example"] != 3 {
		b, _ := os.ReadFile(name)
		t.Errorf("%+v\n%s", s, b)
	}
	mail := message.BuildARF(&message.Complaint{From: "scomp@fbl.aol.com", To: "fbl@esp.example", Date: time.Now(), MessageID: "r@fbl.aol.com", Boundary: "b", SourceIP: netip.MustParseAddr("127.0.0.61"), Arrival: time.Now(),
		Rcpt: "r1@sink.example", Original: []byte("Message-ID: <m1@acme.example>\r\nSubject: Spring is here\r\nTo: <r1@sink.example>\r\n\r\nbody\r\n")})
	report := filepath.Join(t.TempDir(), "c.eml")
	if err := os.WriteFile(report, mail, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := look(t, 0, name, report); s.Verdicts["sent"] != 1 {
		t.Errorf("the complaint: %+v", s.Verdicts)
	}
}

// TestReportExport writes a complaint in each form; ARF can be read again.
func TestReportExport(t *testing.T) {
	name := filepath.Join(t.TempDir(), "c.eml")
	raw := message.BuildARF(&message.Complaint{From: "scomp@aol.net", To: "fbl@esp.example", Date: time.Unix(1796040000, 0).UTC(), MessageID: "r@aol.net", Boundary: "b", SourceIP: netip.MustParseAddr("198.51.100.7"),
		Arrival: time.Unix(1796040000, 0).UTC(), Rcpt: "ann@aol.example", Original: []byte("Message-ID: <m1@acme.example>\r\n\r\nbody\r\n")})
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{"arf": "Feedback-Type: abuse", "xarf": `"xarf_version":"4.2.0"`, "json": `"FeedbackType":"abuse"`} {
		out, errs, code := run(t, "report", "export", "-format", format, name)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "m1@acme.example") && format != "xarf" {
			t.Errorf("%s: %d %s%s", format, code, out, errs)
		}
		if format == "arf" {
			if r, err := message.ParseReport([]byte(out)); err != nil || r.OriginalMessageID() != "m1@acme.example" {
				t.Errorf("%v %+v", err, r)
			}
		}
	}
	if _, _, code := run(t, "report", "export", "-format", "pdf", name); code != exitUsage {
		t.Errorf("exit status %d", code)
	}
}

// TestWatchExample: the example is closed, and nothing is said of it.
func TestWatchExample(t *testing.T) {
	out, errs, code := run(t, "check", "-q", "../../examples/watch/postern.hcl")
	if code != 0 || !strings.Contains(out, "no findings") || errs != "" {
		t.Errorf("%d %s%s", code, out, errs)
	}
}
