package proof

import (
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// The JSON of postern check and postern diff. Lists are never null.
type (
	// Document is the answer of postern check.
	Document struct {
		Status      verify.Status      `json:"status"`
		Policy      string             `json:"policy,omitempty"`
		Claims      []verify.Claim     `json:"claims"`
		Findings    []Finding          `json:"findings"`
		Diagnostics config.Diagnostics `json:"diagnostics"`
		Stats       Stats              `json:"stats"`
	}
	// Stats tell what a proof took.
	Stats struct {
		Filters int     `json:"filters"`
		Seconds float64 `json:"seconds"`
		Queries int     `json:"queries"`
		Cut     []Cut   `json:"cut"` // warnings that were not looked for in all filters
	}
	// Cut is a warning, and in how many filters from the first it was looked for.
	Cut struct {
		Code verify.Code `json:"code"`
		Seen int         `json:"seen"`
	}
	// Finding is a finding of the prover.
	Finding struct {
		Code     verify.Code     `json:"code"`
		Severity verify.Severity `json:"severity"`
		Status   verify.Status   `json:"status"`
		Claim    string          `json:"claim"`
		Message  string          `json:"message"`
		Hint     string          `json:"hint,omitempty"`
		Filter   string          `json:"filter,omitempty"`
		Assert   string          `json:"assert,omitempty"`
		File     string          `json:"file"`
		Line     int             `json:"line"`
		Column   int             `json:"column"`
		Witness  *Witness        `json:"witness,omitempty"`
		Blockers []Blocker       `json:"blockers"`
		Repair   *Repair         `json:"repair,omitempty"`
		Waived   *config.Waiver  `json:"waived,omitempty"`
	}
	// Witness is a message that shows a finding. Then is what an inside host sends on.
	Witness struct {
		Peer     netip.Addr `json:"peer"`
		Listener string     `json:"listener"`
		Session  []string   `json:"session"`
		Message  string     `json:"message"`
		Decision Decision   `json:"decision"`
		Then     []Witness  `json:"then,omitempty"`
	}
	// Blocker is a filter that would have stopped the witness.
	Blocker struct {
		Filter string `json:"filter"`
		File   string `json:"file"`
		Line   int    `json:"line"`
	}
	// Repair is a change after which the claim holds.
	Repair struct {
		Moves   []Move   `json:"moves"`
		Guard   *Guard   `json:"guard,omitempty"`  // the only clause, or the first
		Guards  []Guard  `json:"guards,omitempty"` // all of them, where they are several
		Diff    string   `json:"diff"`
		Changes []Change `json:"changes"`
		Partial bool     `json:"partial,omitempty"`
	}
	// Move puts a filter before another.
	Move struct {
		Filter string `json:"filter"`
		Before string `json:"before"`
	}
	// Guard is a clause that is joined to a filter's condition.
	Guard struct {
		Filter string `json:"filter"`
		Clause string `json:"clause"`
	}
	// Change is a class of messages whose fate differs, with one of them.
	Change struct {
		Message Sample   `json:"message"`
		Old     Decision `json:"old"`
		New     Decision `json:"new"`
		Effect  *Effect  `json:"effect,omitempty"` // what differs where the fate is the same
	}
	// Effect is something that filters do beside deciding, "" where they do not.
	Effect struct {
		Kind verify.EffectKind `json:"kind"`
		Name string            `json:"name"`
		Old  string            `json:"old"`
		New  string            `json:"new"`
	}
	// Sample is one message.
	Sample struct {
		Origin   policy.Origin `json:"origin"`
		Customer string        `json:"customer,omitempty"`
		Listener string        `json:"listener"`
		Peer     netip.Addr    `json:"peer"`
		Helo     string        `json:"helo,omitempty"`
		User     string        `json:"user,omitempty"`
		From     string        `json:"from"`
		To       string        `json:"to"`
		Header   []string      `json:"header"`
	}
	// Decision is what becomes of a message.
	Decision struct {
		Disposition policy.Disposition `json:"disposition"`
		Filter      string             `json:"filter,omitempty"`
		Pool        string             `json:"pool,omitempty"`
		Inside      string             `json:"inside,omitempty"`
		Recipient   string             `json:"recipient"`
		Code        int                `json:"code,omitempty"`
		Text        string             `json:"text"` // the same for people
	}
)

// NewDocument puts an outcome into its JSON form.
func NewDocument(cfg *config.Config, ds config.Diagnostics, o *Outcome, took time.Duration) *Document {
	d := Failed(ds)
	d.Status, d.Policy, d.Claims = o.Status, cfg.Version, o.Result.Claims
	d.Stats = Stats{Filters: o.Result.Stats.Filters, Seconds: took.Seconds(), Queries: o.Result.Stats.Queries, Cut: []Cut{}}
	for _, c := range o.Result.Cut {
		d.Stats.Cut = append(d.Stats.Cut, Cut(c))
	}
	repairs := map[*verify.Repair]*Repair{}
	for i := range o.Result.Findings {
		d.Findings = append(d.Findings, finding(cfg, &o.Result.Findings[i], o.Waived[i], repairs))
	}
	return d
}

// Failed is the document of a configuration that does not load: nothing is known.
func Failed(ds config.Diagnostics) *Document {
	if ds == nil {
		ds = config.Diagnostics{}
	}
	return &Document{Status: verify.Unknown, Claims: []verify.Claim{}, Findings: []Finding{}, Diagnostics: ds, Stats: Stats{Cut: []Cut{}}}
}

func finding(cfg *config.Config, f *verify.Finding, waived *config.Waiver, repairs map[*verify.Repair]*Repair) Finding {
	out := Finding{Code: f.Code, Severity: f.Severity, Status: f.Status, Claim: f.Code.Title(), Message: f.Message, Hint: f.Hint, Filter: f.Filter, Assert: f.Assert,
		File: f.Pos.File, Line: f.Pos.Line, Column: f.Pos.Column, Blockers: []Blocker{}, Waived: waived}
	if w := f.Witness; w != nil {
		first := witness(cfg.Program, &w.Hops[0], &w.Decisions[0])
		for i := 1; i < len(w.Hops); i++ {
			first.Then = append(first.Then, witness(cfg.Program, &w.Hops[i], &w.Decisions[i]))
		}
		out.Witness = &first
	}
	for _, b := range f.Blockers {
		out.Blockers = append(out.Blockers, Blocker{Filter: b.Filter, File: b.Pos.File, Line: b.Pos.Line})
	}
	if f.Repair != nil {
		if repairs[f.Repair] == nil {
			repairs[f.Repair] = repair(cfg, f.Repair)
		}
		out.Repair = repairs[f.Repair]
	}
	return out
}

func witness(p *policy.Program, f *policy.Facts, d *policy.Decision) Witness {
	return Witness{Peer: f.Client.Address, Listener: f.Listener, Session: Dialogue(p, f, d), Message: string(Message(p, f)), Decision: NewDecision(d)}
}

func repair(cfg *config.Config, r *verify.Repair) *Repair {
	out := &Repair{Moves: []Move{}, Changes: NewChanges(r.Changes), Partial: r.Partial}
	for _, m := range r.Moves {
		out.Moves = append(out.Moves, Move(m))
	}
	for _, g := range r.Guards {
		out.Guards = append(out.Guards, Guard(g))
	}
	if len(out.Guards) > 0 {
		out.Guard = &out.Guards[0]
	}
	if len(out.Guards) == 1 {
		out.Guards = nil
	}
	if edited, err := Edit(cfg, r); err == nil {
		out.Diff = Patch(cfg, edited)
	}
	return out
}

// NewChanges puts changes into their JSON form.
func NewChanges(cs []verify.Change) []Change {
	out := []Change{}
	for i := range cs {
		c := Change{Message: NewSample(&cs[i].Facts), Old: NewDecision(&cs[i].Old), New: NewDecision(&cs[i].New)}
		if e := cs[i].Effect; e != nil {
			c.Effect = &Effect{Kind: e.Kind, Name: e.Name, Old: e.Old, New: e.New}
		}
		out = append(out, c)
	}
	return out
}

// NewSample puts a message into its JSON form.
func NewSample(f *policy.Facts) Sample {
	s := Sample{Origin: f.Origin, Customer: f.Customer, Listener: f.Listener, Peer: f.Client.Address, Helo: f.Client.Helo, User: f.AuthUser,
		From: Path(f.Sender).String(), To: Path(f.Rcpt).String(), Header: []string{}}
	if f.Content != nil {
		for _, h := range f.Content.Headers {
			s.Header = append(s.Header, h.Name+": "+h.Value)
		}
	}
	return s
}

// NewDecision puts a decision into its JSON form.
func NewDecision(d *policy.Decision) Decision {
	return Decision{Disposition: d.Disposition, Filter: d.Filter, Pool: d.Pool, Inside: d.Inside, Recipient: d.Rcpt.String(), Code: d.Code, Text: Fate(d)}
}

// slashed makes a file name for a URI.
func slashed(s string) string { return strings.ReplaceAll(s, "\\", "/") }
