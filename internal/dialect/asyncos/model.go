// Package asyncos models Cisco (IronPort) AsyncOS: message filters, HAT, RAT, SMTP
// routes, aliases, domain maps and listeners, from the exported configuration or from the
// tables as the command line exports them. What they mean is from the AsyncOS user guides,
// 7.1 to 10.0.
package asyncos

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// Source is what there is of a configuration. The names of the files tell what is in them:
// see Part.
type Source struct {
	Files []string
	Read  dialect.Read
}

// Part tells by its name what a file holds, "" for nothing of a configuration: "xml",
// "filters", "listeners", "hat", "rat", "routes", "aliases", "domainmap", "altsrchost".
// hat-NAME.txt and rat-NAME.txt are those of the listener NAME.
func Part(name string) (part, listener string) {
	base := path.Base(name)
	if low := strings.ToLower(base); strings.HasSuffix(low, ".xml") {
		return "xml", ""
	}
	base = strings.TrimSuffix(base, path.Ext(base))
	head, rest, _ := strings.Cut(base, "-")
	switch low := strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(base)); low {
	case "filters", "messagefilters":
		return "filters", ""
	case "listeners", "listenerconfig":
		return "listeners", ""
	case "smtproutes", "routes":
		return "routes", ""
	case "aliases", "aliasconfig":
		return "aliases", ""
	case "domainmap", "altsrchost":
		return low, ""
	}
	if head = strings.ToLower(head); head == "hat" || head == "rat" {
		return head, rest
	}
	return "", ""
}

// Model reads a configuration and models each of its listeners. A configuration that
// cannot be read gives Faults.
func Model(src Source) (*dialect.Model, error) {
	c := &config{hats: map[string][]group{}, rats: map[string][]ratEntry{}}
	for _, name := range src.Files {
		b, err := src.Read(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		c.file(name, b)
	}
	c.assign()
	if len(c.listeners) == 0 && len(c.faults) == 0 {
		c.fault(policy.Pos{File: first(src.Files), Line: 1, Column: 1}, "no listener is in the configuration")
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	out := &dialect.Model{Dialect: "asyncos", Gaps: c.gaps, Assumptions: []string{
		"what content filters, scanning, LDAP and bounce verification refuse is not counted on",
		"the hosts that SMTP routes name send nothing on, but for those that a listener lets relay",
	}}
	for i := range c.listeners {
		s, m, err := c.service(&c.listeners[i], c.filters)
		if err != nil {
			return nil, err
		}
		s.Repairs = c.repairs(&c.listeners[i])
		out.Services = append(out.Services, s)
		out.Gaps, out.Notes = joined(out.Gaps, m.gaps), joined(out.Notes, m.notes)
		out.Assumptions = joined(out.Assumptions, m.assumptions)
	}
	return out, nil
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func joined[T comparable](all, more []T) []T {
	for _, x := range more {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}

// file reads one file by what its name says.
func (c *config) file(name string, b []byte) {
	part, l := Part(name)
	at := policy.Pos{File: name, Line: 1, Column: 1}
	switch part {
	case "xml":
		c.xml(name, b)
	case "filters":
		c.addFilters(string(b), at)
	case "listeners":
		c.listenerLines(string(b), at)
	case "hat":
		c.hats[l] = c.hatText(string(b), at)
	case "rat":
		c.rats[l] = c.ratLines(string(b), at)
	case "routes":
		c.routeLines(string(b), at)
	case "aliases":
		c.aliasLines(string(b), at)
	case "domainmap":
		c.domainLines(string(b), at)
	case "altsrchost":
		c.sourceLines(string(b), at)
	}
}

// assign gives listeners the tables that stand in files of their own.
func (c *config) assign() {
	for i := range c.listeners {
		l := &c.listeners[i]
		for _, name := range []string{"", l.name} {
			if g, is := c.hats[name]; is {
				l.groups, l.hat = g, true
			}
			if r, is := c.rats[name]; is && l.public {
				l.rat, l.hasRAT = r, true
			}
		}
	}
}

// service models a listener with the filters in some order.
func (c *config) service(l *listener, order []*filter) (dialect.Service, *modeller, error) {
	s := dialect.Service{Name: l.name, Pos: l.pos}
	shared := &marks{}
	sure := &modeller{cfg: c, l: l, order: order, marks: shared}
	var err error
	if s.Sure, err = sure.program(); err != nil {
		return s, nil, err
	}
	maybe := &modeller{cfg: c, l: l, order: order, maybe: true, marks: shared}
	p, err := maybe.program()
	if err != nil {
		return s, nil, err
	}
	if len(shared.gaps) > 0 {
		s.Maybe, s.Gaps = p, shared.gaps
	}
	s.Choices = shared.choices
	return s, maybe, nil
}

// maxRepairs bounds the orders that are tried.
const maxRepairs = 200

// repairs gives the orders in which one filter stands elsewhere, and the RAT that takes
// no more all recipients.
func (c *config) repairs(l *listener) func(func(dialect.Repair) bool) {
	return func(yield func(dialect.Repair) bool) {
		tried := 0
		for n := range 2 * len(c.filters) * len(c.filters) {
			// Down first: that leaves what the other filters do as it is.
			from, to := n/len(c.filters)%len(c.filters), n%len(c.filters)
			if down := n < len(c.filters)*len(c.filters); from != to && (from < to) == down {
				if tried++; tried > maxRepairs {
					return
				}
				order := slices.Insert(slices.Delete(slices.Clone(c.filters), from, from+1), to, c.filters[from])
				s, _, err := c.service(l, order)
				if err == nil && !yield(dialect.Repair{Text: moved(order, from, to), Service: s}) {
					return
				}
			}
		}
		closed := *l
		closed.rat = slices.Clone(l.rat)
		for i := range closed.rat {
			if e := &closed.rat[i]; e.addr == "all" && e.accept {
				e.accept = false
				s, _, err := c.service(&closed, c.filters)
				if err != nil || !yield(dialect.Repair{Text: []string{"RAT of " + l.name + ":", "ALL REJECT"}, Service: s}) {
					return
				}
			}
		}
	}
}

// moved says which filter goes where, with the list in its new order. The command filters
// counts from 1.
func moved(order []*filter, from, to int) []string {
	out := []string{fmt.Sprintf("filters -> MOVE %d %d", from+1, to+1), "the list is then:"}
	for i, f := range order {
		sign := ":"
		if !f.active {
			sign = "!"
		}
		out = append(out, fmt.Sprintf("%d  %s%s", i+1, f.name, sign))
	}
	return out
}
