package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/suppress"
)

// EntriesTrailer tells, behind an export, how many entries it had: without it, it broke
// off.
const EntriesTrailer = "X-Postern-Entries"

// The types of the API of the suppression list. Customer "" is the list for everybody.
type (
	// SuppressAction adds addresses, takes them off, or erases them.
	SuppressAction struct {
		Customer  string    `json:"customer,omitempty"`
		Addresses []string  `json:"addresses"`
		Reason    string    `json:"reason,omitempty"`  // of add: hard-bounce, complaint, manual, unsubscribe
		Expires   time.Time `json:"expires,omitzero"`  // of add
		Entirely  bool      `json:"entirely,omitzero"` // of erase: the hash goes as well
		By        string    `json:"by"`
		Note      string    `json:"note,omitempty"`
	}

	// SuppressEntry is an address that is not mailed.
	SuppressEntry struct {
		Address  string    `json:"address"` // "hash:KEY:DIGITS" where that is all that is kept
		Customer string    `json:"customer,omitempty"`
		Reason   string    `json:"reason"`
		Detail   string    `json:"detail,omitempty"`
		Source   string    `json:"source,omitempty"` // the message or report, or who entered it
		Created  time.Time `json:"created"`
		Expires  time.Time `json:"expires,omitzero"`
	}

	// SuppressCount is how long one list is.
	SuppressCount struct {
		Customer string           `json:"customer,omitempty"`
		Entries  int64            `json:"entries"`
		ByReason map[string]int64 `json:"by_reason"`
	}
)

func (a *App) suppressMux(m *http.ServeMux) {
	x := a.suppression
	m.Handle("POST /suppressions/add", endpoint(x.apiAdd))
	m.Handle("POST /suppressions/rm", endpoint(x.apiRemove))
	m.Handle("POST /suppressions/erase", endpoint(x.apiErase))
	m.Handle("POST /suppressions/import", endpoint(x.apiImport))
	m.Handle("GET /suppressions", endpoint(x.apiList))
	m.Handle("GET /suppressions/get", endpoint(x.apiGet))
	m.Handle("GET /suppressions/count", endpoint(x.apiCount))
	m.HandleFunc("GET /suppressions/export", x.apiExport)
}

// audit puts an act on record before it is done. What it was done to stands there as
// the list keeps it; of what is erased, as a hash.
func (x *suppression) audit(ctx context.Context, by, action, object, note string) error {
	if strings.TrimSpace(by) == "" {
		return fmt.Errorf("suppress %s: nobody is named who does it", action)
	}
	return x.app.commitEvents(ctx, &ledger.Admin{Time: x.app.o.Now(), By: by, Action: "suppress " + action, Object: object, Note: note})
}

func listName(customer string) string {
	if customer == "" {
		return "everybody's list"
	}
	return "customer=" + customer
}

// addresses reads those of a request, all or none.
func addresses(texts []string) ([]policy.Address, error) {
	if len(texts) == 0 {
		return nil, errors.New("suppress: no address")
	}
	out := make([]policy.Address, len(texts))
	for i, t := range texts {
		a, err := suppress.Normalise(t)
		if err != nil {
			return nil, fmt.Errorf("suppress %q: %w", t, err)
		}
		out[i] = a
	}
	return out, nil
}

func (x *suppression) object(customer string, as []policy.Address, erased bool) string {
	var names []string
	for i, a := range as {
		if i == 20 {
			names = append(names, fmt.Sprintf("and %d more", len(as)-i))
			break
		}
		names = append(names, x.list.Name(a, erased))
	}
	return listName(customer) + " " + strings.Join(names, " ")
}

func (x *suppression) apiAdd(r *http.Request) (any, error) {
	req, err := body[SuppressAction](r)
	if err != nil {
		return nil, err
	}
	as, err := addresses(req.Addresses)
	if err != nil {
		return nil, err
	}
	reason, err := suppress.ParseReason(req.Reason)
	if err != nil {
		return nil, err
	}
	if err := x.audit(r.Context(), req.By, "add", x.object(req.Customer, as, false), req.Note); err != nil {
		return nil, err
	}
	entries := make([]suppress.Entry, len(as))
	for i, a := range as {
		entries[i] = suppress.Entry{Customer: req.Customer, Address: a.String(), Reason: reason, Detail: req.Note, Source: req.By, Expires: req.Expires}
	}
	if err := x.list.Add(entries...); err != nil {
		return nil, err
	}
	x.app.metrics.suppressions.WithLabelValues(reason.String()).Add(float64(len(entries)))
	return Done{Changed: len(entries)}, nil
}

func (x *suppression) apiRemove(r *http.Request) (any, error) {
	req, err := body[SuppressAction](r)
	if err != nil {
		return nil, err
	}
	as, err := addresses(req.Addresses)
	if err != nil {
		return nil, err
	}
	if err := x.audit(r.Context(), req.By, "rm", x.object(req.Customer, as, false), req.Note); err != nil {
		return nil, err
	}
	var done Done
	for _, a := range as {
		was, err := x.list.Remove(req.Customer, a)
		if err != nil {
			return nil, err
		}
		if was {
			done.Changed++
		}
	}
	return done, nil
}

func (x *suppression) apiErase(r *http.Request) (any, error) {
	req, err := body[SuppressAction](r)
	if err != nil {
		return nil, err
	}
	as, err := addresses(req.Addresses)
	if err != nil {
		return nil, err
	}
	object := strings.TrimPrefix(x.object("", as, true), listName("")+" ")
	if req.Entirely {
		object = "entirely " + object
	}
	if err := x.audit(r.Context(), req.By, "erase", object, req.Note); err != nil {
		return nil, err
	}
	var done Done
	for _, a := range as {
		n, err := x.list.Erase(r.Context(), a, req.Entirely)
		if err != nil {
			return nil, err
		}
		done.Changed += n
	}
	return done, nil
}

func (x *suppression) view(e *suppress.Entry) SuppressEntry {
	return SuppressEntry{Address: x.list.Shown(e), Customer: e.Customer, Reason: e.Reason.String(), Detail: safe(e.Detail), Source: safe(e.Source), Created: e.Created, Expires: e.Expires}
}

// query reads which lists are meant: one customer's, everybody's, or all with all=1.
func query(r *http.Request) (q suppress.Query, err error) {
	v := r.URL.Query()
	q.Customer, q.All = v.Get("customer"), v.Get("all") != ""
	if s := v.Get("reason"); s != "" {
		q.Reason, err = suppress.ParseReason(s)
	}
	return q, err
}

func (x *suppression) apiList(r *http.Request) (any, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	if limit <= 0 {
		limit = 100
	}
	out := []SuppressEntry{}
	err = x.list.Walk(r.Context(), q, func(e *suppress.Entry) (bool, error) {
		out = append(out, x.view(e))
		return len(out) < limit, nil
	})
	return out, err
}

// apiGet gives the entries of one address: those that a customer's mail meets, or with
// all=1 those on all lists.
func (x *suppression) apiGet(r *http.Request) (any, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	as, err := addresses([]string{r.URL.Query().Get("address")})
	if err != nil {
		return nil, err
	}
	out := []SuppressEntry{}
	held, err := x.list.Holding(as[0])
	for i := range held {
		if e := &held[i]; q.All || e.Customer == q.Customer || e.Customer == "" {
			out = append(out, x.view(e))
		}
	}
	return out, err
}

func (x *suppression) apiCount(r *http.Request) (any, error) {
	q, err := query(r)
	if err != nil {
		return nil, err
	}
	counted, err := x.list.Count(r.Context(), q)
	out := []SuppressCount{}
	for _, c := range counted {
		v := SuppressCount{Customer: c.Customer, Entries: c.Entries, ByReason: map[string]int64{}}
		for reason, n := range c.ByReason {
			v.ByReason[reason.String()] = n
		}
		out = append(out, v)
	}
	return out, err
}

// apiImport reads the file from the request's body as it comes.
func (x *suppression) apiImport(r *http.Request) (any, error) {
	v := r.URL.Query()
	o := suppress.ImportOptions{Customer: v.Get("customer"), Own: v.Get("own") != "", Source: "import by " + v.Get("by")}
	var err error
	if o.Reason, err = suppress.ParseReason(v.Get("reason")); err != nil {
		return nil, err
	}
	if s := v.Get("expires"); s != "" {
		if o.Expires, err = time.Parse(time.RFC3339, s); err != nil {
			return nil, fmt.Errorf("expires: %w", err)
		}
	}
	if s := v.Get("max-bad"); s != "" {
		if o.MaxBad, err = strconv.ParseInt(s, 10, 64); err != nil {
			return nil, fmt.Errorf("max-bad: %q is not a number", s)
		}
	}
	object := listName(o.Customer) + " file=" + strconv.Quote(v.Get("file"))
	if err := x.audit(r.Context(), v.Get("by"), "import", object, v.Get("note")); err != nil {
		return nil, err
	}
	out, err := x.list.Import(r.Context(), r.Body, o)
	if out != nil {
		x.app.metrics.suppressions.WithLabelValues("import").Add(float64(out.Entries))
		note := fmt.Sprintf("%d lines, %d entries, %d bad lines", out.Lines, out.Entries, out.Bad)
		if err != nil {
			note += "; broken off: " + err.Error()
		}
		err = errors.Join(err, x.audit(context.WithoutCancel(r.Context()), v.Get("by"), "imported", object, note))
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// exported names what an export is of.
func exported(q suppress.Query) string {
	object := listName(q.Customer)
	if q.All {
		object = "all lists"
	}
	if q.Reason != 0 {
		object += " reason=" + q.Reason.String()
	}
	return object
}

// apiExport writes the list as it goes through it.
func (x *suppression) apiExport(w http.ResponseWriter, r *http.Request) {
	q, err := query(r)
	by, object := r.URL.Query().Get("by"), exported(q)
	if err == nil {
		err = x.audit(r.Context(), by, "export", object, r.URL.Query().Get("note"))
	}
	if err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(Failure{Error: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Trailer", EntriesTrailer)
	n, err := x.list.Export(r.Context(), w, q)
	note := fmt.Sprintf("%d entries", n)
	if err != nil {
		note += "; broken off: " + err.Error()
	}
	// The caller has the entries whether or not this can be written; what was begun stands
	// on record already.
	err = errors.Join(err, x.audit(context.WithoutCancel(r.Context()), by, "exported", object, note))
	if err != nil {
		x.app.log.Error("export of the suppression list broke off", "entries", n, "err", err)
		return
	}
	w.Header().Set(EntriesTrailer, strconv.FormatInt(n, 10))
}
