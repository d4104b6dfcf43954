package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/smtp"
)

const explainHelp = `Asks the policy about one message, as a session would, and prints what every filter says
(yes, no, unknown) and what is decided, for each -rcpt and for every way in which other mail
systems could read its address. Nothing is sent and no node need run.

Exit status: 0 every recipient is taken, 1 one is refused, 2 bad input.`

// many is a flag that may be given several times.
type many []string

// String implements flag.Value.
func (m *many) String() string { return strings.Join(*m, ", ") }

// Set implements flag.Value.
func (m *many) Set(s string) error { *m = append(*m, s); return nil }

// asked is a message as the flags describe it.
type asked struct {
	peer, listener, helo, name, auth, from, file, at string
	spf, dkim, dmarc                                 string
	tls                                              bool
	rcpts, headers                                   many
}

// explained is the answer of explain -json.
type explained struct {
	Policy     string          `json:"policy"`
	Origin     policy.Origin   `json:"origin"`
	Customer   string          `json:"customer,omitempty"`
	Listener   string          `json:"listener"`
	Recipients []explainedRcpt `json:"recipients"`
}

type explainedRcpt struct {
	Recipient string             `json:"recipient"`
	Decision  proof.Decision     `json:"decision"`
	AtRCPT    bool               `json:"at_rcpt"` // refused by the envelope alone
	Readings  []explainedReading `json:"readings"`
}

type explainedReading struct {
	Address  string          `json:"address"`
	Decision proof.Decision  `json:"decision"`
	Steps    []explainedStep `json:"steps"`
}

type explainedStep struct {
	Filter string `json:"filter"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Result string `json:"result"`
	Final  bool   `json:"final"`
}

func runExplain(_ context.Context, e *env, args []string) error {
	var q asked
	f := flags("explain")
	asJSON := f.Bool("json", false, "print one JSON object")
	f.StringVar(&q.peer, "from-peer", "", "`ADDRESS` of the client; required")
	f.StringVar(&q.listener, "listener", "", "`NAME` of the listener; the first for strangers, with -auth for AUTH")
	f.StringVar(&q.helo, "helo", "client.example", "`NAME` in its EHLO")
	f.StringVar(&q.name, "name", "", "`NAME` that the DNS has for it")
	f.StringVar(&q.auth, "auth", "", "`USER` that it has authenticated as")
	f.BoolVar(&q.tls, "tls", false, "it uses TLS")
	f.StringVar(&q.from, "mail-from", "", "`PATH` of MAIL FROM; empty is the null reverse-path")
	f.Var(&q.rcpts, "rcpt", "`ADDRESS` of a recipient; may be given several times")
	f.Var(&q.headers, "header", "`FIELD` of the header, as 'X-Name: value'; may be given several times")
	f.StringVar(&q.file, "message", "", "`FILE` with the message; - is standard input")
	f.StringVar(&q.spf, "spf", "none", "`RESULT` of SPF, as pass")
	f.StringVar(&q.dkim, "dkim", "none", "`RESULT` of DKIM")
	f.StringVar(&q.dmarc, "dmarc", "none", "`RESULT` of DMARC")
	f.StringVar(&q.at, "at", "", "`TIME` of the message, in RFC 3339; now where not given")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	file, err := oneFile("explain", rest)
	if err != nil {
		return err
	}
	cfg, err := readPolicy(e, file, nil)
	if err != nil {
		return err
	}
	facts, err := q.facts(e, cfg)
	if err != nil {
		return err
	}
	out := &explained{Policy: cfg.Version, Origin: facts.Origin, Customer: facts.Customer, Listener: facts.Listener, Recipients: []explainedRcpt{}}
	refused := false
	for _, to := range q.rcpts {
		r, err := explainRcpt(cfg, facts, to)
		if err != nil {
			return err
		}
		refused = refused || r.Decision.Disposition == policy.Refused
		out.Recipients = append(out.Recipients, *r)
	}
	if *asJSON {
		err = printJSON(e, out)
	} else {
		printExplained(e, facts, out)
	}
	if err == nil && refused {
		err = &exitError{code: exitNo}
	}
	return err
}

// facts gathers what a session would know at the end of DATA.
func (q *asked) facts(e *env, cfg *config.Config) (*policy.Facts, error) {
	peer, err := netip.ParseAddr(q.peer)
	if err != nil {
		return nil, &exitError{code: exitUsage, text: fmt.Sprintf("-from-peer %q is not an address", q.peer), hint: "postern help explain"}
	}
	if len(q.rcpts) == 0 {
		return nil, &exitError{code: exitUsage, text: "explain wants a recipient: -rcpt", hint: "postern help explain"}
	}
	f := &policy.Facts{Client: policy.Client{Address: peer.Unmap(), Name: strings.ToLower(q.name), Helo: strings.ToLower(q.helo)}, AuthUser: q.auth, Now: time.Now()}
	if q.tls || q.auth != "" {
		f.TLS = policy.TLS{On: true, Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256"}
	}
	if q.at != "" {
		if f.Now, err = time.Parse(time.RFC3339, q.at); err != nil {
			return nil, usagef("-at %q is not a time of RFC 3339", q.at)
		}
	}
	if f.Sender, err = reversePath(q.from, cfg.Node.Hostname); err != nil {
		return nil, err
	}
	if f.Listener, err = q.where(cfg); err != nil {
		return nil, err
	}
	a := policy.Arrival{Listener: f.Listener, Peer: peer, AuthUser: q.auth}
	if q.auth != "" {
		u, known := cfg.Users[q.auth]
		if !known {
			return nil, usagef("-auth %q is no user of any customer", q.auth)
		}
		a.AuthCustomer = u.Customer
	}
	var welcome bool
	if f.Origin, f.Customer, welcome = cfg.Topology().OriginOf(a); !welcome {
		return nil, &exitError{code: exitNo, text: fmt.Sprintf("listener %q is not for %s: it is refused before any command (554), or at MAIL where AUTH is offered (530)", f.Listener, peer)}
	}
	f.Content, err = q.content(e)
	return f, err
}

// reversePath reads -mail-from, with or without brackets.
func reversePath(s, hostname string) (policy.Address, error) {
	p, err := path(s, hostname)
	if err != nil {
		return policy.Address{}, usagef("-mail-from %q is not a mailbox", s)
	}
	return policy.Normalise(p)
}

func path(s, hostname string) (smtp.Path, error) {
	if !strings.HasPrefix(s, "<") {
		s = "<" + s + ">"
	}
	p, rest, err := smtp.ParsePath(s, true)
	if err == nil && rest != "" {
		err = fmt.Errorf("%q follows", rest)
	}
	if p.Domain == "" && p.Local != "" {
		p.Domain = hostname
	}
	return p, err
}

// where chooses the listener.
func (q *asked) where(cfg *config.Config) (string, error) {
	var names []string
	first := ""
	for _, l := range cfg.Listeners {
		if l.Name == q.listener {
			return l.Name, nil
		}
		names = append(names, l.Name)
		if first == "" && ((q.auth != "" && l.Auth) || (q.auth == "" && l.From == policy.FromStrangers)) {
			first = l.Name
		}
	}
	if q.listener != "" {
		hint := policy.DidYouMean(q.listener, names)
		if hint == "" {
			hint = "one of " + strings.Join(names, ", ")
		}
		return "", &exitError{code: exitUsage, text: fmt.Sprintf("unknown listener %q", q.listener), hint: hint}
	}
	if first == "" {
		first = names[0]
	}
	return first, nil
}

// content reads the message, or makes one of the header fields given.
func (q *asked) content(e *env) (*policy.Content, error) {
	var b strings.Builder
	for _, h := range q.headers {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" {
			return nil, usagef("-header %q is not \"Name: value\"", h)
		}
		b.WriteString(h + "\r\n")
	}
	text := b.String() + "\r\n"
	if q.file != "" {
		raw, err := readFile(e, q.file)
		if err != nil {
			return nil, usagef("%v", err)
		}
		text = b.String() + strings.ReplaceAll(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n", "\r\n")
	}
	c := &policy.Content{Size: int64(len(text)), SPF: q.spf, DKIM: q.dkim, DMARC: q.dmarc}
	fields, _ := message.ReadHeader([]byte(text))
	for _, h := range fields {
		c.Headers = append(c.Headers, policy.HeaderField{Name: strings.ToLower(h.Name), Value: strings.TrimSpace(h.Value)})
	}
	return c, nil
}

// readFile reads a file; "-" is standard input.
func readFile(e *env, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(e.stdin)
	}
	return os.ReadFile(name)
}

// explainRcpt asks about one recipient, as a session does: at RCPT by the envelope,
// then with the whole message, for every reading of the address.
func explainRcpt(cfg *config.Config, f *policy.Facts, to string) (*explainedRcpt, error) {
	p, err := path(to, cfg.Node.Hostname)
	if err != nil || p.IsNull() {
		return nil, usagef("-rcpt %q is not a mailbox", to)
	}
	readings, ok := policy.Readings(p)
	if !ok {
		return nil, usagef("-rcpt %q: a session refuses it with 553, it is no mailbox or can be read in too many ways", to)
	}
	if f.Origin == policy.Customer {
		readings = readings[:1] // a customer means what he writes
	}
	out := &explainedRcpt{Recipient: p.String()}
	var ds []policy.Decision
	for _, reading := range readings {
		one := *f
		one.Rcpt = reading
		early := one
		early.Content = nil
		if _, refused := policy.Early(cfg.Program, &early); refused {
			out.AtRCPT = true
		}
		d, trace := policy.Explain(cfg.Program, &one)
		ds = append(ds, d)
		r := explainedReading{Address: reading.String(), Decision: proof.NewDecision(&d), Steps: []explainedStep{}}
		for _, s := range trace {
			r.Steps = append(r.Steps, explainedStep{Filter: s.Filter, File: s.Pos.File, Line: s.Pos.Line, Result: s.Result.String(), Final: s.Final})
		}
		out.Readings = append(out.Readings, r)
	}
	strict := policy.Strictest(ds)
	out.Decision = proof.NewDecision(&strict)
	return out, nil
}

func printExplained(e *env, f *policy.Facts, out *explained) {
	from := proof.Path(f.Sender).String()
	fmt.Fprintf(e.stdout, "%s, from <%s>\n", proof.Who(f), from)
	for i := range out.Recipients {
		r := &out.Recipients[i]
		fmt.Fprintf(e.stdout, "\n<%s>\n", r.Recipient)
		for j := range r.Readings {
			v := &r.Readings[j]
			if len(r.Readings) > 1 {
				fmt.Fprintf(e.stdout, "  read as <%s>: %s\n", v.Address, v.Decision.Text)
			}
			t := table(e)
			for _, s := range v.Steps {
				last := ""
				if s.Result == "yes" && s.Final {
					last = "decides"
				}
				fmt.Fprintf(t, "    %s\t%s\t%s:%d\t%s\n", s.Result, s.Filter, s.File, s.Line, last)
			}
			t.Flush()
			if len(v.Steps) == 0 {
				fmt.Fprintln(e.stdout, "    no filter is asked: decided before them, by accept, reports or senders")
			}
		}
		when := ""
		if r.AtRCPT {
			when = ", at RCPT already"
		}
		fmt.Fprintf(e.stdout, "  %s%s\n", r.Decision.Text, when)
	}
}
