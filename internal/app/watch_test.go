package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
)

// TestWatchFormatsAreHistorys holds the names that a configuration may use against the
// formats that there are.
func TestWatchFormatsAreHistorys(t *testing.T) {
	for _, f := range history.Formats() {
		name := filepath.Join(t.TempDir(), "c.hcl")
		text := fmt.Sprintf("node {\n  hostname = \"gw.esp.example\"\n  state = \"s\"\n}\nwatch \"w\" {\n  format = %q\n  files = [\"x\"]\n}\n", f)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ds := config.Load(name, config.Options{}); ds.HasErrors() {
			t.Errorf("%s: %s", f, ds[0].Error())
		}
	}
}

// complaint about a mail that Postfix sent, as the provider of the world would write it.
func complaintAbout(mid, queue, rcpt string, source string) []byte {
	original := "Received: from app by mx1.esp.example (Postfix) with ESMTP id " + queue + "; Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <" + mid + ">\r\nSubject: Hi\r\nTo: <" + rcpt + ">\r\n\r\nbody\r\n"
	return message.BuildARF(&message.Complaint{From: "scomp@fbl.aol.com", To: "fbl@fbl.esp.example", Date: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), MessageID: mid + "." + queue, Boundary: "b",
		SourceIP: netip.MustParseAddr(source), Arrival: time.Date(2026, 11, 30, 12, 0, 5, 0, time.UTC), MailFrom: "n@news.acme.example", Rcpt: rcpt, Original: []byte(original)})
}

// TestWatchedMailIsJudged: a Postfix beside the node has sent a customer's mail and a
// stranger's. Complaints come into a maildir; each gets its verdict, the leak an
// incident, the webhook both; the customer's recipient is suppressed; a restart and the
// same complaint again change nothing.
func TestWatchedMailIsJudged(t *testing.T) {
	told := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b := make([]byte, 4096)
		n, _ := r.Body.Read(b)
		told <- string(b[:n])
	}))
	defer hook.Close()
	dir := t.TempDir()
	for _, d := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "box", d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	at := "2026-11-30T12:00:00+00:00 mx1 postfix/"
	sent := func(q, client, mid, rcpt string) string {
		return at + "smtpd[1]: " + q + ": client=x[" + client + "]\n" + at + "cleanup[1]: " + q + ": message-id=<" + mid + ">\n" +
			at + "qmgr[1]: " + q + ": from=<n@news.acme.example>, size=9, nrcpt=1 (queue active)\n" +
			at + "smtp[1]: " + q + ": to=<" + rcpt + ">, relay=mx.aol.com[203.0.113.25]:25, delay=1, dsn=2.0.0, status=sent (250 ok)\n" + at + "qmgr[1]: " + q + ": removed\n"
	}
	for name, text := range map[string]string{"mail.log": sent("4F2A91C001", "127.10.1.1", "m1@acme", "ann@aol.com") + sent("4F2A91C002", "198.51.100.66", "spam@bad", "bob@aol.com"), "secret": "s3cret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, fmt.Sprintf(`
watch "mx1" {
  format   = "postfix"
  files    = ["%[1]s/mail.log*"]
  hostname = "mx1.esp.example"
  source   = "127.21.0.1"
}
intake "box" {
  maildir  = "%[1]s/box"
  provider = "aol"
  every    = "1s"
}
webhook "desk" {
  url         = %[2]q
  secret_file = "%[1]s/secret"
}
`, dir, hook.URL))
	await := func(what string, ok func(app.Status) bool) { t.Helper(); w.eventually(what, ok) }
	await("the log is read", func(s app.Status) bool { return len(s.Watches) == 1 && s.Watches[0].Lines == 10 })
	drop := func(name string, raw []byte) {
		t.Helper()
		tmp := filepath.Join(dir, "box", "tmp", name)
		if err := os.WriteFile(tmp, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "box", "new", name)); err != nil {
			t.Fatal(err)
		}
	}
	drop("1", complaintAbout("m1@acme", "4F2A91C001", "ann@aol.com", "127.21.0.1"))
	drop("2", complaintAbout("other", "4F2A91C002", "bob@aol.com", "127.21.0.1"))
	drop("3", complaintAbout("foreign@x", "4F2A91C003", "eve@aol.com", "192.0.2.77"))
	if _, err := w.node.Judged(w.ctx(), 3); err != nil {
		t.Fatal(err)
	}
	var got []string
	judged := func(n int) {
		got = nil
		for i := 1; i <= n; i++ {
			r, err := w.node.Judged(w.ctx(), i)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, short(r))
		}
		slices.Sort(got)
	}
	judged(3)
	want := []string{"foreign B  ", "leaked B  watch mx1", "sent B acme watch mx1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if in := w.incidents(); len(in) != 1 || in[0].Trigger != "leaked" || in[0].Path.Listener != "watch mx1" {
		t.Errorf("incidents %+v", in)
	}
	for range 3 {
		if b := <-told; !strings.Contains(b, `"event":"reported"`) {
			t.Errorf("told %s", b)
		}
	}
	w.stop(w.node)
	w.start()
	await("nothing is read again", func(s app.Status) bool {
		return len(s.Watches) == 1 && !s.Watches[0].Complete.IsZero() && s.Watches[0].Lines == 0
	})
	drop("4", complaintAbout("m1@acme", "4F2A91C001", "ann@aol.com", "127.21.0.1"))
	judged(1)
	if got[0] != "duplicate C  " {
		t.Errorf("again: %q", got)
	}
}

func short(r *ledger.Reported) string {
	return r.Verdict + " " + r.Grade + " " + r.Customer + " " + r.Path.Listener
}

// TestManifestIsHandedIn: a customer's own record becomes rows, once however often it
// comes, and a complaint is judged by it.
func TestManifestIsHandedIn(t *testing.T) {
	w := newWorld(t, "watch \"shop\" {\n  format   = \"manifest\"\n  customer = field(\"customer\")\n}\n")
	line := map[string]string{"time": "2026-11-30T12:00:00Z", "recipient": "ann@aol.com", "message_id": "<m9@shop>", "customer": "acme", "source": "127.21.0.1"}
	var done app.ManifestDone
	for range 2 {
		if err := w.client.Post(w.ctx(), "/watches/shop", line, &done); err != nil || done.Rows != 2 || done.Unreadable != 0 {
			t.Fatalf("%v %+v", err, done)
		}
	}
	if err := w.client.Post(w.ctx(), "/watches/other", line, &done); err == nil {
		t.Error("a watch that there is not takes it")
	}
	var v struct{ Verdict, Customer, Grade string }
	if err := w.client.Post(w.ctx(), "/judge", app.JudgeRequest{Raw: complaintAbout("m9@shop", "none", "ann@aol.com", "127.21.0.1")}, &v); err != nil || v.Verdict != "sent" || v.Customer != "acme" || v.Grade != "B" {
		t.Errorf("%v %+v", err, v)
	}
	var traced []app.Traced
	if err := w.client.Get(w.ctx(), "/trace", url.Values{"message-id": {"m9@shop"}}, &traced); err != nil || len(traced) != 1 || len(traced[0].Events) != 2 {
		t.Errorf("%v, %d messages", err, len(traced))
	}
}
