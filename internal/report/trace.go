package report

import (
	"strings"

	"postern.dev/postern/internal/message"
)

// way is how mail came from us to the reporter, as its trace shows it. Who writes a
// message can write its trace fields too; only the reporter's own are beyond him.
type way int

const (
	unseen    way = iota // there is no trace to go by
	direct               // the reporter had it from us
	forwarded            // somebody had it from us, and gave it on
	listed               // a mailing list has sent it on
	stray                // the trace shows who had it, and nobody had it from us
)

func (w way) String() string {
	return [...]string{"", "direct", "forwarded", "by a list", "astray"}[w]
}

// listFields are put in by what sends one message on to many (RFC 2369, RFC 2919, RFC
// 5322 section 3.6.6).
var listFields = []string{"List-Id", "List-Post", "X-BeenThere", "X-Mailman-Version", "Resent-From", "Mailing-List"}

// traced reads the way out of the report.
func (c *trial) traced() way {
	if c.ours() {
		return direct
	}
	if c.r.Original == nil {
		return unseen
	}
	others, fromUs, first := 0, false, false
	for _, hop := range c.hops {
		if strings.EqualFold(hop.By, c.j.o.Hostname) {
			continue // our own field: it says who gave it to us
		}
		a := hop.FromAddr
		us := a.IsValid() && c.j.o.Sources(a) || c.named(hop.From)
		if !us && (!a.IsValid() || a.IsPrivate() || a.IsLoopback()) {
			continue // within a house
		}
		if us {
			fromUs = true
			first = first || others == 0
		}
		others++
	}
	switch {
	case first:
		return direct
	case fromUs:
		return forwarded
	case c.relisted():
		return listed
	case others > 0:
		return stray
	}
	return unseen
}

// named reports a client that calls itself by our name: behind a NAT its address is not
// one that we know as ours.
func (c *trial) named(helo string) bool {
	return helo != "" && c.j.o.Hostname != "" && within(strings.ToLower(strings.TrimSuffix(helo, ".")), c.j.o.Hostname)
}

func (c *trial) relisted() bool {
	for _, name := range listFields {
		if c.r.Original.Get(name) != "" {
			return true
		}
	}
	return false
}

// readHops takes the trace apart, at most maxHops fields.
func readHops(o *message.Original) (out []message.Received) {
	const maxHops = 100
	if o == nil {
		return nil
	}
	for _, v := range o.All("Received") {
		if len(out) == maxHops {
			break
		}
		out = append(out, message.ParseReceived(v))
	}
	return out
}
