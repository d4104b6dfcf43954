package message_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"

	"postern.dev/postern/internal/message"
)

var when = time.Date(2026, 3, 3, 15, 15, 2, 0, time.UTC)

const token = "4c0rqkz5d00020g30g2gchfxe6qg01y3fhppe05dbrvz8qzdt4"

func original() []byte {
	return []byte("Received: from app (app [10.1.0.9]) by mta7.esp.example (postern) with ESMTP id 0gg0000000000000abcd;\r\n\tTue, 3 Mar 2026 15:14:58 +0000\r\n" +
		"From: Acme <news@news.acme.example>\r\nTo: Bob <bob@aol.example>\r\nSubject: Spring\r\nDate: Tue, 3 Mar 2026 15:14:57 +0000\r\n" +
		"Message-ID: <" + token + "@esp.example>\r\nList-Unsubscribe: <https://esp.example/u?r=bob%40aol.example>\r\n\r\nDear bob@aol.example,\r\nEverything must go. Ask jacobob@aol.example.\r\n")
}

// strict walks a message with another reader, which knows no leniency.
func strict(t *testing.T, msg []byte) (types []string, bodies [][]byte) {
	t.Helper()
	e, err := gomessage.Read(bytes.NewReader(msg))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	mr := e.MultipartReader()
	if mr == nil {
		t.Fatal("not a multipart")
	}
	for {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return types, bodies
		}
		if err != nil {
			t.Fatalf("part: %v", err)
		}
		kind, _, err := p.Header.ContentType()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		types, bodies = append(types, kind), append(bodies, b)
	}
}

// checkLines checks what every mail must keep to (RFC 5321, section 4.5.3.1.6).
func checkLines(t *testing.T, msg []byte) {
	t.Helper()
	if !bytes.HasSuffix(msg, []byte("\r\n")) {
		t.Error("no line end at the end")
	}
	for line := range bytes.SplitSeq(bytes.TrimSuffix(msg, []byte("\r\n")), []byte("\r\n")) {
		if bytes.ContainsAny(line, "\r\n") || len(line) > 998 {
			t.Fatalf("bad line %.100q of %d octets", line, len(line))
		}
	}
}

func dsn() *message.DSN {
	return &message.DSN{From: "postmaster@esp.example", To: "news@news.acme.example", Date: when, MessageID: "x@esp.example", Boundary: "boundary-1",
		ReportingMTA: "mta7.esp.example", EnvID: "env 1", Arrival: when.Add(-time.Hour), Returned: original(),
		Recipients: []message.DSNStatus{
			{ORcpt: "rfc822;Bob+2Bx@aol.example", Final: "bob@aol.example", Action: "failed", Status: "5.1.1", RemoteMTA: "mx.aol.example", Diagnostic: "550 5.1.1 no such user\r\nStatus: 2.0.0", LastAttempt: when},
			{Final: "ann@aol.example", Action: "delayed", Status: "4.2.2", Diagnostic: "452 4.2.2 mailbox full", WillRetry: when.Add(time.Hour)},
		}}
}

func TestBuildDSN(t *testing.T) {
	msg := message.BuildDSN(dsn())
	checkLines(t, msg)
	types, bodies := strict(t, msg)
	if got := strings.Join(types, " "); got != "text/plain message/delivery-status message/rfc822" {
		t.Errorf("parts %s", got)
	}
	if !bytes.Equal(bodies[2], original()[:len(original())-2]) && !bytes.Equal(bodies[2], original()) {
		t.Errorf("returned %q", bodies[2])
	}
	r, err := message.ParseReport(msg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Format != message.FormatDSN || r.OriginalEnv != "env 1" || r.ReportingMTA != "mta7.esp.example" || !r.Arrival.Equal(when.Add(-time.Hour)) || len(r.Recipients) != 2 {
		t.Fatalf("got %+v", r)
	}
	want := message.DSNRecipient{Original: "Bob+x@aol.example", Final: "bob@aol.example", Action: "failed", Status: "5.1.1", RemoteMTA: "mx.aol.example", Diagnostic: "550 5.1.1 no such user  Status: 2.0.0"}
	if r.Recipients[0] != want {
		t.Errorf("got %+v", r.Recipients[0])
	}
	if r.OriginalMessageID() != token+"@esp.example" || r.Original.HeaderOnly {
		t.Errorf("original %q", r.OriginalMessageID())
	}
	if got := message.Get(r.Header, "Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted %q", got)
	}
}

// TestBuildDSNReturns tells what goes back of a message.
func TestBuildDSNReturns(t *testing.T) {
	long := append(original(), bytes.Repeat([]byte("more\r\n"), 20_000)...)
	latin := bytes.Replace(original(), []byte("Dear"), []byte("Ch\xe8re"), 1)
	utf := bytes.Replace(original(), []byte("Subject: Spring"), []byte("Subject: \u00c9t\u00e9"), 1)
	for _, c := range []struct {
		name   string
		change func(*message.DSN)
		kind   string
		ascii  bool
		header bool
	}{
		{"whole", func(*message.DSN) {}, "message/rfc822", true, false},
		{"header asked for", func(d *message.DSN) { d.HeaderOnly = true }, "text/rfc822-headers", true, true},
		{"too long", func(d *message.DSN) { d.Returned = long }, "text/rfc822-headers", true, true},
		{"eight bits, seven-bit transport", func(d *message.DSN) { d.Returned = latin }, "text/rfc822-headers", true, true},
		{"eight bits", func(d *message.DSN) { d.Returned, d.EightBit = latin, true }, "message/rfc822", false, false},
		{"UTF-8 header, seven-bit transport", func(d *message.DSN) { d.Returned = utf }, "message/global-headers", true, true},
		{"UTF-8 header", func(d *message.DSN) { d.Returned, d.UTF8 = utf, true }, "message/global", false, false},
		{"boundary in the message", func(d *message.DSN) {
			d.Returned = append(original(), "--boundary-1\r\nContent-Type: text/plain\r\n\r\nx\r\n--boundary-1--\r\n"...)
		}, "message/rfc822", true, false},
		{"line feeds alone", func(d *message.DSN) { d.Returned = bytes.ReplaceAll(original(), []byte("\r\n"), []byte("\n")) }, "message/rfc822", true, false},
		{"header without end", func(d *message.DSN) { d.Returned = append(bytes.Repeat([]byte("A: b\r\n"), 15_000), "C: d"...) }, "text/rfc822-headers", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dsn()
			c.change(d)
			msg := message.BuildDSN(d)
			checkLines(t, msg)
			types, _ := strict(t, msg)
			if len(types) != 3 || types[2] != c.kind {
				t.Errorf("parts %v, want %s", types, c.kind)
			}
			ascii := bytes.IndexFunc(msg, func(r rune) bool { return r >= 0x80 }) < 0
			if ascii != c.ascii {
				t.Errorf("ascii %v, want %v", ascii, c.ascii)
			}
			r, err := message.ParseReport(msg)
			if err != nil || r.Original == nil || r.Original.HeaderOnly != c.header {
				t.Fatalf("got %+v, %v", r, err)
			}
			if len(msg) > 96<<10 {
				t.Errorf("%d octets", len(msg))
			}
		})
	}
}

// TestBuildDSNBlank: what a peer says may have more white space than a line has room for;
// no line of the report is white space only, which would end it.
func TestBuildDSNBlank(t *testing.T) {
	d := dsn()
	d.Recipients = []message.DSNStatus{{Final: "bob@aol.example", Action: "failed", Status: "5.0.0", Diagnostic: "550 no" + strings.Repeat(" ", 200) + "way" + strings.Repeat("\t", 300) + "x"}}
	msg := message.BuildDSN(d)
	checkLines(t, msg)
	_, bodies := strict(t, msg)
	for line := range strings.SplitSeq(strings.TrimRight(string(bodies[1]), "\r\n"), "\r\n") {
		if line != "" && strings.TrimSpace(line) == "" {
			t.Errorf("a blank line in\n%s", bodies[1])
		}
	}
	if r, err := message.ParseReport(msg); err != nil || len(r.Recipients) != 1 || !strings.HasSuffix(r.Recipients[0].Diagnostic, "x") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestBuildDSNUnicode(t *testing.T) {
	for _, utf8 := range []bool{false, true} {
		d := dsn()
		d.UTF8 = utf8
		d.Recipients = []message.DSNStatus{{ORcpt: `utf-8;j\x{F6}rg\x{2B}x@aol.example`, Final: "j\u00f6rg+x@aol.example", Action: "failed", Status: "5.6.7", Diagnostic: "550 g\u00e4be es"}}
		msg := message.BuildDSN(d)
		checkLines(t, msg)
		types, _ := strict(t, msg)
		if want := map[bool]string{false: "message/delivery-status", true: "message/global-delivery-status"}[utf8]; types[1] != want {
			t.Errorf("status part %s, want %s", types[1], want)
		}
		if ascii := bytes.IndexFunc(msg, func(r rune) bool { return r >= 0x80 }) < 0; ascii == utf8 {
			t.Errorf("utf8 %v: ascii %v", utf8, ascii)
		}
		r, err := message.ParseReport(msg)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Recipients[0]; got.Final != "j\u00f6rg+x@aol.example" || got.Original != "j\u00f6rg+x@aol.example" {
			t.Errorf("utf8 %v: got %q, %q", utf8, got.Original, got.Final)
		}
	}
}

// FuzzBuildDSN builds from whatever peers say, and reads it back.
func FuzzBuildDSN(f *testing.F) {
	f.Add("550 no", "bob@aol.example", "rfc822;bob@aol.example", "env", "b", original(), uint8(0))
	f.Add("550 no", "bob@aol.example", "\xf5tf-8;x", "", "b", []byte{}, uint8(0))
	f.Add("550 no", "j\u00f6rg@aol.example"+strings.Repeat("\x00", 200)+"x", "", "", "b", []byte{}, uint8(4))
	f.Add("550\r\n\r\n--b--", "j\u00f6rg@aol.example", "utf-8;x", "", "", []byte("--b\r\n\xff"), uint8(7))
	f.Fuzz(func(t *testing.T, diagnostic, final, orcpt, env, boundary string, returned []byte, flags uint8) {
		d := dsn()
		d.EnvID, d.Boundary, d.Returned = env, boundary, returned
		d.HeaderOnly, d.EightBit, d.UTF8 = flags&1 != 0, flags&2 != 0, flags&4 != 0
		d.Recipients = []message.DSNStatus{{ORcpt: orcpt, Final: final, Action: "failed", Status: "5.0.0", Diagnostic: diagnostic}}
		msg := message.BuildDSN(d)
		if bytes.Contains(bytes.ReplaceAll(msg, []byte("\r\n"), nil), []byte("\n")) {
			t.Fatal("a line feed alone")
		}
		if !d.EightBit && !d.UTF8 && bytes.IndexFunc(msg, func(r rune) bool { return r >= 0x80 }) >= 0 {
			t.Fatalf("not ASCII: %q", msg)
		}
		r, err := message.ParseReport(msg)
		if err != nil || r.Format != message.FormatDSN || len(r.Recipients) != 1 {
			t.Fatalf("does not come back: %v, %q", err, msg)
		}
		if got := r.Recipients[0]; got.Status != "5.0.0" || got.Action != "failed" {
			t.Fatalf("got %+v of %q", got, msg)
		}
	})
}

func complaint(p message.Profile) *message.Complaint {
	return &message.Complaint{Profile: p, From: "fbl@provider.example", To: "fbl@fbl.esp.example", Date: when.Add(time.Hour), MessageID: "c@provider.example", Boundary: "arf-1",
		SourceIP: netip.MustParseAddr("198.51.100.17"), Arrival: when, MailFrom: "b-" + token + "@bounce.esp.example", Rcpt: "bob@aol.example", Original: original(), Key: []byte("k")}
}

// TestBuildARF builds a complaint of every profile, and reads it back: what the provider
// leaves is found, what it takes out is not.
func TestBuildARF(t *testing.T) {
	for _, p := range message.Profiles() {
		t.Run(string(p), func(t *testing.T) {
			c := complaint(p)
			msg := message.BuildARF(c)
			checkLines(t, msg)
			strict(t, msg)
			r, err := message.ParseReport(msg)
			if err != nil {
				t.Fatal(err)
			}
			format := message.FormatARF
			if p == message.ProfileJMRP {
				format = message.FormatJMRP
			}
			if r.Format != format || r.FeedbackType != "abuse" || r.From != c.From || r.MessageID != c.MessageID {
				t.Errorf("got %s %q from %s, %s", r.Format, r.FeedbackType, r.From, r.MessageID)
			}
			if r.SourceIP != c.SourceIP || r.OriginalFrom != c.MailFrom || r.OriginalMessageID() != token+"@esp.example" {
				t.Errorf("source %v, from %q, Message-ID %q", r.SourceIP, r.OriginalFrom, r.OriginalMessageID())
			}
			if p != message.ProfileJMRP && p != message.ProfileJMRP2026 && !r.Arrival.Equal(when) {
				t.Errorf("arrival %v", r.Arrival)
			}
			if ids := r.Original.ReceivedIDs("mta7.esp.example"); len(ids) != 1 || ids[0] != "0gg0000000000000abcd" {
				t.Errorf("ids %q", ids)
			}
			redacts := p == message.ProfileAOL || p == message.ProfileValidity || p == message.ProfileComcast
			text := bytes.ReplaceAll(msg, []byte("jacobob@aol.example"), nil)
			if shown := bytes.Contains(text, []byte("bob@aol.example")) || bytes.Contains(text, []byte("bob%40aol.example")); shown == redacts {
				t.Errorf("recipient shown: %v", shown)
			}
			if r.Original.HeaderOnly != (p == message.ProfileJMRP2026) {
				t.Errorf("header only: %v", r.Original.HeaderOnly)
			}
			if !r.Original.HeaderOnly && !bytes.Contains(r.Original.Body, []byte("jacobob@aol.example")) {
				t.Error("another's address was taken for the recipient's")
			}
		})
	}
}

// TestPseudonyms are the same for one recipient and one provider, and for nobody else.
func TestPseudonyms(t *testing.T) {
	to := func(change func(*message.Complaint)) string {
		c := complaint(message.ProfileValidity)
		change(c)
		r, err := message.ParseReport(message.BuildARF(c))
		if err != nil || len(r.OriginalTo) != 1 {
			t.Fatalf("got %v, %v", r, err)
		}
		local, _, _ := strings.Cut(r.OriginalTo[0], "@")
		if len(local) != 32 {
			t.Errorf("pseudonym %q", local)
		}
		return r.OriginalTo[0]
	}
	first := to(func(*message.Complaint) {})
	if again := to(func(c *message.Complaint) { c.Rcpt = "BOB@aol.example" }); !strings.EqualFold(again, first) {
		t.Errorf("%s and %s for one recipient", first, again)
	}
	if other := to(func(c *message.Complaint) { c.Rcpt = "ann@aol.example" }); other == first {
		t.Error("two recipients have one pseudonym")
	}
	if other := to(func(c *message.Complaint) { c.Key = []byte("another") }); other == first {
		t.Error("two providers have one pseudonym")
	}
}
