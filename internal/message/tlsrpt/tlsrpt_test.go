package tlsrpt_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/message/tlsrpt"
	"postern.dev/postern/internal/message/unpack"
)

const doc = `{"organization-name":"There","date-range":{"start-datetime":"2026-03-03T00:00:00Z","end-datetime":"2026-03-03T23:59:59Z"},"contact-info":"tls@there.example","report-id":"t1",
"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: enforce"],"policy-domain":"ESP.example","mx-host":"*.esp.example"},
"summary":{"total-successful-session-count":50,"total-failure-session-count":"3"},
"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"2001:db8::1","receiving-ip":"192.0.2.1","receiving-mx-hostname":"mx.esp.example","failed-session-count":2},
{"result-type":"starttls-not-supported","sending-mta-ip":"unknown","failed-session-count":1,"failure-error-code":"x","additional-information":"https://there.example/1"}]},
{"policy":{"policy-type":"no-policy-found","policy-domain":"b.esp.example"},"summary":{"total-successful-session-count":-4}}]}`

func want() *tlsrpt.Report {
	return &tlsrpt.Report{Org: "There", Contact: "tls@there.example", ID: "t1", Start: time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 3, 3, 23, 59, 59, 0, time.UTC),
		Policies: []tlsrpt.Policy{{Type: "sts", Domain: "esp.example", Strings: []string{"version: STSv1", "mode: enforce"}, MXHosts: []string{"*.esp.example"}, Successful: 50, Failed: 3,
			Failures: []tlsrpt.Failure{{Result: "certificate-expired", SendingIP: netip.MustParseAddr("2001:db8::1"), ReceivingIP: netip.MustParseAddr("192.0.2.1"), ReceivingHost: "mx.esp.example", Sessions: 2},
				{Result: "starttls-not-supported", SendingIPAsStated: "unknown", Sessions: 1, Reason: "x", MoreInformation: "https://there.example/1"}}},
			{Type: "no-policy-found", Domain: "b.esp.example"}}}
}

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func pack(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s)) // into memory
	_ = w.Close()
	return b.Bytes()
}

func TestRead(t *testing.T) {
	for name, raw := range map[string]string{
		"plain": doc,
		"mark":  "\ufeff" + doc,
		"gzip":  string(pack(doc)),
		"mail":  "From: tls@there.example\nContent-Type: multipart/report; report-type=tlsrpt; boundary=b\n\n--b\n\nhi\n--b\nContent-Type: application/tlsrpt+gzip\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(pack(doc)) + "\n--b--\n",
	} {
		got, err := tlsrpt.Read([]byte(raw), unpack.Limits{})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d, %v", name, len(got), err)
			continue
		}
		if d := cmp.Diff(want(), got[0], addrs); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestNotReports(t *testing.T) {
	for name, raw := range map[string]string{"empty": "", "other JSON": `{"a":1}`, "list": "[1]", "broken": doc[:200], "mail": "From: a@b.example\n\nhello", "xml": "<?xml?>"} {
		if got, err := tlsrpt.Read([]byte(raw), unpack.Limits{}); !errors.Is(err, tlsrpt.ErrNotReport) || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := tlsrpt.Read(pack(doc+strings.Repeat(" ", 4<<20)), unpack.Limits{Size: 1 << 20}); !errors.Is(err, unpack.ErrTooLarge) {
		t.Errorf("bomb: %v", err)
	}
}

// TestCorpus reads every report of the corpus and compares with what stands beside some.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("POSTERN_CORPUS")
	if dir == "" {
		dir = "../../../../shared/corpus"
	}
	var files []string
	for _, pattern := range []string{"stalwart-mail-auth/resources/tlsrpt/*", "parsedmarc/samples/smtp_tls/*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is right
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skip("no corpus of real mail: set POSTERN_CORPUS to a folder of it")
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tlsrpt.Read(raw, unpack.Limits{})
		if err != nil || len(got) != 1 || got[0].Org == "" || got[0].ID == "" || got[0].Start.IsZero() || len(got[0].Policies) == 0 || got[0].Policies[0].Type == "" {
			t.Errorf("%s: %+v, %v", filepath.Base(path), got, err)
			continue
		}
		if b, err := os.ReadFile(strings.TrimSuffix(path, ".eml") + ".json"); err == nil && strings.HasSuffix(path, ".eml") {
			published, err := tlsrpt.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(published, got[0], addrs); d != "" {
				t.Errorf("%s differs from what is published: %d octets of difference", filepath.Base(path), len(d))
			}
		}
	}
}

// FuzzParse: nothing makes it fail, and no count is less than none.
func FuzzParse(f *testing.F) {
	f.Add([]byte(doc))
	f.Add([]byte(`{"policies":[{"policy":{"policy-string":null},"failure-details":[null]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := tlsrpt.Parse(b)
		if err != nil {
			return
		}
		for _, p := range r.Policies {
			if p.Successful < 0 || p.Failed < 0 {
				t.Fatalf("%+v", p)
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}
