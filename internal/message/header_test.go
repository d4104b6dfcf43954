package message_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/message"
)

func TestParseHeader(t *testing.T) {
	type f = message.Field
	for _, c := range []struct {
		name, in string
		fields   []f
		broken   []string
		rest     string
	}{
		{"plain", "A: b\r\nC: d\r\n\r\nbody", []f{{"A", "b"}, {"C", "d"}}, nil, "body"},
		{"line feeds alone", "A: b\nC: d\n\nbody", []f{{"A", "b"}, {"C", "d"}}, nil, "body"},
		{"folded", "A: b\r\n\tc\r\n d\r\n\r\n", []f{{"A", "b\tc d"}}, nil, ""},
		{"folded behind the colon", "A:\r\n b\r\n\r\n", []f{{"A", "b"}}, nil, ""},
		{"space before the colon", "A \t: b\n\nx", []f{{"A", "b"}}, nil, "x"},
		{"colon in the value", "A: b: c\n\n", []f{{"A", "b: c"}}, nil, ""},
		{"empty value", "A:\nB:  \n\n", []f{{"A", ""}, {"B", ""}}, nil, ""},
		{"mbox line before", "From a@b.example Tue Mar  3 15:15:02 2026\nA: b\n\nx", []f{{"A", "b"}}, nil, "x"},
		{"quoted mbox line before", ">From a@b.example\nA: b\n\nx", []f{{"A", "b"}}, nil, "x"},
		{"mbox line within", "A: b\nFrom a@b.example\nC: d\n\nx", []f{{"A", "b"}, {"C", "d"}}, nil, "x"},
		{"no empty line", "A: b\nHello there\nhow are you\n", []f{{"A", "b"}}, nil, "Hello there\nhow are you\n"},
		{"no body", "A: b\nC: d", []f{{"A", "b"}, {"C", "d"}}, nil, ""},
		{"no header", "Hello there\nhow are you\n", nil, nil, "Hello there\nhow are you\n"},
		{"empty", "", nil, nil, ""},
		{"empty line first", "\nA: b\n", nil, nil, "A: b\n"},
		{"broken line within", "A: b\nrubbish here\nC: d\n\nx", []f{{"A", "b"}, {"C", "d"}}, []string{"rubbish here"}, "x"},
		{"broken line last", "A: b\nrubbish here\n\nx", []f{{"A", "b"}}, []string{"rubbish here"}, "x"},
		{"continuation first", " x\nA: b\n\ny", []f{{"A", "b"}}, []string{" x"}, "y"},
		{"parameter not folded", "Content-Type: a/b;\nboundary=\"x:y\"\nC: d\n\nz", []f{{"Content-Type", `a/b;boundary="x:y"`}, {"C", "d"}}, nil, "z"},
		{"white space line within", "A: b\n \nC: d\n\nx", []f{{"A", "b"}, {"C", "d"}}, nil, "x"},
		{"white space line as the end", "A: b\n \nHello there\nyou\n", []f{{"A", "b"}}, nil, "Hello there\nyou\n"},
		{"name beyond ASCII", "Sch\u00f6n: b\nC: d\n\nx", []f{{"C", "d"}}, []string{"Sch\u00f6n: b"}, "x"},
		{"bare carriage return", "A: b\rc\n\nx", []f{{"A", "b c"}}, nil, "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, rest, err := message.ParseHeader([]byte(c.in), message.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(h.Fields, c.fields) || !slices.Equal(h.Broken, c.broken) || string(rest) != c.rest {
				t.Errorf("got %q, broken %q, rest %q", h.Fields, h.Broken, rest)
			}
		})
	}
}

func TestHeaderLimits(t *testing.T) {
	in := []byte(strings.Repeat("A: b\n", 100) + "\nbody")
	if h, _, err := message.ParseHeader(in, message.Limits{Fields: 10}); !errors.Is(err, message.ErrTooLarge) || len(h.Fields) != 10 {
		t.Errorf("fields: %d, %v", len(h.Fields), err)
	}
	if h, _, err := message.ParseHeader(in, message.Limits{HeaderSize: 50}); !errors.Is(err, message.ErrTooLarge) || len(h.Fields) != 10 {
		t.Errorf("size: %d fields, %v", len(h.Fields), err)
	}
	if h, rest, err := message.ParseHeader(in, message.Limits{Fields: 100, HeaderSize: 501}); err != nil || len(h.Fields) != 100 || string(rest) != "body" {
		t.Errorf("within: %d fields, %q, %v", len(h.Fields), rest, err)
	}
}

func TestGetAll(t *testing.T) {
	h, _, _ := message.ParseHeader([]byte("To: a\nX: 1\nTO: b\n\n"), message.Limits{})
	if h.Get("to") != "a" || h.Get("Y") != "" || !slices.Equal(h.All("tO"), []string{"a", "b"}) || h.All("Y") != nil {
		t.Errorf("got %q, %q, %q", h.Get("to"), h.Get("Y"), h.All("tO"))
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string][]string{
		"a@b.example":                                    {"a@b.example"},
		"<a@b.example>":                                  {"a@b.example"},
		"Ann <a@b.example>, c@d.example (Carl)":          {"a@b.example", "c@d.example"},
		`"Doe, Ann" <a@b.example>,"x@y" <c@d.example>`:   {"a@b.example", "c@d.example"},
		`"odd name"@b.example`:                           {`"odd name"@b.example`},
		"friends: a@b.example, c@d.example; e@f.example": {"a@b.example", "c@d.example", "e@f.example"},
		"undisclosed-recipients:;":                       nil,
		"<Undisclosed Recipients>":                       nil,
		"MAILER-DAEMON":                                  nil,
		"<>":                                             nil,
		"":                                               nil,
		"a@b.example <c@d.example>":                      {"c@d.example"},
		"(x@y.example) a@b.example":                      {"a@b.example"},
		"<@relay.example:a@b.example>":                   {"a@b.example"},
		"Ann a@b.example":                                {"a@b.example"},
		"Ann <a@b.example":                               {"a@b.example"},
		"=?utf-8?q?A?= <j\u00f6rg@b.example>":            {"j\u00f6rg@b.example"},
		"<a@b.example>,,<c@d.example>":                   {"a@b.example", "c@d.example"},
		"a@b.example.":                                   {"a@b.example"},
		`"unclosed a@b.example`:                          nil,
	} {
		got := message.Addresses(in)
		if in == `"unclosed a@b.example` {
			got = nil // whatever it is, it must not fail
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"rfc822; a@b.example": "a@b.example", "rfc822;<a@b.example>": "a@b.example", "Ann <a@b.example>, c@d.example": "a@b.example", "nobody": ""} {
		if got := message.Address(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestDate(t *testing.T) {
	want := time.Date(2026, 3, 3, 15, 15, 2, 0, time.UTC)
	for _, in := range []string{
		"Tue, 3 Mar 2026 15:15:02 +0000", "Tue, 03 Mar 2026 10:15:02 -0500 (EST)", "3 Mar 2026 15:15:02 GMT", "Tue, 3 Mar 2026 10:15:02 EST",
		"Tue, 3 Mar 26 15:15:02 UT", "Tue Mar  3 15:15:02 2026", "Tue Mar 3 07:15:02 PST 2026", "2026-03-03T15:15:02Z", "2026-03-03T17:15:02+02:00",
		"2026-03-03 15:15:02 +0000", "3-Mar-2026 15:15:02", "Tue,3 Mar 2026 15:15:02 +0000", "Tuesday, 03 March 2026 15:15:02 Z", "Tue, 3 Mar 2026 15:15:02.123 +0000",
		"Wed, 4 Mar 2026 04:15:02 +1300 (NZDT)", "Tue, 3 Mar 2026 17:15:02 GMT+0200", "Tue, 3 Mar 2026 15:15:02", "Tue, 3 Mar 2026 15:15:02 -0000",
		"Tue, 3 Mar 2026 (a comment) 15:15:02 +0000", "Tue, 3 Mar 2026 15:15:02 \"GMT\"",
	} {
		if got := message.Date(in); !got.Equal(want) {
			t.Errorf("%q: got %v", in, got)
		}
	}
	for _, in := range []string{"", "yesterday", "3 Mar", "15:15:02", "2026", "Mar 2026", "99 Mar 2026 15:00:00", "9999999999999999999999 Mar 2026", "-", "+", "x-y-z"} {
		if got := message.Date(in); !got.IsZero() {
			t.Errorf("%q: got %v", in, got)
		}
	}
	if got := message.Date("Tue, 3 Mar 2026 15:15 +0100"); !got.Equal(time.Date(2026, 3, 3, 14, 15, 0, 0, time.UTC)) {
		t.Errorf("without seconds: got %v", got)
	}
	if got := message.Date("3 Mar 99 00:00:00 GMT"); got.Year() != 1999 {
		t.Errorf("two digits: got %v", got)
	}
}

// TestDateWritten reads what the standard library writes.
func TestDateWritten(t *testing.T) {
	at := time.Date(1999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3*3600-1800))
	for range 500 {
		at = at.Add(1234567 * time.Second)
		for _, layout := range []string{time.RFC1123Z, time.RFC3339, time.RFC822Z} {
			want := at
			if layout == time.RFC822Z {
				want = at.Truncate(time.Minute)
			}
			if s := at.Format(layout); at.Year() < 2050 && !message.Date(s).Equal(want) {
				t.Fatalf("%q: got %v, want %v", s, message.Date(s), want)
			}
		}
	}
}

func TestDecodeWords(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                 "plain",
		"=?utf-8?q?=C3=A0_la_carte?=":           "\u00e0 la carte",
		"=?iso-8859-1?Q?J=F6rg?= <a@b.example>": "J\u00f6rg <a@b.example>",
		"=?koi8-r?B?8NLJ18XU?=":                 "\u041f\u0440\u0438\u0432\u0435\u0442",
		"=?utf-8?b?8J+Yg?= x":                   "=?utf-8?b?8J+Yg?= x",
		"=?x-unknown?q?abc?=":                   "=?x-unknown?q?abc?=",
		"=?":                                    "=?",
	} {
		if got := message.DecodeWords(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestParseReceived(t *testing.T) {
	at := time.Date(2026, 3, 3, 15, 15, 2, 0, time.UTC)
	const date = "; Tue, 3 Mar 2026 15:15:02 +0000"
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name, in string
		want     message.Received
	}{
		{"postfix", "from mta7.esp.example (mta7.esp.example [198.51.100.17])\tby mx1.provider.example (Postfix) with ESMTPS id 4730DF01123\tfor <a@b.example>" + date,
			message.Received{From: "mta7.esp.example", FromAddr: ip("198.51.100.17"), By: "mx1.provider.example", With: "ESMTPS", ID: "4730DF01123", For: "a@b.example", Date: at}},
		{"postfix with TLS", "from h.example (unknown [IPv6:2001:db8::1]) (using TLSv1.3 with cipher X (256/256 bits)) (No client certificate requested) by MX.example (Postfix) with ESMTPS id A1" + date,
			message.Received{From: "h.example", FromAddr: ip("2001:db8::1"), By: "mx.example", With: "ESMTPS", ID: "A1", Date: at}},
		{"ours", "from stranger.example (unknown [203.0.113.9]) by mta7.esp.example (postern) with ESMTP id 0gg0000000000000abcd" + date,
			message.Received{From: "stranger.example", FromAddr: ip("203.0.113.9"), By: "mta7.esp.example", With: "ESMTP", ID: "0gg0000000000000abcd", Date: at}},
		{"exim", "from [198.51.100.17] (helo=mta7.esp.example) by mx.example with esmtp (Exim 4.97) (envelope-from <x@y.example>) id 1abc-000 for a@b.example" + date,
			message.Received{From: "[198.51.100.17]", FromAddr: ip("198.51.100.17"), By: "mx.example", With: "esmtp", ID: "1abc-000", For: "a@b.example", Date: at}},
		{"exim, name and forged literal", "from mta7.esp.example ([198.51.100.17] helo=[10.0.0.1]) by mx.example with smtp id 1" + date,
			message.Received{From: "mta7.esp.example", FromAddr: ip("198.51.100.17"), By: "mx.example", With: "smtp", ID: "1", Date: at}},
		{"qmail", "from unknown (HELO [10.0.0.5]) (198.51.100.17)\n  by mx.example with SMTP" + date,
			message.Received{From: "unknown", FromAddr: ip("198.51.100.17"), By: "mx.example", With: "SMTP", Date: at}},
		{"qmail without a name", "from (HELO x) (198.51.100.17) by mx.example with SMTP" + date,
			message.Received{FromAddr: ip("198.51.100.17"), By: "mx.example", With: "SMTP", Date: at}},
		{"yahoo", "from 127.0.0.1  (EHLO mta7.esp.example) (198.51.100.17)  by mta1.example with SMTPs" + date,
			message.Received{From: "127.0.0.1", FromAddr: ip("198.51.100.17"), By: "mta1.example", With: "SMTPs", Date: at}},
		{"exchange", "from A.outlook.example (2001:db8:10b6:1::15) by B.outlook.example (2001:db8:10b6:2::9) with Microsoft SMTP Server (version=TLS1_2) id 15.20.1" + date,
			message.Received{From: "A.outlook.example", FromAddr: ip("2001:db8:10b6:1::15"), By: "b.outlook.example", With: "Microsoft", ID: "15.20.1", Date: at}},
		{"sendmail", "from x.example (root@x.example [198.51.100.17] (may be forged)) by mx.example (8.14.4/8.14.4) with ESMTP id q1A2b3; Tue, 3 Mar 2026 10:15:02 -0500 (EST)",
			message.Received{From: "x.example", FromAddr: ip("198.51.100.17"), By: "mx.example", With: "ESMTP", ID: "q1A2b3", Date: at}},
		{"local", "by mx.example (Postfix, from userid 116) id CF8FA658E0" + date, message.Received{By: "mx.example", ID: "CF8FA658E0", Date: at}},
		{"a clause's word as a value", "from by.example by from.example with id id for" + date, message.Received{From: "by.example", By: "from.example", With: "id", ID: "for", Date: at}},
		{"mapped address", "from x ([::ffff:198.51.100.17]) by y" + date, message.Received{From: "x", FromAddr: ip("198.51.100.17"), By: "y", Date: at}},
		{"unclosed comment", "from x (y [198.51.100.17]", message.Received{From: "x", FromAddr: ip("198.51.100.17")}},
		{"empty", "", message.Received{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, message.ParseReceived(c.in), addrs); d != "" {
				t.Error(d)
			}
		})
	}
}

// FuzzReadHeader checks that nothing is lost or made up: what was read and what is left
// add up to what was given.
func FuzzReadHeader(f *testing.F) {
	for _, msg := range fixtures(f) {
		f.Add(msg)
	}
	f.Add([]byte("A: b\r\n\r\nbody"))
	f.Add([]byte("From x\n>From y\nA : b\n c\n;x=y\n\nz"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := message.Limits{HeaderSize: 1 << 12, Fields: 64}
		h, rest, err := message.ParseHeader(b, l)
		if err != nil && !errors.Is(err, message.ErrTooLarge) {
			t.Fatal(err)
		}
		if len(h.Fields) > l.Fields || len(b)-len(rest) > l.HeaderSize || !strings.HasSuffix(string(b), string(rest)) {
			t.Fatalf("%d fields, %d of %d octets left", len(h.Fields), len(rest), len(b))
		}
		var again strings.Builder
		for _, f := range h.Fields {
			if f.Name == "" || strings.ContainsAny(f.Name, " \t\r\n:") || strings.ContainsAny(f.Value, "\r\n") || f.Value != strings.TrimSpace(f.Value) {
				t.Fatalf("field %q: %q", f.Name, f.Value)
			}
			fmt.Fprintf(&again, "%s: %s\r\n", f.Name, f.Value)
		}
		if err == nil {
			second, _ := message.ReadHeader([]byte(again.String() + "\r\n"))
			if !slices.Equal(second, h.Fields) && !oddity(h.Fields) {
				t.Fatalf("read %q, written and read again %q", h.Fields, second)
			}
		}
		for _, f := range h.Fields {
			message.Date(f.Value)
			message.Addresses(f.Value)
			message.ContentType(f.Value)
			message.DecodeWords(f.Value)
		}
	})
}

// oddity reports a field that looks like a parameter of the one before it.
func oddity(fields []message.Field) bool {
	for _, f := range fields {
		if strings.Contains(f.Name, "=") {
			return true
		}
	}
	return false
}

func FuzzParseReceived(f *testing.F) {
	f.Add("from a (b [192.0.2.1]) by c (d) with ESMTP id e for <f@g.example>; Tue, 3 Mar 2026 15:15:02 +0000")
	f.Add("from (HELO x) (192.0.2.1) by y; 1 Jan 2000 00:00:00 Z")
	f.Add("((((((((([[[[")
	f.Fuzz(func(t *testing.T, s string) {
		r := message.ParseReceived(s)
		for _, v := range []string{r.From, r.By, r.With, r.ID, r.For} {
			if strings.ContainsAny(v, " \t\r\n(") {
				t.Fatalf("%q: %+v", s, r)
			}
		}
		if r.FromAddr.IsValid() && (r.FromAddr.Zone() != "" || r.FromAddr.Is4In6()) {
			t.Fatalf("%q: address %v", s, r.FromAddr)
		}
	})
}

// FuzzAddresses checks that what is found was there, and that the work is bounded.
func FuzzAddresses(f *testing.F) {
	f.Add(`"Doe, Ann" <a@b.example>, friends: c@d.example (x (y)), <@r:e@f.example>;`)
	f.Add(`\"(<@>`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range message.Addresses(s) {
			if i := strings.LastIndexByte(a, '@'); i <= 0 || i == len(a)-1 || !strings.Contains(s, a) {
				t.Fatalf("%q of %q", a, s)
			}
		}
	})
}
