package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postern.dev/postern/internal/ledger"
)

// keeper is a mailbox provider that keeps what it gets, by recipient.
type keeper struct {
	mu   sync.Mutex
	mail map[string][]byte
	more chan struct{}
}

func newKeeper(t testing.TB, addr string) *keeper {
	t.Helper()
	k := &keeper{mail: map[string][]byte{}, more: make(chan struct{}, 1)}
	srv := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return &keeperSession{keeper: k}, nil }))
	srv.Domain, srv.ErrorLog, srv.MaxLineLength = "mx.sink.example", log.New(io.Discard, "", 0), 1<<20
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return k
}

type keeperSession struct {
	keeper *keeper
	to     []string
}

func (s *keeperSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (s *keeperSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}
func (s *keeperSession) Reset()        { s.to = nil }
func (s *keeperSession) Logout() error { return nil }
func (s *keeperSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	for _, to := range s.to {
		s.keeper.mail[to] = b
	}
	select {
	case s.keeper.more <- struct{}{}:
	default:
	}
	return nil
}

// get waits for a recipient's mail.
func (k *keeper) get(ctx context.Context, rcpt string) ([]byte, error) {
	for {
		k.mu.Lock()
		b, ok := k.mail[rcpt]
		k.mu.Unlock()
		if ok {
			return b, nil
		}
		select {
		case <-k.more:
		case <-ctx.Done():
			return nil, fmt.Errorf("nothing came for %s", rcpt)
		}
	}
}

// bdat sends one message as it is, to the last octet.
func bdat(t testing.TB, addr, from, message string, rcpts ...string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	say := func(s string, code string) {
		t.Helper()
		if s != "" {
			if _, err := io.WriteString(c, s); err != nil {
				t.Fatal(err)
			}
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, code) {
				t.Fatalf("%.40q: %q, %v", s, line, err)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	say("", "220")
	say("EHLO app.acme.example\r\n", "250")
	say("MAIL FROM:<"+from+"> BODY=8BITMIME\r\n", "250")
	for _, rcpt := range rcpts {
		say("RCPT TO:<"+rcpt+">\r\n", "250")
	}
	say(fmt.Sprintf("BDAT %d LAST\r\n%s", len(message), message), "250")
	say("QUIT\r\n", "221")
}

const signingBlocks = `
dkim "rsa" {
  domain   = "acme.example"
  selector = "r1"
  key_file = "rsa.key"
}
dkim "simple" {
  domain           = "news.acme.example"
  selector         = "e1"
  key_file         = "ed.key"
  canonicalization = "simple/simple"
}
dkim "house" {
  domain      = "esp.example"
  selector    = "h1"
  key_file    = "house.key"
  third_party = true
}
filter "mark" {
  if         = rcpt.local == "marked"
  set_header = { "Subject" = "[marked] another subject" }
}
`

// signingConfig makes keys and a configuration that signs with them, and gives the
// records to publish.
func signingConfig(t testing.TB, file string) map[string]string {
	t.Helper()
	dir := filepath.Dir(file)
	for name, algorithm := range map[string]string{"rsa.key": "rsa", "ed.key": "ed25519", "house.key": "ed25519"} {
		if out, errs, code := run(t, "dkim", "keygen", "-algorithm", algorithm, filepath.Join(dir, name)); code != 0 {
			t.Fatal(out, errs)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(`  senders  = ["news.acme.example"]`, `  senders  = ["*"]`+"\n"+`  dkim     = ["rsa", "simple"]`,
		`pool "general" { sources = ["127.0.0.21-127.0.0.24"] }`, "pool \"general\" {\n  sources = [\"127.0.0.21-127.0.0.24\"]\n  dkim    = [\"house\"]\n}").Replace(string(b))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := run(t, "dkim", "record", "-json", file)
	if code != 0 {
		t.Fatal(errs)
	}
	records := map[string]string{}
	for line := range strings.Lines(out) {
		var r dkimRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		records[r.Name] = r.Text
	}
	return records
}

// verifier has dkimpy verify every signature of every message in a folder: it prints
// the message's name, d=, and whether it holds.
const verifier = `
import dkim, json, os, sys
zone = json.load(open(sys.argv[1]))
def txt(name, timeout=5):
    return zone.get(name.decode().rstrip("."), "").encode()
for name in sorted(os.listdir(sys.argv[2])):
    message = open(os.path.join(sys.argv[2], name), "rb").read()
    n = len([h for h, v in dkim.DKIM(message).headers if h.lower() == b"dkim-signature"])
    for i in range(n):
        d = dkim.DKIM(message)
        try:
            ok = d.verify(idx=i, dnsfunc=txt)
        except dkim.DKIMException:
            ok = False
        print(name, d.domain.decode(), ok)
`

// verified gives "domain True;" and so on for the signatures of each message.
func verified(t testing.TB, records map[string]string, messages map[string][]byte) map[string]string {
	t.Helper()
	dir := t.TempDir()
	b, _ := json.Marshal(records)
	if err := os.WriteFile(dir+"/zone", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/mail", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, m := range messages {
		if err := os.WriteFile(dir+"/mail/"+name, m, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := exec.Command("/usr/bin/python3", "-c", verifier, dir+"/zone", dir+"/mail").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[name] += result + ";"
	}
	return out
}

// TestSignedMailVerifies sends bodies of all sorts through a node that signs with RSA
// and Ed25519, in both forms, and has dkimpy verify what arrives.
func TestSignedMailVerifies(t *testing.T) {
	need(t, "dkimverify")
	port := freePort(t, "127.0.0.37")
	k := newKeeper(t, fmt.Sprintf("127.0.0.37:%d", port))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.37"), port, signingBlocks)
	records := signingConfig(t, file)
	n := serve(t, file)
	head := "From: Acme <n@news.acme.example>\r\nTo: you\r\nSubject: =?utf-8?q?=C3=A4?=\r\n  folded\t\r\n\r\n"
	const all = "acme.example True;news.acme.example True;esp.example True;"
	wanted := map[string]string{}
	for name, c := range map[string]struct{ message, want string }{
		"empty":       {head, all},
		"text":        {head + "Hello\r\nWorld\r\n", all},
		"no-crlf":     {head + "no line end", all},
		"many-ends":   {head + "text\r\n\r\n\r\n", all},
		"8bit":        {head + "gr\xc3\xbc\xc3\x9fe \xff\r\n", all},
		"long":        {head + strings.Repeat("x", 900) + "\r\n" + strings.Repeat("y z ", 240) + " \t\r\n", all},
		"dots":        {head + ".\r\n..\r\n.text\r\n", all},
		"spaces":      {head + " a \t b \r\n \t \r\n", all},
		"large":       {head + strings.Repeat("a line of a large message\r\n", 20000), all},
		"own-fields":  {"Message-ID: <1@acme.example>\r\nDate: Wed, 25 Nov 2026 12:00:00 +0000\r\nFeedback-ID: mine\r\n" + head + "x\r\n", all},
		"other-from":  {"From: a@other.example\r\n\r\nx\r\n", "esp.example True;"},
		"two-from":    {"From: n@news.acme.example\r\nFrom: eve@evil.example\r\n\r\nx\r\n", "esp.example True;"},
		"two-authors": {"From: n@news.acme.example, eve@evil.example\r\nSender: n@news.acme.example\r\n\r\nx\r\n", "esp.example True;"},
		"apex":        {"From: a@acme.example\r\n\r\nx\r\n", "acme.example True;esp.example True;"},
	} {
		rcpt := name + "@sink.example"
		bdat(t, listener, "n@news.acme.example", c.message, rcpt)
		wanted[rcpt] = c.want
	}
	// Two that differ in a signed field have signatures of their own; of the others the
	// signatures are the same, and made once.
	bdat(t, listener, "n@news.acme.example", head+"many\r\n", "one@sink.example", "marked@sink.example", "three@sink.example")
	wanted["one@sink.example"], wanted["three@sink.example"], wanted["marked@sink.example"] = all, all, all
	got := map[string][]byte{}
	for rcpt := range wanted {
		m, err := k.get(deadline(t, 20*time.Second), rcpt)
		if err != nil {
			t.Fatalf("%v\n%s", err, n.log)
		}
		got[rcpt] = m
	}
	n.stop(t)
	text := got["text@sink.example"]
	if !strings.Contains(string(text), "CFBL-Feedback-ID;") {
		t.Errorf("a single recipient's CFBL-Feedback-ID is not signed:\n%s", text)
	}
	got["spoilt"], wanted["spoilt"] = bytes.Replace(text, []byte("Hello"), []byte("Hallo"), 1), strings.ReplaceAll(all, "True", "False")
	results := verified(t, records, got)
	for name, want := range wanted {
		if results[name] != want {
			t.Errorf("%s: %s, want %s\n%.2000s", name, results[name], want, got[name])
		}
	}
	if one, three := signatureIn(got["one@sink.example"]), signatureIn(got["three@sink.example"]); one != three || one == "" {
		t.Errorf("two equal copies have different signatures: %q, %q", one, three)
	}
	ledgerKnows(t, file, signatureIn(text))
}

// signatureIn gives the b= of a message's first signature.
func signatureIn(message []byte) string {
	for field := range strings.SplitSeq(strings.ReplaceAll(string(message), "\r\n\t", ""), "\r\n") {
		if s, ok := strings.CutPrefix(field, "DKIM-Signature:"); ok {
			_, b, _ := strings.Cut(s, ";b=")
			return b
		}
	}
	return ""
}

// ledgerKnows looks a message up by a signature that the node has made.
func ledgerKnows(t testing.TB, file, b string) {
	t.Helper()
	l, err := ledger.Open(filepath.Join(filepath.Dir(file), "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ids, err := l.ByDKIM(t.Context(), ledger.DKIMHash(b))
	if err != nil || len(ids) != 1 {
		t.Errorf("by b=%.20s: %v, %v", b, ids, err)
	}
}
