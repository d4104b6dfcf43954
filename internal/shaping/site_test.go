package shaping_test

import (
	"strings"
	"testing"

	"postern.dev/postern/internal/shaping"
)

func with(t testing.TB, r *shaping.Rules) *shaping.Shaping {
	t.Helper()
	return shaping.New(shaping.Options{Program: compiled(t, r)})
}

func compiled(t testing.TB, r *shaping.Rules) *shaping.Program {
	t.Helper()
	p, err := shaping.Compile(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestResolve(t *testing.T) {
	s := with(t, &shaping.Rules{Destinations: []shaping.Definition{
		{Name: "g", MX: []string{".google.com", "mx.exact.example"}, Domains: []string{"gmail.com"}},
		{Name: "m", MX: []string{".protection.outlook.com"}, Separate: true},
		{Name: "olc", MX: []string{".olc.protection.outlook.com"}, Domains: []string{".hotmail.example"}},
	}})
	long := make([]string, 40)
	for i := range long {
		long[i] = strings.Repeat(string(rune('a'+i%26)), 9) + string(rune('a'+i/26)) + ".pool.example"
	}
	for _, c := range []struct {
		name, domain string
		mx           []string
		provider     string
		site         string
	}{
		{"by domain, without hosts", "gmail.com", nil, "g", "g"},
		{"by host, whatever the domain", "acme.example", []string{"aspmx.l.google.com", "ALT1.aspmx.l.Google.COM."}, "g", "g"},
		{"an exact host", "acme.example", []string{"mx.exact.example"}, "g", "g"},
		{"not below an exact host", "acme.example", []string{"a.mx.exact.example"}, "", "a.mx.exact.example"},
		{"a suffix does not match its apex", "acme.example", []string{"google.com"}, "", "google.com"},
		{"a name that ends alike", "acme.example", []string{"mx.notgoogle.com"}, "", "mx.notgoogle.com"},
		{"one host elsewhere", "acme.example", []string{"aspmx.l.google.com", "backup.acme.example"}, "", "(aspmx.l.google.com|backup.acme.example)"},
		{"two providers", "acme.example", []string{"aspmx.l.google.com", "a.mail.protection.outlook.com"}, "", "(a.mail.protection.outlook.com|aspmx.l.google.com)"},
		{"the longer suffix", "x.example", []string{"x.olc.protection.outlook.com"}, "olc", "olc"},
		{"sites of their own", "contoso.example", []string{"contoso-example.mail.protection.outlook.com"}, "m", "contoso-example.mail.protection.outlook.com"},
		{"a suffix of domains", "uk.hotmail.example", nil, "olc", "olc"},
		{"the order of hosts does not count", "a.example", []string{"mx2.mail.example", "mx1.mail.example"}, "", "(mx1|mx2).mail.example"},
		{"hosts named twice", "a.example", []string{"mx1.mail.example", "mx1.mail.example."}, "", "mx1.mail.example"},
		{"only whole labels are shared", "a.example", []string{"ax.mail.example", "bx.mail.example"}, "", "(ax|bx).mail.example"},
		{"a host that is the others' suffix", "a.example", []string{"mail.example", "b.mail.example"}, "", "(b.mail.example|mail.example)"},
		{"nothing is known", "a.example", nil, "", "a.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.Resolve(c.domain, c.mx)
			if got != (shaping.Destination{Domain: c.domain, Site: c.site, Provider: c.provider}) {
				t.Errorf("got %+v, want provider %q, site %q", got, c.provider, c.site)
			}
		})
	}
	one, two := s.Resolve("a.example", long), s.Resolve("a.example", long[1:])
	if len(one.Site) > 140 || one.Site == two.Site {
		t.Errorf("long sets: %q, %q", one.Site, two.Site)
	}
}
