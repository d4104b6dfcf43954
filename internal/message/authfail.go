package message

import "strings"

// authField takes one field of a report on failed authentication (RFC 6591, section
// 3.2).
func (r *Report) authField(name, value string) {
	known := false
	a := AuthFailure{}
	if r.AuthFailure != nil {
		a = *r.AuthFailure
	}
	once := func(p *string, v string) {
		if known = true; *p == "" {
			*p = v
		}
	}
	switch name {
	case "auth-failure":
		once(&a.Failure, strings.ToLower(firstWord(value)))
	case "delivery-result":
		once(&a.DeliveryResult, strings.ToLower(value))
	case "dkim-domain":
		once(&a.DKIMDomain, strings.ToLower(value))
	case "dkim-identity":
		once(&a.DKIMIdentity, value)
	case "dkim-selector":
		once(&a.DKIMSelector, value)
	case "dkim-selector-dns":
		once(&a.DKIMSelectorDNS, value)
	case "identity-alignment":
		once(&a.IdentityAlignment, strings.ToLower(value))
	case "dkim-canonicalized-header":
		known, a.DKIMHeader = true, decodeBase64([]byte(value), maxOriginal)
	case "dkim-canonicalized-body":
		known, a.DKIMBody = true, decodeBase64([]byte(value), maxOriginal)
	case "spf-dns":
		if known = true; len(a.SPFDNS) < maxAddresses {
			a.SPFDNS = append(a.SPFDNS, value)
		}
	}
	if known {
		r.AuthFailure = &a
	}
}

// readFailureWords reads a report on a message that failed DMARC as some write it: the
// values behind labels, the returned header below. nil where the text is none.
func readFailureWords(text string) *Report {
	low := strings.ToLower(text[:min(len(text), 4<<10)])
	if !strings.Contains(low, "dmarc") || !strings.Contains(low, "fail") && !strings.Contains(low, "alignment") {
		return nil
	}
	prose, original := cutOriginal(text)
	if original == nil {
		return nil
	}
	r := &Report{Format: FormatComplaint, FeedbackType: "auth-failure", Derived: map[string]string{}, Original: original, AuthFailure: &AuthFailure{Failure: "dmarc"}}
	for line := range strings.Lines(prose) {
		label, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(label)) {
		case "sender ip address", "source ip", "sender ip", "ip address", "ip":
			r.SourceIP = sourceIP(value)
		case "sender domain", "domain", "header from", "from domain":
			r.Reported = append(r.Reported, strings.ToLower(value))
		case "received date", "arrival date", "date":
			if r.Arrival.IsZero() {
				r.Arrival = Date(value)
			}
		case "dmarc results", "delivery result", "disposition":
			r.AuthFailure.DeliveryResult = strings.ToLower(value)
		}
	}
	if !r.SourceIP.IsValid() || len(r.Reported) == 0 && r.Arrival.IsZero() {
		return nil
	}
	r.Derived[DerivedSourceIP], r.Derived[DerivedFeedbackType] = "text", "text"
	return r
}
