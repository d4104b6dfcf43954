package journal

import (
	"strings"
	"testing"

	"postern.dev/postern/internal/ledger"
)

// TestWordsThatHoldAddresses: nothing of an address stays in the clear, whatever signs
// its local part holds, and what stands around it does not change its hash.
func TestWordsThatHoldAddresses(t *testing.T) {
	m := newMasker([]byte("key"))
	for _, c := range []struct{ name, text, address string }{
		{"plain", "550 ADDR unknown", "alice@dest.example"},
		{"brackets", "550 <ADDR>: unknown", "alice@dest.example"},
		{"single quotes", "550 'ADDR' unknown", "alice@dest.example"},
		{"end of a sentence", "550 no such user ADDR.", "alice@dest.example"},
		{"apostrophe", "550 ADDR unknown", "o'alice@dest.example"},
		{"return path with a recipient", "550 no mail from ADDR", "bounce+alice=dest.example@us.example"},
		{"rewritten sender", "550 ADDR", "SRS0=hhh=tt=dest.example=alice@us.example"},
	} {
		got, want := m.text(strings.Replace(c.text, "ADDR", c.address, 1)), strings.Replace(c.text, "ADDR", m.address(c.address), 1)
		if got != want || strings.Contains(got, "alice") || strings.Contains(got, "bounce") {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
	if got := m.text("550 rcpt=alice@dest.example unknown"); strings.Contains(got, "alice") {
		t.Errorf("a named address stays: %q", got)
	}
	e := &ledger.Reported{Keys: []string{"+rcpt=alice@dest.example", "-message-id=", "+odd"}}
	m.event(e)
	if e.Keys[0] != "+rcpt="+m.address("alice@dest.example") || e.Keys[1] != "-message-id=" || e.Keys[2] != "+odd" {
		t.Errorf("keys %q", e.Keys)
	}
}
