package asyncos

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// node is an element of an exported configuration.
type node struct {
	name string
	pos  policy.Pos // of its text
	text string
	kids []*node
}

// maxElements bounds how deep elements are nested.
const maxElements = 100

// readXML reads the tree of an exported configuration with the places of its texts.
func readXML(file string, src []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(src))
	d.Strict = false
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return latin1{r}, nil }
	root := &node{}
	stack := []*node{root}
	for {
		row, column := d.InputPos()
		at := policy.Pos{File: file, Line: row, Column: column}
		t, err := d.Token()
		if errors.Is(err, io.EOF) && len(stack) == 1 && len(root.kids) > 0 {
			return root, nil
		}
		if err != nil {
			return nil, dialect.Fault{Pos: at, Message: "not a whole XML document"}
		}
		top := stack[len(stack)-1]
		switch t := t.(type) {
		case xml.StartElement:
			n := &node{name: plain(t.Name.Local)}
			if len(stack) > maxElements {
				return nil, dialect.Fault{Pos: at, Message: "elements are nested too deep"}
			}
			n.pos.File = file
			n.pos.Line, n.pos.Column = d.InputPos()
			top.kids, stack = append(top.kids, n), append(stack, n)
		case xml.EndElement:
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
		case xml.CharData:
			if strings.TrimSpace(top.text) == "" {
				top.pos, top.text = at, ""
			}
			top.text += string(t)
		}
	}
}

// latin1 reads ISO 8859-1, which is what appliances write, as UTF-8. Bytes above ASCII
// stand in comments and disclaimers, where nothing depends on them.
type latin1 struct{ r io.Reader }

func (l latin1) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for i := range p[:n] {
		if p[i] >= 0x80 {
			p[i] = '?'
		}
	}
	return n, err
}

// each calls f for every element of one of some names, outermost ones only.
func (n *node) each(f func(*node), names ...string) {
	for _, k := range n.kids {
		found := false
		for _, name := range names {
			found = found || k.name == name
		}
		if found {
			f(k)
			continue
		}
		k.each(f, names...)
	}
}

// first gives the text of the first child of one of some names.
func (n *node) first(names ...string) (string, policy.Pos) {
	for _, name := range names {
		for _, k := range n.kids {
			if k.name == name && strings.TrimSpace(k.text) != "" {
				return strings.TrimSpace(k.text), k.pos
			}
		}
	}
	return "", n.pos
}

func (n *node) plainText() bool { return strings.TrimSpace(n.text) != "" }

// xml takes what matters from an exported configuration.
func (c *config) xml(file string, src []byte) {
	root, err := readXML(file, src)
	if err != nil {
		c.faults = appendFault(c.faults, err)
		return
	}
	root.each(func(n *node) {
		n.each(func(k *node) { c.xmlListener(k) }, "listener")
	}, "listeners")
	root.each(func(n *node) {
		if n.plainText() {
			c.addFilters(n.text, n.pos)
		}
		n.each(func(k *node) {
			if body, pos := k.first("filter-text", "script", "rule"); body != "" {
				c.addFilters(body, pos)
			} else if k.plainText() {
				c.addFilters(k.text, k.pos)
			}
		}, "filter", "message-filter")
	}, "message-filters", "filters")
	root.each(func(n *node) { c.xmlRoutes(n) }, "smtp-routes", "smtproutes")
	root.each(func(n *node) { c.aliasLines(n.text, n.pos) }, "aliases", "alias-table")
	root.each(func(n *node) { c.domainLines(n.text, n.pos) }, "domain-map", "domainmap")
	root.each(func(n *node) {
		if name, _ := n.first("interface-name", "name"); name != "" {
			c.interfaces = append(c.interfaces, name)
		}
	}, "interface")
	root.each(func(n *node) {
		if n.plainText() {
			c.gaps = append(c.gaps, dialect.Gap{Pos: n.pos, Text: n.name, Why: "where a directory sends mail is not in the configuration"})
		}
	}, "ldap-routing", "ldap-routing-query")
}

func (c *config) xmlListener(n *node) {
	l := listener{}
	l.name, l.pos = n.first("listener-name", "name")
	if l.name == "" {
		c.fault(n.pos, "a listener without a name")
		return
	}
	l.on, _ = n.first("interface-name", "interface")
	kind, at := n.first("listener-type", "type")
	switch strings.ToLower(kind) {
	case "public":
		l.public = true
	case "private":
	default:
		c.fault(at, "listener %s is neither public nor private", l.name)
	}
	n.each(func(k *node) { l.groups, l.hat = append(l.groups, c.hatText(k.text, k.pos)...), true }, "hat")
	n.each(func(k *node) {
		l.hasRAT = true
		if k.plainText() {
			l.rat = append(l.rat, c.ratLines(k.text, k.pos)...)
		}
		k.each(func(e *node) { l.rat = append(l.rat, c.xmlRAT(e)...) }, "rat-entry", "entry")
	}, "rat")
	c.listeners = append(c.listeners, l)
}

func (c *config) xmlRAT(e *node) []ratEntry {
	access, _ := e.first("access", "rat-access", "action")
	var out []ratEntry
	for _, k := range e.kids {
		if k.name != "rat-address" && k.name != "address" && k.name != "recipient" {
			continue
		}
		out = append(out, c.ratLines(strings.TrimSpace(k.text)+" "+access, k.pos)...)
	}
	if len(out) == 0 {
		c.fault(e.pos, "an entry of the RAT without an address")
	}
	return out
}

func (c *config) xmlRoutes(n *node) {
	if n.plainText() {
		c.routeLines(n.text, n.pos)
	}
	n.each(func(e *node) {
		dom, pos := e.first("source-domain", "domain", "receiving-domain")
		hosts := []string{dom}
		e.each(func(h *node) { hosts = append(hosts, strings.TrimSpace(h.text)) }, "host", "destination-host", "destination-hostname")
		c.routeLines(strings.Join(hosts, " "), pos)
	}, "smtp-route", "route", "smtproute")
}

func appendFault(fs dialect.Faults, err error) dialect.Faults {
	var f dialect.Fault
	if errors.As(err, &f) {
		return append(fs, f)
	}
	return append(fs, dialect.Fault{Message: err.Error()})
}

func (c *config) addFilters(src string, at policy.Pos) {
	fs, err := parseFilters(src, at)
	if err != nil {
		c.faults = appendFault(c.faults, err)
	}
	c.filters = append(c.filters, fs...)
}
