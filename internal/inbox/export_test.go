package inbox_test

import (
	"testing"

	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/message"
)

// TestExport: what is told on says what the report said, in each form.
func TestExport(t *testing.T) {
	k := &taken{}
	post(hook("xarf", "s3cret", k), xarf3(), basic)
	r, err := message.ParseReport(k.mails[0].Raw)
	if err != nil {
		t.Fatal(err)
	}
	want := said(t, k.mails[0])
	n := inbox.NoticeOf(r)
	if got := said(t, n.Mail("abuse@other.example")); got != want {
		t.Errorf("ARF: %s, want %s", got, want)
	}
	b, err := n.XARF("00000000-0000-4000-8000-000000000000", "gw.esp.example")
	if err != nil {
		t.Fatal(err)
	}
	back := &taken{}
	if w := post(hook("xarf", "s3cret", back), string(b), basic); w.Code != 200 || len(back.mails) != 1 || said(t, back.mails[0]) != want {
		t.Errorf("XARF: %d %s", w.Code, b)
	}
}
