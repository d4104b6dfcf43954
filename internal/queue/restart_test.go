package queue

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// BenchmarkRestart is what a start costs for each recipient that waits: the spool opened
// and all of it taken into the queue. POSTERN_WAITING says how many wait.
func BenchmarkRestart(b *testing.B) {
	count := 100_000
	if n, err := strconv.Atoi(os.Getenv("POSTERN_WAITING")); err == nil {
		count = n
	}
	dir := b.TempDir()
	fill(b, dir, count)
	b.ResetTimer()
	begin := cpu()
	var opened time.Duration
	for range b.N {
		at := cpu()
		s, rec, err := spool.Open(b.Context(), spool.Options{Dir: dir})
		if err != nil || rec.Messages != count {
			b.Fatal(rec, err)
		}
		opened += cpu() - at
		q := bare(0)
		q.o.Store = s
		q.stopping = true // no look-ups
		q.load(func() {})
		if waiting, _ := q.Counts(); waiting != count {
			b.Fatalf("%d wait", waiting)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-begin).Seconds()/float64(b.N)/float64(count)*1e6, "cpu-s/million")
	b.ReportMetric(opened.Seconds()/float64(b.N)/float64(count)*1e6, "cpu-s/million-opened")
}

// fill writes messages that wait until tomorrow.
func fill(b *testing.B, dir string, count int) {
	b.Helper()
	s, _, err := spool.Open(b.Context(), spool.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i := range count {
		id := smtp.NewID(now, [6]byte{0, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		body := s.NewBody()
		_, _ = body.Write([]byte("Subject: news\r\n\r\nsomething new\r\n"))
		c := &spool.Batch{Body: body, Message: &spool.Message{ID: id, Accepted: now, From: smtp.Path{Local: "n", Domain: "news.acme.example"}, Size: body.Size(),
			Origin: "customer", Customer: "acme", Listener: "injection", Peer: "127.0.0.1",
			Recipients: []spool.Recipient{{To: smtp.Path{Local: "user" + strconv.Itoa(i), Domain: "d" + strconv.Itoa(i%5000) + ".example"}, Pool: "p"}}},
			Changes: []spool.Change{{ID: id, Attempts: 3, NotBefore: now.Add(24*time.Hour + time.Duration(i)*time.Millisecond), Reason: fmt.Sprintf("451 4.7.1 try again later, see line %d", i%1000)}}}
		if i == count-1 {
			_, err = s.Commit(context.Background(), c) // and with it all before
		} else {
			err = s.Submit(c)
			body.Discard()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
