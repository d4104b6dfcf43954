package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// both is a spool on the disk for what comes in, over made-up messages that wait.
type both struct {
	*spool.Spool
	made *made
}

// Stock gives the made-up messages, which are tried again tomorrow.
func (s both) Stock(yield func(spool.Entry) bool) {
	s.made.Stock(func(e spool.Entry) bool {
		e.States[0] = spool.RecipientState{Attempts: 1, NotBefore: s.made.base.Add(24 * time.Hour)}
		e.Message = s.made.message(e.ID)
		return yield(e)
	})
}

// BenchmarkWhole is what a message of 4 KiB costs from its acceptance to the record of
// its hand-off: spool, ledger events, queue, SMTP client, and the peer at the other end of
// a pipe, a connection for each message, while others wait for as many sites as the name
// says. That it is flat is the claim: times-least compares with the least of the run.
func BenchmarkWhole(b *testing.B) {
	least := 0.0
	for _, sites := range []int{1, 100, 10_000} {
		for _, n := range []int{1_000, 100_000, 1_000_000, 10_000_000} {
			if n > backlog(1_000_000, 10_000_000) || n < sites {
				continue
			}
			b.Run(fmt.Sprintf("sites=%d/waiting=%d", sites, n), func(b *testing.B) {
				each := wholeCost(b, sites, n)
				if least == 0 || each < least {
					least = each
				}
				b.ReportMetric(each, "cpu-ns/op")
				b.ReportMetric(each/least, "times-least")
			})
		}
	}
}

// wholeCost accepts and delivers b.N messages and gives the processor time of one in
// nanoseconds.
func wholeCost(b *testing.B, sites, waiting int) float64 {
	s := both{made: &made{sites: sites, base: time.Now()}}
	var err error
	if s.Spool, _, err = spool.Open(b.Context(), spool.Options{Dir: b.TempDir()}); err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var taken atomic.Int64
	end, free := make(chan struct{}, 1), make(chan struct{}, 200) // no more than so many are under way
	k := &sinks{took: func() {
		<-free
		if taken.Add(1) == int64(b.N) {
			end <- struct{}{}
		}
	}}
	q := loaded(b, s, k, Limits{Connections: 100, PerSite: 100, Messages: 1, Idle: time.Minute})
	s.made.waits.Store(int64(waiting))
	q.Start()
	for w, _ := q.Counts(); w < waiting; w, _ = q.Counts() {
		time.Sleep(time.Millisecond)
	}
	body := bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"), 64)
	runtime.GC()
	b.ResetTimer()
	begin := cpu()
	for i := range b.N {
		free <- struct{}{}
		accept(b, q, s, madeID(time.Now(), uint32(waiting+i)), body)
	}
	<-end
	if _, err := s.Commit(context.Background(), &spool.Batch{}); err != nil { // and all that was promised
		b.Fatal(err)
	}
	b.StopTimer()
	return float64(cpu()-begin) / float64(b.N)
}

// accept makes a message durable and gives it to the queue.
func accept(b *testing.B, q *Queue, s both, id smtp.ID, body []byte) {
	m := s.made.message(id)
	m.Size = int64(len(body))
	e := &ledger.Accepted{Time: m.Accepted, ID: id, Size: m.Size, Customer: m.Customer, Decisions: []ledger.Decided{{Recipient: fmt.Sprint(binary.BigEndian.Uint32(id[8:]))}}}
	text := s.NewBody()
	if _, err := text.Write(body); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Commit(context.Background(), &spool.Batch{Message: m, Body: text, Events: [][]byte{ledger.Encode(e)}}); err != nil {
		b.Fatal(err)
	}
	q.Add(m)
}
