package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern.dev/postern/internal/incident"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// serveAdmin opens the admin socket, and the address for health and metrics.
func (a *App) serveAdmin() error {
	cfg := a.now().cfg
	a.metrics.gauge("postern_queue_waiting", "Recipients that wait for delivery.", func() float64 { w, _ := a.queue.Counts(); return float64(w) })
	a.metrics.gauge("postern_queue_held", "Recipients that are held.", func() float64 { _, h := a.queue.Counts(); return float64(h) })
	a.metrics.gauge("postern_queue_campaigns", "Campaigns that take turns of their own.", func() float64 { n, _ := a.queue.Campaigns(); return float64(n) })
	a.metrics.gauge("postern_queue_campaigns_shared", "Recipients since the start whose campaign was one too many: they share their customer's turn.", func() float64 { _, n := a.queue.Campaigns(); return float64(n) })
	a.metrics.gauge("postern_incidents_open", "Incidents that are not closed.", func() float64 { return float64(len(a.book.List(false))) })
	a.metrics.gauge("postern_shaping_in_force", "Actions that shape mail at present.", func() float64 { return float64(len(a.shaping.Actions(a.o.Now()))) })
	if err := removeStale(cfg.Node.Socket); err != nil {
		return err
	}
	l, err := net.Listen("unix", cfg.Node.Socket)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(cfg.Node.Socket, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("admin socket: %w", err)
	}
	a.serveHTTP("admin socket", l, a.adminMux())
	if cfg.Node.Admin == "" {
		return nil
	}
	l, err = net.Listen("tcp", cfg.Node.Admin)
	if err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	a.serveHTTP("admin address", l, a.publicMux())
	return nil
}

// removeStale removes a socket that a killed node has left. The spool's lock has
// made sure already that no other node runs on this state.
func removeStale(name string) error {
	if st, err := os.Stat(name); err == nil && st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("admin socket: %s exists and is no socket", name)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

func (a *App) serveHTTP(name string, l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
	a.push(name, func(ctx context.Context) error {
		err := s.Shutdown(ctx)
		<-done
		return err
	})
}

// publicMux serves what needs no secret: health and metrics.
func (a *App) publicMux() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", a.ready)
	m.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	return m
}

// ready answers whether mail can be taken. What soon needs a hand stands below.
func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	if err := a.sound(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	for _, s := range a.warnings() {
		fmt.Fprintln(w, "warning: "+s)
	}
}

// endpoint is a handler that gives a value or an error.
type endpoint func(r *http.Request) (any, error)

// ServeHTTP implements http.Handler.
func (f endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, err := f(r)
	if text, ok := v.(string); ok && err == nil {
		w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
		_, _ = w.Write([]byte(text))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, incident.ErrUnknown) || errors.Is(err, ledger.ErrNotFound) || errors.Is(err, spool.ErrUnknown) || errors.Is(err, queue.ErrNoOrder) || errors.Is(err, shaping.ErrUnknown) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		v = Failure{Error: err.Error()}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

func body[T any](r *http.Request) (v T, err error) {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 16<<20))
	d.DisallowUnknownFields()
	if err = d.Decode(&v); err != nil {
		err = fmt.Errorf("read request: %w", err)
	}
	return v, err
}

// adminMux serves the operator. Whoever can open the socket is one.
func (a *App) adminMux() *http.ServeMux {
	m := a.publicMux()
	m.Handle("GET /status", endpoint(a.status))
	m.Handle("POST /reload", endpoint(func(r *http.Request) (any, error) {
		req, err := body[ReloadRequest](r)
		if err != nil {
			return nil, err
		}
		return a.Reload(r.Context(), req)
	}))
	m.Handle("GET /queue", endpoint(a.queueList))
	m.Handle("POST /queue/{action}", endpoint(a.queueAct))
	m.Handle("GET /queue/orders", endpoint(a.queueOrders))
	m.Handle("GET /queue/sites", endpoint(a.queueSites))
	m.Handle("GET /queue/top", endpoint(a.queueTop))
	m.Handle("POST /queue/suspend", endpoint(a.queueSuspend))
	m.Handle("POST /queue/resume", endpoint(a.queueResume))
	m.Handle("POST /queue/rebind", endpoint(a.queueRebind))
	m.Handle("GET /trace", endpoint(a.trace))
	m.Handle("GET /incidents", endpoint(func(r *http.Request) (any, error) {
		return a.incidents(r.Context(), r.URL.Query().Get("all") != ""), nil
	}))
	m.Handle("GET /incidents/{id}", endpoint(func(r *http.Request) (any, error) {
		s, err := a.book.Get(r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		return a.detail(r.Context(), s), nil
	}))
	m.Handle("GET /incidents/{id}/impact", endpoint(func(r *http.Request) (any, error) {
		if err := a.ledger.CaughtUp(r.Context(), a.spool.Durable()); err != nil {
			return nil, err
		}
		return a.book.Impact(r.Context(), r.PathValue("id"))
	}))
	m.Handle("GET /incidents/{id}/advisory", endpoint(a.advisory))
	m.Handle("POST /incidents/{id}/{action}", endpoint(a.incidentAct))
	m.Handle("POST /judge", endpoint(a.judge))
	m.Handle("POST /watches/{name}", endpoint(a.manifest))
	a.suppressMux(m)
	a.shapingMux(m)
	return m
}

func (a *App) status(*http.Request) (any, error) {
	g := a.now()
	s := Status{Version: Version(), Hostname: g.cfg.Node.Hostname, Started: a.started, Policy: g.cfg.Version, Guard: string(g.cfg.Guard),
		Filters: len(g.cfg.Program.Filters), Listeners: a.bound, Incidents: len(a.book.List(false))}
	s.LogFiles = a.journals.status()
	for _, x := range a.watches.states() {
		s.Watches = append(s.Watches, WatchStatus{Name: x.Name, Format: string(x.Format), Files: x.Files, Lines: x.Lines, Rows: x.Rows, Unreadable: x.Unreadable, Orphans: x.Orphans,
			Open: x.Open, Behind: x.Behind, Latest: x.Latest, Complete: x.Complete, Error: x.Err})
	}
	s.Waiting, s.Held = a.queue.Counts()
	o := proof.Apply(g.proof.Result, g.cfg.Waivers, a.o.Now())
	s.Proof = string(o.Status)
	s.Warnings = a.warnings()
	for _, w := range o.Waived {
		if w != nil {
			s.Waived++
		}
	}
	return s, nil
}

func selection(s QueueSelect) (queue.Select, error) {
	out := queue.Select{Domain: s.Domain, Pool: s.Pool, Customer: s.Customer, Incident: s.Incident, State: s.State, Limit: s.Limit,
		Site: s.Site, Provider: s.Provider, Campaign: s.Campaign, Held: s.Held}
	if s.ID != "" {
		id, err := messageID(s.ID)
		if err != nil {
			return out, err
		}
		out.ID = id
	}
	if s.State != "" && s.State != "pending" && s.State != "held" {
		return out, fmt.Errorf("state %q is not pending or held", s.State)
	}
	return out, nil
}

func (a *App) queueList(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	s, err := selection(QueueSelect{ID: q.Get("id"), Domain: q.Get("domain"), Pool: q.Get("pool"), Customer: q.Get("customer"), Incident: q.Get("incident"), State: q.Get("state"), Limit: limit,
		Site: q.Get("site"), Provider: q.Get("provider"), Campaign: q.Get("campaign"), Held: q.Get("held")})
	if err != nil {
		return nil, err
	}
	out := []QueueRow{}
	for _, row := range a.queue.List(s) {
		rc := &row.Message.Recipients[row.Recipient]
		v := QueueRow{ID: row.ID.String(), Recipient: row.Recipient, Address: rc.To.String(), Domain: rc.To.Domain, Sender: row.Message.From.String(), Origin: row.Message.Origin,
			Customer: row.Message.Customer, Filter: rc.Filter, Pool: row.Pool, Site: row.Site, Campaign: row.Message.Campaign, Priority: row.Message.Priority.String(), State: "pending", Attempts: row.Attempts, Next: row.Next, Reason: row.Reason, Accepted: row.Message.Accepted}
		if row.State == spool.Held {
			v.State = "held"
		}
		out = append(out, v)
	}
	return out, nil
}

func (a *App) queueAct(r *http.Request) (any, error) {
	req, err := body[QueueAction](r)
	if err != nil {
		return nil, err
	}
	s, err := selection(req.QueueSelect)
	if err != nil {
		return nil, err
	}
	n, err := a.queue.Act(r.Context(), r.PathValue("action"), s, req.By, req.Note)
	return Done{Changed: n}, err
}

// incidents shows the incidents. The reports are read once for all of them.
func (a *App) incidents(ctx context.Context, all bool) []IncidentView {
	out := []IncidentView{}
	var rs []ledger.Reported
	for i, s := range a.book.List(all) {
		if i == 0 {
			rs = a.reports(ctx)
		}
		out = append(out, a.view(s, rs))
	}
	return out
}

// reports gives the reports that were judged; a ledger that cannot tell gives none.
func (a *App) reports(ctx context.Context) []ledger.Reported {
	rs, err := a.ledger.Reports(ctx, time.Time{}, time.Time{})
	if err != nil {
		a.log.Warn("reports not counted", "err", err)
	}
	return rs
}

// view shows an incident, with those of some reports counted that are about its path.
func (a *App) view(s *ledger.IncidentState, rs []ledger.Reported) IncidentView {
	o := &s.Opening
	v := IncidentView{ID: s.ID, State: s.State, Trigger: o.Trigger, Path: o.Path, Peer: o.Peer, Policy: o.Policy, Pool: o.Pool, Source: o.Source,
		Opened: o.Time, Changed: s.Changed, Contain: s.Contain}
	if !o.Message.IsZero() {
		v.Message = o.Message.String()
	}
	for i := range rs {
		if incident.Concerns(s, &rs[i]) {
			v.Reports++
		}
	}
	for i, step := range incident.Steps(s) {
		e := &s.Timeline[i]
		v.Timeline = append(v.Timeline, safe(strings.TrimRight(fmt.Sprintf("%s  %-11s  %-8s  %s", e.Time.UTC().Format("2006-01-02 15:04:05"), step, e.By, e.Note), " ")))
	}
	return v
}

func (a *App) advisory(r *http.Request) (any, error) {
	if err := a.ledger.CaughtUp(r.Context(), a.spool.Durable()); err != nil {
		return nil, err
	}
	s, err := a.book.Get(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	where := ""
	if row, err := a.ledger.Accepted(r.Context(), s.Opening.Message); err == nil {
		for i := range row.Decisions {
			if row.Decisions[i].Filter == s.Opening.Path.Filter {
				where = row.Decisions[i].Line
			}
		}
	}
	return a.book.Advisory(r.Context(), s.ID, a.now().cfg.Node.Hostname, where)
}

func (a *App) incidentAct(r *http.Request) (any, error) {
	req, err := body[IncidentAction](r)
	if err != nil {
		return nil, err
	}
	s, err := a.act(r.Context(), r.PathValue("id"), r.PathValue("action"), req)
	if err != nil {
		return nil, err
	}
	return a.detail(r.Context(), s), nil
}

func (a *App) act(ctx context.Context, id, action string, req IncidentAction) (*ledger.IncidentState, error) {
	switch action {
	case "contain":
		return a.book.Contain(ctx, id, req.Contain, req.By, req.Note)
	case "release":
		return a.release(ctx, id, req)
	case "repaired":
		return a.book.Repaired(ctx, id, req.By, req.Note)
	case "close":
		s, err := a.book.Get(id)
		if err != nil {
			return nil, err
		}
		if n := a.held(s); n > 0 {
			return nil, fmt.Errorf("incident %s still holds %d recipients: release it with -mail or -drop first", id, n)
		}
		return a.book.Close(ctx, id, req.Outcome, req.By, req.Note)
	}
	return nil, fmt.Errorf("unknown incident action %q", action)
}

// release ends a containment and, where it is asked to, deals with what the incident
// holds: what was contained, and what the relay guard held on its path.
func (a *App) release(ctx context.Context, id string, req IncidentAction) (*ledger.IncidentState, error) {
	s, err := a.book.Get(id)
	if err != nil {
		return nil, err
	}
	if len(s.Contain) > 0 || (!req.Release && !req.Drop) {
		if s, err = a.book.Release(ctx, id, req.By, req.Note); err != nil {
			return nil, err
		}
	}
	what := "release"
	switch {
	case req.Drop:
		what = "drop"
	case !req.Release:
		return s, nil
	}
	for _, sel := range heldBy(s) {
		if _, err = a.queue.Act(ctx, what, sel, req.By, strings.TrimSuffix("incident "+id+": "+req.Note, ": ")); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// detail is a view with what the incident holds counted, which looks through the queue.
func (a *App) detail(ctx context.Context, s *ledger.IncidentState) IncidentView {
	v := a.view(s, a.reports(ctx))
	v.Held = a.held(s)
	return v
}

func (a *App) held(s *ledger.IncidentState) (n int) {
	for _, sel := range heldBy(s) {
		n += len(a.queue.List(sel))
	}
	return n
}

// heldBy chooses what an incident holds.
func heldBy(s *ledger.IncidentState) []queue.Select {
	return []queue.Select{{Incident: s.ID}, {Guard: &s.Opening.Path}}
}

// judge gives the verdict of a saved mail. Nothing is recorded, nothing opened.
func (a *App) judge(r *http.Request) (any, error) {
	req, err := body[JudgeRequest](r)
	if err != nil {
		return nil, err
	}
	if err := a.ledger.CaughtUp(r.Context(), a.spool.Durable()); err != nil {
		return nil, err
	}
	return a.now().judge.Judge(r.Context(), report.Input{Raw: req.Raw})
}

// noSuchMessage tells that the ledger knows none.
type noSuchMessage struct{}

func (noSuchMessage) Error() string        { return "trace: the ledger has no such message" }
func (noSuchMessage) Is(target error) bool { return target == ledger.ErrNotFound }

// messageID reads a message id as people give it.
func messageID(s string) (smtp.ID, error) {
	id, err := smtp.ParseID(strings.ToLower(strings.TrimSpace(s)))
	if err != nil {
		return id, fmt.Errorf("%q is no message id: it has 20 characters, such as 06h0zy32ne1vrrs81m00", s)
	}
	return id, nil
}

// trace gives the lives of the messages that a query finds.
func (a *App) trace(r *http.Request) (any, error) {
	ctx, q := r.Context(), r.URL.Query()
	if err := a.ledger.CaughtUp(ctx, a.spool.Durable()); err != nil {
		return nil, err
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	if limit <= 0 {
		limit = 10
	}
	var ids []smtp.ID
	var err error
	switch {
	case q.Get("id") != "":
		var id smtp.ID
		if id, err = messageID(q.Get("id")); err == nil {
			ids = []smtp.ID{id}
		}
	case q.Get("message-id") != "":
		ids, err = a.ledger.ByMessageID(ctx, q.Get("message-id"))
	case q.Get("recipient") != "":
		ids, err = a.ledger.ByRecipient(ctx, q.Get("recipient"), time.Time{}, time.Time{}, limit)
	default:
		err = errors.New("trace: id, message-id or recipient is wanted")
	}
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, noSuchMessage{}
	}
	out := []Traced{}
	for _, id := range ids[:min(len(ids), limit)] {
		events, err := a.ledger.History(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) || (err == nil && len(events) == 0) {
			return nil, noSuchMessage{}
		}
		if err != nil {
			return nil, err
		}
		t := Traced{ID: id.String()}
		for _, e := range events {
			t.add(e)
		}
		out = append(out, t)
	}
	return out, nil
}
