package report

import (
	"slices"
	"testing"

	"postern.dev/postern/internal/message"
)

// TestShippedProfiles: the file that comes with the program can be read and says all that
// it must.
func TestShippedProfiles(t *testing.T) {
	ps, err := parseProfiles(shippedProfiles)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range ps {
		if names[p.Name] || p.Name == "" || p.Is == "" || p.Redacts == "" || p.Source == "" {
			t.Errorf("profile %q stands twice or lacks something: %+v", p.Name, p)
		}
		names[p.Name] = true
		for _, h := range p.Hides {
			if !slices.Contains([]string{"source-ip", "recipient", "mail-from", "body"}, h) {
				t.Errorf("profile %s hides %q", p.Name, h)
			}
		}
	}
	if len(ps) < 10 || len(Profiles()) != len(ps) {
		t.Errorf("%d profiles", len(ps))
	}
}

func TestBadProfiles(t *testing.T) {
	for _, text := range []string{"is x\n", "profile x\nredacts everything\n", "profile x\nfrom\n", "profile x\ncolour red\n"} {
		if _, err := parseProfiles(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func TestProfileOf(t *testing.T) {
	for _, c := range []struct{ from, agent, want string }{
		{"feedback@arf.mail.yahoo.com", "", "yahoo"},
		{"feedback@x.arf.mail.yahoo.com", "", "yahoo"},
		{"someone@yahoo.com", "", ""},
		{"feedback@evilarf.mail.yahoo.com", "", ""},
		{"staff@hotmail.com", "", "jmrp"},
		{"other@hotmail.com", "", ""},
		{"a@b.example", "ReturnPathFBL/2.0", "validity"},
		{"feedbackloop@comcastfbl.senderscore.net", "ReturnPathFBL/2.0", "validity"},
		{"a@b.example", "JMRP/1.0", "jmrp-2026"},
		{"a@b.example", "x", ""},
	} {
		got := ""
		if p := profileOf(readProfiles(), &message.Report{From: c.from, UserAgent: c.agent}); p != nil {
			got = p.Name
		}
		if got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.from, c.agent, got, c.want)
		}
	}
}
