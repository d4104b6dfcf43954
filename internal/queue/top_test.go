package queue_test

import (
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
)

// TestTop looks at the queue while one site takes mail, one defers and one is down.
func TestTop(t *testing.T) {
	w := newWorld(t, 1)
	w.net.add("good.example", &peer{})
	w.net.add("slow.example", &peer{rcpt: func(string) string { return "451 4.7.1 slow down" }})
	w.q.Start()
	for range 3 {
		w.send(nil, "a@good.example")
	}
	w.send(nil, "b@slow.example", "c@slow.example")
	awaitKind[*ledger.HandedOff](w, 3)
	awaitKind[*ledger.Attempted](w, 2)
	var top *queue.Top
	w.eventuallyTop(func(x *queue.Top) bool { top = x; return x.Out == 3 && x.Deferred == 2 && x.Waiting == 2 })
	if top.In != 5 || top.Failed != 0 || top.Rates.Out != 0.3 || top.Rates.Deferred != 0.2 || top.Rates.In != 0.5 {
		t.Errorf("%+v", top)
	}
	rows := map[string]queue.TopRow{}
	for _, r := range top.Sites {
		rows[r.Name] = r
	}
	if r := rows["mx1.slow.example"]; r.Queued != 2 || r.Ready != 0 || r.Rates.Deferred != 0.2 || r.Last != "451 4.7.1 slow down" || !r.LastAt.Equal(epoch) {
		t.Errorf("the slow site: %+v", top.Sites)
	}
	if r := rows["mx1.good.example"]; r.Rates.Out != 0.3 || r.Queued != 0 || r.Last != "" {
		t.Errorf("the good site: %+v", top.Sites)
	}
	if len(top.Pools) != 1 || top.Pools[0].Name != "general" || top.Pools[0].Queued != 2 || top.Pools[0].Rates.Out != 0.3 {
		t.Errorf("pools: %+v", top.Pools)
	}
	w.clock.advance(10 * time.Second)
	if r := w.q.Top().Rates; r.Out != 0.15 {
		t.Errorf("half forgotten after ten seconds: %+v", r)
	}
	w.clock.advance(10 * time.Second)
	if top := w.q.Top(); top.Rates != (queue.Rates{}) || top.Out != 3 {
		t.Errorf("after half a minute: %+v", top)
	}
}

func (w *world) eventuallyTop(ok func(*queue.Top) bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if x := w.q.Top(); ok(x) {
			return
		} else if time.Now().After(end) {
			w.t.Fatalf("%+v", x)
		}
	}
}
