package message_test

import (
	"strings"
	"testing"

	"postern.dev/postern/internal/message"
)

// TestForms reads the forms in which mailers word bounces, each written after what its
// documentation or its source shows, with the recipient, the status and a part of the
// reason.
func TestForms(t *testing.T) {
	for _, c := range []struct {
		name, subject, body string
		want                []string // recipient status reason, parted by |
	}{
		{"marked line with the address twice", "FAILURE NOTICE :The news", "  ----- The following addresses had permanent fatal errors -----\n\n>>> r@there.example <r@there.example>\n\n  ----- Transcript of session follows -----\n550 sorry, no mailbox here by that name (#5.1.1 - chkusr)\n",
			[]string{"r@there.example|5.1.1|550 sorry, no mailbox here"}},
		{"dialog with arrows the other way", "Mail could not be delivered", "Unable to deliver.\n\nSent <<< RCPT TO:<r@there.example>\nReceived >>> 550 5.1.1 <r@there.example>... user unknown\n",
			[]string{"r@there.example|5.1.1|550 5.1.1 <r@there.example>... user unknown"}},
		{"reason behind a heading", "Mail delivery failed: returning message to sender", "The following address failed:\n\nr@there.example\n\nFor the following reason:\n\nMail size limit exceeded. For explanation visit\nhttp://relay.example/help\n\n--- The header of the original message is following. ---\n",
			[]string{"r@there.example|5.0.0|Mail size limit exceeded"}},
		{"host and reason labelled", "Mail delivery failed: returning message to sender", "The following address failed:\n\n  r@there.example:\n   SMTP error from remote server for TEXT command,\n   host: mx.there.example (192.0.2.77)\n   reason: 550 5.2.0 Mail rejected.\n",
			[]string{"r@there.example|5.2.0|550 5.2.0 Mail rejected."}},
		{"reason in another section", "Returned mail: local limit", "   ----- The following addresses had delivery problems -----\nr@there.example\n\n   ----- Non-delivered information -----\nThe number of messages in recipient's mailbox exceeded the local limit.\n",
			[]string{"r@there.example|5.0.0|The number of messages in recipient's mailbox exceeded"}},
		{"mailing list", "fml system error message", "You are not a member of this mailing list <list@there.example>.\n\nIf you know the general guide of this list, please send mail with the mail body\n",
			[]string{"list@there.example|5.0.0|You are not a member of this mailing list"}},
		{"mailing list's loop", "Loop Back Warning: [list]", "Duplicated Message-ID in <list@there.example>.\n\nOriginal mail as follows:\n\n",
			[]string{"list@there.example|5.0.0|Duplicated Message-ID"}},
		{"X.400", "Undeliverable: The news", "Your message\n\n  To: somebody\n  Subject: The news\n  Sent: Tue, 3 Mar 2026 10:00:00 +0000\n\ndid not reach the following recipient(s):\n\nc=xx;a= ;p=org;o=site;dda:SMTP=r@there.example on Tue, 3 Mar 2026 10:00:01 +0000\n    The recipient name is not recognized\n",
			[]string{"r@there.example|5.0.0|The recipient name is not recognized"}},
		{"undisclosed alias", "Mail delivery failed: returning message to sender", "The following address(es) failed:\n\n  an undisclosed address\n    (generated from r@there.example)\n    all relevant MX records point to non-existent hosts\n",
			[]string{"r@there.example|5.0.0|all relevant MX records"}},
		{"recipient address with original address", "Delivery Notification: Delivery has failed", "This report relates to a message you sent with the following header fields:\n\n  Message-id: <m1@esp.example>\n  Date: Tue, 3 Mar 2026 10:00:00 +0000\n  From: news@esp.example\n  To: r@there.example\n\nYour message cannot be delivered to the following recipients:\n\n  Recipient address: r@inside.there.example\n  Original address: r@there.example\n  Reason: Remote SMTP server has rejected address\n  Diagnostic code: smtp;550 5.1.1 <r@there.example>... User Unknown\n",
			[]string{"r@inside.there.example|5.1.1|550 5.1.1 <r@there.example>... User Unknown"}},
		{"list with a reason in brackets", "Returned Mail: User unknown", "---The following addresses had delivery errors---\n\nr@there.example [User unknown]\ns@there.example [Mailbox full]\n",
			[]string{"r@there.example|5.0.0|User unknown", "s@there.example|5.0.0|Mailbox full"}},
		{"bullets", "Delivery status notification", "Delivery to the following recipients was aborted after 5.0 hour(s):\n\n  * r@there.example\n  * s@there.example\n\n======\nTechnical details:\n\n550 5.4.4 Could not find a gateway\n",
			[]string{"r@there.example|5.4.4|550 5.4.4 Could not", "s@there.example|5.4.4|550 5.4.4 Could not"}},
		{"sentence", "Mail delivery failed", "There was an error delivering your mail to <r@there.example>.\n\nCould not deliver for the last 432000 seconds. Giving up.\n\nMessage headers follow.\n\n",
			[]string{"r@there.example|5.0.0|Could not deliver for the last"}},
		{"status group in brackets", "Undelivered Mail Returned to Sender", "----- The following addresses had fatal errors -----\n[Status: Error, Address: <r@there.example>, ResponseCode 550, 5.1.1, no such user.]\n\n",
			[]string{"r@there.example|5.1.1|550, 5.1.1, no such user."}},
		{"multi-line reply", "failure notice", "<r@there.example>:\nRemote host said: 550-5.1.1 The account that you tried to reach\n  does not exist.\n",
			[]string{"r@there.example|5.1.1|550-5.1.1 The account that you tried to reach does not exist."}},
		{"delay", "Delayed mail (still being retried)", "Your message has been enqueued and undeliverable for 1 day to the following recipients:\n\nRecipient address: r@there.example\nReason: unable to deliver this message after 1 day\n",
			[]string{"r@there.example|4.0.0|unable to deliver"}},
		{"French", "Message non d\u00e9livr\u00e9 : \u00e9chec de la remise", "Votre message n'a pas pu \u00eatre remis \u00e0 :\n\nr@there.example\n\n550 5.1.1 Destinataire inconnu\n",
			[]string{"r@there.example|5.1.1|550 5.1.1 Destinataire inconnu"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := "Return-Path: <>\nFrom: Mail Delivery Subsystem <MAILER-DAEMON@relay.example>\nTo: news@esp.example\nSubject: " + c.subject +
				"\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + c.body
			r, err := message.ParseReport([]byte(msg))
			if err != nil {
				t.Fatal(err)
			}
			if r.Format != message.FormatBounce || len(r.Recipients) != len(c.want) {
				t.Fatalf("%s, recipients %+v", r.Format, r.Recipients)
			}
			for i, want := range c.want {
				w, d := strings.Split(want, "|"), r.Recipients[i]
				if d.Address() != w[0] || d.Status != w[1] || !strings.Contains(d.Diagnostic, w[2]) {
					t.Errorf("got %s %s %s %q", d.Address(), d.Action, d.Status, d.Diagnostic)
				}
				if (d.Action == "delayed") != (c.name == "delay") {
					t.Errorf("action %s", d.Action)
				}
			}
		})
	}
}

// TestAnswers tells apart what a machine writes that is no bounce.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name, head, body string
		want             message.Format
	}{
		{"RFC 3834", "Auto-Submitted: auto-replied\nSubject: Re: The news\n", "I shall read it soon.", message.FormatAutoReply},
		{"out of office", "X-Auto-Response-Suppress: All\nAuto-Submitted: auto-generated\nSubject: Out of Office: The news\n", "Back on Monday.", message.FormatAutoReply},
		{"in German", "Subject: Abwesenheitsnotiz: The news\nAuto-Submitted: auto-replied (vacation)\n", "Ich bin nicht da. In dringenden F\u00e4llen: s@there.example", message.FormatAutoReply},
		{"in Japanese", "Subject: =?utf-8?B?6Ieq5YuV6L+U5L+h?=\nPrecedence: auto_reply\n", "...", message.FormatAutoReply},
		{"by its own field", "X-Autoreply: yes\nSubject: Re: The news\n", "We have got your mail. Your ticket is 550 1234.", message.FormatAutoReply},
		{"mentions failure", "Return-Path: <>\nAuto-Submitted: auto-replied\nSubject: Automatic reply: delivery failed\n", "This mailbox is not read: user unknown is no joke. <s@there.example>", message.FormatAutoReply},
		{"left the company", "Return-Path: <>\nAuto-Submitted: auto-replied\nSubject: Automatic reply: The news\n", "R no longer works here. Please write to s@there.example.", message.FormatAutoReply},
		{"challenge", "Auto-Submitted: auto-replied\nSubject: Re: The news [verification required]\n", "To have your message delivered, verify you are a human: https://there.example/", message.FormatChallenge},
		{"challenge by its subject", "Return-Path: <>\nSubject: Please confirm your message\n", "Reply to this mail.", message.FormatChallenge},
		{"by its field", "X-Boxbe-Notification: yes\nAuto-Submitted: auto-replied\nSubject: News (Action Required)\n", "Hello.", message.FormatChallenge},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := message.ParseReport([]byte("From: Reader <r@there.example>\nTo: news@esp.example\n" + c.head + "Content-Type: text/plain; charset=utf-8\n\n" + c.body + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			if r.Format != c.want || !r.Format.Answer() || r.Format.Bounce() || len(r.Recipients) > 0 {
				t.Errorf("taken for %s, recipients %+v", r.Format, r.Recipients)
			}
		})
	}
}
