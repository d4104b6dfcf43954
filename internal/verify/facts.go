package verify

import (
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
)

// part gives a text of the model, or what stands for it where nothing depends on it.
func (m *model) part(name string) string {
	if s, ok := m.texts[name]; ok {
		return s
	}
	switch name {
	case "rcpt.local", "sender.local", "rcpt.domain", "sender.domain":
		if other := otherPart(name); other != "" {
			if s, known := m.texts[other]; known && s == "" {
				return "" // the null reverse-path has neither
			}
		}
		return inventions(name, "")[0]
	}
	return ""
}

// otherPart names the sender's part beside one.
func otherPart(name string) string {
	switch name {
	case "sender.local":
		return "sender.domain"
	case "sender.domain":
		return "sender.local"
	}
	return ""
}

// facts makes the message of the model, with plain values where nothing depends on
// them.
func (m *model) facts() *policy.Facts {
	sc := m.q.sc
	f := &policy.Facts{
		Listener: m.part("listener"), Origin: sc.origin,
		Client:   policy.Client{Address: m.ip, Name: m.texts["client.name"], Helo: m.texts["client.helo"]},
		AuthUser: m.texts["auth.user"], Customer: m.texts["customer"],
		TLS:     policy.TLS{On: m.tls, Version: m.texts["tls.version"], Cipher: m.texts["tls.cipher"]},
		Sender:  policy.Address{Local: m.part("sender.local"), Domain: m.part("sender.domain")},
		Rcpt:    policy.Address{Local: m.part("rcpt.local"), Domain: m.part("rcpt.domain")},
		Now:     m.now,
		Content: &policy.Content{Size: m.size, Headers: m.headers, SPF: m.texts["spf"], DKIM: m.texts["dkim"], DMARC: m.texts["dmarc"]},
	}
	if f.Listener == "" && len(sc.listeners) > 0 {
		f.Listener = sc.listeners[0]
	}
	if f.Client.Helo == "" {
		if _, asked := m.texts["client.helo"]; !asked {
			f.Client.Helo = "host.stranger.example"
		}
	}
	if f.Content.Size < 0 {
		f.Content.Size = 2000
	}
	if f.Now.IsZero() {
		f.Now = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	}
	m.plain(f)
	return f
}

// plain settles whose session it is where the policy does not ask.
func (m *model) plain(f *policy.Facts) {
	v := m.q.v
	switch f.Origin {
	case policy.Inside:
		f.Client.Address = m.q.sc.host.Address.Addr().Unmap()
	case policy.Customer:
		if c := v.customerNamed(f.Customer); c != nil {
			m.plainCustomer(f, c)
		}
	}
	if !f.Client.Address.IsValid() {
		f.Client.Address = netip.MustParseAddr("198.51.100.7")
	}
}

func (m *model) plainCustomer(f *policy.Facts, c *policy.CustomerDef) {
	if !f.Client.Address.IsValid() && len(c.Networks) > 0 {
		f.Client.Address = c.Networks[0].Addr()
		if n := f.Client.Address.Next(); n.IsValid() && c.Networks[0].Contains(n) {
			f.Client.Address = n
		}
	}
	if _, asked := m.texts["sender.domain"]; asked || len(c.Senders) == 0 {
		return
	}
	switch p := &c.Senders[0]; p.Kind {
	case policy.MatchDomain:
		f.Sender.Domain = p.Domain
	case policy.MatchSuffix:
		f.Sender.Domain = "mail" + p.Domain
	case policy.MatchAddress:
		f.Sender = p.Address
	}
}

func (v *prover) customerNamed(name string) *policy.CustomerDef {
	for i := range v.top.Customers {
		if v.top.Customers[i].Name == name {
			return &v.top.Customers[i]
		}
	}
	return nil
}

// describe puts a message in a line.
func describe(f *policy.Facts) string {
	from := f.Sender.String()
	if from == "" {
		from = "<>"
	}
	return strings.Join([]string{string(f.Origin), f.Client.Address.String(), "on " + f.Listener, "from " + from, "to " + f.Rcpt.String()}, " ")
}
