package ledger

import "time"

// Kind names.
func (k Kind) String() string {
	names := [...]string{"unknown", "accepted", "refused", "attempted", "handed-off", "bounced", "held", "released",
		"dropped", "reported", "guard-tripped", "incident", "policy-loaded", "admin", "shaping", "watched"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

func newEvent(k Kind) walker {
	switch k {
	case KindAccepted:
		return &Accepted{}
	case KindRefused:
		return &Refused{}
	case KindAttempted:
		return &Attempted{}
	case KindHandedOff:
		return &HandedOff{}
	case KindBounced:
		return &Bounced{}
	case KindHeld:
		return &Held{}
	case KindReleased:
		return &Released{}
	case KindDropped:
		return &Dropped{}
	case KindReported:
		return &Reported{}
	case KindGuardTripped:
		return &GuardTripped{}
	case KindIncident:
		return &IncidentChanged{}
	case KindPolicyLoaded:
		return &PolicyLoaded{}
	case KindAdmin:
		return &Admin{}
	case KindShaping:
		return &ShapingChanged{}
	case KindWatched:
		return &Watched{}
	}
	return nil
}

// Kind implements Event.
func (*Accepted) Kind() Kind { return KindAccepted }

// Kind implements Event.
func (*Refused) Kind() Kind { return KindRefused }

// Kind implements Event.
func (*Attempted) Kind() Kind { return KindAttempted }

// Kind implements Event.
func (*HandedOff) Kind() Kind { return KindHandedOff }

// Kind implements Event.
func (*Bounced) Kind() Kind { return KindBounced }

// Kind implements Event.
func (*Held) Kind() Kind { return KindHeld }

// Kind implements Event.
func (*Released) Kind() Kind { return KindReleased }

// Kind implements Event.
func (*Dropped) Kind() Kind { return KindDropped }

// Kind implements Event.
func (*Reported) Kind() Kind { return KindReported }

// Kind implements Event.
func (*GuardTripped) Kind() Kind { return KindGuardTripped }

// Kind implements Event.
func (*IncidentChanged) Kind() Kind { return KindIncident }

// Kind implements Event.
func (*PolicyLoaded) Kind() Kind { return KindPolicyLoaded }

// Kind implements Event.
func (*Admin) Kind() Kind { return KindAdmin }

// Kind implements Event.
func (*ShapingChanged) Kind() Kind { return KindShaping }

// When implements Event.
func (e *Accepted) When() time.Time { return e.Time }

// When implements Event.
func (e *Refused) When() time.Time { return e.Time }

// When implements Event.
func (e *Attempted) When() time.Time { return e.Time }

// When implements Event.
func (e *HandedOff) When() time.Time { return e.Time }

// When implements Event.
func (e *Bounced) When() time.Time { return e.Time }

// When implements Event.
func (e *Held) When() time.Time { return e.Time }

// When implements Event.
func (e *Released) When() time.Time { return e.Time }

// When implements Event.
func (e *Dropped) When() time.Time { return e.Time }

// When implements Event.
func (e *Reported) When() time.Time { return e.Time }

// When implements Event.
func (e *GuardTripped) When() time.Time { return e.Time }

// When implements Event.
func (e *IncidentChanged) When() time.Time { return e.Time }

// When implements Event.
func (e *PolicyLoaded) When() time.Time { return e.Time }

// When implements Event.
func (e *Admin) When() time.Time { return e.Time }

// When implements Event.
func (e *ShapingChanged) When() time.Time { return e.Time }

// The numbers below are part of the stored form: append only.

func (e *Accepted) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.id(3, &e.Parent)
	c.str(4, &e.Listener)
	c.addrPort(5, &e.Peer)
	c.str(6, &e.Helo)
	c.str(7, &e.TLS)
	c.str(8, &e.AuthUser)
	c.str(9, &e.Origin)
	c.str(10, &e.Customer)
	c.str(11, &e.Sender)
	c.str(12, &e.MessageID)
	c.u64(13, &e.Subject)
	c.u64s(14, &e.DKIM)
	c.int64(15, &e.Size)
	c.str(16, &e.Policy)
	list(c, 17, &e.Decisions, func(c *codec, d *Decided) {
		c.str(1, &d.Recipient)
		c.str(2, &d.Disposition)
		c.str(3, &d.Filter)
		c.str(4, &d.Line)
		c.str(5, &d.Pool)
		c.str(6, &d.Inside)
		c.strs(7, &d.Logs)
		c.strs(8, &d.Tags)
	})
	c.str(18, &e.Campaign)
	c.str(19, &e.Priority)
	c.str(24, &e.Watch)
	c.str(25, &e.Queue)
}

func (e *Refused) walk(c *codec) {
	c.time(1, &e.Time)
	c.str(2, &e.Listener)
	c.addrPort(3, &e.Peer)
	c.str(4, &e.Helo)
	c.str(5, &e.Origin)
	c.str(6, &e.Customer)
	c.str(7, &e.Sender)
	c.str(8, &e.Recipient)
	c.str(9, &e.Filter)
	c.str(10, &e.Policy)
	c.str(11, &e.Reply)
}

func (e *Attempted) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.int(4, &e.Attempt)
	c.str(5, &e.Pool)
	c.addr(6, &e.Source)
	c.addrPort(7, &e.Peer)
	c.str(8, &e.Host)
	c.str(9, &e.Reply)
	c.time(10, &e.Next)
	c.str(11, &e.Category)
	c.str(12, &e.Site)
	c.str(13, &e.Provider)
	c.str(14, &e.Campaign)
}

func (e *HandedOff) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.str(4, &e.Address)
	c.str(5, &e.Domain)
	c.path(6, &e.Path) // to 8
	c.str(9, &e.Policy)
	c.str(10, &e.Customer)
	c.str(11, &e.Pool)
	c.addr(12, &e.Source)
	c.addrPort(13, &e.Peer)
	c.str(14, &e.Host)
	c.str(15, &e.TLS)
	c.str(16, &e.Reply)
	c.int(17, &e.Attempt)
	c.float(18, &e.Seconds)
	c.str(19, &e.Site)
	c.str(20, &e.Provider)
	c.str(21, &e.Campaign)
	c.u64(22, &e.Subject)
}

func (e *Bounced) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.path(4, &e.Path) // to 6
	c.addr(7, &e.Source)
	c.addrPort(8, &e.Peer)
	c.str(9, &e.Host)
	c.str(10, &e.Reply)
	c.id(11, &e.DSN)
	c.str(12, &e.Category)
	c.str(13, &e.Site)
	c.str(14, &e.Provider)
	c.str(15, &e.Campaign)
	c.str(16, &e.Customer)
}

func (e *Held) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.path(4, &e.Path) // to 6
	c.str(7, &e.Reason)
	c.str(8, &e.Incident)
}

func (e *Released) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.str(4, &e.By)
}

func (e *Dropped) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.str(4, &e.By)
	c.str(5, &e.Reason)
}

func (e *Reported) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.str(3, &e.Identity)
	c.str(4, &e.Provider)
	c.str(5, &e.Format)
	c.str(6, &e.Verdict)
	c.str(7, &e.Grade)
	c.strs(8, &e.Keys)
	c.id(9, &e.Subject)
	c.int(10, &e.Rcpt)
	c.str(11, &e.Customer)
	c.path(12, &e.Path) // to 14
	c.addr(15, &e.SourceIP)
	c.time(16, &e.Arrived)
	c.u64(17, &e.Complainer)
	c.str(18, &e.Domain)
	c.str(19, &e.Campaign)
	c.str(20, &e.Pool)
}

func (e *GuardTripped) walk(c *codec) {
	c.time(1, &e.Time)
	c.id(2, &e.ID)
	c.int(3, &e.Recipient)
	c.str(4, &e.Address)
	c.path(5, &e.Path) // to 7
	c.addr(8, &e.Peer)
	c.str(9, &e.Policy)
	c.bool(10, &e.Observed)
	c.str(11, &e.Host)
}

func (e *IncidentChanged) walk(c *codec) {
	c.time(1, &e.Time)
	c.str(2, &e.Incident)
	c.str(3, &e.State)
	c.str(4, &e.By)
	c.str(5, &e.Note)
	c.str(6, &e.Trigger)
	c.path(7, &e.Path) // to 9
	c.addr(10, &e.Peer)
	c.str(11, &e.Policy)
	c.str(12, &e.Pool)
	c.addr(13, &e.Source)
	c.id(14, &e.Message)
	c.str(15, &e.Report)
	list(c, 16, &e.Contain, func(c *codec, h *Containment) {
		held := h.Path != nil
		c.bool(1, &held)
		if held {
			if h.Path == nil {
				h.Path = &Path{}
			}
			c.path(2, h.Path) // to 4
		}
		s := ""
		if h.Source.IsValid() {
			s = h.Source.String()
		}
		c.str(5, &s)
		if !c.writing && s != "" {
			if h.Source.UnmarshalText([]byte(s)) != nil {
				c.bad = true
			}
		}
		c.str(6, &h.Pool)
	})
}

func (e *PolicyLoaded) walk(c *codec) {
	c.time(1, &e.Time)
	c.str(2, &e.Policy)
	c.str(3, &e.By)
	c.strs(4, &e.Files)
	c.int(5, &e.Filters)
	c.str(6, &e.Guard)
	c.str(7, &e.Reason)
}

func (e *Admin) walk(c *codec) {
	c.time(1, &e.Time)
	c.str(2, &e.By)
	c.str(3, &e.Action)
	c.str(4, &e.Object)
	c.str(5, &e.Note)
}

func (e *ShapingChanged) walk(c *codec) {
	c.time(1, &e.Time)
	c.str(2, &e.Action)
	c.str(3, &e.State)
	c.str(4, &e.Does)
	c.str(5, &e.Rule)
	c.str(6, &e.Where)
	c.str(7, &e.By)
	c.str(8, &e.Scope)
	c.str(9, &e.Within)
	c.str(10, &e.Site)
	c.str(11, &e.Provider)
	c.str(12, &e.Domain)
	c.str(13, &e.MX)
	c.str(14, &e.Pool)
	c.addr(15, &e.Source)
	c.str(16, &e.Customer)
	c.str(17, &e.Campaign)
	c.time(18, &e.From)
	c.time(19, &e.Until)
	c.str(20, &e.Rate)
	c.int(21, &e.Connections)
	c.str(22, &e.Reply)
	c.int(23, &e.Count)
	c.str(24, &e.Note)
}
