package gateway_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/smtp"
)

// counts is a Meter that remembers.
type counts struct {
	refused        [gateway.Reasons]int
	opened, closed int
	accepted       int
	took           time.Duration
}

func (c *counts) Sessions(string) gateway.SessionMeter { return c }
func (c *counts) Refused(r gateway.Reason)             { c.refused[r]++ }
func (c *counts) Accepted(took time.Duration)          { c.accepted++; c.took = took }
func (c *counts) Opened()                              { c.opened++ }
func (c *counts) Closed()                              { c.closed++ }

// TestMeter counts each way to be refused, and what is accepted.
func TestMeter(t *testing.T) {
	var c counts
	var failure error
	w := newWorldMeter(t, "filter \"limited\" {\n  if = header(\"X-Much\") == \"yes\"\n  limit = \"1/1h\"\n}\n"+defaults, &c, func() error { return failure })
	const to = "a@bounce.esp.example"
	for _, try := range []struct {
		name     string
		from     client
		data, to string
		reason   gateway.Reason
	}{
		{"policy", stranger, "\r\nx\r\n", "a@far.example", gateway.Policy},
		{"literal", stranger, "\r\nx\r\n", "a@[127.0.0.1]", gateway.BadAddress},
		{"not for you", client{"injection", "192.0.2.7"}, "\r\nx\r\n", to, gateway.NotForYou},
		{"loop", stranger, strings.Repeat("Received: by x; now\r\n", 101) + "\r\nx\r\n", to, gateway.Unread},
		{"taken", stranger, "X-Much: yes\r\n\r\nx\r\n", to, gateway.Reasons},
		{"too much", stranger, "X-Much: yes\r\n\r\nx\r\n", to, gateway.RateLimit},
	} {
		before := c
		r := w.send(try.from, try.data, try.to)
		if try.reason == gateway.Reasons {
			if r.Code != 250 || c.accepted != before.accepted+1 {
				t.Errorf("%s: %v, %+v", try.name, r, c)
			}
			continue
		}
		if before.refused[try.reason]++; c.refused != before.refused {
			t.Errorf("%s: %v, %+v", try.name, r, c)
		}
	}
	w.fs.FailNextSync()
	if r := w.send(stranger, "\r\nx\r\n", to); r.Code != 451 || c.refused[gateway.Storage] != 1 {
		t.Errorf("storage: %v, %+v", r, c)
	}
	// Once the spool has failed for good, no session begins and none goes on.
	s := w.session(stranger)
	failure = errors.New("gone")
	if r := s.Mail(ctx, smtp.Path{}, smtp.MailParams{}); r == nil || r.Code != 421 || !r.Close {
		t.Errorf("a session goes on: %v", r)
	}
	s.Close()
	if r := w.send(stranger, "\r\nx\r\n", to); r.Code != 421 {
		t.Errorf("a session begins: %v", r)
	}
	if c.opened != c.closed || c.opened == 0 {
		t.Errorf("%d sessions opened, %d closed", c.opened, c.closed)
	}
}
