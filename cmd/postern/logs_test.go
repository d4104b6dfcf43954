package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// logFiles are written by nodes that tests kill.
const logFiles = `
log_file "events" {
  path   = "logs/events.jsonl"
  rotate = "128KiB"
}
log_file "accounting" {
  format = "pmta-csv"
  path   = "logs/acct.csv"
  rotate = "never"
}
`

// logged holds the log files of a stopped node against its ledger: every event of every
// message stands in the JSON lines once, in order, and every hand-off in the accounting.
func logged(t testing.TB, file string, rcpts []string) {
	t.Helper()
	dir := filepath.Dir(file)
	l, err := ledger.Open(filepath.Join(dir, "state", "ledger"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	byID := readLines(t, filepath.Join(dir, "logs", "events.jsonl"))
	ids := map[smtp.ID]bool{}
	for id := range byID {
		ids[id] = true
	}
	for _, rcpt := range rcpts {
		found, err := l.ByRecipient(t.Context(), rcpt, time.Time{}, time.Time{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range found {
			ids[id] = true
		}
	}
	handedOff := 0
	for id := range ids {
		events, err := l.History(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, e := range events {
			if e.Kind() == ledger.KindHandedOff {
				handedOff++
			}
			want = append(want, canonical(t, e))
		}
		got := byID[id]
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("message %s: the log has\n%q\nthe ledger\n%q", id, got, want)
		}
	}
	deliveries := 0
	for _, row := range readAccounting(t, filepath.Join(dir, "logs", "acct.csv")) {
		if row["type"] == "d" {
			deliveries++
		}
	}
	if deliveries != handedOff {
		t.Errorf("the accounting has %d deliveries, the ledger %d hand-offs", deliveries, handedOff)
	}
}

// canonical is an event as JSON with its kind.
func canonical(t testing.TB, e ledger.Event) string {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return e.Kind().String() + string(b)
}

// readLines reads JSON lines over all rotated files: their numbers must follow on one
// another. It gives the events of each message.
func readLines(t testing.TB, path string) map[smtp.ID][]string {
	t.Helper()
	names, _ := filepath.Glob(path + ".2*")
	slices.Sort(names)
	var text []byte
	for _, n := range append(names, path) {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(n); err != nil || st.Mode().Perm()&0o137 != 0 {
			t.Errorf("%s: %v, mode %v", n, err, st.Mode())
		}
		text = append(text, b...)
	}
	out := map[smtp.ID][]string{}
	seq := uint64(0)
	for line := range bytes.Lines(text) {
		var head struct {
			Seq   uint64  `json:"seq"`
			Event string  `json:"event"`
			ID    smtp.ID `json:"id"`
		}
		if err := json.Unmarshal(line, &head); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if seq++; head.Seq != seq {
			t.Fatalf("line %d of %d files has number %d", seq, len(names)+1, head.Seq)
		}
		if head.ID.IsZero() {
			continue
		}
		e := map[string]ledger.Event{"accepted": &ledger.Accepted{}, "handed-off": &ledger.HandedOff{}, "attempted": &ledger.Attempted{}, "bounced": &ledger.Bounced{}}[head.Event]
		if e == nil {
			t.Fatalf("unexpected: %s", line)
		}
		if err := json.Unmarshal(line, e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		out[head.ID] = append(out[head.ID], canonical(t, e))
	}
	t.Logf("%d events in %d files", seq, len(names)+1)
	return out
}

// readAccounting reads an accounting file by the names of its columns.
func readAccounting(t testing.TB, path string) (rows []map[string]string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("read %s: %v, %d rows", path, err, len(all))
	}
	for _, r := range all[1:] {
		row := map[string]string{}
		for i, name := range all[0] {
			row[name] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// TestMovedLogIsReopened moves a log away, as logrotate does, and sends SIGHUP.
func TestMovedLogIsReopened(t *testing.T) {
	port := freePort(t, "127.0.0.36")
	s := newSink(t, fmt.Sprintf("127.0.0.36:%d", port))
	file, listener := gatewayConfig(t, zone(t, "sink.example", "127.0.0.36"), port, strings.Replace(logFiles, "128KiB", "never", 1))
	path := filepath.Join(filepath.Dir(file), "logs", "events.jsonl")
	n := serve(t, file)
	acked := &ackedSet{}
	for i := range 3 {
		stop := make(chan struct{})
		done := make(chan struct{})
		before := acked.count()
		go func() { defer close(done); inject(listener, fmt.Sprintf("r%d", i), acked, stop) }()
		acked.await(before+5, 20*time.Second)
		close(stop)
		<-done
		if i == 2 {
			break
		}
		if err := os.Rename(path, fmt.Sprintf("%s.2%d", path, i)); err != nil {
			t.Fatal(err)
		}
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for ctx := deadline(t, 20*time.Second); ; {
			if _, err := os.Stat(path); err == nil {
				break
			} else if ctx.Err() != nil {
				t.Fatal("the log is not begun anew")
			}
		}
	}
	if err := s.await(deadline(t, 60*time.Second), func(got map[string]int) bool { return len(got) == acked.count() }); err != nil {
		t.Fatal(err)
	}
	n.stop(t)
	logged(t, file, acked.all())
}
