// Package tlsrpt reads reports on SMTP TLS (RFC 8460): JSON, bare, packed or in a mail.
// It is pure.
package tlsrpt

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/message/unpack"
)

// ErrNotReport tells that there is no report of this kind.
var ErrNotReport = errors.New("not a TLS report")

// Report is what one organisation saw of one domain's policies in a day (RFC 8460,
// section 4.4).
type Report struct {
	Org        string
	Contact    string
	ID         string
	Start, End time.Time
	Policies   []Policy
}

// Policy is a policy that was applied, and how sessions fared under it.
type Policy struct {
	Type       string // "tlsa", "sts", "no-policy-found"
	Domain     string
	Strings    []string
	MXHosts    []string
	Successful int64 // sessions
	Failed     int64
	Failures   []Failure
}

// Failure is one kind of failure (RFC 8460, section 4.3).
type Failure struct {
	Result            string // "starttls-not-supported", "certificate-expired", ...
	SendingIP         netip.Addr
	ReceivingIP       netip.Addr
	ReceivingHost     string
	ReceivingHELO     string
	Sessions          int64
	Reason            string
	MoreInformation   string
	SendingIPAsStated string // what it says where that is no address
}

// Read finds the reports in a mail, in a packed file or in a bare document, within
// limits. With an error come the reports that could be read.
func Read(raw []byte, l unpack.Limits) ([]*Report, error) {
	docs, err := unpack.Documents(raw, l)
	var out []*Report
	for _, d := range docs {
		r, perr := Parse(d.Body)
		if perr == nil {
			out = append(out, r)
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

// document has the names of RFC 8460, section 4.4.
type document struct {
	Org     string  `json:"organization-name"`
	Range   *period `json:"date-range"`
	Contact string  `json:"contact-info"`
	ID      string  `json:"report-id"`
	Entries []entry `json:"policies"`
}

type period struct {
	Start string `json:"start-datetime"`
	End   string `json:"end-datetime"`
}

type entry struct {
	Policy struct {
		Type    string `json:"policy-type"`
		Strings list   `json:"policy-string"`
		Domain  string `json:"policy-domain"`
		MX      list   `json:"mx-host"`
	} `json:"policy"`
	Summary struct {
		Successful count `json:"total-successful-session-count"`
		Failed     count `json:"total-failure-session-count"`
	} `json:"summary"`
	Failures []failure `json:"failure-details"`
}

type failure struct {
	Result      string `json:"result-type"`
	SendingIP   string `json:"sending-mta-ip"`
	ReceivingIP string `json:"receiving-ip"`
	Host        string `json:"receiving-mx-hostname"`
	HELO        string `json:"receiving-mx-helo"`
	Sessions    count  `json:"failed-session-count"`
	More        string `json:"additional-information"`
	MoreInfo    string `json:"additional-info-uri"`
	Reason      string `json:"failure-reason-code"`
	ReasonError string `json:"failure-error-code"` // as the example of RFC 8460, appendix B, has it
}

// Parse reads one document. What it does not know is passed over.
func Parse(doc []byte) (*Report, error) {
	var d document
	if err := json.Unmarshal([]byte(strings.TrimPrefix(string(doc), "\ufeff")), &d); err != nil {
		var other *json.UnmarshalTypeError // of a value of another type no more is lost than the value
		if !errors.As(err, &other) {
			return nil, fmt.Errorf("%w: %w", ErrNotReport, err)
		}
	}
	if d.Range == nil && d.Entries == nil {
		return nil, ErrNotReport
	}
	r := &Report{Org: d.Org, Contact: d.Contact, ID: d.ID}
	if d.Range != nil {
		r.Start, r.End = moment(d.Range.Start), moment(d.Range.End)
	}
	for i := range d.Entries {
		r.Policies = append(r.Policies, d.Entries[i].policy())
	}
	return r, nil
}

func (e *entry) policy() Policy {
	p := Policy{Type: e.Policy.Type, Domain: strings.ToLower(strings.TrimSuffix(e.Policy.Domain, ".")), Strings: e.Policy.Strings, MXHosts: e.Policy.MX,
		Successful: int64(e.Summary.Successful), Failed: int64(e.Summary.Failed)}
	for _, f := range e.Failures {
		out := Failure{Result: f.Result, ReceivingIP: addr(f.ReceivingIP), SendingIP: addr(f.SendingIP), ReceivingHost: f.Host, ReceivingHELO: f.HELO, Sessions: int64(f.Sessions), Reason: f.Reason, MoreInformation: f.More}
		if out.Reason == "" {
			out.Reason = f.ReasonError
		}
		if out.MoreInformation == "" {
			out.MoreInformation = f.MoreInfo
		}
		if !out.SendingIP.IsValid() {
			out.SendingIPAsStated = f.SendingIP
		}
		p.Failures = append(p.Failures, out)
	}
	return p
}

func addr(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(s, "[] "))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

func moment(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// count reads a number that may stand in quotes; what is none, and less than none, is
// 0.
type count int64

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(b []byte) error {
	v := int64(0)
	if _, err := fmt.Sscanf(strings.Trim(string(b), `"`), "%d", &v); err == nil && v > 0 {
		*c = count(v)
	}
	return nil
}

// list reads a list of strings, or one string in place of it.
type list []string

// UnmarshalJSON implements json.Unmarshaler; what is neither is nothing.
func (l *list) UnmarshalJSON(b []byte) error {
	var all []string
	if json.Unmarshal(b, &all) == nil {
		*l = all
		return nil
	}
	var one string
	if json.Unmarshal(b, &one) == nil && one != "" {
		*l = []string{one}
	}
	return nil
}
