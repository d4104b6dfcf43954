package gateway_test

import (
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/spool/faultfs"
)

// TestSlowDisk: on a disk whose syncs take up to ten seconds clients wait for their 250, and
// so bring less: never more is under way than there are sessions, memory does not grow
// with what was accepted, and a power cut takes nothing of it. Once the disk is well, mail
// is taken as fast as before.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := faultfs.New()
		sp, _, err := spool.Open(ctx, spool.Options{FS: disk, Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer sp.Close()
		w := newWorldWith(t, defaults, func(o *gateway.Options) { o.Store, o.Random = sp, crand.Reader })
		defer w.spool.Close()
		r := &delays{r: rand.New(rand.NewPCG(1, 1))}
		const clients, each = 60, 60
		acked := map[smtp.ID]bool{}
		var mu sync.Mutex
		text := "Subject: hello\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 400)
		pour := func() time.Duration {
			begin := time.Now()
			var all sync.WaitGroup
			for c := range clients {
				all.Go(func() {
					for n := range each {
						reply := w.send(acme, text, fmt.Sprintf("r%d-%d@far.example", c, n)).String()
						id, err := smtp.ParseID(strings.TrimPrefix(reply, "250 2.0.0 accepted as "))
						if err != nil {
							t.Errorf("got %s", reply)
							return
						}
						mu.Lock()
						acked[id] = true
						mu.Unlock()
					}
				})
			}
			all.Wait()
			return time.Since(begin)
		}
		quick := pour()
		before := allocated() - 2*disk.Used() // which keeps what is written and what is synced in memory
		disk.Slow(func() { time.Sleep(r.draw(10 * time.Second)) })
		slow := pour()
		grown := allocated() - 2*disk.Used() - before
		disk.Slow(nil)
		again := pour()
		// One sync serves all who wait: each client waits for two of them at most for a
		// message, the one under way and its own.
		if slow < each*time.Second || slow > 2*each*10*time.Second || quick > time.Second || again > time.Second {
			t.Errorf("%d messages of each client took %s, then %s on the slow disk, then %s", each, quick, slow, again)
		}
		// The first messages have filled what is kept of messages in memory; then it is some of
		// the newest events, and the index.
		if grown > 8<<20 {
			t.Errorf("memory grew by %d KiB with %d KiB of mail", grown>>10, clients*each*len(text)>>10)
		}
		s, _, err := spool.Open(ctx, spool.Options{FS: disk.Crash(r.r), Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for id := range acked {
			if _, err := s.Message(id); err != nil {
				t.Errorf("an accepted message is lost: %v", err)
			}
		}
		if len(acked) != 3*clients*each {
			t.Errorf("%d were accepted", len(acked))
		}
	})
}

// delays draws times, for whoever asks.
type delays struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *delays) draw(most time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.r.Int64N(int64(most)))
}

// allocated is what is live.
func allocated() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
