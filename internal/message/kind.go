package message

import "strings"

// Kinds of mail that a machine wrote, where it is no report by its parts.
type machineKind int

const (
	notMachine machineKind = iota
	maybeBounce
	autoReply
	challenge
)

// kindOf tells apart, by header and words, a bounce, an answer that somebody had sent
// while he is away (RFC 3834), and a filter that wants the author to confirm his mail.
// It rests on several marks, never on one: that a mailer wrote it, and what it says.
func kindOf(h *Header, w words, prose string) machineKind {
	subject := DecodeWords(h.Get("Subject"))
	if w := unescapedCharset(subject); w != "" {
		subject = w
	}
	inSubject, inText := heard(subject), heard(prose[:min(len(prose), 8<<10)])
	daemon := fromDaemon(h)
	failed := h.Get("X-Failed-Recipients") != ""
	nobody := strings.TrimSpace(h.Get("Return-Path")) == "<>" // as a report and an answer have it
	machine := daemon || failed || nobody || automatic(h)
	switch {
	case failed:
		return maybeBounce
	case answers(h) || inSubject&saidAway != 0 && (inSubject&saidFailed == 0 || heard(subject[:min(len(subject), 24)])&saidAway != 0) && !daemon:
		return autoReply
	case (inSubject|inText)&saidChallenge != 0 && !daemon && replyAt(prose) < 0:
		return challenge
	case strings.Contains(strings.ToLower(h.Get("From")), "boxbe"), h.Get("X-Boxbe-Notification") != "", h.Get("X-TMDA-Fingerprint") != "", h.Get("X-TMDA-Confirm-Done") != "":
		return challenge
	case !machine:
		return notMachine
	}
	marks := 0
	for _, m := range []struct {
		holds bool
		worth int
	}{
		{daemon || nobody, 1}, {inSubject&(saidFailed|saidDelayed) != 0, 2}, {inText&(saidFailed|saidDelayed) != 0, 2},
		{replyAt(prose) >= 0 || statusIn(prose) != "", 1}, {w.original != nil, 1},
	} {
		if m.holds {
			marks += m.worth
		}
	}
	switch {
	case marks >= 3:
		return maybeBounce
	case strings.EqualFold(firstWord(h.Get("Auto-Submitted")), "auto-replied"), inText&saidAway != 0 && !daemon:
		return autoReply
	}
	return notMachine
}

// fromDaemon reports mail that a mailer sent, by its name.
func fromDaemon(h *Header) bool {
	for _, name := range []string{"From", "Sender", "Return-Path"} {
		v := strings.ToLower(DecodeWords(h.Get(name)))
		for _, d := range []string{"mailer-daemon", "mailer daemon", "mailerdaemon", "mail-daemon", "maildaemon", "mail_daemon", "postmaster", "post_master", "mail delivery", "mail.delivery", "mail deliver", "delivery system", "delivery subsystem", "mail system", "mail administrator", "mailadmin", "system administrator", "mdaemon", "mailsystem", "bounce"} {
			if strings.Contains(v, d) && (d != "bounce" || name != "Return-Path") {
				return true
			}
		}
	}
	return false
}

// automatic reports the fields that say that no person wrote a mail.
func automatic(h *Header) bool {
	if v := strings.ToLower(firstWord(h.Get("Auto-Submitted"))); v != "" && v != "no" {
		return true
	}
	switch strings.ToLower(h.Get("Precedence")) {
	case "bulk", "junk", "auto_reply":
		return true
	}
	from := strings.ToLower(Address(h.Get("From")))
	local, _, _ := strings.Cut(from, "@")
	return from == "" || strings.Contains(local, "noreply") || strings.Contains(local, "no-reply") || strings.Contains(local, "donotreply") || strings.Contains(local, "admin") || strings.Contains(local, "system") || strings.Contains(local, "notification") ||
		strings.Contains(strings.ToLower(h.Get("X-Mailer")), "filter") || h.Get("X-MS-Embedded-Report") != "" || h.Get("X-AHMailID") != "" || h.Get("X-MLServer") != ""
}

// answers reports the fields of programs that answer for somebody who is away.
func answers(h *Header) bool {
	for _, name := range []string{"X-Autoreply", "X-Autorespond", "X-Autoresponder", "X-Auto-Reply", "X-Auto-Response", "X-Vacation", "X-Mail-Autoreply", "X-FC-Machinegenerated"} {
		if h.Get(name) != "" {
			return true
		}
	}
	return strings.EqualFold(h.Get("Precedence"), "auto_reply")
}

// unescapedCharset reads a header in ISO 2022 that was not encoded; "" for others.
func unescapedCharset(s string) string {
	if !strings.Contains(s, "\x1b$") {
		return ""
	}
	p := Part{Body: []byte(s), walk: &walk{limits: Limits{}.withDefaults()}}
	return p.text(len(s))
}
