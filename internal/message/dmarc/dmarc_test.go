package dmarc_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/message/dmarc"
	"postern.dev/postern/internal/message/unpack"
)

const head = `<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0"><version>1.0</version>
<report_metadata><org_name>There</org_name><email>dmarc@there.example</email><report_id>r1</report_id><generator>G 1</generator>
<date_range><begin>1772496000</begin><end>1772582399</end></date_range><error>one</error></report_metadata>
<policy_published><domain>ESP.example.</domain><adkim>r</adkim><aspf>s</aspf><p>reject</p><sp>none</sp><np>quarantine</np><pct>50</pct><fo>1:d</fo><testing>n</testing><discovery_method>treewalk</discovery_method></policy_published>
`

const row = `<record><row><source_ip>192.0.2.1</source_ip><count>17</count><policy_evaluated><disposition>None</disposition><dkim>pass</dkim><spf>FAIL</spf>
<reason><type>forwarded</type><comment>x</comment></reason><reason><type></type></reason></policy_evaluated></row>
<identifiers><envelope_to>there.example</envelope_to><envelope_from>b.esp.example</envelope_from><header_from>esp.example</header_from></identifiers>
<auth_results><dkim><domain>esp.example</domain><selector>s1</selector><result>pass</result></dkim><dkim><domain>x.example</domain><result>fail</result><human_result>bad</human_result></dkim>
<spf><domain>b.esp.example</domain><scope>mfrom</scope><result>softfail</result></spf></auth_results></record>
`

func want() *dmarc.Aggregate {
	return &dmarc.Aggregate{
		Namespace: "urn:ietf:params:xml:ns:dmarc-2.0", Version: "1.0", Org: "There", Email: "dmarc@there.example", ID: "r1", Generator: "G 1", Errors: []string{"one"},
		Begin: time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 3, 3, 23, 59, 59, 0, time.UTC),
		Policy: dmarc.Policy{Domain: "esp.example", DKIM: "r", SPF: "s", P: "reject", SP: "none", NP: "quarantine", Percent: 50, FailureOptions: "1:d", Testing: "n", DiscoveryMethod: "treewalk"},
		Records: []dmarc.Record{{Source: netip.MustParseAddr("192.0.2.1"), Count: 17, Disposition: "none", DKIM: "pass", SPF: "fail", Reasons: []dmarc.Reason{{Type: "forwarded", Comment: "x"}},
			EnvelopeTo: "there.example", EnvelopeFrom: "b.esp.example", HeaderFrom: "esp.example",
			DKIMResults: []dmarc.DKIMResult{{Domain: "esp.example", Selector: "s1", Result: "pass"}, {Domain: "x.example", Result: "fail", Human: "bad"}},
			SPFResults:  []dmarc.SPFResult{{Domain: "b.esp.example", Scope: "mfrom", Result: "softfail"}}}},
	}
}

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestRead(t *testing.T) {
	plain := head + row + "</feedback>"
	gz, zipped := pack(plain), archive(map[string]string{"there.example!esp.example!1!2.xml": plain})
	mail := func(kind string, body []byte) string {
		return "From: dmarc@there.example\r\nSubject: Report domain: esp.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee\r\n--b\r\nContent-Type: " + kind +
			"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(body) + "\r\n--b--\r\n"
	}
	for name, raw := range map[string]string{
		"plain":               plain,
		"with a mark first":   "\ufeff" + plain,
		"gzip":                string(gz),
		"zip":                 string(zipped),
		"gzip in zip":         string(archive(map[string]string{"a.xml.gz": string(gz)})),
		"mail with gzip":      mail("application/gzip", gz),
		"mail, wrong type":    mail("application/octet-stream", zipped),
		"mail, text":          mail("text/xml", []byte(plain)),
		"mail that is a file": "From: a@b.example\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(zipped),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := dmarc.Read([]byte(raw), dmarc.Limits{})
			if err != nil || len(got) != 1 {
				t.Fatalf("%d, %v", len(got), err)
			}
			if d := cmp.Diff(want(), got[0], addrs); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		records   int
		repaired  bool
		truncated bool
		fails     bool
	}{
		{name: "breaks off in a record", doc: head + row + row[:200], records: 1, truncated: true},
		{name: "breaks off behind a record", doc: head + row, records: 1, truncated: true},
		{name: "no records", doc: head + "</feedback>"},
		{name: "marks in a value", doc: strings.Replace(head, "dmarc@there.example", "<dmarc@there.example>", 1) + strings.Replace(row, "<header_from>esp", "<header_from>a<esp", 1) + "</feedback>", records: 1, repaired: true},
		{name: "no UTF-8", doc: strings.Replace(head, "There", "Th\xe9re", 1) + row + "</feedback>", records: 1, repaired: true},
		{name: "unknown character set", doc: strings.Replace(head, "UTF-8", "x-none", 1) + row + "</feedback>", records: 1, repaired: true},
		{name: "Latin 1", doc: strings.Replace(strings.Replace(head, "UTF-8", "ISO-8859-1", 1), "There", "Th\xe9re", 1) + row + "</feedback>", records: 1},
		{name: "ampersand", doc: strings.Replace(head, "There", "A & B", 1) + row + "</feedback>", records: 1},
		{name: "entities", doc: `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>` + strings.Replace(head[len(`<?xml version="1.0" encoding="UTF-8"?>`):], "There", "&b;&c;", 1) + row + "</feedback>", records: 1},
		{name: "another root", doc: `<?xml version="1.0"?><html><body/></html>`, fails: true},
		{name: "empty", doc: "", fails: true},
		{name: "no XML", doc: "<?xml but no more", fails: true},
		{name: "negative count", doc: head + strings.Replace(row, ">17<", ">-17<", 1) + "</feedback>", records: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := dmarc.Parse([]byte(c.doc), dmarc.Limits{})
			if c.fails {
				if !errors.Is(err, dmarc.ErrNotReport) {
					t.Errorf("got %v, %v", a, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Records) != c.records || a.Repaired != c.repaired || a.Truncated != c.truncated {
				t.Errorf("%d records, repaired %v, truncated %v", len(a.Records), a.Repaired, a.Truncated)
			}
			if len(a.Org) > 100 || strings.Contains(a.Org, "root:") {
				t.Errorf("an entity was expanded: %q", a.Org)
			}
		})
	}
}

// TestBombs: what unpacks to more than the limit is given up, with little memory.
func TestBombs(t *testing.T) {
	bomb := pack(head + strings.Repeat(" ", 20<<20) + "</feedback>")
	l := dmarc.Limits{Unpack: unpack.Limits{Size: 1 << 20}}
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprint(i)] = head + "</feedback>"
	}
	for name, raw := range map[string][]byte{"gzip": bomb, "zip": archive(map[string]string{"a": string(bytes.Repeat([]byte(head), 5000))}), "many files": archive(many)} {
		if _, err := dmarc.Read(raw, l); !errors.Is(err, unpack.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	nested := pack(head + row + "</feedback>")
	for range 5 {
		nested = pack(string(nested))
	}
	if _, err := dmarc.Read(nested, dmarc.Limits{}); !errors.Is(err, dmarc.ErrNotReport) {
		t.Errorf("nested: %v", err)
	}
	a, err := dmarc.Parse([]byte(head+strings.Repeat(row, 50)+"</feedback>"), dmarc.Limits{Records: 10})
	if err != nil || len(a.Records) != 10 || !a.Truncated {
		t.Errorf("%v, %d records", err, len(a.Records))
	}
	deep := head + strings.Repeat("<x>", 200_000)
	if a, err := dmarc.Parse([]byte(deep), dmarc.Limits{}); err == nil && len(a.Records) > 0 {
		t.Error("records out of nothing")
	}
}

func pack(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s)) // into memory
	_ = w.Close()
	return b.Bytes()
}

func archive(files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, s := range files {
		if w, err := z.Create(name); err == nil {
			_, _ = w.Write([]byte(s)) // into memory
		}
	}
	_ = z.Close()
	return b.Bytes()
}

func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("POSTERN_CORPUS")
	if dir == "" {
		dir = "../../../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no corpus of real mail: set POSTERN_CORPUS to a folder of it")
	}
	return dir
}

// TestCorpus reads every aggregate report of the corpus and compares with the values
// that stand beside some.
func TestCorpus(t *testing.T) {
	dir := corpus(t)
	read, compared := 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "aggregate") && !strings.Contains(path, "dmarc-feedback") && !strings.Contains(path, "extract_report") || strings.HasSuffix(path, ".json") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := dmarc.Read(raw, dmarc.Limits{})
		if err != nil || len(got) == 0 {
			t.Errorf("%s: %v", filepath.Base(path), err)
			return nil
		}
		read++
		a := got[0]
		if a.Policy.Domain == "" || a.ID == "" || a.Begin.IsZero() || len(a.Records) == 0 || a.Messages() == 0 || !a.Records[0].Source.IsValid() || a.Records[0].HeaderFrom == "" {
			t.Errorf("%s: domain %v, id %v, begin %v, %d records", filepath.Base(path), a.Policy.Domain != "", a.ID != "", a.Begin, len(a.Records))
		}
		if b, err := os.ReadFile(strings.TrimSuffix(path, filepath.Ext(path)) + ".json"); err == nil {
			compared++
			compare(t, filepath.Base(path), a, b)
		}
		return nil
	})
	if err != nil || read < 20 {
		t.Errorf("%d read: %v", read, err)
	}
	t.Logf("%d reports read, %d compared with published values", read, compared)
}

func compare(t *testing.T, name string, a *dmarc.Aggregate, published []byte) {
	t.Helper()
	var p struct {
		Meta struct {
			Org   string                     `json:"org_name"`
			ID    string                     `json:"report_id"`
			Range struct{ Begin, End int64 } `json:"date_range"`
		} `json:"report_metadata"`
		Policy struct{ Domain, P string } `json:"policy_published"`
		Record []struct {
			Row struct {
				Source string `json:"source_ip"`
				Count  int64
				Policy struct{ Disposition, DKIM, SPF string } `json:"policy_evaluated"`
			}
			Identifiers struct {
				Header string `json:"header_from"`
			}
			Results struct {
				DKIM, SPF []struct{ Domain, Result string }
			} `json:"auth_results"`
		}
	}
	if err := json.Unmarshal(published, &p); err != nil {
		t.Fatal(err)
	}
	if a.Org != strings.TrimSpace(p.Meta.Org) || a.ID != p.Meta.ID || a.Begin.Unix() != p.Meta.Range.Begin || a.End.Unix() != p.Meta.Range.End || a.Policy.Domain != strings.ToLower(p.Policy.Domain) || !strings.EqualFold(a.Policy.P, p.Policy.P) || len(a.Records) != len(p.Record) {
		t.Errorf("%s: metadata differ: %+v", name, p.Meta)
		return
	}
	for i, r := range p.Record {
		g := a.Records[i]
		if g.Source.String() != netip.MustParseAddr(r.Row.Source).Unmap().String() || g.Count != r.Row.Count || g.HeaderFrom != strings.ToLower(r.Identifiers.Header) || len(g.DKIMResults) != len(r.Results.DKIM) || len(g.SPFResults) != len(r.Results.SPF) {
			t.Errorf("%s: record %d differs", name, i)
		}
		for _, pair := range [][2]string{{g.Disposition, r.Row.Policy.Disposition}, {g.DKIM, r.Row.Policy.DKIM}, {g.SPF, r.Row.Policy.SPF}} {
			if !strings.EqualFold(pair[0], pair[1]) && pair[1] != "Unspecified" {
				t.Errorf("%s: record %d: %q, published %q", name, i, pair[0], pair[1])
			}
		}
	}
}

// FuzzRead: nothing makes it fail, and what it gives is within bounds.
func FuzzRead(f *testing.F) {
	plain := head + row + "</feedback>"
	f.Add([]byte(plain))
	f.Add(pack(plain))
	f.Add(archive(map[string]string{"a.xml": plain}))
	f.Add([]byte(strings.Replace(plain, "esp.example", "<esp@example", 3)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := dmarc.Read(raw, dmarc.Limits{Unpack: unpack.Limits{Size: 1 << 20}, Records: 100})
		if err == nil && len(all) == 0 {
			t.Fatal("neither report nor error")
		}
		for _, a := range all {
			if len(a.Records) > 100 || a.Messages() < 0 && len(a.Records) == 1 {
				t.Fatalf("%d records, %d messages", len(a.Records), a.Messages())
			}
		}
	})
}

// BenchmarkParse reads a report of a thousand records.
func BenchmarkParse(b *testing.B) {
	doc := []byte(head + strings.Repeat(row, 1000) + "</feedback>")
	b.ReportAllocs()
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := dmarc.Parse(doc, dmarc.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
