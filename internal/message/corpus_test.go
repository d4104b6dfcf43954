package message_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/message"
)

// corpus gives the folder of real mail, and skips the test where there is none. Nothing
// of what the mail says is ever printed: it holds people's addresses.
func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("POSTERN_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no corpus of real mail: set POSTERN_CORPUS to a folder of it")
	}
	return dir
}

// mails calls fn for every mail of the corpus.
func mails(t testing.TB, fn func(name string, msg []byte)) {
	t.Helper()
	dir := corpus(t)
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch ext := filepath.Ext(path); ext {
		case ".eml", ".txt", ".msg", "":
		default:
			return nil
		}
		msg, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		n++
		fn(rel, msg)
		return nil
	})
	if err != nil || n == 0 {
		t.Fatalf("%d mails: %v", n, err)
	}
}

func TestCorpusNeverPanics(t *testing.T) {
	formats := map[message.Format]int{}
	mails(t, func(name string, msg []byte) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("%s: %v", name, p)
			}
		}()
		r, err := message.ParseReport(msg)
		if err != nil && !errors.Is(err, message.ErrNotReport) {
			t.Errorf("%s: %v", name, err)
		}
		if r != nil {
			formats[r.Format]++
		}
		if err := message.Walk(msg, message.Limits{}, func(p *message.Part) error { p.Decoded(); return nil }); err != nil {
			t.Errorf("%s: walk: %v", name, err)
		}
	})
	t.Logf("formats: %v", formats)
}

// TestCorpusComplaints finds every complaint.
func TestCorpusComplaints(t *testing.T) {
	mails(t, func(name string, msg []byte) {
		if !bytes.Contains(bytes.ToLower(msg), []byte("\ncontent-type: message/feedback-report")) {
			return
		}
		r, err := message.ParseReport(msg)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case r.Format != message.FormatARF:
			t.Errorf("%s: read as %s", name, r.Format)
		case r.FeedbackType == "" || r.UserAgent == "" || r.Version == "":
			t.Errorf("%s: type, user agent or version missing", name)
		case r.Original == nil:
			t.Errorf("%s: nothing returned", name)
		case r.Original.Get("From") == "" && r.Original.Get("To") == "" && r.Original.Get("Subject") == "":
			t.Errorf("%s: the original's header is not read", name)
		case r.Identity() == "":
			t.Errorf("%s: no identity", name)
		}
	})
}

// TestCorpusBounces gets status and recipient of every bounce that has the parts of RFC
// 3464.
func TestCorpusBounces(t *testing.T) {
	bounces, original := 0, 0
	mails(t, func(name string, msg []byte) {
		low := bytes.ToLower(msg)
		if !bytes.Contains(low, []byte("\nfinal-recipient:")) || !bytes.Contains(low, []byte("delivery-status\r")) && !bytes.Contains(low, []byte("delivery-status\n")) {
			return
		}
		r, err := message.ParseReport(msg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if r.Format != message.FormatDSN {
			return // a complaint about a bounce
		}
		bounces++
		if r.Original != nil && r.OriginalMessageID() != "" {
			original++
		}
		if len(r.Recipients) == 0 {
			t.Errorf("%s: no recipient", name)
		}
		for i, d := range r.Recipients {
			if d.Final == "" && d.Original == "" || d.Action == "" || d.Status == "" {
				t.Errorf("%s: recipient %d: final %v, action %q, status %q", name, i, d.Final != "", d.Action, d.Status)
			}
		}
	})
	t.Logf("%d bounces, %d with the original's Message-ID", bounces, original)
}

// TestCorpusStatus compares with the status codes that others have published for the
// bounces.
func TestCorpusStatus(t *testing.T) {
	dir := filepath.Join(corpus(t), "sisimai-sample")
	table, err := os.ReadFile(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Skip("no table of expected values in the corpus")
	}
	agree, differ := 0, 0
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), "\t")
		if len(f) < 6 || f[4] != "1" || !strings.HasSuffix(f[0], ".eml") {
			continue
		}
		msg, err := os.ReadFile(filepath.Join(dir, "maildir", "bsd", f[0]))
		if err != nil {
			continue
		}
		r, err := message.ParseReport(msg)
		if err != nil || r.Format != message.FormatDSN {
			continue
		}
		// The table's codes are often improved by what the text says, so the class must
		// agree nearly always and the code mostly.
		if len(r.Recipients) > 0 && f[5] != "" && strings.HasPrefix(r.Recipients[0].Status, f[5][:1]) {
			agree++
		} else {
			differ++
		}
	}
	t.Logf("class of the status: %d agree, %d differ", agree, differ)
	if agree < 9*differ {
		t.Errorf("class of the status: %d agree and %d differ", agree, differ)
	}
}

// BenchmarkBounces goes through the bounces of the corpus in turn; bounces/s is of
// processor time on one core with -cpu 1.
func BenchmarkBounces(b *testing.B) {
	var all [][]byte
	var size int64
	mails(b, func(_ string, msg []byte) {
		if r, err := message.ParseReport(msg); err == nil && r.Format.Bounce() {
			all = append(all, msg)
			size += int64(len(msg))
		}
	})
	benchmarkReports(b, all, size)
}

// BenchmarkComplaints goes through the complaints of the corpus in turn.
func BenchmarkComplaints(b *testing.B) {
	var all [][]byte
	var size int64
	mails(b, func(_ string, msg []byte) {
		if r, err := message.ParseReport(msg); err == nil && (r.Format == message.FormatARF || r.Format == message.FormatJMRP) {
			all = append(all, msg)
			size += int64(len(msg))
		}
	})
	benchmarkReports(b, all, size)
}

func benchmarkReports(b *testing.B, all [][]byte, size int64) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(size / int64(len(all)))
	start := processorTime(b)
	n := 0
	for b.Loop() {
		if _, err := message.ParseReport(all[n%len(all)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)/(processorTime(b)-start).Seconds(), "mails/cpu-s")
	b.ReportMetric(float64(len(all)), "different")
}

// processorTime is what this process has used so far, in user mode and in the kernel.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
