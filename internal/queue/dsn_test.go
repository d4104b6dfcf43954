package queue_test

import (
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// asked sets every parameter of RFC 3461 on a message.
func asked(notify smtp.Notify, ret string) func(*spool.Message) {
	return func(m *spool.Message) {
		m.Return, m.EnvID = ret, "QQ 314"
		m.Recipients[0].Notify, m.Recipients[0].ORcpt = notify, "rfc822;was+2Bit@there.example"
	}
}

// TestParametersTravel: the parameters go on to a host that knows DSN, and to no other
// (RFC 3461, sections 5.2.1 and 5.2.2 a).
func TestParametersTravel(t *testing.T) {
	for _, c := range []struct {
		name, ehlo string
		change     func(*spool.Message)
		mail, rcpt string // what follows the paths
	}{
		{"all of them", "DSN", asked(smtp.NotifySuccess|smtp.NotifyFailure|smtp.NotifyDelay, "HDRS"), "RET=HDRS ENVID=QQ+20314", "NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;was+2Bit@there.example"},
		{"never", "DSN", asked(smtp.NotifyNever, "FULL"), "RET=FULL ENVID=QQ+20314", "NOTIFY=NEVER ORCPT=rfc822;was+2Bit@there.example"},
		{"none was given", "DSN", nil, "", ""},
		{"the host does not know them", "", asked(smtp.NotifyFailure|smtp.NotifyDelay, "HDRS"), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			there := &peer{ehlo: c.ehlo}
			w.net.add("there.example", there)
			w.q.Start()
			w.send(c.change, "r@there.example")
			awaitKind[*ledger.HandedOff](w, 1)
			var got []string
			for _, line := range there.commands() {
				_, params, _ := strings.Cut(line, "> ")
				var dsn []string
				for _, p := range strings.Fields(params) {
					if name, _, _ := strings.Cut(p, "="); name != "SIZE" && name != "BODY" {
						dsn = append(dsn, p)
					}
				}
				got = append(got, strings.Join(dsn, " "))
			}
			if len(got) != 2 || got[0] != c.mail || got[1] != c.rcpt {
				t.Errorf("got %q, want %q and %q", got, c.mail, c.rcpt)
			}
		})
	}
}

// TestWhatADSNSays: the envelope id, the original recipient and as much of the message
// as was asked for; of anything but a failure the header alone (RFC 3461, sections 4.3,
// 4.4, 6.2 and 6.3).
func TestWhatADSNSays(t *testing.T) {
	const again, no = "451 4.2.1 later", "550 5.1.1 no such user"
	all := smtp.NotifySuccess | smtp.NotifyFailure | smtp.NotifyDelay
	for _, c := range []struct {
		name, reply    string
		change         func(*spool.Message)
		action, status string // "" where no DSN is due
		full           bool
	}{
		{"failed, all of it", no, asked(all, "FULL"), "failed", "5.1.1", true},
		{"failed, the header", no, asked(all, "HDRS"), "failed", "5.1.1", false},
		{"failed, nothing said", no, asked(smtp.NotifyFailure, ""), "failed", "5.1.1", false},
		{"failed, delay alone is wanted", no, asked(smtp.NotifyDelay, ""), "", "", false},
		{"delayed", again, asked(all, "FULL"), "delayed", "4.2.1", false},
		{"delayed, and wanted alone", again, asked(smtp.NotifyDelay, "FULL"), "delayed", "4.2.1", false},
		{"delayed, failure alone is wanted", again, asked(smtp.NotifyFailure, ""), "", "", false},
		{"delayed, never", again, asked(smtp.NotifyNever, ""), "", "", false},
		{"relayed", "250 2.1.5 fine", asked(all, "FULL"), "relayed", "2.0.0", false},
		{"relayed, nothing said", "250 2.1.5 fine", nil, "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.routing.Retry.DelayNotice = 10 * time.Minute
			w.net.add("there.example", &peer{rcpt: func(string) string { return c.reply }})
			home := &peer{}
			w.net.add("acme.example", home)
			w.q.Start()
			w.send(c.change, "r@there.example")
			handed := 0
			switch c.reply {
			case again:
				for n := 1; n <= 6; n++ {
					w.clock.turn(t, awaitKind[*ledger.Attempted](w, n).Next)
				}
				awaitKind[*ledger.Attempted](w, 7)
			case no:
				awaitKind[*ledger.Bounced](w, 1)
			default:
				handed++
			}
			if c.action != "" {
				handed++
			}
			if handed > 0 {
				awaitKind[*ledger.HandedOff](w, handed)
			}
			got := home.received()
			if c.action == "" {
				if len(got) != 0 {
					t.Errorf("a DSN was sent: %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].from != "" {
				t.Fatalf("the sender got %+v", got)
			}
			checkDSN(t, got[0].text, c.action, c.status, c.full)
		})
	}
}

func checkDSN(t *testing.T, text, action, status string, full bool) {
	t.Helper()
	r, err := message.ParseReport([]byte(text))
	if err != nil || len(r.Recipients) != 1 || r.Original == nil {
		t.Fatalf("%v: %s", err, text)
	}
	d := r.Recipients[0]
	if d.Action != action || d.Status != status || d.Original != "was+it@there.example" || d.Final != "r@there.example" || r.OriginalEnv != "QQ 314" {
		t.Errorf("the DSN says %+v of envelope %q", d, r.OriginalEnv)
	}
	if r.Original.HeaderOnly == full || strings.Contains(text, "\r\nhello\r\n") != full {
		t.Errorf("full: %v, want %v", !r.Original.HeaderOnly, full)
	}
	if strings.Contains(text, "Will-Retry-Until: ") != (action == "delayed") {
		t.Error("Will-Retry-Until belongs to a delay, and to nothing else")
	}
}
