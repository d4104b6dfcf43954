package app_test

import (
	"bytes"
	"errors"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/suppress"
)

// suppressed gives the entries that a customer's mail to an address meets.
func (w *world) suppressed(customer, address string) (out []app.SuppressEntry) {
	w.t.Helper()
	if err := w.client.Get(w.ctx(), "/suppressions/get", url.Values{"customer": {customer}, "address": {address}}, &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// awaitSuppressed waits for an entry.
func (w *world) awaitSuppressed(customer, address string) app.SuppressEntry {
	w.t.Helper()
	var got []app.SuppressEntry
	w.eventually(address+" suppressed", func(app.Status) bool { got = w.suppressed(customer, address); return len(got) > 0 })
	return got[0]
}

func (w *world) act(action string, req app.SuppressAction) app.Done {
	w.t.Helper()
	var done app.Done
	req.By = "test"
	if err := w.client.Post(w.ctx(), "/suppressions/"+action, req, &done); err != nil {
		w.t.Fatal(err)
	}
	return done
}

// TestHardBounceSuppresses: one "user unknown" keeps the address from being mailed for
// that customer, at RCPT, over a restart, and until somebody takes it off.
func TestHardBounceSuppresses(t *testing.T) {
	w := newWorld(t, `suppression = "refuse"`)
	c := w.session(acme, w.inject)
	if r := w.send(c, "n@news.acme.example", mail("acme-1"), "unknown1@aol.com", "fine@aol.com"); !r.Positive() {
		t.Fatal(r)
	}
	e := w.awaitSuppressed("acme", "Unknown1@AOL.com")
	if e.Reason != "hard-bounce" || e.Detail != "bad-mailbox" || e.Customer != "acme" || len(e.Source) != 20 || e.Created.IsZero() || !e.Expires.IsZero() {
		t.Errorf("entry %+v", e)
	}
	if got := w.suppressed("globex", "unknown1@aol.com"); len(got) != 0 {
		t.Errorf("another customer's list has %+v", got)
	}
	want := "550 5.1.1 recipient is on your suppression list (hard bounce " + e.Created.UTC().Format("2006-01-02") + ")"
	refused := func() {
		t.Helper()
		r := w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-2"), "UNKNOWN1@aol.com")
		if r.String() != want {
			t.Errorf("got %q, want %q", r, want)
		}
	}
	refused()
	w.stop(w.node)
	w.start()
	refused()
	if done := w.act("rm", app.SuppressAction{Customer: "acme", Addresses: []string{"unknown1@aol.com"}}); done.Changed != 1 {
		t.Errorf("removed %d", done.Changed)
	}
	w.stop(w.node)
	w.start() // events that were followed do not bring it back
	if got := w.suppressed("acme", "unknown1@aol.com"); len(got) != 0 {
		t.Errorf("it is back: %+v", got)
	}
	if r := w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-3"), "unknown1@aol.com"); !r.Positive() {
		t.Errorf("still refused: %v", r)
	}
	w.awaitSuppressed("acme", "unknown1@aol.com") // it bounced anew
}

// TestRefusalsThatSuppressNothing: only what is permanent and about the address suppresses.
func TestRefusalsThatSuppressNothing(t *testing.T) {
	w := newWorld(t, "")
	w.aol.Behaviour.Refuse = func(to smtp.Path) *smtp.Reply {
		switch to.Local {
		case "listed":
			return smtp.NewReply(550, smtp.EnhancedCode{5, 1, 1}, "recipient rejected, your IP is on a blocklist")
		case "full":
			return smtp.NewReply(552, smtp.EnhancedCode{5, 2, 2}, "mailbox full")
		case "gone":
			return smtp.NewReply(550, smtp.EnhancedCode{5, 1, 1}, "no such user")
		}
		return nil
	}
	w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "listed@aol.com", "full@aol.com", "gone@aol.com")
	w.awaitSuppressed("acme", "gone@aol.com")
	w.eventually("all done", func(s app.Status) bool { return s.Waiting == 0 })
	for _, a := range []string{"listed@aol.com", "full@aol.com"} {
		if got := w.suppressed("acme", a); len(got) != 0 {
			t.Errorf("%s: %+v", a, got)
		}
	}
}

// TestComplaintSuppresses: who complains is not mailed again by that customer, and is
// refused without a word to strangers.
func TestComplaintSuppresses(t *testing.T) {
	w := newWorld(t, `suppression = "refuse"
filter "in" {
  if   = origin == "stranger" && rcpt.domain == "aol.com"
  then = drop()
}`)
	w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "reader@aol.com")
	if err := w.aol.Await(w.ctx(), 1, marked("acme-1")); err != nil {
		t.Fatal(err)
	}
	d := w.aol.Received()[0]
	w.eventually("on record", func(s app.Status) bool { return s.Waiting == 0 }) // as a complaint of the real world finds it
	if err := w.aol.Complain(w.ctx(), &d, w.internet, smtp.Path{Local: "fbl", Domain: "fbl.esp.example"}); err != nil {
		t.Fatal(err)
	}
	if v, err := w.node.Judged(w.ctx(), 1); err != nil || v.Verdict != "sent" {
		t.Fatalf("%+v, %v", v, err)
	}
	e := w.awaitSuppressed("acme", "reader@aol.com")
	if e.Reason != "complaint" || e.Customer != "acme" {
		t.Errorf("entry %+v", e)
	}
	if r := w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-2"), "reader@aol.com"); r.Code != 550 || !strings.Contains(r.String(), "5.7.1 recipient is on your suppression list (complaint ") {
		t.Errorf("got %v", r)
	}
	if r := w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-1"), "reader@aol.com"); !r.Positive() {
		t.Errorf("a stranger is told: %v", r)
	}
}

// TestSuppressionModes: accept-and-bounce takes the mail and tells by a DSN; off delivers.
func TestSuppressionModes(t *testing.T) {
	w := newWorld(t, `suppression = "accept-and-bounce"`)
	w.act("add", app.SuppressAction{Addresses: []string{"never@aol.com"}, Note: "asked by phone"})
	if r := w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "never@aol.com"); !r.Positive() {
		t.Fatal(r)
	}
	if err := w.other.Await(w.ctx(), 1, func(d *lab.Delivery) bool {
		return d.From.IsNull() && bytes.Contains(d.Data, []byte("suppression list"))
	}); err != nil {
		t.Fatal(err)
	}
	if n := w.aol.Count(marked("acme-1")); n != 0 {
		t.Errorf("%d were delivered", n)
	}
	w.write(`suppression = "off"`)
	if _, err := w.node.Reload(w.ctx(), app.ReloadRequest{By: "test"}); err != nil {
		t.Fatal(err)
	}
	w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-2"), "never@aol.com")
	if err := w.aol.Await(w.ctx(), 1, marked("acme-2")); err != nil {
		t.Fatal(err)
	}
}

// TestImportOverTheSocket streams a list in and out, and puts it on record.
func TestImportOverTheSocket(t *testing.T) {
	w := newWorld(t, `suppression_addresses = "hashed"`)
	var list strings.Builder
	list.WriteString("address,reason\n")
	for range 5000 {
		list.WriteString("rubbish\n")
	}
	list.WriteString("one@aol.com,unsubscribe\n")
	var out suppress.Imported
	if err := w.client.Send(w.ctx(), "/suppressions/import", url.Values{"customer": {"acme"}, "by": {"test"}, "file": {"list.csv"}}, strings.NewReader(list.String()), &out); err != nil {
		t.Fatal(err)
	}
	if out.Lines != 5002 || out.Entries != 1 || out.Bad != 5000 || len(out.Faults) != 100 || out.Faults[0].Line != 2 {
		t.Errorf("imported %+v", out)
	}
	if e := w.awaitSuppressed("acme", "one@aol.com"); e.Reason != "unsubscribe" || !strings.HasPrefix(e.Address, "hash:") {
		t.Errorf("entry %+v", e)
	}
	var b bytes.Buffer
	if n, err := w.client.Copy(w.ctx(), "/suppressions/export", url.Values{"all": {"1"}, "by": {"test"}}, &b, app.EntriesTrailer); n != "1" || err != nil || strings.Contains(b.String(), "@") {
		t.Errorf("exported %s, %v: %s", n, err, b.String())
	}
	if done := w.act("erase", app.SuppressAction{Addresses: []string{"one@aol.com"}, Entirely: true}); done.Changed != 1 {
		t.Errorf("erased %d", done.Changed)
	}
	var failure *app.RemoteError
	err := w.client.Post(w.ctx(), "/suppressions/add", app.SuppressAction{Addresses: []string{"good@aol.com", "@bad"}, By: "test"}, nil)
	if !errors.As(err, &failure) || !strings.Contains(failure.Failure.Error, `suppress "@bad": not an address`) || len(w.suppressed("", "good@aol.com")) != 0 {
		t.Errorf("a bad address: %v", err)
	}
}

// TestActsOnTheListAreOnRecord: who took addresses out of the node, or made it forget them,
// stands in the ledger with what and why; who does not say who he is may not.
func TestActsOnTheListAreOnRecord(t *testing.T) {
	w := newWorld(t, `suppression_addresses = "hashed"`)
	w.act("add", app.SuppressAction{Customer: "acme", Addresses: []string{"one@aol.com", "two@aol.com"}})
	export := func(q url.Values) error {
		_, err := w.client.Copy(w.ctx(), "/suppressions/export", q, &bytes.Buffer{}, app.EntriesTrailer)
		return err
	}
	if err := export(url.Values{"customer": {"acme"}}); err == nil || !strings.Contains(err.Error(), "nobody is named") {
		t.Errorf("an export by nobody: %v", err)
	}
	if err := w.client.Post(w.ctx(), "/suppressions/erase", app.SuppressAction{Addresses: []string{"one@aol.com"}}, nil); err == nil || !strings.Contains(err.Error(), "nobody is named") {
		t.Errorf("an erasure by nobody: %v", err)
	}
	for _, q := range []url.Values{{"customer": {"acme"}, "reason": {"manual"}}, {"all": {"1"}}} {
		q.Set("by", "ann")
		q.Set("note", "audit")
		if err := export(q); err != nil {
			t.Fatal(err)
		}
	}
	w.act("erase", app.SuppressAction{Addresses: []string{"one@aol.com"}, Note: "asked"})
	w.act("erase", app.SuppressAction{Addresses: []string{"two@aol.com"}, Entirely: true})
	w.stop(w.node)
	l, err := ledger.Open(filepath.Join(w.dir, "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	acts, err := l.Acts(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range acts {
		if strings.HasPrefix(a.Action, "suppress e") {
			got = append(got, strings.Join([]string{a.By, a.Action, regexp.MustCompile(`hash:\S+`).ReplaceAllString(a.Object, "HASH"), a.Note}, "|"))
		}
	}
	want := []string{
		"ann|suppress export|customer=acme reason=manual|audit", "ann|suppress exported|customer=acme reason=manual|2 entries",
		"ann|suppress export|all lists|audit", "ann|suppress exported|all lists|2 entries",
		"test|suppress erase|HASH|asked", "test|suppress erase|entirely HASH|",
	}
	if !slices.Equal(got, want) {
		t.Errorf("on record:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
