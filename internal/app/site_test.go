package app_test

import (
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/app"
)

// TestSuspendASiteByADomain: operators think of a domain; they are told which site it is
// and who shares it, and lift the order by the same word.
func TestSuspendASiteByADomain(t *testing.T) {
	w := newWorld(t, "")
	c := w.session(acme, w.inject)
	if r := w.send(c, "n@news.acme.example", mail("acme-1"), "a@other.example", "b@news.acme.example"); !r.Positive() {
		t.Fatal(r)
	}
	w.eventually("both are delivered", func(s app.Status) bool { return s.Waiting == 0 })
	var out []app.OrderView
	post := func(action, site string) error {
		out = nil
		return w.client.Post(w.ctx(), "/queue/"+action, app.QueueOrder{QueueSelect: app.QueueSelect{Site: site}, By: "test"}, &out)
	}
	if err := post("suspend", "Other.Example"); err != nil {
		t.Fatal(err)
	}
	o := out[0]
	if o.Named != "Other.Example" || o.Site == "" || o.Site == "other.example" || o.Scope != "site="+o.Site || !slices.Equal(o.Shared, []string{"news.acme.example"}) || o.SharedInAll != 1 {
		t.Errorf("%+v", o)
	}
	if r := w.send(c, "n@news.acme.example", mail("acme-2"), "c@news.acme.example"); !r.Positive() {
		t.Fatal(r)
	}
	w.eventually("the other domain's mail waits too", func(s app.Status) bool { return s.Waiting == 1 })
	if err := post("resume", "news.acme.example"); err != nil || len(out) != 1 || out[0].Order != o.Order {
		t.Errorf("resume by another domain of the site: %+v, %v", out, err)
	}
	w.eventually("it goes on", func(s app.Status) bool { return s.Waiting == 0 })
	if err := post("suspend", o.Site); err != nil || out[0].Named != "" || out[0].Scope != "site="+o.Site {
		t.Errorf("by its name: %+v, %v", out, err)
	}
	for name, says := range map[string]string{"nowhere.invalid": "is no site that the queue knows", "a b": "neither a site nor a domain"} {
		if err := post("suspend", name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("suspend %q: %v, want %q", name, err, says)
		}
	}
}
