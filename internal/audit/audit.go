// Package audit proves of another server's configuration, as a dialect has modelled it,
// that it relays nothing for strangers, or shows the session that it would. It is pure.
package audit

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

// The JSON of postern audit. Lists are never null.
type (
	// Report is what an audit found. Status is open if a service is, else unknown if one is.
	Report struct {
		Dialect     string        `json:"dialect"`
		Status      verify.Status `json:"status"`
		Services    []Service     `json:"services"`
		Gaps        []Gap         `json:"gaps"`
		Notes       []Gap         `json:"notes"` // what relays nothing and is worth a look
		Assumptions []string      `json:"assumptions"`
	}
	// Service is one way in.
	Service struct {
		Name     string        `json:"name"`
		File     string        `json:"file"`
		Line     int           `json:"line"`
		Status   verify.Status `json:"status"`
		Note     string        `json:"note,omitempty"` // why nobody can relay by it, where nothing was to be proved
		Findings []Finding     `json:"findings"`
	}
	// Finding is one place at which a stranger's message gets out, or could.
	Finding struct {
		Code    verify.Code   `json:"code"`
		Status  verify.Status `json:"status"` // open, or unknown where Gaps let it out
		Rule    string        `json:"rule"`   // the restriction, rule or filter that lets it by
		File    string        `json:"file"`
		Line    int           `json:"line"`
		Message string        `json:"message"`
		Witness *Witness      `json:"witness,omitempty"`
		Gaps    []Gap         `json:"gaps"`
		Repair  []string      `json:"repair,omitempty"` // lines in the server's own words, after which the service is no longer open
	}
	// Witness is a session that shows an open finding.
	Witness struct {
		Peer    netip.Addr `json:"peer"`
		Name    string     `json:"name,omitempty"` // of the peer in the DNS, forward and back
		Session []string   `json:"session"`        // "C: ..." is what the client says
	}
	// Gap is a part that could not be modelled.
	Gap struct {
		File string `json:"file"`
		Line int    `json:"line"`
		Text string `json:"text"`
		Why  string `json:"why"`
	}
)

// Run proves a model. o bounds each proof; warnings and repairs are not looked for.
func Run(m *dialect.Model, o verify.Options) *Report {
	r := &Report{Dialect: m.Dialect, Status: verify.Closed, Gaps: []Gap{}, Notes: []Gap{}, Services: []Service{}, Assumptions: append([]string{}, m.Assumptions...)}
	o.NoWarnings, o.NoRepairs = true, true
	for i := range m.Gaps {
		r.Gaps = append(r.Gaps, newGap(&m.Gaps[i]))
	}
	for i := range m.Notes {
		r.Notes = append(r.Notes, newGap(&m.Notes[i]))
	}
	for i := range m.Services {
		s := service(&m.Services[i], o)
		r.Services = append(r.Services, s)
		r.Status = worse(r.Status, s.Status)
	}
	if len(m.Services) == 0 {
		r.Status = verify.Unknown // nothing was found that could be proved
	}
	return r
}

func newGap(g *dialect.Gap) Gap {
	return Gap{File: g.Pos.File, Line: g.Pos.Line, Text: g.Text, Why: g.Why}
}

func worse(a, b verify.Status) verify.Status {
	switch {
	case a == verify.Open || b == verify.Open:
		return verify.Open
	case a == verify.Unknown || b == verify.Unknown:
		return verify.Unknown
	}
	return verify.Closed
}

// service proves one way in: what is sure first, then with all that the gaps could permit.
func service(s *dialect.Service, o verify.Options) Service {
	out := Service{Name: s.Name, File: s.Pos.File, Line: s.Pos.Line, Status: verify.Closed, Note: s.Note, Findings: []Finding{}}
	if s.Sure == nil {
		return out
	}
	out.add(s.Sure, nil, s.Choices, o)
	if out.Status == verify.Closed && s.Maybe != nil {
		out.add(s.Maybe, s.Gaps, s.Choices, o)
	}
	if out.Status == verify.Open && s.Repairs != nil {
		out.repair(s, o)
	}
	return out
}

// repair looks for the first change after which a service is not open.
func (s *Service) repair(of *dialect.Service, o verify.Options) {
	var best []string
	for r := range of.Repairs {
		r.Service.Repairs = nil
		if after := service(&r.Service, o); after.Status != verify.Open {
			best = append(r.Text[:len(r.Text):len(r.Text)], "(then "+string(after.Status)+")")
			break
		}
	}
	for i := range s.Findings {
		s.Findings[i].Repair = best
	}
}

// add proves a program and adds its leaks. gaps are those that it permits by.
func (s *Service) add(p *policy.Program, gaps []dialect.Gap, choices []string, o verify.Options) {
	res := verify.Check(p, o)
	for i := range res.Findings {
		f := &res.Findings[i]
		if f.Code != verify.RelayForStrangers || f.Status == verify.Closed {
			continue
		}
		s.Findings = append(s.Findings, finding(f, gaps, choices))
		s.Status = worse(s.Status, s.Findings[len(s.Findings)-1].Status)
	}
}

func finding(f *verify.Finding, gaps []dialect.Gap, choices []string) Finding {
	out := Finding{Code: f.Code, Status: f.Status, Rule: f.Filter, File: f.Pos.File, Line: f.Pos.Line, Gaps: []Gap{}}
	if f.Witness == nil {
		out.Message = "whether this lets strangers' mail out could not be decided: " + f.Message
		return out
	}
	facts := &f.Witness.Hops[0]
	out.Gaps = usedGaps(facts, gaps)
	if len(out.Gaps) > 0 {
		out.Status = verify.Unknown
		out.Message = fmt.Sprintf("a stranger's mail to %s goes out if what is not in the configuration permits it", facts.Rcpt)
		return out
	}
	out.Message = fmt.Sprintf("a stranger's mail to %s goes out", facts.Rcpt)
	out.Witness = &Witness{Peer: facts.Client.Address, Name: facts.Client.Name, Session: session(facts, choices)}
	return out
}

// usedGaps gives the gaps that a message gets by through: a header field stands for each.
func usedGaps(f *policy.Facts, gaps []dialect.Gap) []Gap {
	out := []Gap{}
	if f.Content == nil {
		return out
	}
	for _, h := range f.Content.Headers {
		number, is := strings.CutPrefix(h.Name, dialect.GapHeader)
		if n, err := strconv.Atoi(number); is && err == nil && n >= 1 && n <= len(gaps) {
			out = append(out, newGap(&gaps[n-1]))
		}
	}
	return out
}

// session is what the client says; the server accepts each of it.
func session(f *policy.Facts, choices []string) []string {
	var out, fields, others []string
	if f.Client.Helo != "" {
		out = append(out, "C: EHLO "+f.Client.Helo)
	}
	out = append(out, fmt.Sprintf("C: MAIL FROM:<%s>", proof.Path(f.Sender)), fmt.Sprintf("C: RCPT TO:<%s>", proof.Path(f.Rcpt)))
	if f.Content != nil {
		for _, h := range f.Content.Headers {
			number, choice := strings.CutPrefix(h.Name, dialect.ChosenHeader)
			n, err := strconv.Atoi(number)
			switch {
			case h.Name == dialect.CompanionHeader:
				others = append(others, fmt.Sprintf("C: RCPT TO:<%s>", whole(h.Value)))
			case choice && err == nil && n >= 1 && n <= len(choices):
				fields = append(fields, "C: (with "+choices[n-1]+")")
			case !strings.HasPrefix(h.Name, dialect.GapHeader):
				fields = append(fields, "C: "+h.Name+": "+h.Value)
			}
		}
	}
	out = append(append(out, others...), "C: DATA")
	return append(append(out, fields...), "C: (a message)", "C: .")
}

// whole makes an address of the part of one that an expression asks for.
func whole(s string) string {
	switch at := strings.IndexByte(s, '@'); {
	case at < 0:
		return "anyone@" + s
	case at == 0:
		return "anyone" + s
	}
	return s
}
