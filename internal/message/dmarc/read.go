package dmarc

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html/charset"

	"postern.dev/postern/internal/message/unpack"
)

// ErrNotReport tells that there is no report of this kind.
var ErrNotReport = errors.New("not a DMARC aggregate report")

// Limits bound what is read. Zero values take the default.
type Limits struct {
	Unpack  unpack.Limits
	Records int // of one report; default 500,000
}

// Read finds the reports in a mail, in a packed file or in a bare document. With an
// error come the reports that could be read.
func Read(raw []byte, l Limits) ([]*Aggregate, error) {
	docs, err := unpack.Documents(raw, l.Unpack)
	var out []*Aggregate
	for _, d := range docs {
		a, perr := Parse(d.Body, l)
		if perr == nil {
			out = append(out, a)
		} else if err == nil {
			err = perr
		}
	}
	if len(out) > 0 && !errors.Is(err, unpack.ErrTooLarge) {
		return out, nil
	}
	if err == nil || errors.Is(err, unpack.ErrNone) {
		err = ErrNotReport
	}
	return out, err
}

// Parse reads one document with its records. One that is not well-formed is mended
// where a value holds marks that are no markup, and read as far as it goes where it
// breaks off.
func Parse(doc []byte, l Limits) (*Aggregate, error) {
	a, err := parse(doc, l)
	if err == nil && !a.Truncated {
		return a, nil
	}
	mended, merr := parse(mend(doc), l)
	switch {
	case merr == nil && (err != nil || len(mended.Records) > len(a.Records)):
		mended.Repaired = true
		return mended, nil
	case err == nil:
		return a, nil
	}
	return nil, err
}

func parse(doc []byte, l Limits) (*Aggregate, error) {
	var records []Record
	a, err := Each(bytes.NewReader(doc), l, func(r *Record) error {
		records = append(records, *r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.Records = records
	return a, nil
}

// Each reads one document from a stream and calls fn for each record, which is fn's to
// keep. Memory does not grow with their number. Entities that a document defines are not
// expanded, and nothing is fetched. An error of fn ends the reading and is returned.
func Each(r io.Reader, l Limits, fn func(*Record) error) (*Aggregate, error) {
	if l.Records <= 0 {
		l.Records = 500_000
	}
	d := xml.NewDecoder(r)
	d.Strict = false
	d.CharsetReader = charset.NewReaderLabel
	x := reader{d: d, limit: l.Records, fn: fn, a: Aggregate{Policy: Policy{Percent: -1}}}
	if err := x.read(); err != nil {
		return nil, err
	}
	return &x.a, nil
}

type reader struct {
	d     *xml.Decoder
	limit int
	fn    func(*Record) error
	a     Aggregate
	root  bool
	count int
}

// read goes over the children of the root. A document that breaks off behind something
// of worth is truncated, another none.
func (x *reader) read() error {
	for {
		t, err := x.d.Token()
		if err != nil {
			return x.broken(err)
		}
		s, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if !x.root {
			if s.Name.Local != "feedback" {
				continue // some put it into a schema
			}
			x.root, x.a.Namespace = true, s.Name.Space
			continue
		}
		if x.count >= x.limit && s.Name.Local == "record" {
			x.a.Truncated = true
			return nil
		}
		if err := x.element(&s); err != nil {
			var bad *xml.SyntaxError
			if errors.As(err, &bad) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return x.broken(err)
			}
			return err
		}
	}
}

func (x *reader) broken(err error) error {
	switch {
	case errors.Is(err, io.EOF) && x.root && (x.a.ID != "" || x.a.Policy.Domain != "" || x.count > 0):
		return nil
	case x.root && x.count > 0:
		x.a.Truncated = true
		return nil
	case errors.Is(err, io.EOF):
		return ErrNotReport
	}
	return fmt.Errorf("%w: %w", ErrNotReport, err)
}

// element reads one child of the root.
func (x *reader) element(s *xml.StartElement) error {
	switch s.Name.Local {
	case "version":
		return x.decode(&x.a.Version, s)
	case "report_metadata":
		var m metadata
		if err := x.decode(&m, s); err != nil {
			return err
		}
		x.a.Org, x.a.Email, x.a.Contact, x.a.ID, x.a.Generator, x.a.Errors = trim(m.Org), trim(m.Email), trim(m.Contact), trim(m.ID), trim(m.Generator), m.Errors
		x.a.Begin, x.a.End = moment(m.Begin), moment(m.End)
	case "policy_published":
		var p published
		if err := x.decode(&p, s); err != nil {
			return err
		}
		x.a.Policy = p.policy()
	case "record":
		var r record
		if err := x.decode(&r, s); err != nil {
			return err
		}
		out := r.record()
		x.count++
		return x.fn(&out)
	default:
		if err := x.d.Skip(); err != nil {
			return fmt.Errorf("skip %s: %w", s.Name.Local, err)
		}
	}
	return nil
}

func (x *reader) decode(v any, s *xml.StartElement) error {
	if err := x.d.DecodeElement(v, s); err != nil {
		return fmt.Errorf("read %s: %w", s.Name.Local, err)
	}
	return nil
}

// The elements, with every value as text: what stands there is often not what the
// schema wants.

type metadata struct {
	Org       string   `xml:"org_name"`
	Email     string   `xml:"email"`
	Contact   string   `xml:"extra_contact_info"`
	ID        string   `xml:"report_id"`
	Generator string   `xml:"generator"`
	Begin     string   `xml:"date_range>begin"`
	End       string   `xml:"date_range>end"`
	Errors    []string `xml:"error"`
}

type published struct {
	Domain    string `xml:"domain"`
	DKIM      string `xml:"adkim"`
	SPF       string `xml:"aspf"`
	P         string `xml:"p"`
	SP        string `xml:"sp"`
	NP        string `xml:"np"`
	Percent   string `xml:"pct"`
	Options   string `xml:"fo"`
	Testing   string `xml:"testing"`
	Discovery string `xml:"discovery_method"`
}

func (p *published) policy() Policy {
	out := Policy{Domain: domain(p.Domain), DKIM: low(p.DKIM), SPF: low(p.SPF), P: low(p.P), SP: low(p.SP), NP: low(p.NP), Percent: -1,
		FailureOptions: trim(p.Options), Testing: low(p.Testing), DiscoveryMethod: low(p.Discovery)}
	if n, err := strconv.Atoi(trim(p.Percent)); err == nil && n >= 0 && n <= 100 {
		out.Percent = n
	}
	return out
}

type record struct {
	Source      string `xml:"row>source_ip"`
	Count       string `xml:"row>count"`
	Disposition string `xml:"row>policy_evaluated>disposition"`
	DKIM        string `xml:"row>policy_evaluated>dkim"`
	SPF         string `xml:"row>policy_evaluated>spf"`
	Reasons     []struct {
		Type    string `xml:"type"`
		Comment string `xml:"comment"`
	} `xml:"row>policy_evaluated>reason"`
	Identifiers identifiers `xml:"identifiers"`
	Identities  identifiers `xml:"identities"` // of a draft
	Signatures  []result    `xml:"auth_results>dkim"`
	Senders     []result    `xml:"auth_results>spf"`
}

type identifiers struct {
	To     string `xml:"envelope_to"`
	From   string `xml:"envelope_from"`
	Header string `xml:"header_from"`
}

type result struct {
	Domain   string `xml:"domain"`
	Selector string `xml:"selector"`
	Scope    string `xml:"scope"`
	Result   string `xml:"result"`
	Human    string `xml:"human_result"`
}

func (r *record) record() Record {
	id := r.Identifiers
	if id.Header == "" {
		id.Header = r.Identities.Header
	}
	out := Record{Source: address(r.Source), Count: number(r.Count), Disposition: low(r.Disposition), DKIM: low(r.DKIM), SPF: low(r.SPF),
		EnvelopeTo: domain(id.To), EnvelopeFrom: domain(id.From), HeaderFrom: domain(id.Header)}
	for _, w := range r.Reasons {
		if w.Type != "" || w.Comment != "" {
			out.Reasons = append(out.Reasons, Reason{low(w.Type), trim(w.Comment)})
		}
	}
	for _, s := range r.Signatures {
		out.DKIMResults = append(out.DKIMResults, DKIMResult{domain(s.Domain), trim(s.Selector), low(s.Result), trim(s.Human)})
	}
	for _, s := range r.Senders {
		out.SPFResults = append(out.SPFResults, SPFResult{domain(s.Domain), low(s.Scope), low(s.Result), trim(s.Human)})
	}
	return out
}

func trim(s string) string { return strings.TrimSpace(s) }

func low(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func domain(s string) string { return strings.TrimSuffix(low(s), ".") }

func address(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(trim(s), "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// number reads a count; less than none is none.
func number(s string) int64 {
	n, err := strconv.ParseInt(trim(s), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// moment reads seconds since 1970, or a date of RFC 3339 as some write.
func moment(s string) time.Time {
	s = trim(s)
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if f < 0 || f > math.MaxInt32*4 || f != f {
			return time.Time{}
		}
		return time.Unix(int64(f), 0).UTC()
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// mend makes text of every mark that begins no tag, and valid UTF-8 of all, whatever the
// declaration says.
func mend(doc []byte) []byte {
	if _, rest, ok := bytes.Cut(doc[:min(len(doc), 200)], []byte("?>")); ok && bytes.Contains(doc[:min(len(doc), 10)], []byte("<?xml")) {
		doc = doc[min(len(doc), 200)-len(rest):]
	}
	doc = bytes.ToValidUTF8(doc, []byte("\uFFFD"))
	var out bytes.Buffer
	out.Grow(len(doc) + 64)
	for len(doc) > 0 {
		i := bytes.IndexByte(doc, '<')
		if i < 0 {
			out.Write(doc)
			break
		}
		out.Write(doc[:i])
		if doc = doc[i:]; tag(doc) {
			out.WriteByte('<')
		} else {
			out.WriteString("&lt;")
		}
		doc = doc[1:]
	}
	return out.Bytes()
}

// tag reports markup: a name of letters, digits and underscores, and an end before the
// next tag begins.
func tag(b []byte) bool {
	end := bytes.IndexByte(b, '>')
	next := bytes.IndexByte(b[1:], '<')
	if end < 0 || next >= 0 && next+1 < end {
		return false
	}
	if len(b) > 1 && (b[1] == '?' || b[1] == '!') {
		return true
	}
	name, attributes, _ := bytes.Cut(bytes.TrimSuffix(bytes.TrimPrefix(b[1:end], []byte("/")), []byte("/")), []byte(" "))
	for _, c := range name {
		if !(c == '_' || c == '-' || c == ':' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z') {
			return false
		}
	}
	return len(name) > 0 && (len(bytes.TrimSpace(attributes)) == 0 || bytes.IndexByte(attributes, '=') > 0)
}
