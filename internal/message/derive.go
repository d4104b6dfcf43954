package message

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// derive fills in what the report does not state and the original shows, and notes
// from where.
func (r *Report) derive(subject string) {
	if a := subjectIP(subject); r.Format == FormatJMRP && a.IsValid() {
		r.SourceIP, r.Derived[DerivedSourceIP] = a, "subject"
	}
	if r.FeedbackType == "" && (r.Format == FormatARF || r.Format == FormatComplaint) {
		r.FeedbackType, r.Derived[DerivedFeedbackType] = "abuse", "format" // what a report on nothing else is about
	}
	if r.Original == nil {
		return
	}
	trace := r.hops()
	if !r.SourceIP.IsValid() && !r.Format.Bounce() {
		r.deriveSource(trace)
	}
	if r.OriginalFrom == "" && Get(r.Fields, "Original-Mail-From") == "" {
		r.deriveFrom()
	}
	if len(r.OriginalTo) == 0 {
		r.deriveTo(trace)
	}
	if r.Arrival.IsZero() {
		for _, hop := range trace {
			if !hop.Date.IsZero() {
				r.Arrival, r.Derived[DerivedArrival] = hop.Date, "received"
				return
			}
		}
		if t := Date(r.Original.Get("Date")); !t.IsZero() {
			r.Arrival, r.Derived[DerivedArrival] = t, "date"
		}
	}
}

// maxHops bounds the Received fields that are taken apart.
const maxHops = 100

func (r *Report) hops() []Received {
	var out []Received
	for i := range r.Original.Header {
		if f := &r.Original.Header[i]; strings.EqualFold(f.Name, "Received") && len(out) < maxHops {
			out = append(out, ParseReceived(f.Value))
		}
	}
	return out
}

// deriveSource finds the address that handed the mail to the provider: what the
// provider wrote of it, else the first hop from outside the provider.
func (r *Report) deriveSource(trace []Received) {
	take := func(a netip.Addr, from string) bool {
		if a.IsValid() {
			r.SourceIP, r.Derived[DerivedSourceIP] = a, from
		}
		return a.IsValid()
	}
	o := r.Original
	if take(wordAfter(o.Get("Received-SPF"), "client-ip="), "received-spf") ||
		take(wordAfter(o.Get("Authentication-Results"), "sender IP is "), "authentication-results") {
		return
	}
	if strings.HasPrefix(r.UserAgent, "Yahoo") && take(address(o.Get("X-Originating-IP")), "x-originating-ip") {
		return
	}
	for i := range trace {
		if hop := &trace[i]; hop.FromAddr.IsValid() && !internal(hop) && take(hop.FromAddr, "received") {
			return
		}
	}
	for i := range trace {
		if take(trace[i].FromAddr, "received") {
			return
		}
	}
}

// internal reports a hop within one organisation: a private address, or both ends named
// under one domain.
func internal(hop *Received) bool {
	a := hop.FromAddr
	if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return true
	}
	d := lastLabels(hop.From)
	return d != "" && d == lastLabels(hop.By)
}

// lastLabels gives the last two labels of a host name, three where the second last is
// short ("co.uk").
func lastLabels(name string) string {
	name = strings.ToLower(strings.TrimRight(name, "."))
	labels := strings.Split(name, ".")
	n := len(labels)
	switch {
	case n < 2 || address(name).IsValid():
		return ""
	case n > 2 && len(labels[n-2]) <= 3 && len(labels[n-1]) == 2:
		return strings.Join(labels[n-3:], ".")
	}
	return strings.Join(labels[n-2:], ".")
}

// wordAfter reads the address that stands behind a mark.
func wordAfter(value, mark string) netip.Addr {
	i := strings.Index(value, mark)
	if i < 0 {
		return netip.Addr{}
	}
	value = strings.TrimLeft(value[i+len(mark):], " \t\"")
	if end := strings.IndexAny(value, " \t;)\",]"); end >= 0 {
		value = value[:end]
	}
	return address(value)
}

func (r *Report) deriveFrom() {
	if v, ok := first(r.Original.Header, "Return-Path"); ok {
		if a := bare(v); a != "" {
			r.OriginalFrom, r.Derived[DerivedOriginalFrom] = a, "return-path"
		}
		return
	}
	for _, name := range []string{"X-Envelope-From", "Envelope-From", "X-Original-Return-Path"} {
		if a := bare(r.Original.Get(name)); mailbox(a) {
			r.OriginalFrom, r.Derived[DerivedOriginalFrom] = a, strings.ToLower(name)
			return
		}
	}
	v := r.Original.Get("Received-SPF")
	if i := strings.Index(v, "envelope-from="); i >= 0 {
		if a := Address(strings.Trim(firstWord(v[i+len("envelope-from="):]), `"`)); a != "" {
			r.OriginalFrom, r.Derived[DerivedOriginalFrom] = a, "received-spf"
		}
	}
}

func first(fields []Field, name string) (string, bool) {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return fields[i].Value, true
		}
	}
	return "", false
}

// deriveTo finds the recipient: what the provider wrote of it before what the author
// wrote.
func (r *Report) deriveTo(trace []Received) {
	for _, name := range []string{"X-HmXmrOriginalRecipient", "X-Original-To", "Delivered-To", "X-Apparently-To", "Envelope-To"} {
		if a := Address(r.Original.Get(name)); a != "" {
			r.OriginalTo, r.Derived[DerivedOriginalTo] = []string{a}, strings.ToLower(name)
			return
		}
	}
	for i := range trace {
		if mailbox(trace[i].For) {
			r.OriginalTo, r.Derived[DerivedOriginalTo] = []string{trace[i].For}, "received"
			return
		}
	}
	if to := Addresses(r.Original.Get("To")); len(to) == 1 {
		r.OriginalTo, r.Derived[DerivedOriginalTo] = to, "to"
	}
}

// jmrpMark is how the subject of Microsoft's older complaints begins.
const jmrpMark = "complaint about message"

func jmrpSubject(subject string) bool {
	return strings.Contains(strings.ToLower(subject), jmrpMark)
}

// subjectIP reads the address that such a subject ends with.
func subjectIP(subject string) netip.Addr {
	i := strings.Index(strings.ToLower(subject), jmrpMark)
	if i < 0 {
		return netip.Addr{}
	}
	for word := range strings.FieldsSeq(subject[i:]) {
		if a := address(strings.Trim(word, "()")); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// OriginalMessageID gives the Message-ID of the mail that the report is about, without
// brackets: of the returned header, else as the report states it; "" where neither
// has it.
func (r *Report) OriginalMessageID() string {
	if r.Original != nil {
		if id := trimID(r.Original.Get("Message-ID")); id != "" {
			return id
		}
	}
	for _, name := range []string{"Original-Message-ID", "Message-ID"} {
		if id := trimID(Get(r.Fields, name)); id != "" {
			return id
		}
	}
	return ""
}

// Identity names a report, so that one that comes twice is counted once: 32 hexadecimal
// digits over its format, the domain that reports, its own Message-ID and what it says
// of the mail it is about.
func (r *Report) Identity() string {
	h := sha256.New()
	write := func(ss ...string) {
		for _, s := range ss {
			_, _ = h.Write([]byte(s))
			_, _ = h.Write([]byte{0})
		}
	}
	write(string(r.Format), domainOf(r.From), r.MessageID, r.FeedbackType, r.OriginalMessageID())
	if r.MessageID == "" {
		write(r.SourceIP.String(), r.Arrival.UTC().String(), r.OriginalFrom)
		if r.Original != nil {
			write(r.Original.Get("Date"), r.Original.Get("Subject"))
		}
	}
	for _, to := range r.OriginalTo {
		write(to)
	}
	for i := range r.Recipients {
		write(r.Recipients[i].Final, r.Recipients[i].Action, r.Recipients[i].Status)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
