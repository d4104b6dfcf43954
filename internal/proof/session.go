package proof

import (
	"bytes"
	"fmt"
	"net/textproto"
	"strings"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
)

// ending is the body of a witness.
const ending = "This message shows what the policy does.\r\n"

// Path gives the path of an address, as it is written on the wire.
func Path(a policy.Address) smtp.Path { return smtp.Path{Local: a.Local, Domain: a.Domain} }

// Message writes the message of a witness: its header and a short body, or one of the
// size that the facts say if the policy asks for it.
func Message(p *policy.Program, f *policy.Facts) []byte {
	var b bytes.Buffer
	size := int64(0)
	if f.Content != nil {
		if p.Mentions("size") || len(p.Asserts) > 0 {
			size = f.Content.Size
		}
		for _, h := range f.Content.Headers {
			fmt.Fprintf(&b, "%s: %s\r\n", textproto.CanonicalMIMEHeaderKey(h.Name), h.Value)
		}
	}
	b.WriteString("\r\n")
	if size > 0 && int64(b.Len()+len(ending)) > size {
		pad(&b, size)
		return b.Bytes()
	}
	b.WriteString(ending)
	pad(&b, size)
	return b.Bytes()
}

// pad fills a message up to a size, in lines.
func pad(b *bytes.Buffer, size int64) {
	const line = 74
	for missing := size - int64(b.Len()); missing > 0; missing = size - int64(b.Len()) {
		n := min(missing, line+2)
		if missing-n == 1 { // no line is one octet long
			n--
		}
		if n < 2 {
			b.WriteByte('x')
			continue
		}
		b.WriteString(strings.Repeat("x", int(n-2)))
		b.WriteString("\r\n")
	}
}

// shown is how much of a message is printed.
const shown = 4000

// Dialogue writes the session of a witness: what the client says as "C: ...", what
// the gateway answers as "S: ...". Eval has given d for f.
func Dialogue(p *policy.Program, f *policy.Facts, d *policy.Decision) []string {
	s := &script{program: p, host: p.Topology.Hostname}
	s.server("220 %s ESMTP Postern", s.host)
	s.hello(f)
	if f.TLS.On {
		s.client("STARTTLS")
		s.server("220 2.0.0 ready for TLS")
		s.note("TLS %s", f.TLS.Version)
		s.hello(f)
	}
	if f.AuthUser != "" {
		s.client("AUTH SCRAM-SHA-256 (as user %s)", f.AuthUser)
		s.server("235 2.7.0 authenticated")
	}
	s.client("MAIL FROM:<%s>", Path(f.Sender))
	s.server("250 2.0.0 ok")
	s.client("RCPT TO:<%s>", Path(f.Rcpt))
	early := *f
	early.Content = nil
	if e, refused := policy.Early(p, &early); refused {
		s.reply(&e)
		return s.lines
	}
	s.server("250 2.0.0 ok")
	s.client("DATA")
	s.server("354 go ahead")
	s.message(f)
	if d.Disposition == policy.Refused {
		s.reply(d)
	} else {
		s.server("250 2.0.0 accepted")
	}
	return s.lines
}

type script struct {
	program *policy.Program
	host    string
	lines   []string
}

func (s *script) client(format string, a ...any) { s.add("C: ", format, a...) }
func (s *script) server(format string, a ...any) { s.add("S: ", format, a...) }
func (s *script) note(format string, a ...any)   { s.add("   ", format, a...) }

// add keeps controls out of the terminal.
func (s *script) add(who, format string, a ...any) {
	s.lines = append(s.lines, strings.TrimRight(who+strings.Map(printable, fmt.Sprintf(format, a...)), " "))
}

func printable(r rune) rune {
	if r < ' ' && r != '\t' || r == 0x7f {
		return '?'
	}
	return r
}

func (s *script) hello(f *policy.Facts) {
	name := f.Client.Helo
	if name == "" {
		name = "client.example"
	}
	s.client("EHLO %s", name)
	s.server("250 %s", s.host)
}

func (s *script) reply(d *policy.Decision) {
	s.server("%s", smtp.NewReply(d.Code, smtp.EnhancedCode(d.Enhanced), "%s", d.Text))
}

func (s *script) message(f *policy.Facts) {
	m := Message(s.program, f)
	text := m
	if len(text) > shown {
		text = text[:shown]
	}
	filling := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if filling > 0 || (len(line) > 1 && strings.Trim(line, "x") == "") {
			filling += len(line) + 2
			continue
		}
		if strings.HasPrefix(line, ".") {
			line = "." + line
		}
		s.client("%s", line)
	}
	if filling > 0 || len(text) < len(m) {
		s.note("(%d octets in all)", len(m))
	}
	s.client(".")
}

// Fate says in words what becomes of a message.
func Fate(d *policy.Decision) string {
	by := "by default"
	if d.Filter != "" {
		by = "by filter " + d.Filter
	}
	to := ""
	if d.Rewritten {
		to = " to " + d.Rcpt.String() + ","
	}
	copies := ""
	for _, c := range d.Effects.Copies {
		copies += ", with a copy to " + c.Rcpt.String()
	}
	switch d.Disposition {
	case policy.Deliver:
		way := "over pool " + d.Pool
		if d.Inside != "" {
			way = "to inside host " + d.Inside
		} else if d.Pool == "" {
			way = "to the recipient's MX"
		}
		return fmt.Sprintf("delivered%s %s, %s%s", to, way, by, copies)
	case policy.Refused:
		return fmt.Sprintf("refused (%s), %s", smtp.NewReply(d.Code, smtp.EnhancedCode(d.Enhanced), "%s", d.Text), by)
	case policy.Drop:
		return "accepted and dropped, " + by + copies
	case policy.Hold:
		return "accepted and held, " + by + copies
	case policy.Bounce:
		return "accepted and bounced, " + by
	case policy.Consume:
		return "read by Postern itself, as a report"
	}
	return string(d.Disposition)
}

// Who says in words whose message it is and where it comes in.
func Who(f *policy.Facts) string {
	who := "a stranger"
	switch f.Origin {
	case policy.Customer:
		who = "customer " + f.Customer
		if f.Customer == "" {
			who = "a customer"
		}
	case policy.Inside:
		who = "an inside host"
	case policy.Self:
		who = "the gateway itself"
	}
	return fmt.Sprintf("%s at %s, on listener %s", who, f.Client.Address, f.Listener)
}
