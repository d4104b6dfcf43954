package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// world is a lab with two providers and a node of ours in it.
type world struct {
	t        *testing.T
	lab      *lab.Lab
	aol      *lab.Provider
	other    *lab.Provider
	dir      string
	file     string
	internet string
	inject   string
	node     *app.App
	client   *app.Client
	disk     spool.FS                             // of the spool; nil is the state folder
	stores   ledger.FS                            // of ledger and suppression list; nil is the state folder
	after    func(time.Duration) <-chan time.Time // nil is the real one
	now      func() time.Time                     // nil is the real one
	log      *slog.Logger
}

const head = `
node {
  hostname     = "gw.esp.example"
  state        = "state"
  resolver     = [%q]
  smtp_port    = %d
  return_path  = "bounce.esp.example"
  default_pool = "general"
}
listener "internet" {
  address = %q
  from    = "strangers"
}
listener "injection" {
  address = %q
  from    = "customers"
}
retry {
  first  = "1s"
  max    = "2s"
  expire = "1h"
}
accept  = ["*"]
reports = ["fbl@fbl.esp.example"]
customer "acme" {
  networks = ["127.10.1.0/24"]
  senders  = ["news.acme.example"]
}
provider "aol" { domains = ["fbl.aol.com"] }
pool "general" { sources = ["127.22.0.1-127.22.0.4"] }
pool "aol" { sources = ["127.21.0.1-127.21.0.4"] }
`

// leaky is the policy of 2008, waived: that it leaks is the point.
const leaky = `
waive "PV001" {
  reason = "the leak is the point of the test"
  until  = "UNTIL"
}
filter "aol-range" {
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
filter "drop" {
  if   = listener == "internet"
  then = drop()
}
`

// newWorld makes the lab; more is what the configuration says besides its head.
func newWorld(t *testing.T, more string) *world {
	t.Helper()
	return newWorldWith(t, more, &world{})
}

// newWorldWith makes one whose node has another disk, clock or log.
func newWorldWith(t *testing.T, more string, w *world) *world {
	t.Helper()
	w.t, w.dir = t, t.TempDir()
	var err error
	if w.lab, err = lab.New(lab.Options{Seed: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.lab.Close)
	if w.aol, err = w.lab.AddProvider("aol", []string{"aol.com", "aim.com"}, message.ProfileAOL, lab.Behaviour{}); err != nil {
		t.Fatal(err)
	}
	if w.other, err = w.lab.AddProvider("other", []string{"other.example", "news.acme.example"}, message.ProfileYahoo, lab.Behaviour{}); err != nil {
		t.Fatal(err)
	}
	for w.internet, w.inject = free(t), free(t); w.internet == w.inject; {
		w.inject = free(t)
	}
	w.file = filepath.Join(w.dir, "postern.hcl")
	w.write(more)
	w.start()
	return w
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.20.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *world) write(more string) {
	w.t.Helper()
	until := time.Now().AddDate(0, 1, 0).UTC().Format(time.DateOnly) // of waivers
	text := fmt.Sprintf(head, w.lab.Resolver(), w.lab.Port, w.internet, w.inject) + strings.ReplaceAll(more, "UNTIL", until)
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() {
	w.t.Helper()
	cfg, ds := config.Load(w.file, config.Options{Now: w.now})
	if ds.HasErrors() {
		w.t.Fatal(ds[0].Error())
	}
	n, err := app.New(context.Background(), app.Options{Path: w.file, Config: cfg, By: "test", Disk: w.disk, Stores: w.stores, After: w.after, Now: w.now, Log: w.log})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.node, w.client = n, app.NewClient(cfg.Node.Socket)
	w.t.Cleanup(func() { w.stop(n) })
}

func (w *world) stop(n *app.App) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		w.t.Errorf("stop: %v", err)
	}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

// session opens an SMTP session from an address.
func (w *world) session(source, listener string) *smtp.Client {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	nc, err := d.Dial("tcp", listener)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := smtp.NewClient(w.ctx(), nc, smtp.Timeouts{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	if err := c.Hello(w.ctx(), "client.example"); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// send sends one message and gives the reply that decided.
func (w *world) send(c *smtp.Client, from, data string, to ...string) *smtp.Reply {
	w.t.Helper()
	m := &smtp.Mail{Body: strings.NewReader(data)}
	m.From, _ = smtp.ParseMailbox(from)
	for _, s := range to {
		p, err := smtp.ParseMailbox(s)
		if err != nil {
			w.t.Fatal(err)
		}
		m.To = append(m.To, smtp.Recipient{Path: p})
	}
	res := c.Send(w.ctx(), m)
	if res.Err != nil {
		w.t.Fatal(res.Err)
	}
	for _, r := range append([]*smtp.Reply{res.Mail}, res.Rcpt...) {
		if !r.Positive() {
			return r
		}
	}
	return res.Data
}

const (
	stranger = "127.66.0.9"
	acme     = "127.10.1.1"
)

func mail(mark string) string {
	return "From: x\r\nSubject: s\r\nX-Lab-Id: " + mark + "\r\nMessage-ID: <" + mark + "@client.example>\r\n\r\nbody\r\n"
}

func marked(mark string) func(*lab.Delivery) bool {
	return func(d *lab.Delivery) bool { return d.Mark == mark }
}

func (w *world) incidents() (out []app.IncidentView) {
	w.t.Helper()
	if err := w.client.Get(w.ctx(), "/incidents", nil, &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// eventually waits for a state of the node.
func (w *world) eventually(what string, ok func(app.Status) bool) {
	w.t.Helper()
	ctx := w.ctx()
	for {
		var s app.Status
		if err := w.client.Get(ctx, "/status", nil, &s); err != nil {
			w.t.Fatalf("%s: %v", what, err)
		}
		if ok(s) {
			return
		}
	}
}

// TestGuardHoldsTheFirstMessage: the policy leaks, the guard does not.
func TestGuardHoldsTheFirstMessage(t *testing.T) {
	w := newWorld(t, leaky)
	c := w.session(stranger, w.internet)
	if r := w.send(c, "a@stranger.example", mail("stranger-1"), "victim@aol.com"); !r.Positive() {
		t.Fatalf("got %v", r)
	}
	w.eventually("held", func(s app.Status) bool { return s.Held == 1 && s.Incidents == 1 })
	in := w.incidents()[0]
	if in.Trigger != "guard" || in.Path.Filter != "aol-range" || in.Path.Listener != "internet" || in.Peer.String() != stranger {
		t.Errorf("got %+v", in)
	}
	if r := w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "reader@aol.com"); !r.Positive() {
		t.Fatalf("customer: %v", r)
	}
	if err := w.aol.Await(w.ctx(), 1, marked("acme-1")); err != nil {
		t.Fatal(err)
	}
	if n := w.aol.Count((*lab.Delivery).ByStranger); n != 0 {
		t.Errorf("%d of the stranger's messages arrived", n)
	}
}

// TestHeldMailSurvivesARestart: incident, containment and held mail are there again,
// and released mail is delivered.
func TestHeldMailSurvivesARestart(t *testing.T) {
	w := newWorld(t, leaky)
	w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-1"), "victim@aol.com")
	w.eventually("held", func(s app.Status) bool { return s.Held == 1 })
	id := w.incidents()[0].ID
	var v app.IncidentView
	if err := w.client.Post(w.ctx(), "/incidents/"+id+"/contain", app.IncidentAction{By: "t"}, &v); err != nil {
		t.Fatal(err)
	}
	w.stop(w.node)
	w.start()
	w.eventually("held after a restart", func(s app.Status) bool { return s.Held == 1 && s.Incidents == 1 })
	if r := w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-2"), "victim@aol.com"); !r.Positive() {
		t.Fatal(r)
	}
	w.eventually("contained after a restart", func(s app.Status) bool { return s.Held == 2 })
	var rows []app.QueueRow
	if err := w.client.Get(w.ctx(), "/queue", nil, &rows); err != nil {
		t.Fatal(err)
	}
	if rows[0].Reason != "relay guard" || rows[1].Reason != "incident "+id {
		t.Errorf("held because of %q and %q", rows[0].Reason, rows[1].Reason)
	}
	if err := w.client.Post(w.ctx(), "/incidents/"+id+"/close", app.IncidentAction{By: "t"}, &v); err == nil {
		t.Error("an incident that holds mail can be closed")
	}
	if err := w.client.Post(w.ctx(), "/incidents/"+id+"/release", app.IncidentAction{By: "t", Drop: true}, &v); err != nil {
		t.Fatal(err)
	}
	w.eventually("dropped, what the guard held too", func(s app.Status) bool { return s.Held == 0 })
	if err := w.client.Post(w.ctx(), "/incidents/"+id+"/close", app.IncidentAction{By: "t"}, &v); err != nil {
		t.Errorf("close after the release: %v", err)
	}
}

// TestGuardHeldMailNeedsADecision: without a containment too, an incident of the guard
// cannot be closed over the mail that it holds; other mail on hold is left alone.
func TestGuardHeldMailNeedsADecision(t *testing.T) {
	w := newWorld(t, leaky+"filter \"later\" {\n  if = origin == \"customer\" && rcpt.local == \"later\"\n  then = hold(\"later\")\n}\n")
	w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-1"), "victim@aol.com", "other@aol.com")
	w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "later@other.example")
	w.eventually("held", func(s app.Status) bool { return s.Held == 3 && s.Incidents == 1 })
	id := w.incidents()[0].ID
	var v app.IncidentView
	if err := w.client.Get(w.ctx(), "/incidents/"+id, nil, &v); err != nil || v.Held != 2 {
		t.Errorf("it holds %d, %v", v.Held, err)
	}
	err := w.client.Post(w.ctx(), "/incidents/"+id+"/close", app.IncidentAction{By: "t"}, &v)
	if err == nil || !strings.Contains(err.Error(), "still holds 2 recipients") {
		t.Errorf("close: %v", err)
	}
	if err := w.client.Post(w.ctx(), "/incidents/"+id+"/release", app.IncidentAction{By: "t", Drop: true}, &v); err != nil {
		t.Fatal(err)
	}
	w.eventually("the guard's is dropped, the filter's is not", func(s app.Status) bool { return s.Held == 1 })
	if err := w.client.Post(w.ctx(), "/incidents/"+id+"/close", app.IncidentAction{By: "t"}, &v); err != nil || v.State != "closed" {
		t.Errorf("close: %v, %s", err, v.State)
	}
}

// TestReloadSaysWhatItCannotChange: what belongs to open sockets is refused, never
// taken in silence; a renewed certificate comes into force.
func TestReloadSaysWhatItCannotChange(t *testing.T) {
	w := newWorld(t, leaky)
	w.stop(w.node)
	addr := free(t)
	listener := func(attributes string) string {
		return leaky + fmt.Sprintf("listener \"tls\" {\n  address = %q\n  from = \"strangers\"\n  tls {\n    certificate = \"cert.pem\"\n    key = \"key.pem\"\n  }\n%s}\n", addr, attributes)
	}
	certificate(t, w.dir, "first.example")
	w.write(listener(""))
	w.start()
	if name := subject(t, addr); name != "first.example" {
		t.Errorf("certificate of %q", name)
	}
	for _, c := range []struct{ name, text, want string }{
		{"limits", listener("  limits {\n    size = \"1MiB\"\n  }\n"), `listener "tls" changes its AUTH, TLS, PROXY or limits, which needs a restart; the running policy stays`},
		{"AUTH", listener("  auth = true\n"), `listener "tls" changes its AUTH`},
		{"a listener is gone", leaky, `listener "tls" is gone`},
		{"an address", strings.Replace(listener(""), addr, free(t), 1), `listener "tls" moves from ` + addr},
	} {
		w.write(c.text)
		if err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t"}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	w.write(listener(""))
	if err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t", File: "/etc/hostname"}, nil); err == nil || !strings.Contains(err.Error(), "this node was started with") {
		t.Errorf("another file: %v", err)
	}
	certificate(t, w.dir, "renewed.example")
	if err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t", File: w.file}, nil); err != nil {
		t.Fatal(err)
	}
	if name := subject(t, addr); name != "renewed.example" {
		t.Errorf("certificate of %q after the reload", name)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "cert.pem"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t"}, nil); err == nil || !strings.Contains(err.Error(), "the running policy stays") {
		t.Errorf("a broken certificate: %v", err)
	}
	if name := subject(t, addr); name != "renewed.example" {
		t.Errorf("certificate of %q after a failed reload", name)
	}
}

// certificate writes cert.pem and key.pem for a name.
func certificate(t *testing.T, dir, name string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: kb}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// subject names the certificate that a listener shows after STARTTLS.
func subject(t *testing.T, addr string) string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r := bufio.NewReader(nc)
	for _, line := range []string{"", "EHLO x\r\n", "STARTTLS\r\n"} {
		if _, err := nc.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		for {
			got, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > 3 && got[3] == ' ' {
				break
			}
		}
	}
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// TestRetryIsNoRelease: retry tries at once what waits, and leaves alone what is held.
func TestRetryIsNoRelease(t *testing.T) {
	w := newWorld(t, "filter \"later\" {\n  if = rcpt.local == \"later\"\n  then = hold(\"later\")\n}\n")
	var open atomic.Bool
	w.other.Behaviour.Refuse = func(to smtp.Path) *smtp.Reply {
		if open.Load() || to.Local != "wait" {
			return nil
		}
		return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 0}, "not now")
	}
	c := w.session(acme, w.inject)
	w.send(c, "n@news.acme.example", mail("acme-1"), "later@other.example")
	w.send(c, "n@news.acme.example", mail("acme-2"), "wait@other.example")
	rows := []app.QueueRow{}
	w.eventually("tried once", func(app.Status) bool {
		rows = nil
		return w.client.Get(w.ctx(), "/queue?state=pending", nil, &rows) == nil && len(rows) == 1 && rows[0].Attempts > 0
	})
	open.Store(true)
	var done app.Done
	if err := w.client.Post(w.ctx(), "/queue/retry", app.QueueAction{By: "t"}, &done); err != nil || done.Changed != 1 {
		t.Errorf("retry changed %d, %v", done.Changed, err)
	}
	if err := w.other.Await(w.ctx(), 1, marked("acme-2")); err != nil {
		t.Error(err)
	}
	w.eventually("the held one is held", func(s app.Status) bool { return s.Held == 1 && s.Waiting == 0 })
}

// TestContainmentReachesARunningSession holds in the middle of a session what it let
// through a moment before.
func TestContainmentReachesARunningSession(t *testing.T) {
	w := newWorld(t, "guard = \"observe\"\n"+leaky)
	c := w.session(stranger, w.internet)
	w.send(c, "a@stranger.example", mail("stranger-1"), "victim@aol.com")
	if err := w.aol.Await(w.ctx(), 1, marked("stranger-1")); err != nil {
		t.Fatal(err)
	}
	d := w.aol.Received()[0]
	w.eventually("on record", func(s app.Status) bool { return s.Waiting == 0 }) // as a complaint of the real world finds it
	if err := w.aol.Complain(w.ctx(), &d, w.internet, smtp.Path{Local: "fbl", Domain: "fbl.esp.example"}); err != nil {
		t.Fatal(err)
	}
	v, err := w.node.Judged(w.ctx(), 1)
	if err != nil || v.Verdict != "leaked" || v.Grade != "A" {
		t.Fatalf("verdict %+v, %v", v, err)
	}
	var view app.IncidentView
	if err := w.client.Post(w.ctx(), "/incidents/"+w.incidents()[0].ID+"/contain", app.IncidentAction{By: "t"}, &view); err != nil {
		t.Fatal(err)
	}
	w.send(c, "a@stranger.example", mail("stranger-2"), "victim@aol.com")
	w.eventually("held", func(s app.Status) bool { return s.Held == 1 })
	if w.aol.Count(marked("stranger-2")) != 0 {
		t.Error("it went through")
	}
}

// TestForgedComplaintPagesNobody: the same complaint from somewhere else.
func TestForgedComplaintPagesNobody(t *testing.T) {
	w := newWorld(t, "guard = \"observe\"\n"+leaky)
	w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-1"), "victim@aol.com")
	if err := w.aol.Await(w.ctx(), 1, marked("stranger-1")); err != nil {
		t.Fatal(err)
	}
	d := w.aol.Received()[0]
	w.aol.Reporter = "127.66.0.77"
	w.eventually("on record", func(s app.Status) bool { return s.Waiting == 0 }) // as a complaint of the real world finds it
	if err := w.aol.Complain(w.ctx(), &d, w.internet, smtp.Path{Local: "fbl", Domain: "fbl.esp.example"}); err != nil {
		t.Fatal(err)
	}
	v, err := w.node.Judged(w.ctx(), 1)
	if err != nil || v.Verdict != "leaked" || v.Grade != "C" {
		t.Fatalf("verdict %+v, %v", v, err)
	}
	if n := len(w.incidents()); n != 0 {
		t.Errorf("%d incidents", n)
	}
}

// TestInsideHostDoesNotLaunder: a stranger's message goes to the inside host of its
// domain, which sends it on to the world through our listener: it stays a stranger's.
func TestInsideHostDoesNotLaunder(t *testing.T) {
	w := newWorld(t, `
inside "mailroom" {
  address = "127.25.0.9:0"
  domains = ["replies.esp.example"]
  resends = true
}
filter "replies" {
  if   = rcpt.domain == "replies.esp.example"
  then = deliver()
}
waive "PV002" {
  filter = "mailroom-out"
  reason = "the proof takes it that the mailroom sends on; this test is about the second line"
  until  = "UNTIL"
}
filter "mailroom-out" {
  if   = origin == "inside"
  then = deliver()
}
`)
	room, err := w.lab.AddProvider("mailroom", []string{"mailroom.test"}, message.ProfileAOL, lab.Behaviour{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	w.stop(w.node)
	host := fmt.Sprintf("%s:%d", room.MX, w.lab.Port)
	if err := os.WriteFile(w.file, bytes.ReplaceAll(text, []byte("127.25.0.9:0"), []byte(host)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	forged := "X-Postern-Origin: forged\r\nReceived: from a by gw.esp.example (Postern) with SMTP id 00000000000000000000; x\r\n"
	if r := w.send(w.session(stranger, w.internet), "a@stranger.example", forged+mail("stranger-1"), "box@replies.esp.example"); !r.Positive() {
		t.Fatal(r)
	}
	if err := room.Await(w.ctx(), 1, marked("stranger-1")); err != nil {
		t.Fatal(err)
	}
	got := string(room.Received()[0].Data)
	if strings.Contains(got, "forged") || strings.Contains(got, "00000000000000000000") || !strings.Contains(got, "X-Postern-Origin: ") {
		t.Errorf("the mailroom got\n%s", got)
	}
	out := w.session(room.MX, w.inject)
	if r := w.send(out, "a@stranger.example", got, "victim@aol.com"); r.Positive() {
		t.Errorf("sent on: %v", r)
	}
	if r := w.send(out, "a@stranger.example", mail("stranger-1"), "victim@aol.com"); r.Positive() {
		t.Errorf("sent on with all trace taken off, by its Message-ID: %v", r)
	}
	if r := w.send(out, "box@replies.esp.example", mail("own-1"), "reader@aol.com"); !r.Positive() {
		t.Errorf("the mailroom's own mail: %v", r)
	}
	if err := w.aol.Await(w.ctx(), 1, marked("own-1")); err != nil {
		t.Fatal(err)
	}
}

// TestBounceReachesTheSender: what the provider refuses comes back as a DSN to a
// customer, and never to a stranger.
func TestBounceReachesTheSender(t *testing.T) {
	w := newWorld(t, "guard = \"observe\"\n"+leaky)
	w.send(w.session(stranger, w.internet), "forged@other.example", mail("stranger-1"), "unknown1@aol.com")
	w.eventually("given up", func(s app.Status) bool { return s.Waiting == 0 })
	w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "unknown2@aol.com", "fine@aol.com")
	isDSN := func(d *lab.Delivery) bool { return d.From.IsNull() }
	if err := w.other.Await(w.ctx(), 1, isDSN); err != nil {
		t.Fatal(err)
	}
	w.eventually("all done", func(s app.Status) bool { return s.Waiting == 0 })
	var got []lab.Delivery
	for _, d := range w.other.Received() {
		if isDSN(&d) {
			got = append(got, d)
		}
	}
	if len(got) != 1 || got[0].To.String() != "n@news.acme.example" {
		t.Fatalf("%d DSNs", len(got))
	}
	r, err := message.ParseReport(got[0].Data)
	if err != nil || len(r.Recipients) != 1 || r.Recipients[0].Status != "5.1.1" || r.Recipients[0].Action != "failed" || !strings.Contains(r.Recipients[0].Final, "unknown2@aol.com") {
		t.Errorf("the DSN reads as %+v, %v", r, err)
	}
}

// TestReloadIsAllOrNothing keeps the old policy for a bad file, and lets a running
// session finish on its own.
func TestReloadIsAllOrNothing(t *testing.T) {
	w := newWorld(t, "guard = \"observe\"\n"+leaky)
	before := status(w)
	running := w.session(stranger, w.internet)
	w.write("guard = \"observe\"\nfilter \"x\" {\n  if = nonsense\n}\n")
	var out app.Reloaded
	err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t"}, &out)
	if err == nil || !strings.Contains(err.Error(), "the running policy stays") || status(w).Policy != before.Policy {
		t.Fatalf("got %v, policy %s", err, status(w).Policy)
	}
	w.write("guard = \"observe\"\nfilter \"drop\" {\n  if   = listener == \"internet\"\n  then = drop()\n}\n")
	if err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t", Reason: "repair"}, &out); err != nil {
		t.Fatal(err)
	}
	w.send(running, "a@stranger.example", mail("stranger-1"), "v@aol.com")
	if err := w.aol.Await(w.ctx(), 1, marked("stranger-1")); err != nil {
		t.Errorf("the running session changed its policy: %v", err)
	}
	w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-2"), "v@aol.com")
	w.eventually("idle", func(s app.Status) bool { return s.Waiting == 0 })
	if w.aol.Count(marked("stranger-2")) != 0 {
		t.Error("a new session runs on the old policy")
	}
}

func status(w *world) (s app.Status) {
	w.t.Helper()
	if err := w.client.Get(w.ctx(), "/status", nil, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// TestEffects runs the actions that are not final.
func TestEffects(t *testing.T) {
	w := newWorld(t, `
filter "mark" {
  if         = rcpt.domain == "aol.com"
  set_header = { "X-Campaign" = "ours" }
  tag        = "aol"
  log        = "aol mail"
}
filter "no-large" {
  if   = size > 20000
  then = reject(552, "5.3.4", "too large for this policy")
}
filter "slow" {
  if    = header("Subject") == "slow"
  limit = "2/1h"
}
filter "hold" {
  if   = header("X-Hold") == "yes"
  then = hold("asked for")
}
filter "rewrite" {
  if       = rcpt.local == "old"
  set_rcpt = "new@other.example"
}
filter "by-tag" {
  if   = origin == "customer" && tag("aol")
  then = deliver(pool.aol)
}
sinks = ["new@other.example"]
`)
	c := w.session(acme, w.inject)
	from := "n@news.acme.example"
	w.send(c, from, "X-Campaign: theirs\r\n"+mail("acme-1"), "a@aol.com", "b@other.example", "old@other.example")
	if err := w.aol.Await(w.ctx(), 1, marked("acme-1")); err != nil {
		t.Fatal(err)
	}
	if err := w.other.Await(w.ctx(), 2, marked("acme-1")); err != nil {
		t.Fatal(err)
	}
	a := w.aol.Received()[0]
	if s := string(a.Data); !strings.Contains(s, "X-Campaign: ours") || strings.Contains(s, "theirs") || !strings.HasPrefix(a.Peer.String(), "127.21.0.") || !strings.Contains(s, "X-Postern-Stamp: ") {
		t.Errorf("aol got from %s\n%s", a.Peer, s)
	}
	rcpts := map[string]bool{}
	for _, d := range w.other.Received() {
		rcpts[d.To.String()] = true
		if s := string(d.Data); strings.Contains(s, "ours") || !strings.Contains(s, "X-Campaign: theirs") || !strings.HasPrefix(d.Peer.String(), "127.22.0.") || !strings.HasPrefix(d.From.Local, "b-") {
			t.Errorf("other got from %s\n%s", d.Peer, s)
		}
	}
	if !rcpts["b@other.example"] || !rcpts["new@other.example"] {
		t.Errorf("recipients %v", rcpts)
	}
	if r := w.send(c, from, mail("acme-2")+strings.Repeat("0123456789\r\n", 3000), "a@aol.com"); r.Code != 552 {
		t.Errorf("large: %v", r)
	}
	slow := strings.Replace(mail("acme-3"), "Subject: s", "Subject: slow", 1)
	for i, want := range []int{250, 250, 451} {
		if r := w.send(c, from, slow, "a@aol.com"); r.Code != want {
			t.Errorf("slow %d: %v", i, r)
		}
	}
	if r := w.send(c, from, "X-Hold: yes\r\n"+mail("acme-4"), "a@aol.com"); !r.Positive() {
		t.Error(r)
	}
	w.eventually("held", func(s app.Status) bool { return s.Held == 1 })
	var done app.Done
	if err := w.client.Post(w.ctx(), "/queue/release", app.QueueAction{By: "t", QueueSelect: app.QueueSelect{State: "held"}}, &done); err != nil || done.Changed != 1 {
		t.Fatalf("release: %+v, %v", done, err)
	}
	if err := w.aol.Await(w.ctx(), 1, marked("acme-4")); err != nil {
		t.Error(err)
	}
	if r := w.send(c, "x@stranger.example", mail("acme-5"), "a@aol.com"); r.Code != 550 {
		t.Errorf("another's sender domain: %v", r)
	}
}

// TestDoors: who is let in where.
func TestDoors(t *testing.T) {
	w := newWorld(t, leaky)
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(stranger)}}).Dial("tcp", w.inject)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := smtp.NewClient(w.ctx(), nc, smtp.Timeouts{}); err == nil || !strings.Contains(err.Error(), "554") {
		t.Errorf("a stranger on the customers' listener gets %v", err)
	}
	c := w.session(stranger, w.internet)
	if r := w.send(c, "a@b.example", mail("x"), "a%aol.com@other.example"); r.Code != 250 {
		t.Errorf("dropped whichever way it is read: %v", r) // both readings are accepted; one delivers, one drops
	}
	w.eventually("idle", func(s app.Status) bool { return s.Waiting == 0 })
	if n := w.aol.Count(func(*lab.Delivery) bool { return true }); n != 0 {
		t.Errorf("%d arrived", n)
	}
}

// TestLifecycle: two nodes at once, a second one on the same state, Stop twice.
func TestLifecycle(t *testing.T) {
	a, b := newWorld(t, leaky), newWorld(t, leaky)
	if status(a).Hostname != status(b).Hostname {
		t.Error("they differ")
	}
	cfg, _ := config.Load(a.file, config.Options{})
	if _, err := app.New(context.Background(), app.Options{Path: a.file, Config: cfg}); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("a second node on one state: %v", err)
	}
	a.stop(a.node)
	a.stop(a.node)
	a.start()
}
