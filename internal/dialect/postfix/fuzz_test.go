package postfix_test

import (
	"strings"
	"testing"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/dialect/postfix"
)

// FuzzModel: whatever stands in main.cf and in a table is a fault or a model, and never a
// defect of the reader.
func FuzzModel(f *testing.F) {
	f.Add("smtpd_relay_restrictions = permit_mynetworks, check_sender_access texthash:t, reject_unauth_destination\nmynetworks = 10.0.0.0/8, !10.1.2.3", "partner.example OK\n192 250\n")
	f.Add("smtpd_recipient_restrictions = check_client_access regexp:t, reject\nrelay_domains = a.example, .b.example\ncompatibility_level = 0", "/^x(.*)$/i OK\n!/y/ REJECT\n")
	f.Add("a = ${b?{c}:{d}}\nb = $a$$\nsmtpd_restriction_classes = x y\nx = y, permit\ny = x\nsmtpd_relay_restrictions = x, reject", "10.0.0.0/8 OK")
	f.Add("virtual_alias_maps = pcre:t\nsmtpd_relay_restrictions = warn_if_reject reject, defer_unauth_destination", "/^(.*)%(.*)@x$/ $1@$2")
	f.Fuzz(func(t *testing.T, main, table string) {
		read := func(name string) ([]byte, error) {
			switch name {
			case "main.cf":
				return []byte(main), nil
			case "t":
				return []byte(table), nil
			}
			return nil, dialect.ErrNotFound
		}
		m, err := postfix.Model(postfix.Source{Main: "main.cf", Read: read})
		if err != nil && strings.HasPrefix(err.Error(), "model ") {
			t.Fatalf("the reader made a program that does not build: %v", err)
		}
		if err == nil && (m == nil || len(m.Services) != 1) {
			t.Fatalf("neither an error nor a service: %+v", m)
		}
	})
}
