package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/lab"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

// Options are how the story is told.
type Options struct {
	Dir      string    // of the configuration and the node's state
	Out      io.Writer // the narration; nil is none
	Terminal bool
	Seed     uint64
	Now      func() time.Time
	// Judged is called with each complaint's verdict; nil is nobody.
	Judged func(Complaint)
	// Keep is called with the node still running; nil ends it at once.
	Keep func(ctx context.Context, file string, r *Result)
}

// Complaint is one complaint, what Postern made of it, and what the lab knows.
type Complaint struct {
	Complaint int    `json:"complaint"` // counted from 1
	Provider  string `json:"provider"`
	Verdict   string `json:"verdict"`
	Grade     string `json:"grade"`
	Customer  string `json:"customer,omitempty"`
	Truth     string `json:"truth"` // sent or leaked
	Incident  string `json:"incident,omitempty"`
}

// Result is what happened, in numbers.
type Result struct {
	CustomerMessages  int            `json:"customer_messages"`
	StrangerAttempted int            `json:"stranger_messages_attempted"`
	StrangerDelivered int            `json:"stranger_messages_delivered"` // as the lab's providers counted
	Complaints        int            `json:"complaints"`
	Verdicts          map[string]int `json:"verdicts"`
	Incident          Incident       `json:"incident"`
	AfterRepair       int            `json:"delivered_after_repair"` // of the stranger's
	CustomerAfter     int            `json:"customer_delivered_after_repair"`
	Seconds           float64        `json:"seconds"`

	// What the sum above is held against (Wrong) and what the end of the story names.
	WrongVerdicts     int    `json:"-"` // that differ from what the lab knows
	HeldByContainment int    `json:"-"`
	Victim            string `json:"-"` // a recipient of the stranger's
	Reader            string `json:"-"` // a recipient of a customer's
}

// Incident is the one that opened.
type Incident struct {
	ID                string `json:"-"`
	Listener          string `json:"listener"`
	Filter            string `json:"filter"`
	Peer              string `json:"peer"`
	OpenedAtComplaint int    `json:"opened_at_complaint"` // counted from 1
	FirstLeaked       int    `json:"-"`
	Impact            int    `json:"impact"`
}

// story is one play.
type story struct {
	o         Options
	n         *narrator
	lab       *lab.Lab
	node      *app.App
	client    *app.Client
	file      string
	providers map[string]*lab.Provider
	customers []*lab.Customer
	spammer   *lab.Spammer
	fbl       smtp.Path
	internet  string
	r         *Result
}

// Play plays the story and gives its numbers.
func Play(ctx context.Context, o Options) (*Result, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &story{o: o, n: &narrator{w: o.Out, terminal: o.Terminal, start: o.Now(), now: o.Now}, providers: map[string]*lab.Provider{},
		fbl: smtp.Path{Local: "fbl", Domain: "fbl.esp.example"}, r: &Result{Verdicts: map[string]int{}}}
	defer s.close()
	for _, scene := range []func(context.Context) error{s.setUp, s.ordinaryDay, s.discovery, s.complaints, s.containment, s.impact, s.repair, s.ending} {
		if err := scene(ctx); err != nil {
			return nil, err
		}
	}
	s.r.Seconds = math.Round(o.Now().Sub(s.n.start).Seconds()*1000) / 1000
	if o.Keep != nil {
		o.Keep(ctx, s.file, s.r)
	}
	return s.r, nil
}

func (s *story) close() {
	s.n.clear()
	if s.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.node.Stop(ctx)
	}
	if s.lab != nil {
		s.lab.Close()
	}
}

// setUp builds the small Internet and starts the node with the policy of 2008.
func (s *story) setUp(ctx context.Context) error {
	s.n.scene("2008. A sender of newsletters, its gateway, and a small Internet on this machine.")
	var err error
	if s.lab, err = lab.New(lab.Options{Now: s.o.Now, Seed: s.o.Seed}); err != nil {
		return err
	}
	for _, p := range providers() {
		b := lab.Behaviour{Greylist: p.name == "comcast"}
		if s.providers[p.name], err = s.lab.AddProvider(p.name, p.domains, message.Profile(p.profile), b); err != nil {
			return err
		}
	}
	s.file = filepath.Join(s.o.Dir, "postern.hcl")
	s.n.say("Its Internet listener accepts every recipient: bounces come to many domains.")
	s.n.say("Two filters, in this order:")
	s.n.block("1  aol-range              AOL addresses      -> deliver over the AOL range\n2  drop-internet-bounces  from the Internet  -> log and drop\n")
	cfg, err := s.foretold()
	if err != nil {
		return err
	}
	if s.node, err = app.New(ctx, app.Options{Path: s.file, Config: cfg, Log: slog.New(slog.DiscardHandler), Now: s.o.Now, By: "demo"}); err != nil {
		return err
	}
	if err := s.node.Start(ctx); err != nil {
		return err
	}
	s.client = app.NewClient(cfg.Node.Socket)
	s.internet = fmt.Sprintf("127.20.0.1:%d", s.lab.Port)
	for _, c := range customers() {
		s.customers = append(s.customers, s.lab.AddCustomer(c.n, c.name, c.domain, fmt.Sprintf("127.20.0.2:%d", s.lab.Port)))
	}
	s.spammer = s.lab.AddSpammer(9, s.internet)
	return nil
}

const perCustomer = 40

// ordinaryDay lets the customers send.
func (s *story) ordinaryDay(ctx context.Context) error {
	s.n.scene("An ordinary day: three customers send to readers at four providers.")
	var domains []string
	for _, p := range providers() {
		domains = append(domains, p.domains[0])
	}
	total := perCustomer * len(s.customers)
	for _, c := range s.customers {
		t, err := c.Send(ctx, perCustomer, domains, func() {
			s.r.CustomerMessages++
			s.n.progress("customers send", s.r.CustomerMessages, total)
		})
		if err != nil {
			return err
		}
		if t.Refused > 0 {
			return fmt.Errorf("customer %s: %d messages refused", c.Name, t.Refused)
		}
	}
	if err := s.arrived(ctx, total, func(d *lab.Delivery) bool { return !d.ByStranger() }); err != nil {
		return err
	}
	s.n.say("%d messages handed over, %d arrived (one provider grey-lists; they were tried again).", s.r.CustomerMessages, total)
	return nil
}

// arrived waits until so many deliveries match over all providers.
func (s *story) arrived(ctx context.Context, n int, match func(*lab.Delivery) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		got := s.count(match)
		s.n.progress("arrived", got, n)
		if got >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages arrived: %w", got, n, ctx.Err())
		}
	}
}

func (s *story) count(match func(*lab.Delivery) bool) (n int) {
	for _, p := range s.providers {
		n += p.Count(match)
	}
	return n
}

const (
	probes = 3
	spams  = 60
)

// discovery lets the stranger find the hole, and use it.
func (s *story) discovery(ctx context.Context) error {
	s.n.scene("A stranger tries the gateway. It says 250 to everything; what arrives tells more.")
	for _, p := range providers() {
		t := s.spammer.Spam(ctx, probes, p.domains[0], nil)
		s.r.StrangerAttempted += t.Attempted
	}
	stranger := (*lab.Delivery).ByStranger
	if err := s.idle(ctx); err != nil {
		return err
	}
	for _, p := range providers() {
		s.n.say("%-12s %d of %d probes arrived", p.domains[0], s.providers[p.name].Count(stranger), probes)
	}
	s.n.say("Only AOL addresses go through. So it sends there.")
	t := s.spammer.Spam(ctx, spams, "aol.com", func() { s.n.progress("stranger sends", s.providers["aol"].Count(stranger), spams+probes) })
	s.r.StrangerAttempted += t.Attempted
	if err := s.arrived(ctx, probes+spams, stranger); err != nil {
		return err
	}
	s.n.say("%d messages of the stranger are in AOL's mailboxes. Nobody at the sender knows.", s.count(stranger))
	return nil
}

// idle waits until nothing waits in the queue.
func (s *story) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var st app.Status
		if err := s.client.Get(ctx, "/status", nil, &st); err != nil {
			return err
		}
		if st.Waiting == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d recipients still wait: %w", st.Waiting, ctx.Err())
		}
	}
}

// complaints lets the providers complain: about customers' mail first, then about the
// stranger's.
func (s *story) complaints(ctx context.Context) error {
	s.n.scene("Readers complain. The feedback loops bring it back, redacted as each provider does.")
	var list []lab.Delivery
	stranger := 0
	for _, p := range providers() {
		mine := 0
		for _, d := range s.providers[p.name].Received() {
			if !d.ByStranger() && mine < 2 {
				mine++
				list = append(list, d)
			}
		}
	}
	for _, d := range s.providers["aol"].Received() {
		if d.ByStranger() && stranger < 4 {
			stranger++
			list = append(list, d)
		}
	}
	last := s.providers["yahoo"].Received()
	list = append(list, last[len(last)-1])
	for i := range list {
		if err := s.complain(ctx, i+1, &list[i]); err != nil {
			return err
		}
	}
	if s.r.Incident.ID == "" {
		return errors.New("no incident has opened")
	}
	return nil
}

// complain sends one complaint and waits for its verdict.
func (s *story) complain(ctx context.Context, n int, d *lab.Delivery) error {
	if err := s.providers[d.Provider].Complain(ctx, d, s.internet, s.fbl); err != nil {
		return err
	}
	s.r.Complaints = n
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	v, err := s.node.Judged(wait, n)
	if err != nil {
		return fmt.Errorf("complaint %d has no verdict: %w", n, err)
	}
	s.r.Verdicts[v.Verdict]++
	c := Complaint{Complaint: n, Provider: d.Provider, Verdict: v.Verdict, Grade: v.Grade, Customer: v.Customer, Truth: "sent"}
	if d.ByStranger() {
		c.Truth = "leaked"
		if s.r.Incident.FirstLeaked == 0 {
			s.r.Incident.FirstLeaked, s.r.Victim = n, d.To.String()
		}
	} else {
		s.r.Reader = d.To.String()
	}
	if c.Verdict != c.Truth {
		s.r.WrongVerdicts++
	}
	who := c.Customer
	if who == "" {
		who = "nobody of ours"
	}
	s.n.say("complaint %2d from %-8s %-7s grade %s: %s sent it", n, d.Provider, c.Verdict, c.Grade, who)
	if s.r.Incident.ID == "" {
		if err := s.opened(ctx, n); err != nil {
			return err
		}
		if s.r.Incident.OpenedAtComplaint == n {
			c.Incident = s.r.Incident.ID
		}
	}
	if s.o.Judged != nil {
		s.o.Judged(c)
	}
	return nil
}

// opened looks whether a complaint has opened an incident.
func (s *story) opened(ctx context.Context, n int) error {
	var open []app.IncidentView
	if err := s.client.Get(ctx, "/incidents", nil, &open); err != nil {
		return err
	}
	if len(open) == 1 {
		i := &open[0]
		s.r.Incident.ID, s.r.Incident.Listener, s.r.Incident.Filter, s.r.Incident.Peer, s.r.Incident.OpenedAtComplaint = i.ID, i.Path.Listener, i.Path.Filter, i.Peer.String(), n
		s.n.say("")
		s.n.say("INCIDENT %s opened at complaint %d, the first about mail that nobody sent:", i.ID, n)
		s.n.block(fmt.Sprintf("listener %s, filter %s, peer %s, policy %s\n", i.Path.Listener, i.Path.Filter, i.Peer, i.Policy))
		s.n.say("")
	}
	return nil
}

// containment holds the path while customers' mail through the same filter flows.
func (s *story) containment(ctx context.Context) error {
	s.n.scene("It is contained: what takes that path is held, and kept.")
	var v app.IncidentView
	if err := s.client.Post(ctx, "/incidents/"+s.r.Incident.ID+"/contain", app.IncidentAction{By: "demo", Note: "hold the path"}, &v); err != nil {
		return err
	}
	stranger := (*lab.Delivery).ByStranger
	before := s.count(stranger)
	t := s.spammer.Spam(ctx, 10, "aol.com", nil)
	s.r.StrangerAttempted += t.Attempted
	if err := s.idle(ctx); err != nil {
		return err
	}
	var st app.Status
	if err := s.client.Get(ctx, "/status", nil, &st); err != nil {
		return err
	}
	s.r.HeldByContainment = st.Held
	s.n.say("The stranger sends 10 more to AOL: %d arrive, %d are held.", s.count(stranger)-before, st.Held)
	return nil
}

// impact counts what went out.
func (s *story) impact(ctx context.Context) error {
	s.n.scene("What did it do? The ledger has every hand-off.")
	var im ledger.Impact
	if err := s.client.Get(ctx, "/incidents/"+s.r.Incident.ID+"/impact", nil, &im); err != nil {
		return err
	}
	s.r.Incident.Impact = im.HandedOff
	s.r.StrangerDelivered = s.count((*lab.Delivery).ByStranger)
	s.n.say("%d recipients, from %d of the AOL range's addresses, counted exactly; AOL's own count: %d.", im.HandedOff, len(im.Sources), s.r.StrangerDelivered)
	return nil
}

// repair moves one filter, without a restart.
func (s *story) repair(ctx context.Context) error {
	s.n.scene("The repair of 2008: move one filter, as the proof said. Loaded without a restart, and without a waiver.")
	if _, err := s.load(true, ""); err != nil {
		return err
	}
	var out app.Reloaded
	if err := s.client.Post(ctx, "/reload", app.ReloadRequest{By: "demo", Reason: "drop bounces before anything is delivered"}, &out); err != nil {
		return err
	}
	var v app.IncidentView
	for _, step := range []struct {
		action string
		a      app.IncidentAction
	}{{"repaired", app.IncidentAction{By: "demo", Note: "policy " + out.Policy + ": drop-internet-bounces before aol-range"}},
		{"release", app.IncidentAction{By: "demo", Note: "held mail is the stranger's", Drop: true}}} {
		if err := s.client.Post(ctx, "/incidents/"+s.r.Incident.ID+"/"+step.action, step.a, &v); err != nil {
			return err
		}
	}
	s.n.block("1  drop-internet-bounces  from the Internet  -> log and drop\n2  aol-range              AOL addresses      -> deliver over the AOL range\n")
	return s.afterRepair(ctx)
}

// afterRepair lets the stranger and a customer try again.
func (s *story) afterRepair(ctx context.Context) error {
	stranger := (*lab.Delivery).ByStranger
	customers := func(d *lab.Delivery) bool { return !d.ByStranger() }
	strangersBefore, customersBefore := s.count(stranger), s.providers["aol"].Count(customers)
	t := s.spammer.Spam(ctx, 20, "aol.com", nil)
	s.r.StrangerAttempted += t.Attempted
	c, err := s.customers[0].Send(ctx, 20, []string{"aol.com"}, nil)
	if err != nil {
		return err
	}
	if err := s.idle(ctx); err != nil {
		return err
	}
	if err := s.arrived(ctx, customersBefore+c.Accepted, func(d *lab.Delivery) bool { return d.Provider == "aol" && !d.ByStranger() }); err != nil {
		return err
	}
	s.r.AfterRepair = s.count(stranger) - strangersBefore
	s.r.CustomerAfter = s.providers["aol"].Count(customers) - customersBefore
	s.r.CustomerMessages += c.Accepted
	s.n.say("The stranger sends 20 more: %d arrive. A customer sends 20 to AOL: %d arrive.", s.r.AfterRepair, s.r.CustomerAfter)
	return nil
}

// ending closes the incident and tells where to look.
func (s *story) ending(ctx context.Context) error {
	var v app.IncidentView
	if err := s.client.Post(ctx, "/incidents/"+s.r.Incident.ID+"/close", app.IncidentAction{By: "demo", Note: "repaired and proven by the stranger's next attempts"}, &v); err != nil {
		return err
	}
	s.n.scene("In 2008 it took days of AOL's complaints, and nobody could count what had gone out.")
	return nil
}
