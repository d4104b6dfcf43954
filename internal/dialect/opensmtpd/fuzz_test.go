package opensmtpd_test

import (
	"strings"
	"testing"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/dialect/opensmtpd"
)

// FuzzModel: whatever stands in smtpd.conf and in a table is a fault or a model, and never
// a defect of the reader.
func FuzzModel(f *testing.F) {
	f.Add("listen on 0.0.0.0\naction \"o\" relay\nmatch from any for domain <t> action \"o\"\ntable t file:t\n", "a.example\n")
	f.Add("x = \"10.0.0.0/8\"\nlisten on ::1 port 25 tag T proxy-v2\naction o relay\nmatch !from src $x mail-from regex \"^a@\" for any action o\n", "")
	f.Add("table t { \"a@b\" = c, \"@d\" }\nlisten on all filter f\naction o maildir\nmatch from rdns <t> tag T for rcpt-to regex { \"x\" } reject\n", "k v\n")
	f.Fuzz(func(t *testing.T, conf, table string) {
		read := func(name string) ([]byte, error) {
			switch name {
			case "smtpd.conf":
				return []byte(conf), nil
			case "t":
				return []byte(table), nil
			}
			return nil, dialect.ErrNotFound
		}
		m, err := opensmtpd.Model("smtpd.conf", read)
		if err != nil && strings.HasPrefix(err.Error(), "model ") {
			t.Fatalf("the reader made a program that does not build: %v", err)
		}
		if err == nil && m == nil {
			t.Fatal("neither an error nor a model")
		}
	})
}
