package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Watch is another mail server whose log fills the ledger.
type Watch struct {
	Name     string
	Format   string   // of history.Formats
	Files    []string // patterns
	Hostname string   // as the server names itself in Received fields; "" is unknown
	Source   netip.Addr
	Customer Value
	Campaign Value
	Location *time.Location // of times without a zone
	FromEnd  bool
}

// Value is where a name is taken from: a constant, or a field of the log, or the part of
// it that an expression captures. The zero Value is nothing.
type Value struct {
	Constant string
	Field    string
	Capture  *regexp.Regexp // with one group
}

// Of gives the value, of where field gives those of the log.
func (v *Value) Of(field func(name string) string) string {
	if v.Field == "" {
		return v.Constant
	}
	s := field(v.Field)
	if v.Capture == nil || s == "" {
		return s
	}
	if m := v.Capture.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// watchFormats are the names of history's formats; internal/app has a test that holds
// them against it.
func watchFormats() []string {
	return []string{"powermta-csv", "kumomta-jsonl", "postfix", "exim", "haraka", "manifest"}
}

// watchFields are the fields that a format has; nil where the file itself says.
func watchFields(format string) []string {
	switch format {
	case "kumomta-jsonl":
		return []string{"tenant", "campaign", "egress_pool", "egress_source", "sender_domain", "meta.NAME", "headers.NAME"}
	case "postfix":
		return []string{"sasl_username", "sender_domain"}
	case "exim", "haraka":
		return []string{"user", "sender_domain"}
	}
	return nil
}

func watchAttributes() []string {
	return []string{"format", "files", "hostname", "source", "customer", "campaign", "timezone", "begin"}
}

func (l *loader) watch(hb *hclsyntax.Block) {
	b := l.openBlock(hb, watchAttributes(), nil)
	b.require("format")
	if b.str("format", "") != "manifest" { // which can be handed in
		b.require("files")
	}
	w := Watch{Name: b.label, Format: b.oneOf("format", "", watchFormats()...), Location: time.UTC, FromEnd: b.oneOf("begin", "start", "start", "end") == "end"}
	for _, it := range b.strs("files") {
		name := l.path(it.text)
		if _, err := filepath.Match(name, ""); err != nil || it.text == "" {
			l.add(it.where, fmt.Sprintf("%q is not a pattern of file names", it.text), `as "/var/log/mail.log*"`)
			continue
		}
		w.Files = append(w.Files, name)
	}
	if a := b.attr("files"); a != nil && len(b.strs("files")) == 0 {
		l.add(a.Expr.Range(), "files is empty: nothing would be read", "")
	}
	if a := b.attr("hostname"); a != nil {
		w.Hostname, _ = b.domain(item{b.str("hostname", ""), a.Expr.Range()})
		key := "watched hostname " + w.Hostname
		if first, twice := l.names[key]; twice {
			l.add(a.Expr.Range(), fmt.Sprintf("hostname %q is another watch's, at %s", w.Hostname, position(first)), "its queue ids could not be told apart")
		}
		l.names[key] = a.Expr.Range()
	}
	if a := b.attr("source"); a != nil {
		ip, err := netip.ParseAddr(b.str("source", ""))
		if err != nil {
			l.add(a.Expr.Range(), "source is not an address", "the address that the server sends from, where its log does not say")
		}
		w.Source = ip.Unmap()
	}
	if a := b.attr("timezone"); a != nil {
		loc, err := time.LoadLocation(b.str("timezone", ""))
		if err != nil {
			l.add(a.Expr.Range(), fmt.Sprintf("%q is not a time zone", b.str("timezone", "")), `as "Europe/Berlin"`)
			loc = time.UTC
		}
		w.Location = loc
	}
	w.Customer, w.Campaign = b.value("customer", w.Format), b.value("campaign", w.Format)
	l.cfg.Watches = append(l.cfg.Watches, w)
}

// valueHint tells what a name can be taken from.
const valueHint = `a constant, field("vmta"), or capture(field("vmta"), "^([a-z]+)-")`

// value reads a constant, field("name") or capture(field("name"), "expression").
func (b *block) value(name, format string) (v Value) {
	a := b.attr(name)
	if a == nil {
		return v
	}
	call, ok := a.Expr.(*hclsyntax.FunctionCallExpr)
	if !ok {
		v.Constant, _ = b.text(a.Expr)
		return v
	}
	switch {
	case call.Name == "field" && len(call.Args) == 1:
		v.Field = b.fieldName(call.Args[0], format)
	case call.Name == "capture" && len(call.Args) == 2:
		inner, ok := call.Args[0].(*hclsyntax.FunctionCallExpr)
		if !ok || inner.Name != "field" || len(inner.Args) != 1 {
			b.l.add(call.Args[0].Range(), "capture takes a field and an expression", valueHint)
			return v
		}
		v.Field = b.fieldName(inner.Args[0], format)
		v.Capture = b.capture(call.Args[1])
	default:
		hint := didYouMean(call.Name, []string{"field", "capture"})
		if hint == "" {
			hint = valueHint
		}
		b.l.add(call.Range(), fmt.Sprintf("%s(...) is not a value here", call.Name), hint)
	}
	return v
}

func (b *block) capture(x hclsyntax.Expression) *regexp.Regexp {
	s, ok := b.text(x)
	if !ok {
		return nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		b.l.add(x.Range(), fmt.Sprintf("%q is not an expression: %s", s, cause(err)), "as in RE2")
		return nil
	}
	if re.NumSubexp() != 1 {
		b.l.add(x.Range(), fmt.Sprintf("%q has %d groups, one is wanted", s, re.NumSubexp()), "what is in (...) becomes the name")
		return nil
	}
	return re
}

// fieldName holds a field against those that the format has.
func (b *block) fieldName(x hclsyntax.Expression, format string) string {
	s, ok := b.text(x)
	known := watchFields(format)
	if !ok || known == nil {
		return s
	}
	prefix, _, dotted := strings.Cut(s, ".")
	if has(known, s) || (dotted && has(known, prefix+".NAME")) {
		return s
	}
	hint := didYouMean(s, known)
	if hint == "" {
		hint = "one of " + strings.Join(known, ", ")
	}
	b.l.add(x.Range(), fmt.Sprintf("a log of format %s has no field %q", format, s), hint)
	return s
}
