package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSignedDSNVerifies has a node give a message up, and dkimpy verify the DSN: by the
// keys that dkim_self names, with RSA and Ed25519 in both forms, and by no customer's.
func TestSignedDSNVerifies(t *testing.T) {
	need(t, "dkimverify")
	port := freePort(t, "127.0.0.38")
	k := newKeeper(t, fmt.Sprintf("127.0.0.38:%d", port))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.38"), port, signingBlocks+`
dkim "own" {
  domain           = "gw.esp.example"
  selector         = "own"
  key_file         = "rsa.key"
  canonicalization = "simple/simple"
}
`)
	edit(t, file, `  log_level   = "warn"`, "  log_level   = \"warn\"\n  dkim_self   = [\"house\", \"own\", \"simple\"]")
	records := signingConfig(t, file)
	n := serve(t, file)
	bdat(t, listener, "n@sink.example", "From: n@news.acme.example\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n\r\ntext\r\n", "gone@nowhere.example")
	m, err := k.get(deadline(t, 20*time.Second), "n@sink.example")
	if err != nil {
		t.Fatalf("%v\n%s", err, n.log)
	}
	n.stop(t)
	if !bytes.Contains(m, []byte("message/delivery-status")) {
		t.Fatalf("no DSN:\n%s", m)
	}
	spoilt := bytes.Replace(m, []byte("Action: failed"), []byte("Action: failes"), 1)
	results := verified(t, records, map[string][]byte{"dsn": m, "spoilt": spoilt})
	if results["dsn"] != "esp.example True;gw.esp.example True;" || results["spoilt"] != "esp.example False;gw.esp.example False;" {
		t.Errorf("%v\n%s", results, m)
	}
	ledgerKnows(t, file, signatureIn(m))
	out, warnings, _ := run(t, "check", file)
	if !strings.Contains(out+warnings, `dkim "simple" signs nothing of the node's own: that is from gw.esp.example`) {
		t.Errorf("no warning of a key that signs nothing:\n%s%s", out, warnings)
	}
}

// edit changes a text in a configuration.
func edit(t testing.TB, file, old, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Clean(file))
	if err != nil || !bytes.Contains(b, []byte(old)) {
		t.Fatalf("no %q to change: %v", old, err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte(old), []byte(text), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}
