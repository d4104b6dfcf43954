package inbox_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/message"
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

var quiet = slog.New(slog.DiscardHandler)

// taken gathers what was delivered.
type taken struct {
	mails []*inbox.Mail
	fail  error
}

func (k *taken) deliver(_ context.Context, m *inbox.Mail) error {
	if k.fail != nil {
		return k.fail
	}
	k.mails = append(k.mails, m)
	return nil
}

func hook(format, secret string, k *taken) *inbox.Hook {
	return &inbox.Hook{Name: "h", Format: format, Secret: func() ([]byte, error) { return []byte(secret), nil }, To: "fbl@esp.example", Deliver: k.deliver, Now: func() time.Time { return now }, Log: quiet}
}

func post(h http.Handler, body string, auth func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/x", strings.NewReader(body))
	if auth != nil {
		auth(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func basic(r *http.Request) { r.SetBasicAuth("any", "s3cret") }

// said shows what a report says, as the judge will read it.
func said(t *testing.T, m *inbox.Mail) string {
	t.Helper()
	r, err := message.ParseReport(m.Raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, m.Raw)
	}
	s := fmt.Sprintf("%s %s about <%s> of %s at %s", r.Format, r.FeedbackType, r.OriginalMessageID(), r.OriginalFrom, r.SourceIP)
	for _, to := range r.OriginalTo {
		s += " to " + to
	}
	for _, d := range r.Recipients {
		s += fmt.Sprintf(", %s %s %s %s", d.Final, d.Action, d.Status, d.Diagnostic)
	}
	return s
}

func sns(inner string) string {
	b, _ := json.Marshal(map[string]string{"Type": "Notification", "Message": inner})
	return string(b)
}

const (
	sesMail   = `"mail":{"timestamp":"2026-11-30T12:00:00.000Z","source":"news@acme.example","messageId":"0100-x","headers":[{"name":"Message-ID","value":"<m1@acme.example>"},{"name":"X-Postern-Stamp","value":"abc"}],"commonHeaders":{"messageId":"<m1@acme.example>","subject":"Hi"}}`
	sesAbuse  = `{"notificationType":"Complaint","complaint":{"complainedRecipients":[{"emailAddress":"ann@aol.example"}],"timestamp":"2026-12-01T11:00:00.000Z","userAgent":"AOL SComp","complaintFeedbackType":"abuse"},` + sesMail + `}`
	sesBounce = `{"eventType":"Bounce","bounce":{"bounceType":"Permanent","bouncedRecipients":[{"emailAddress":"bob@x.example","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 no such user"}],"timestamp":"2026-12-01T11:00:00.000Z"},` + sesMail + `}`
	xarf4     = `{"xarf_version":"4.2.0","category":"messaging","type":"spam","timestamp":"2026-12-01T10:00:00Z","source_identifier":"198.51.100.7","smtp_from":"news@acme.example","smtp_to":"ann@aol.example","message_id":"<m1@acme.example>","subject":"Hi","reporter":{"domain":"trap.example"}}`
)

func xarf3() string {
	raw := "From: <news@acme.example>\r\nTo: <ann@aol.example>\r\nMessage-ID: <m1@acme.example>\r\nSubject: Hi\r\n\r\nbody\r\n"
	return fmt.Sprintf(`{"Version":"3","ReporterInfo":{"ReporterOrgDomain":"trap.example"},"Report":{"ReportClass":"Activity","ReportType":"Spam","Date":"2026-12-01T10:00:00Z","SourceIp":"198.51.100.7","SmtpMailFromAddress":"news@acme.example","SmtpRcptToAddress":"ann@aol.example","Samples":[{"ContentType":"message/rfc822","Base64Encoded":true,"Payload":%q}]}}`, base64.StdEncoding.EncodeToString([]byte(raw)))
}

// TestShapes reads what providers' documentation gives as examples of their events.
func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name, format, body string
		want               []string
	}{
		{"SES complaint by SNS", "ses", sns(sesAbuse), []string{"arf abuse about <m1@acme.example> of news@acme.example at invalid IP to ann@aol.example"}},
		{"SES bounce, raw", "ses", sesBounce, []string{"dsn  about <m1@acme.example> of  at invalid IP to bob@x.example, bob@x.example failed 5.1.1 smtp; 550 5.1.1 no such user"}},
		{"SES subscription", "ses", `{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns.example/confirm"}`, nil},
		{"SendGrid", "sendgrid", `[{"email":"ann@aol.example","timestamp":1796040000,"smtp-id":"<m1@acme.example>","event":"spamreport"},{"email":"b@x.example","timestamp":1796040001,"event":"delivered"},
			{"email":"bob@x.example","timestamp":1796040001,"smtp-id":"<m2@acme.example>","event":"bounce","reason":"550 5.1.1 no such user","status":"5.1.1","type":"bounce","ip":"198.51.100.7"}]`,
			[]string{"arf abuse about <m1@acme.example> of  at invalid IP to ann@aol.example", "dsn  about <m2@acme.example> of  at invalid IP to bob@x.example, bob@x.example failed 5.1.1 550 5.1.1 no such user"}},
		{"Postmark complaint", "postmark", `{"RecordType":"SpamComplaint","MessageID":"guid","Type":"SpamComplaint","Email":"ann@aol.example","From":"news@acme.example","BouncedAt":"2026-12-01T11:00:00Z","Subject":"Hi"}`,
			[]string{"arf abuse about <guid@mtasv.net> of news@acme.example at invalid IP to ann@aol.example"}},
		{"Postmark bounce", "postmark", `{"RecordType":"Bounce","Type":"HardBounce","MessageID":"guid","Email":"bob@x.example","From":"news@acme.example","Details":"smtp;550 5.1.1 no such user","BouncedAt":"2026-12-01T11:00:00Z"}`,
			[]string{"dsn  about <guid@mtasv.net> of  at invalid IP to bob@x.example, bob@x.example failed 5.1.1 smtp;550 5.1.1 no such user"}},
		{"SparkPost", "sparkpost", `[{"msys":{"message_event":{"type":"spam_complaint","fbtype":"abuse","rcpt_to":"ann@aol.example","msg_from":"news@acme.example","subject":"Hi","timestamp":"1796040000","sending_ip":"198.51.100.7"}}},{"msys":{"track_event":{"type":"open"}}},{"msys":{}},
			{"msys":{"message_event":{"type":"bounce","bounce_class":"10","raw_reason":"550 5.1.1 no such user","rcpt_to":"bob@x.example","timestamp":"1796040000"}}}]`,
			[]string{"arf abuse about <> of news@acme.example at 198.51.100.7 to ann@aol.example", "dsn  about <> of  at invalid IP to bob@x.example, bob@x.example failed 5.1.1 550 5.1.1 no such user"}},
		{"XARF 4", "xarf", xarf4, []string{"arf abuse about <m1@acme.example> of news@acme.example at 198.51.100.7 to ann@aol.example"}},
		{"XARF 3 with the mail", "xarf", xarf3(), []string{"arf abuse about <m1@acme.example> of news@acme.example at 198.51.100.7 to ann@aol.example"}},
		{"XARF of an attack", "xarf", `{"xarf_version":"4.2.0","category":"connection","type":"ddos"}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &taken{}
			w := post(hook(c.format, "s3cret", k), c.body, basic)
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			var got []string
			for _, m := range k.mails {
				got = append(got, said(t, m))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			again := &taken{}
			post(hook(c.format, "s3cret", again), c.body, basic)
			for i := range k.mails {
				if !bytes.Equal(k.mails[i].Raw, again.mails[i].Raw) {
					t.Error("sent again, it is another report")
				}
			}
		})
	}
}

// TestRefused: nothing is taken without the secret, or in another shape, and what cannot
// be kept is asked for again.
func TestRefused(t *testing.T) {
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer s3cret") }
	for _, c := range []struct {
		name, format, body string
		auth               func(*http.Request)
		fail               error
		want               int
	}{
		{"bearer", "xarf", xarf4, bearer, nil, 200},
		{"our own signature", "xarf", xarf4, func(r *http.Request) {
			r.Header.Set(inbox.SignatureHeader, inbox.Sign([]byte("s3cret"), []byte(xarf4), now))
		}, nil, 200},
		{"a signature of another body", "xarf", xarf4, func(r *http.Request) {
			r.Header.Set(inbox.SignatureHeader, inbox.Sign([]byte("s3cret"), []byte("x"), now))
		}, nil, 401},
		{"an old signature", "xarf", xarf4, func(r *http.Request) {
			r.Header.Set(inbox.SignatureHeader, inbox.Sign([]byte("s3cret"), []byte(xarf4), now.Add(-time.Hour)))
		}, nil, 401},
		{"nothing", "xarf", xarf4, nil, nil, 401},
		{"another secret", "xarf", xarf4, func(r *http.Request) { r.SetBasicAuth("a", "S3cret") }, nil, 401},
		{"no JSON", "ses", "{", basic, nil, 400},
		{"JSON of something else", "postmark", `{"a":1}`, basic, nil, 400},
		{"no mail", "mail", "hello", basic, nil, 400},
		{"the disk is full", "xarf", xarf4, basic, errors.New("full"), 503},
		{"mailgun, unsigned", "mailgun", `{"event-data":{"event":"complained"}}`, basic, nil, 401},
		{"nested deeply", "ses", strings.Repeat("[", 100_000), basic, nil, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &taken{fail: c.fail}
			if w := post(hook(c.format, "s3cret", k), c.body, c.auth); w.Code != c.want {
				t.Errorf("%d, want %d: %s", w.Code, c.want, w.Body)
			}
			if c.want != 200 && len(k.mails) > 0 {
				t.Error("it was taken")
			}
		})
	}
	r := httptest.NewRequest(http.MethodGet, "/x", nil)
	w := httptest.NewRecorder()
	hook("xarf", "s", &taken{}).ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
}

// TestSigned checks the signatures of those who sign.
func TestSigned(t *testing.T) {
	stamp := fmt.Sprint(now.Unix())
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write([]byte(stamp + "tok"))
	body := fmt.Sprintf(`{"signature":{"timestamp":%q,"token":"tok","signature":%q},"event-data":{"event":"complained","timestamp":1796040000.5,"recipient":"ann@aol.example","message":{"headers":{"message-id":"m1@acme.example","subject":"Hi"}},"envelope":{"sender":"news@acme.example"}}}`, stamp, hex.EncodeToString(mac.Sum(nil)))
	k := &taken{}
	if w := post(hook("mailgun", "key", k), body, nil); w.Code != 200 || len(k.mails) != 1 || said(t, k.mails[0]) != "arf abuse about <m1@acme.example> of news@acme.example at invalid IP to ann@aol.example" {
		t.Errorf("mailgun: %d %s %d", w.Code, w.Body, len(k.mails))
	}
	if w := post(hook("mailgun", "other", &taken{}), body, nil); w.Code != 401 {
		t.Errorf("mailgun, another key: %d", w.Code)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	body = `[{"email":"a@b.example","timestamp":1,"event":"spamreport"}]`
	sum := sha256.Sum256([]byte(stamp + body))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   string
		want int
	}{{stamp, 200}, {fmt.Sprint(now.Unix() + 1), 401}} {
		w := post(hook("sendgrid", base64.StdEncoding.EncodeToString(der), &taken{}), body, func(r *http.Request) {
			r.Header.Set("X-Twilio-Email-Event-Webhook-Timestamp", c.at)
			r.Header.Set("X-Twilio-Email-Event-Webhook-Signature", base64.StdEncoding.EncodeToString(sig))
		})
		if w.Code != c.want {
			t.Errorf("sendgrid at %s: %d", c.at, w.Code)
		}
	}
}

// FuzzHook: whatever is posted, what is taken is a report.
func FuzzHook(f *testing.F) {
	formats := []string{"xarf", "ses", "sendgrid", "postmark", "sparkpost"}
	for i, b := range []string{xarf4, sns(sesBounce), `[{"email":"a","event":"bounce","status":5.1}]`, `{"RecordType":"Bounce"}`, `[{"msys":{"message_event":{"type":"bounce"}}}]`} {
		f.Add(uint8(i), b)
	}
	f.Add(uint8(0), xarf3())
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		k := &taken{}
		post(hook(formats[int(which)%len(formats)], "s3cret", k), body, basic)
		for _, m := range k.mails {
			if _, err := message.ParseReport(m.Raw); err != nil {
				t.Fatalf("%q makes what is no report:\n%s", body, m.Raw)
			}
		}
	})
}
