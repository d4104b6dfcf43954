package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/smtp"
)

// Intake is a place besides the report addresses where complaints and bounces come in.
type Intake struct {
	Name string
	Kind string // imap, maildir, mbox, http

	// Of imap.
	Address  string // host:port
	TLS      string // "implicit", "starttls", "none"
	User     string
	Password string // file
	CA       string // file of certificates to trust besides the system's; "" is none
	Mailbox  string
	Done     string // what becomes of a message that is committed: seen, delete, move
	MoveTo   string

	Paths []string // of maildir and mbox

	// Of http.
	Listen netip.AddrPort
	Path   string
	Format string // of hookFormats
	Secret string // file
	Cert   *TLS

	Every    time.Duration
	Provider string    // whom whoever comes in here is taken for; "" asks SPF and DKIM
	To       smtp.Path // the address that a report counts as sent to; the zero Path is reports@ the node
}

// hookFormats are the shapes of reports that come by HTTP.
func hookFormats() []string {
	return []string{"mail", "xarf", "ses", "sendgrid", "mailgun", "postmark", "sparkpost"}
}

func intakeAttributes() []string {
	return []string{"imap", "user", "password_file", "ca_file", "mailbox", "done", "maildir", "mbox", "http", "path", "format", "secret_file", "every", "provider", "to"}
}

func (l *loader) intake(hb *hclsyntax.Block) {
	b := l.openBlock(hb, intakeAttributes(), []string{"tls"})
	in := Intake{Name: b.label, Every: b.duration("every", time.Minute, time.Second, 24*time.Hour), Provider: b.str("provider", "")}
	kinds := []string{"imap", "maildir", "mbox", "http"}
	for _, k := range kinds {
		if b.attr(k) == nil {
			continue
		}
		if in.Kind != "" {
			l.add(b.attr(k).NameRange, fmt.Sprintf("intake %q is %s already", b.label, in.Kind), "one place for each intake")
			continue
		}
		in.Kind = k
	}
	switch in.Kind {
	case "":
		l.add(hb.DefRange(), fmt.Sprintf("intake %q says nothing of where reports come from", b.label), "one of "+strings.Join(kinds, ", "))
	case "imap":
		b.imap(&in)
	case "http":
		b.http(&in)
	default:
		for _, it := range b.strs(in.Kind) {
			in.Paths = append(in.Paths, l.path(it.text))
		}
	}
	b.only(in.Kind)
	for _, sub := range hb.Body.Blocks {
		if sub.Type == "tls" {
			in.Cert = l.tls(sub)
		}
	}
	if a := b.attr("provider"); a != nil {
		l.vouched = append(l.vouched, item{in.Provider, a.Expr.Range()})
	}
	if a := b.attr("to"); a != nil {
		p, err := smtp.ParseMailbox(b.str("to", ""))
		if err != nil || p.Domain == "" {
			l.add(a.Expr.Range(), "to is not an address", "local@domain")
		}
		in.To = p
	}
	l.cfg.Intakes = append(l.cfg.Intakes, in)
}

// only notes attributes of another kind of intake.
func (b *block) only(kind string) {
	of := map[string]string{"user": "imap", "password_file": "imap", "ca_file": "imap", "mailbox": "imap", "done": "imap", "path": "http", "format": "http", "secret_file": "http"}
	for _, a := range sortedAttributes(b.body) {
		if k := of[a.Name]; k != "" && k != kind && kind != "" {
			b.l.add(a.NameRange, fmt.Sprintf("%s is of an intake by %s", a.Name, k), "")
		}
	}
}

// imap reads "imaps://host[:port]" or "imap://host[:port]" and what belongs to it. By
// the latter STARTTLS is required, unless the host is a loopback address.
func (b *block) imap(in *Intake) {
	b.require("user", "password_file")
	a := b.attr("imap")
	u, err := url.Parse(b.str("imap", ""))
	if err != nil || u.Hostname() == "" || (u.Scheme != "imap" && u.Scheme != "imaps") || (u.Path != "" && u.Path != "/") || u.User != nil {
		b.l.add(a.Expr.Range(), "imap is not a mail server", `as "imaps://mail.example.com", or "imap://mail.example.com" for STARTTLS`)
		return
	}
	port := u.Port()
	switch ip, _ := netip.ParseAddr(u.Hostname()); {
	case u.Scheme == "imaps":
		in.TLS = "implicit"
	case ip.IsLoopback():
		in.TLS = "none"
	default:
		in.TLS = "starttls"
	}
	if port == "" {
		port = map[string]string{"imap": "143", "imaps": "993"}[u.Scheme]
	}
	in.Address = u.Hostname() + ":" + port
	if strings.Contains(u.Hostname(), ":") {
		in.Address = "[" + u.Hostname() + "]:" + port
	}
	in.User, in.Password, in.CA, in.Mailbox = b.str("user", ""), b.l.path(b.str("password_file", "")), b.l.path(b.str("ca_file", "")), b.str("mailbox", "INBOX")
	done := b.str("done", "seen")
	move, isMove := strings.CutPrefix(done, "move:")
	switch {
	case done == "seen", done == "delete":
		in.Done = done
	case isMove && move != "":
		in.Done, in.MoveTo = "move", move
	default:
		b.l.add(b.attr("done").Expr.Range(), fmt.Sprintf("done cannot be %q", done), `"seen", "delete", or "move:" and a mailbox`)
	}
}

func (b *block) http(in *Intake) {
	b.require("path", "format", "secret_file")
	in.Listen, _ = b.addrPort(item{b.str("http", ""), b.attr("http").Expr.Range()})
	in.Format = b.oneOf("format", "", hookFormats()...)
	in.Secret = b.l.path(b.str("secret_file", ""))
	if in.Path = b.str("path", "/"); !strings.HasPrefix(in.Path, "/") {
		b.l.add(b.attr("path").Expr.Range(), fmt.Sprintf("path %q does not begin with a slash", in.Path), "")
	}
	key := "intake path " + in.Listen.String() + in.Path
	if first, twice := b.l.names[key]; twice {
		b.l.add(b.where, fmt.Sprintf("%s at %s is another intake's, at %s", in.Path, in.Listen, position(first)), "each needs a path of its own")
	}
	b.l.names[key] = b.where
	if in.Listen.IsValid() && !in.Listen.Addr().IsLoopback() && !hasBlock(b.body, "tls") {
		b.l.warn(b.attr("http").Expr.Range(), "reports and their secrets would travel in clear text", "tls { certificate = ... key = ... }, or a loopback address behind a proxy that has it")
	}
}

func hasBlock(body *hclsyntax.Body, name string) bool {
	for _, s := range body.Blocks {
		if s.Type == name {
			return true
		}
	}
	return false
}

// intakesComplete holds the providers that intakes name against those that there are.
func (l *loader) intakesComplete() {
	var known []string
	for _, p := range l.cfg.Providers {
		known = append(known, p.Name)
	}
	for _, it := range l.vouched {
		if !has(known, it.text) {
			l.add(it.where, fmt.Sprintf("unknown provider %q", it.text), didYouMean(it.text, known))
		}
	}
}

// Webhook is where each verdict is sent.
type Webhook struct {
	Name    string
	URL     string
	Secret  string // file
	Events  []string
	Backlog int64 // octets of the spool that a late one may hold back
	Timeout time.Duration
}

// WebhookEvents are the kinds of event that can be sent.
func WebhookEvents() []string {
	return []string{"reported", "incident", "guard-tripped", "bounced", "handed-off", "accepted", "attempted"}
}

func webhookAttributes() []string {
	return []string{"url", "secret_file", "events", "backlog", "timeout"}
}

func (l *loader) webhook(hb *hclsyntax.Block) {
	b := l.openBlock(hb, webhookAttributes(), nil)
	b.require("url", "secret_file")
	w := Webhook{Name: b.label, URL: b.str("url", ""), Secret: l.path(b.str("secret_file", "")), Backlog: 1 << 30, Timeout: b.duration("timeout", 10*time.Second, time.Second, 5*time.Minute)}
	if strings.ContainsAny(w.Name, "/\\") || strings.HasPrefix(w.Name, ".") {
		l.add(hb.LabelRanges[0], fmt.Sprintf("%q is not a name for a webhook", w.Name), "letters, digits and hyphens: its position is kept under this name")
	}
	if a := b.attr("url"); a != nil {
		u, err := url.Parse(w.URL)
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
			l.add(a.Expr.Range(), "url is not an address of the web", `as "https://hooks.example.com/postern"`)
		case u.Scheme == "http" && !loopback(u.Hostname()):
			l.warn(a.Expr.Range(), "events would travel in clear text", "use https")
		}
	}
	if b.attr("backlog") != nil {
		w.Backlog = b.size("backlog", w.Backlog)
	}
	w.Events = []string{"reported"}
	if b.attr("events") != nil {
		w.Events = nil
	}
	for _, it := range b.strs("events") {
		if !has(WebhookEvents(), it.text) {
			hint := didYouMean(it.text, WebhookEvents())
			if hint == "" {
				hint = "one of " + strings.Join(WebhookEvents(), ", ")
			}
			l.add(it.where, fmt.Sprintf("unknown event %q", it.text), hint)
			continue
		}
		w.Events = append(w.Events, it.text)
	}
	l.cfg.Webhooks = append(l.cfg.Webhooks, w)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
