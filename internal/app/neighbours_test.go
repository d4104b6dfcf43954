package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestStrangersShareOneAddress: sessions that all come from loopback show in the
// metrics of a running node.
func TestStrangersShareOneAddress(t *testing.T) {
	w := newWorld(t, "")
	shared := func() bool {
		var b []byte
		if err := w.client.Get(w.ctx(), "/metrics", nil, &b); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), fmt.Sprintf("postern_strangers_share_one_address{address=%q,listener=%q} 1", "127.0.0.1", "internet"))
	}
	for i := range 50 {
		if shared() {
			t.Fatalf("alarm after %d sessions", i)
		}
		_ = w.session("127.0.0.1", w.internet).Quit()
	}
	if !shared() {
		t.Error("no alarm")
	}
	st := status(w)
	if !slices.ContainsFunc(st.Warnings, func(s string) bool {
		return strings.Contains(s, "all strangers on listener internet come from 127.0.0.1")
	}) {
		t.Errorf("status does not warn: %v", st.Warnings)
	}
}
