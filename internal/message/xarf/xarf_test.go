package xarf_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/message/xarf"
)

const v4 = `{"xarf_version":"4.2.0","report_id":"i1","timestamp":"2026-03-03T11:00:00.5+01:00","reporter":{"org":"There","contact":"abuse@there.example","domain":"there.example"},
"sender":{"org":"For","contact":"c@for.example","domain":"for.example"},"source_identifier":"192.0.2.1","source_port":"25","category":"messaging","type":"spam","evidence_source":"spamtrap","protocol":"smtp",
"smtp_from":"a@esp.example","smtp_to":"b@there.example","subject":"s","message_id":"<m1@esp.example>","tags":["spam:commercial"],"confidence":0.9,
"evidence":[{"content_type":"text/plain","payload":"bm90ZQ=="},{"content_type":"message/rfc822; x=y","description":"d","payload":"U3ViamVjdDog\ncwo=","hash":"sha256:1"}],"unknown":{"a":[1]}}`

const v3 = `{"Version":"3.0.0","ReporterInfo":{"ReporterOrg":"There","ReporterOrgDomain":"there.example","ReporterOrgEmail":"abuse@there.example"},"Disclosure":true,
"Report":{"ReportClass":"Activity","ReportType":"Spam","Date":"2026-03-03T11:00:00Z","SourceIp":"192.0.2.1","SourcePort":25,"SmtpMailFromAddress":"a@esp.example","SmtpRcptToAddress":"b@there.example",
"Samples":[{"ContentType":"message/rfc822","Base64Encoded":false,"Payload":"Subject: s\n"}]}}`

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestParse(t *testing.T) {
	there := xarf.Contact{Org: "There", Contact: "abuse@there.example", Domain: "there.example"}
	for name, c := range map[string]struct {
		doc  string
		want xarf.Report
	}{
		"version 4": {v4, xarf.Report{Version: "4.2.0", ID: "i1", Time: time.Date(2026, 3, 3, 10, 0, 0, 5e8, time.UTC), Reporter: there, Sender: xarf.Contact{Org: "For", Contact: "c@for.example", Domain: "for.example"},
			Source: "192.0.2.1", SourceIP: netip.MustParseAddr("192.0.2.1"), SourcePort: 25, Category: "messaging", Type: "spam", EvidenceSource: "spamtrap", Protocol: "smtp", MailFrom: "a@esp.example", MailTo: "b@there.example",
			Subject: "s", MessageID: "m1@esp.example", Tags: []string{"spam:commercial"}, Confidence: 0.9,
			Evidence: []xarf.Evidence{{ContentType: "text/plain", Payload: []byte("note")}, {ContentType: "message/rfc822; x=y", Description: "d", Payload: []byte("Subject: s\n"), Hash: "sha256:1"}}}},
		"version 3": {v3, xarf.Report{Version: "3.0.0", Time: time.Date(2026, 3, 3, 11, 0, 0, 0, time.UTC), Reporter: there, Sender: there, Source: "192.0.2.1", SourceIP: netip.MustParseAddr("192.0.2.1"), SourcePort: 25,
			Category: "messaging", Type: "spam", MailFrom: "a@esp.example", MailTo: "b@there.example", Evidence: []xarf.Evidence{{ContentType: "message/rfc822", Payload: []byte("Subject: s\n")}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := xarf.Parse([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&c.want, r, addrs); d != "" {
				t.Error(d)
			}
			if m := r.Message(); !r.Mail() || m == nil || !strings.HasPrefix(string(m.Payload), "Subject:") {
				t.Errorf("message %v", m)
			}
		})
	}
}

func TestNotXARF(t *testing.T) {
	for name, doc := range map[string]string{"empty": "", "other JSON": `{"a":1}`, "wrong types": `{"xarf_version":4}`, "list": `[]`, "broken": v4[:100]} {
		if r, err := xarf.Parse([]byte(doc)); !errors.Is(err, xarf.ErrNotXARF) || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if _, err := xarf.Parse(make([]byte, xarf.MaxSize+1)); !errors.Is(err, xarf.ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
}

// TestOtherTypes: a value of another type is left out, and no more.
func TestOtherTypes(t *testing.T) {
	for _, doc := range []string{strings.Replace(v4, "0.9", `"high"`, 1), strings.Replace(v4, `"smtp"`, "25", 1), strings.Replace(v3, `"3.0.0"`, "3", 1)} {
		r, err := xarf.Parse([]byte(doc))
		if err != nil || r.MailFrom != "a@esp.example" || r.Message() == nil {
			t.Errorf("%v, %+v", err, r)
		}
	}
}

// TestCorpus reads the samples of the specification.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("POSTERN_CORPUS")
	if dir == "" {
		dir = "../../../../shared/corpus"
	}
	files, _ := filepath.Glob(filepath.Join(dir, "xarf-spec/samples/v*/*.json")) // the pattern is right
	if len(files) == 0 {
		t.Skip("no corpus of real mail: set POSTERN_CORPUS to a folder of it")
	}
	for _, path := range files {
		doc, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := xarf.Parse(doc)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
			continue
		}
		if r.Version == "" || r.Source == "" || r.Category == "" || r.Type == "" || r.Time.IsZero() || r.Reporter.Org == "" || len(r.Evidence) == 0 || len(r.Evidence[0].Payload) == 0 {
			t.Errorf("%s: something is missing: %q %q %q %q %v, %d pieces of evidence", filepath.Base(path), r.Version, r.Source, r.Category, r.Type, r.Time, len(r.Evidence))
		}
		if !strings.HasPrefix(filepath.Base(path), r.Category+"-") && strings.Contains(path, "v4") {
			t.Errorf("%s: category %s", filepath.Base(path), r.Category)
		}
	}
}

// FuzzParse: nothing makes it fail, and its evidence is bounded.
func FuzzParse(f *testing.F) {
	f.Add([]byte(v4))
	f.Add([]byte(v3))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := xarf.Parse(doc)
		if (err == nil) == (r == nil) || r != nil && len(r.Evidence) > 50 {
			t.Fatalf("%v, %v", r, err)
		}
	})
}
