package message_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/bounce"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/message/dmarc"
	"postern.dev/postern/internal/message/tlsrpt"
	"postern.dev/postern/internal/message/unpack"
	"postern.dev/postern/internal/message/xarf"
)

// count is a line of the table in docs/reports.md.
type count struct {
	files, read int
	wanted      int // values that somebody has published
	right       int
	notes       []string
}

type counts map[string]*count

func (c counts) of(row string) *count {
	if c[row] == nil {
		c[row] = &count{}
	}
	return c[row]
}

// check counts one published value.
func (c *count) check(name, what string, got, want any) {
	c.wanted++
	if fmt.Sprint(got) == fmt.Sprint(want) {
		c.right++
		return
	}
	c.notes = append(c.notes, fmt.Sprintf("%s: %s: %v, published %v", filepath.Base(name), what, got, want))
}

// TestReportsTable reads everything in the corpus and compares with what others have
// published of it. With -rewrite it writes the table in docs/reports.md.
func TestReportsTable(t *testing.T) {
	dir := corpus(t)
	rows := counts{}
	mails(t, func(name string, msg []byte) { rows.mail(dir, name, msg) })
	rows.documents(t, dir)
	var names []string
	for name, c := range rows {
		names = append(names, name)
		for _, n := range c.notes {
			t.Logf("%s: %s", name, n)
		}
		if c.read < c.files {
			t.Errorf("%s: %d of %d read", name, c.read, c.files)
		}
		if c.right*100 < c.wanted*90 {
			t.Errorf("%s: %d of %d values right", name, c.right, c.wanted)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("| format | from | files | read | values published | right |\n|---|---|---|---|---|---|\n")
	for _, name := range names {
		c, published := rows[name], "-"
		right := "-"
		if c.wanted > 0 {
			published, right = fmt.Sprint(c.wanted), fmt.Sprint(c.right)
		}
		format, from, _ := strings.Cut(name, ": ")
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %s | %s |\n", format, from, c.files, c.read, published, right)
	}
	keep(t, b.String())
}

// keep compares the table with the page, or writes it there.
func keep(t *testing.T, table string) {
	t.Helper()
	const page, begin, end = "../../docs/reports.md", "<!-- table -->\n", "<!-- end -->"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	if *rewrite {
		if err := os.WriteFile(page, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table {
		t.Errorf("docs/reports.md is out of date: go test ./internal/message -run ReportsTable -rewrite\n%s", table)
	}
}

// mail takes one mail of the corpus: bounces, complaints, and mail that is hard to read.
func (c counts) mail(dir, name string, msg []byte) {
	source, _, _ := strings.Cut(name, string(filepath.Separator))
	switch {
	case source == "mime-robustness" && strings.HasSuffix(name, ".eml"):
		c.parts(filepath.Join(dir, name), msg)
		return
	case source == "parsedmarc" && !strings.Contains(name, "failure"), strings.Contains(name, "dmarc-feedback"), strings.Contains(name, "tlsrpt"):
		return // documents
	case !slices.Contains([]string{"sisimai-sample", "kumomta", "flanker", "stalwart-mail-auth", "livebg-bounce_email", "mikel-mail", "parsedmarc"}, source),
		!strings.HasSuffix(name, ".eml") && !strings.HasSuffix(name, ".txt"), strings.Contains(name, "LICENSES"), strings.Contains(name, "fixtures/no_subject"):
		return
	}
	r, err := message.ParseReport(msg)
	if strings.Contains(name, "non_bounces") {
		row := c.of("no report: " + source)
		if row.files++; err != nil || r.Format.Answer() {
			row.read++
		}
		return
	}
	kind := "bounce"
	if strings.Contains(name, "arf") || strings.Contains(name, "5965") || strings.Contains(name, "complaints") {
		kind = "complaint"
	}
	if strings.Contains(name, "failure/") || r != nil && r.FeedbackType == "auth-failure" {
		kind = "failed authentication"
	}
	row := c.of(kind + ": " + source)
	row.files++
	if err == nil && (r.Format.Bounce() && len(r.Recipients) > 0 || kind != "bounce" && !r.Format.Bounce() && r.FeedbackType != "") {
		row.read++
	}
	switch {
	case err != nil:
	case source == "stalwart-mail-auth":
		row.arf(filepath.Join(dir, name), r)
	case source == "livebg-bounce_email":
		row.livebg(dir, name, r)
	case source == "sisimai-sample":
		row.sisimai(dir, name, r)
	}
}

// parts compares how many parts somebody else has found.
func (c counts) parts(path string, msg []byte) {
	row := c.of("MIME, malformed and old: mime-robustness")
	row.files++
	n := 0
	if err := message.Walk(msg, message.Limits{}, func(p *message.Part) error {
		if strings.HasPrefix(p.Type, "multipart/") && p.Parts() != nil {
			return nil
		}
		n++
		if strings.HasPrefix(p.Type, "message/") {
			return message.ErrSkipPart
		}
		return nil
	}); err == nil {
		row.read++
	}
	b, err := os.ReadFile(strings.TrimSuffix(path, ".eml") + ".json")
	if err != nil {
		return
	}
	var published struct {
		Parts []struct{ Body json.RawMessage }
	}
	if json.Unmarshal(b, &published) != nil {
		return
	}
	want := 0
	for _, p := range published.Parts {
		var body map[string]json.RawMessage
		if json.Unmarshal(p.Body, &body) == nil && body["Multipart"] == nil {
			want++
		}
	}
	row.check(path, "no part lost", n >= want, true)
}

// arf compares with the JSON beside a complaint.
func (c *count) arf(path string, r *message.Report) {
	b, err := os.ReadFile(strings.TrimSuffix(path, ".eml") + ".json")
	if err != nil {
		return
	}
	var p struct {
		Type     string   `json:"feedback_type"`
		Arrival  int64    `json:"arrival_date"`
		Auth     []string `json:"authentication_results"`
		Count    int      `json:"incidents"`
		Envelope string   `json:"original_envelope_id"`
		From     string   `json:"original_mail_from"`
		To       string   `json:"original_rcpt_to"`
		Domain   []string `json:"reported_domain"`
		URI      []string `json:"reported_uri"`
		MTA      string   `json:"reporting_mta"`
		IP       string   `json:"source_ip"`
		Agent    string   `json:"user_agent"`
		Failure  string   `json:"auth_failure"`
		DKIM     string   `json:"dkim_domain"`
		Selector string   `json:"dkim_selector"`
		Identity string   `json:"dkim_identity"`
	}
	if json.Unmarshal(b, &p) != nil {
		return
	}
	c.check(path, "feedback type", strings.ReplaceAll(r.FeedbackType, "-", ""), strings.ToLower(p.Type))
	c.check(path, "incidents", r.Incidents, p.Count)
	c.check(path, "user agent", r.UserAgent, p.Agent)
	c.check(path, "reported domains", r.Reported, p.Domain)
	c.check(path, "reported URIs", len(r.ReportedURI), len(p.URI))
	c.check(path, "authentication results", len(r.AuthResults), len(p.Auth))
	stated := func(what, got, want string) {
		if want != "" {
			c.check(path, what, got, strings.Trim(want, "<>"))
		}
	}
	stated("envelope id", r.OriginalEnv, p.Envelope)
	stated("mail from", r.OriginalFrom, p.From)
	stated("recipient", strings.Join(r.OriginalTo, " "), p.To)
	stated("reporting MTA", r.ReportingMTA, p.MTA)
	stated("source IP", r.SourceIP.String(), p.IP)
	if p.Arrival != 0 {
		c.check(path, "arrival", r.Arrival.Unix(), p.Arrival)
	}
	if a := r.AuthFailure; a != nil {
		c.check(path, "auth failure", a.Failure, strings.ToLower(p.Failure))
		stated("DKIM domain", a.DKIMDomain, p.DKIM)
		stated("DKIM selector", a.DKIMSelector, p.Selector)
		stated("DKIM identity", a.DKIMIdentity, p.Identity)
	}
}

// livebg compares with a table of status codes, of which those without detail are
// compared by class, and of whether the failure is for good.
func (c *count) livebg(dir, name string, r *message.Report) {
	for _, f := range expectations(filepath.Join(dir, "livebg-bounce_email")) {
		if f[0] != filepath.Base(name) || len(r.Recipients) == 0 {
			continue
		}
		d := r.Recipients[0]
		if f[1] != "" {
			c.check(name, "class of the status", d.Status[:1], f[1][:1])
		}
		if len(f) > 2 && f[2] != "" {
			c.check(name, "for good", d.Action == "failed" && d.Status[0] == '5', strings.HasPrefix(f[2], "HARD"))
		}
	}
}

// sisimai counts recipients and classes of status codes; internal/bounce compares whole
// rows.
func (c *count) sisimai(dir, name string, r *message.Report) {
	for _, f := range expectations(filepath.Join(dir, "sisimai-sample")) {
		if f[0] != filepath.Base(name) {
			continue
		}
		var n int
		_, _ = fmt.Sscan(f[4], &n) // 0 where it is no number
		if n < 1 || n > len(r.Recipients) {
			c.check(name, "recipients", len(r.Recipients), f[4])
			continue
		}
		d := r.Recipients[n-1]
		if d.Action != "delayed" {
			c.check(name, "class of the status", d.Status[:1], f[5][:1])
		}
		c.check(name, "an address", strings.Contains(d.Address(), "@"), true)
	}
}

func expectations(dir string) (out [][]string) {
	b, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimRight(line, "\r\n"), "\t"); len(f) > 1 {
			out = append(out, f)
		}
	}
	return out
}

// documents takes aggregate reports, TLS reports and XARF.
func (c counts) documents(t *testing.T, dir string) {
	t.Helper()
	for pattern, row := range map[string]string{
		"parsedmarc/samples/aggregate/*": "DMARC aggregate: parsedmarc", "parsedmarc/samples/extract_report/*": "DMARC aggregate: parsedmarc", "parsedmarc/samples/aggregate_invalid/*": "DMARC aggregate: parsedmarc",
		"stalwart-mail-auth/resources/dmarc-feedback/*.[xe]ml": "DMARC aggregate: stalwart-mail-auth",
		"parsedmarc/samples/smtp_tls/*":                        "TLS report: parsedmarc", "stalwart-mail-auth/resources/tlsrpt/*": "TLS report: stalwart-mail-auth",
		"xarf-spec/samples/v3/*.json": "XARF 3: xarf-spec", "xarf-spec/samples/v4/*.json": "XARF 4: xarf-spec",
	} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are right
		for _, path := range files {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c.of(row).files++
			if document(row, raw) {
				c.of(row).read++
			}
			c.of(row).published(path, row, raw)
		}
	}
}

func document(row string, raw []byte) bool {
	switch row[:3] {
	case "DMA":
		a, err := dmarc.Read(raw, dmarc.Limits{})
		return err == nil && len(a) > 0 && a[0].Policy.Domain != "" && len(a[0].Records) > 0
	case "TLS":
		r, err := tlsrpt.Read(raw, unpack.Limits{})
		return err == nil && len(r) > 0 && r[0].ID != "" && len(r[0].Policies) > 0
	default:
		x, err := xarf.Parse(raw)
		return err == nil && x.Source != "" && x.Category != ""
	}
}

// published compares an aggregate report with the JSON beside it.
func (c *count) published(path, row string, raw []byte) {
	b, err := os.ReadFile(strings.TrimSuffix(path, filepath.Ext(path)) + ".json")
	if err != nil || !strings.HasPrefix(row, "DMARC") {
		return
	}
	a, err := dmarc.Read(raw, dmarc.Limits{})
	var p struct {
		Meta struct {
			Org string `json:"org_name"`
			ID  string `json:"report_id"`
		} `json:"report_metadata"`
		Policy struct{ Domain, P string } `json:"policy_published"`
		Record []struct {
			Row struct {
				Source string `json:"source_ip"`
				Count  int64
			}
		}
	}
	if err != nil || json.Unmarshal(b, &p) != nil {
		return
	}
	c.check(path, "id", a[0].ID, p.Meta.ID)
	c.check(path, "domain", a[0].Policy.Domain, strings.ToLower(p.Policy.Domain))
	c.check(path, "policy", a[0].Policy.P, strings.ToLower(p.Policy.P))
	c.check(path, "records", len(a[0].Records), len(p.Record))
	for i := range min(len(a[0].Records), len(p.Record)) {
		want, _ := netip.ParseAddr(p.Record[i].Row.Source) // not valid where it is none
		c.check(path, "source", a[0].Records[i].Source, want.Unmap())
		c.check(path, "count", a[0].Records[i].Count, p.Record[i].Row.Count)
	}
}

// TestCorpusCategories: of what is read of real bounces, most has a category, and none
// that is only delayed is hard.
func TestCorpusCategories(t *testing.T) {
	c := bounce.New()
	all, other := 0, 0
	mails(t, func(name string, msg []byte) {
		r, err := message.ParseReport(msg)
		if err != nil || !r.Format.Bounce() {
			return
		}
		for _, d := range r.Recipients {
			is := c.Classify(0, d.Status, d.Diagnostic, "")
			if all++; is.Category == bounce.Other {
				other++
			}
			if d.Action == "delayed" && is.Hard && d.Status[0] == '4' {
				t.Errorf("%s: a delay is hard: %s", name, is.Category)
			}
		}
	})
	t.Logf("%d of %d recipients without a category", other, all)
	if other*10 > all {
		t.Errorf("%d of %d recipients without a category", other, all)
	}
}
