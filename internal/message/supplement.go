package message

import "strings"

// supplement fills in what the groups of a DSN leave out and its text says: recipients
// where it names none, the receiver's words where it gives none, and the status code
// that the receiver gave where the group's says nothing.
func (r *Report) supplement(outer *Part) {
	lacking := len(r.Recipients) == 0 || r.Original == nil
	for i := range r.Recipients {
		d := &r.Recipients[i]
		lacking = lacking || !wordy(d.Diagnostic) || d.Final == "" && d.Original == "" || !mailbox(d.Final) && !mailbox(d.Original)
	}
	if lacking {
		r.supplementFrom(outer)
	}
	r.settle()
}

// settle gives every group a status and an action.
func (r *Report) settle() {
	for i := range r.Recipients {
		d := &r.Recipients[i]
		if s, changed := refine(d.Status, d.Diagnostic); changed {
			d.Status, r.Derived[DerivedStatus] = s, "diagnostic-code"
		}
		if d.Status == "" {
			d.Status, r.Derived[DerivedStatus] = statusOf(d.Diagnostic, d.Action), "diagnostic-code"
		}
		if d.Action == "" {
			d.Action, r.Derived[DerivedAction] = actionOf(d.Status), "status"
		}
	}
}

// supplementFrom takes from the words what the groups lack.
func (r *Report) supplementFrom(outer *Part) {
	text := r.findOriginal(outer)
	p := readProse(text, &outer.Header, r.Original)
	if len(r.Recipients) == 0 {
		if len(p.recipients) > 0 {
			r.take(p)
		}
		return
	}
	r.fill(p)
}

// findOriginal gives what a report says in words, and takes what is returned in or beside
// them where no part of its own holds it.
func (r *Report) findOriginal(outer *Part) string {
	w := readWords(outer, false)
	text, inline := cutOriginal(w.text)
	if r.Original == nil {
		if r.Original = w.original; inline != nil {
			r.Original = inline
		}
	}
	return text
}

// fill takes from the words what groups lack.
func (r *Report) fill(p *prose) {
	for i := range r.Recipients {
		d := &r.Recipients[i]
		t := p.about(d, len(r.Recipients) == 1)
		if t == nil {
			continue
		}
		if !mailbox(d.Final) && !mailbox(d.Original) {
			d.Original, r.Derived[DerivedRecipient] = t.address, p.from
		}
		if !wordy(d.Diagnostic) && (says(t.reason) || statusIn(t.reason) != "") {
			d.Diagnostic, r.Derived[DerivedDiagnostic] = strings.TrimSpace(d.Diagnostic+" "+t.reason), "text"
		}
	}
}

// about finds what is told of a group's recipient.
func (p *prose) about(d *DSNRecipient, alone bool) *told {
	for i := range p.recipients {
		if t := &p.recipients[i]; strings.EqualFold(t.address, d.Final) || strings.EqualFold(t.address, d.Original) {
			return t
		}
	}
	if alone && len(p.recipients) == 1 {
		return &p.recipients[0]
	}
	return nil
}

// wordy reports a diagnostic with more in it than codes.
func wordy(s string) bool {
	letters := 0
	for i := range len(s) {
		if c := s[i] | 0x20; c >= 'a' && c <= 'z' || s[i] >= 0x80 {
			letters++
		}
	}
	return letters > 3
}

func actionOf(status string) string {
	switch status[0] {
	case '2':
		return "delivered"
	case '4':
		return "delayed"
	}
	return "failed"
}
