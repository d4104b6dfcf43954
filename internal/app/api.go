package app

import (
	"encoding/json"
	"net/netip"
	"time"

	"postern.dev/postern/internal/ledger"
)

// The types of the admin API, which the commands and the socket share. Times are
// RFC 3339 in UTC; durations are seconds.
type (
	// Status is what a node says of itself.
	Status struct {
		Version   string    `json:"version"`
		Hostname  string    `json:"hostname"`
		Started   time.Time `json:"started"`
		Policy    string    `json:"policy"`
		Proof     string    `json:"proof"`  // closed, open, unknown: with the waivers that have not ended
		Waived    int       `json:"waived"` // findings
		Guard     string    `json:"guard"`
		Filters   int       `json:"filters"`
		Listeners []string  `json:"listeners"`
		Waiting   int       `json:"waiting"`
		Held      int       `json:"held"`
		Incidents int       `json:"incidents"`

		LogFiles []LogStatus   `json:"log_files,omitempty"`
		Watches  []WatchStatus `json:"watches,omitempty"`
		Warnings []string      `json:"warnings"` // what soon, or at once, needs a hand
	}

	// LogStatus is how one log file fares.
	LogStatus struct {
		Name   string `json:"name"`
		Format string `json:"format"`
		Path   string `json:"path"`
		Events uint64 `json:"events"`          // seen since it was new
		Behind int64  `json:"behind"`          // octets of the spool's log, bodies included
		Gaps   int    `json:"gaps"`            // since the start
		Error  string `json:"error,omitempty"` // why nothing is written at the moment
	}

	// WatchStatus is how another server's log is read.
	WatchStatus struct {
		Name       string    `json:"name"`
		Format     string    `json:"format"`
		Files      int       `json:"files"`
		Lines      int64     `json:"lines"` // since the start
		Rows       int64     `json:"rows"`
		Unreadable int64     `json:"unreadable"`
		Orphans    int64     `json:"orphans"` // deliveries of messages whose beginning was not in the log
		Open       int       `json:"open"`    // messages under way there
		Behind     int64     `json:"behind"`  // octets
		Latest     time.Time `json:"latest,omitzero"`
		Complete   time.Time `json:"complete,omitzero"` // when the end of the files was last reached
		Error      string    `json:"error,omitempty"`
	}

	// QueueRow is one recipient that is not done with.
	QueueRow struct {
		ID        string    `json:"id"`
		Recipient int       `json:"recipient"`
		Address   string    `json:"address"`
		Domain    string    `json:"domain"`
		Sender    string    `json:"sender"`
		Origin    string    `json:"origin"`
		Customer  string    `json:"customer,omitempty"`
		Filter    string    `json:"filter,omitempty"`
		Pool      string    `json:"pool,omitempty"`
		Site      string    `json:"site,omitempty"`
		Campaign  string    `json:"campaign,omitempty"`
		Priority  string    `json:"priority,omitempty"`
		State     string    `json:"state"`
		Attempts  int       `json:"attempts"`
		Next      time.Time `json:"next,omitzero"`
		Reason    string    `json:"reason,omitempty"`
		Accepted  time.Time `json:"accepted"`
	}

	// QueueSelect chooses rows of the queue; empty parts choose everything.
	QueueSelect struct {
		ID       string `json:"id,omitempty"`
		Domain   string `json:"domain,omitempty"`
		Pool     string `json:"pool,omitempty"`
		Customer string `json:"customer,omitempty"`
		Incident string `json:"incident,omitempty"`
		State    string `json:"state,omitempty"`
		Limit    int    `json:"limit,omitempty"`
		Site     string `json:"site,omitempty"`
		Provider string `json:"provider,omitempty"`
		Campaign string `json:"campaign,omitempty"`
		Held     string `json:"held,omitempty"` // the beginning of the reason why
	}

	// QueueOrder asks for a suspension, its end, or a rebinding.
	QueueOrder struct {
		QueueSelect
		Source string        `json:"source,omitempty"` // an address of ours; with a site, provider or domain at most
		Order  string        `json:"order,omitempty"`  // of resume: one suspension
		All    bool          `json:"all,omitempty"`    // of resume: every one
		For    time.Duration `json:"for,omitempty"`    // of suspend: nanoseconds; 0 is until it is resumed
		To     string        `json:"to,omitempty"`     // of rebind: the pool
		By     string        `json:"by"`
		Note   string        `json:"note,omitempty"`
	}

	// OrderView is a suspension in force.
	OrderView struct {
		Order string    `json:"order"` // a number; of a source the identity of its action, "S..."
		Scope string    `json:"scope"`
		From  time.Time `json:"from"`
		Until time.Time `json:"until,omitzero"`
		By    string    `json:"by"`
		Note  string    `json:"note,omitempty"`

		// Of an order for a site that was given by a domain.
		Named       string   `json:"named,omitempty"`
		Site        string   `json:"site,omitempty"`
		Shared      []string `json:"shared,omitempty"` // other domains of that site that the queue knows, some of them
		SharedInAll int      `json:"shared_in_all,omitempty"`
	}

	// SiteView is what there is for one site by one pool.
	SiteView struct {
		Site        string    `json:"site"`
		Provider    string    `json:"provider,omitempty"`
		Pool        string    `json:"pool"`
		Ready       int       `json:"ready"`
		Suspended   int       `json:"suspended"`
		Connections int       `json:"connections"`
		Idle        int       `json:"idle"`
		Until       time.Time `json:"until,omitzero"` // nothing is tried before
		Last        string    `json:"last,omitempty"` // the last failure to connect
	}

	// QueueAction is an operator's act on the queue.
	QueueAction struct {
		QueueSelect
		By   string `json:"by"`
		Note string `json:"note,omitempty"`
	}

	// Done tells how many recipients an act has changed.
	Done struct {
		Changed int `json:"changed"`
	}

	// Traced is the life of one message.
	Traced struct {
		ID     string            `json:"id"`
		Events []json.RawMessage `json:"events"`
		Text   []string          `json:"text"` // one line an event, for people
	}

	// IncidentAction is an operator's act on an incident.
	IncidentAction struct {
		By      string               `json:"by"`
		Note    string               `json:"note,omitempty"`
		Outcome string               `json:"outcome,omitempty"` // of close: closed, false-alarm
		Contain []ledger.Containment `json:"contain,omitempty"`
		Release bool                 `json:"release_mail,omitempty"` // of release: held mail goes on
		Drop    bool                 `json:"drop_mail,omitempty"`    // of release: held mail is discarded
	}

	// IncidentView is an incident as the commands show it.
	IncidentView struct {
		ID       string               `json:"id"`
		State    string               `json:"state"`
		Trigger  string               `json:"trigger"`
		Path     ledger.Path          `json:"path"`
		Peer     netip.Addr           `json:"peer,omitzero"`
		Policy   string               `json:"policy"`
		Pool     string               `json:"pool,omitempty"`
		Source   netip.Addr           `json:"source,omitzero"`
		Message  string               `json:"message,omitempty"`
		Opened   time.Time            `json:"opened"`
		Changed  time.Time            `json:"changed"`
		Contain  []ledger.Containment `json:"contain,omitempty"`
		Reports  int                  `json:"reports"`
		Held     int                  `json:"held,omitempty"` // recipients that are held because of it; not in the list of incidents
		Timeline []string             `json:"timeline,omitempty"`
	}

	// ReloadRequest asks for the configuration to be read again.
	ReloadRequest struct {
		By     string `json:"by"`
		Reason string `json:"reason,omitempty"`
		File   string `json:"file,omitempty"` // what the operator means to reload; refused where it is not the node's, "" is the node's
	}

	// Reloaded tells what came into force.
	Reloaded struct {
		Policy      string   `json:"policy"`
		Filters     int      `json:"filters"`
		Diagnostics []string `json:"diagnostics,omitempty"`
	}

	// ShapingQuery names a piece of traffic. Destination is a domain, an address or the
	// name of a destination; the other parts may be empty.
	ShapingQuery struct {
		Destination string `json:"destination,omitempty"`
		MX          string `json:"mx,omitempty"`
		Pool        string `json:"pool,omitempty"`
		Source      string `json:"source,omitempty"`
		Customer    string `json:"customer,omitempty"`
		Campaign    string `json:"campaign,omitempty"`
	}

	// ShapingUndo ends an action.
	ShapingUndo struct {
		ID   string `json:"id"`
		By   string `json:"by"`
		Note string `json:"note,omitempty"`
	}

	// ShapingAction is something that shapes mail for a time.
	ShapingAction struct {
		ID          string     `json:"id"`
		Does        string     `json:"does"` // throttle, backoff, suspend
		Binds       string     `json:"binds"`
		Rule        string     `json:"rule,omitempty"`
		Where       string     `json:"where,omitempty"`
		By          string     `json:"by,omitempty"`
		Note        string     `json:"note,omitempty"`
		Scope       string     `json:"scope"`
		Within      string     `json:"within,omitempty"`
		Site        string     `json:"site,omitempty"`
		Provider    string     `json:"provider,omitempty"`
		Domain      string     `json:"domain,omitempty"`
		MX          string     `json:"mx,omitempty"`
		Pool        string     `json:"pool,omitempty"`
		Source      netip.Addr `json:"source,omitzero"`
		Customer    string     `json:"customer,omitempty"`
		Campaign    string     `json:"campaign,omitempty"`
		From        time.Time  `json:"from"`
		Until       time.Time  `json:"until,omitzero"` // absent: until it is undone
		Rate        string     `json:"rate,omitempty"`
		Connections int        `json:"connections,omitempty"`
		Reply       string     `json:"reply,omitempty"`
		Count       int        `json:"count,omitempty"`
		Undone      time.Time  `json:"undone,omitzero"`
		UndoneBy    string     `json:"undone_by,omitempty"`
	}

	// ShapingLimit is a limit and where it is said.
	ShapingLimit struct {
		Name  string `json:"name"`
		Value string `json:"value"`
		Where string `json:"where"`
	}

	// ShapingRule is a rule that may speak about a destination.
	ShapingRule struct {
		Name    string `json:"name"`
		Where   string `json:"where"`
		Does    string `json:"does"`
		General bool   `json:"general"` // it is for every destination
	}

	// ShapingWarmup is the state of a source's warm-up.
	ShapingWarmup struct {
		Name     string `json:"name"`
		Where    string `json:"where"`
		Day      int    `json:"day"`
		Days     int    `json:"days"`
		Messages int    `json:"messages"` // today
		Over     bool   `json:"over"`
	}

	// ShapingWait is why the next message would have to wait.
	ShapingWait struct {
		Limit string    `json:"limit"` // its attribute; "hosts" where none answers, "throttle" of an action in force
		Value string    `json:"value,omitempty"`
		Until time.Time `json:"until,omitzero"` // absent where nobody knows
		Why   string    `json:"why"`
	}

	// ShapingExplained tells what binds a piece of traffic.
	ShapingExplained struct {
		Domain   string          `json:"domain,omitempty"`
		MX       []string        `json:"mx,omitempty"`
		Provider string          `json:"provider,omitempty"`
		Where    string          `json:"where,omitempty"`
		Site     string          `json:"site,omitempty"`
		Separate bool            `json:"separate"`
		Pool     string          `json:"pool,omitempty"`
		Source   netip.Addr      `json:"source,omitzero"`
		Limits   []ShapingLimit  `json:"limits"`
		Rules    []ShapingRule   `json:"rules"`
		Warmup   *ShapingWarmup  `json:"warmup,omitempty"`
		InForce  []ShapingAction `json:"in_force"`
		Blocked  bool            `json:"blocked"`
		Next     time.Time       `json:"next,omitzero"`   // of a block that ends by itself
		Waits    []ShapingWait   `json:"waits,omitempty"` // for the limits, longest first
		Counted  bool            `json:"counted"`         // mail has gone there of late: what limits count is known
		Node     bool            `json:"node"`            // a running node was asked: what is in force is known
	}

	// Failure is the body of an answer that is not 2xx.
	Failure struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}
)

// JudgeRequest asks for the verdict of a saved mail.
type JudgeRequest struct {
	Raw []byte `json:"raw"`
}
