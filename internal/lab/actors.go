package lab

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"

	"postern.dev/postern/internal/smtp"
)

// submit sends one message over a connection of its own and gives the last reply.
func submit(ctx context.Context, source, listener, helo string, from, to smtp.Path, data []byte) (*smtp.Reply, error) {
	s, err := open(ctx, source, listener, helo)
	if err != nil {
		return nil, err
	}
	defer s.Quit()
	return send(ctx, s, from, to, data)
}

func open(ctx context.Context, source, listener, helo string) (*smtp.Client, error) {
	nc, err := dial(ctx, source, listener)
	if err != nil {
		return nil, err
	}
	c, err := smtp.NewClient(ctx, nc, smtp.Timeouts{})
	if err != nil {
		nc.Close()
		return nil, err
	}
	if err := c.Hello(ctx, helo); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// send runs a transaction; the reply is that of the first refusal, or the last.
func send(ctx context.Context, c *smtp.Client, from, to smtp.Path, data []byte) (*smtp.Reply, error) {
	res := c.Send(ctx, &smtp.Mail{From: from, To: []smtp.Recipient{{Path: to}}, Body: bytes.NewReader(data)})
	if res.Err != nil {
		return nil, res.Err
	}
	for _, r := range append([]*smtp.Reply{res.Mail}, res.Rcpt...) {
		if r != nil && !r.Positive() {
			return r, nil
		}
	}
	return res.Data, nil
}

// Tally is what somebody who sent has seen.
type Tally struct {
	Attempted int
	Accepted  int // 250 to the end of data
	Refused   int
}

// Customer is a customer's application.
type Customer struct {
	Name     string
	Source   string // its address
	Domain   string // that it sends from
	Listener string // that it hands its mail to
	Lab      *Lab
	rng      *rand.Rand
}

// AddCustomer makes a customer's application; n tells customers apart.
func (l *Lab) AddCustomer(n int, name, domain, listener string) *Customer {
	return &Customer{Name: name, Source: fmt.Sprintf("127.10.%d.1", n), Domain: domain, Listener: listener, Lab: l, rng: rand.New(rand.NewPCG(l.seed, uint64(n)))}
}

// Send hands over n messages to recipients at the domains in turn, on one
// connection.
func (c *Customer) Send(ctx context.Context, n int, domains []string, progress func()) (t Tally, err error) {
	s, err := open(ctx, c.Source, c.Listener, "app."+c.Domain)
	if err != nil {
		return t, fmt.Errorf("lab customer %s: %w", c.Name, err)
	}
	defer s.Quit()
	for i := range n {
		to := smtp.Path{Local: fmt.Sprintf("reader%04d", c.rng.IntN(10000)), Domain: domains[i%len(domains)]}
		from := smtp.Path{Local: "news", Domain: c.Domain}
		r, err := send(ctx, s, from, to, c.newsletter(from, to))
		if err != nil {
			return t, fmt.Errorf("lab customer %s: %w", c.Name, err)
		}
		t.note(r)
		if progress != nil {
			progress()
		}
	}
	return t, nil
}

func (t *Tally) note(r *smtp.Reply) {
	t.Attempted++
	if r.Positive() {
		t.Accepted++
	} else {
		t.Refused++
	}
}

// newsletter makes a customer's mail: text and HTML, with or without a Message-ID of
// its own.
func (c *Customer) newsletter(from, to smtp.Path) []byte {
	subjects := []string{"Your order is on its way", "News of the week", "A reminder", "Thank you", "What is new in spring"}
	mark := c.Lab.mark("customer-" + c.Name)
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s <%s>\r\nTo: <%s>\r\nSubject: %s\r\nX-Lab-Id: %s\r\n", c.Name, from, to, subjects[c.rng.IntN(len(subjects))], mark)
	if c.rng.IntN(2) == 0 {
		fmt.Fprintf(&b, "Message-ID: <%s.%d@%s>\r\n", mark, c.rng.Int64(), c.Domain)
	}
	fmt.Fprintf(&b, "Date: %s\r\nList-Unsubscribe: <https://%s/u/%s>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"alt\"\r\n\r\n", c.Lab.now().Format("Mon, 2 Jan 2006 15:04:05 -0700"), c.Domain, mark)
	b.WriteString("--alt\r\nContent-Type: text/plain\r\n\r\nHello,\r\n\r\n")
	for range 2 + c.rng.IntN(20) {
		b.WriteString("this is a line of the letter that you asked for.\r\n")
	}
	b.WriteString("\r\n--alt\r\nContent-Type: text/html\r\n\r\n<p>Hello, this is the letter that you asked for.</p>\r\n\r\n--alt--\r\n")
	return b.Bytes()
}

// Spammer is a stranger.
type Spammer struct {
	Source   string
	Listener string // the Internet's
	Lab      *Lab
	rng      *rand.Rand
}

// AddSpammer makes a stranger; n tells strangers apart.
func (l *Lab) AddSpammer(n int, listener string) *Spammer {
	return &Spammer{Source: fmt.Sprintf("127.66.0.%d", n), Listener: listener, Lab: l, rng: rand.New(rand.NewPCG(l.seed, 1000+uint64(n)))}
}

// Spam sends n messages to recipients at a domain. A refusal or a lost connection is
// counted, and it goes on.
func (s *Spammer) Spam(ctx context.Context, n int, domain string, progress func()) (t Tally) {
	var c *smtp.Client
	defer func() {
		if c != nil {
			c.Quit()
		}
	}()
	for range n {
		if c == nil || !c.Usable() {
			var err error
			if c, err = open(ctx, s.Source, s.Listener, "dsl-7.stranger.example"); err != nil {
				c = nil
				t.Attempted++
				t.Refused++
				continue
			}
		}
		to := smtp.Path{Local: fmt.Sprintf("victim%05d", s.rng.IntN(100000)), Domain: domain}
		r, err := send(ctx, c, smtp.Path{Local: "winner", Domain: "stranger.example"}, to, s.spam(to))
		if err != nil {
			t.Attempted++
			t.Refused++
			continue
		}
		t.note(r)
		if progress != nil {
			progress()
		}
	}
	return t
}

func (s *Spammer) spam(to smtp.Path) []byte {
	mark := s.Lab.mark("stranger")
	return fmt.Appendf(nil, "From: \"You won\" <winner@stranger.example>\r\nTo: <%s>\r\nSubject: You have won number %d\r\nMessage-ID: <%s.%d@stranger.example>\r\nX-Lab-Id: %s\r\nDate: %s\r\n\r\nClaim your prize.\r\n",
		to, s.rng.IntN(1e6), mark, s.rng.Int64(), mark, s.Lab.now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
}
