package postfix

import (
	"fmt"
	"net/netip"
	"path"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// Source is what there is of a configuration: main.cf and master.cf, or what postconf -n
// and postconf -M print of them. Without Master there is one service, smtp.
type Source struct {
	Main, Master string // names for Read; Master may be ""
	Read         dialect.Read
	// Directory is config_directory: tables below it are read by their names without it.
	Directory string
}

// Model reads a configuration and models each of its SMTP services. A configuration that
// cannot be read gives Faults.
func Model(src Source) (*dialect.Model, error) {
	text, err := src.Read(src.Main)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", src.Main, err)
	}
	main, bad := readMain(src.Main, text)
	faults := lines(bad, "no setting of the form name = value")
	services := []service{{name: "smtp", kind: "inet", command: "smtpd", pos: policy.Pos{File: src.Main, Line: 1, Column: 1}}}
	if src.Master != "" {
		if text, err = src.Read(src.Master); err != nil {
			return nil, fmt.Errorf("read %s: %w", src.Master, err)
		}
		services, bad = readMaster(src.Master, text)
		faults = append(faults, lines(bad, "a service has eight columns")...)
	}
	if _, set := main["config_directory"]; !set {
		main["config_directory"] = param{value: src.Directory}
	}
	level, err := compatibility(main["compatibility_level"].value + "0"[:boolInt(main["compatibility_level"].value == "")])
	if err != nil {
		faults = append(faults, dialect.Fault{Pos: main["compatibility_level"].pos, Message: err.Error()})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	b := &builder{src: src, main: main, level: level, out: &dialect.Model{Dialect: "postfix"}, tables: map[string]*table{}}
	for i := range services {
		if err := b.service(&services[i]); err != nil {
			return nil, err
		}
	}
	return b.out, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func lines(bad []param, message string) dialect.Faults {
	var out dialect.Faults
	for _, l := range bad {
		out = append(out, dialect.Fault{Pos: l.pos, Message: fmt.Sprintf("%.60q: %s", l.value, message)})
	}
	return out
}

type builder struct {
	src    Source
	main   params
	level  float64
	out    *dialect.Model
	tables map[string]*table
}

// service models one service of master.cf, if it takes mail.
func (b *builder) service(s *service) error {
	command := path.Base(s.command)
	if command != "smtpd" || s.kind != "inet" && s.kind != "pass" {
		if s.kind == "inet" && command != "postscreen" && command != "spawn" {
			b.out.Gaps = append(b.out.Gaps, dialect.Gap{Pos: s.pos, Text: s.name + " " + command, Why: "what this service takes is not modelled"})
		}
		return nil
	}
	svc := dialect.Service{Name: s.name + " " + s.kind, Pos: s.pos}
	sure := b.modeller(s, false)
	if note := sure.unreachable(s); note != "" {
		svc.Note = note
		b.out.Services = append(b.out.Services, svc)
		return nil
	}
	var err error
	if svc.Sure, err = sure.program(s); err != nil {
		return err
	}
	if svc.Sure == nil {
		svc.Note = errGuard.Error()
		b.out.Services = append(b.out.Services, svc)
		return nil
	}
	maybe := b.modeller(s, true)
	p, err := maybe.program(s)
	if err != nil {
		return err
	}
	b.out.Assumptions = union(b.out.Assumptions, maybe.assumptions)
	if len(maybe.gaps) > 0 {
		svc.Maybe, svc.Gaps = p, maybe.gaps
		b.out.Gaps = appendGaps(b.out.Gaps, maybe.gaps)
	}
	b.out.Services = append(b.out.Services, svc)
	return nil
}

func appendGaps(all, more []dialect.Gap) []dialect.Gap {
	for _, g := range more {
		known := false
		for _, h := range all {
			known = known || g == h
		}
		if !known {
			all = append(all, g)
		}
	}
	return all
}

func union(all, more []string) []string {
	for _, s := range more {
		known := false
		for _, t := range all {
			known = known || s == t
		}
		if !known {
			all = append(all, s)
		}
	}
	return all
}

func (b *builder) modeller(s *service, maybe bool) *modeller {
	m := &modeller{maybe: maybe, gapNames: map[string]int{}}
	m.settings = &settings{own: s.overrides, main: b.main, level: b.level}
	m.trouble = func(pos policy.Pos, text, why string) { m.note(pos, text, why) }
	m.tables = &reader{read: b.read, tables: b.tables}
	m.prepare()
	return m
}

// read gives a file by the name that the configuration has for it.
func (b *builder) read(name string) ([]byte, error) {
	if rest, below := strings.CutPrefix(name, b.main["config_directory"].value+"/"); below && b.main["config_directory"].value != "" {
		name = rest
	}
	return b.src.Read(name)
}

// unreachable says why nobody outside comes to a service, or "".
func (m *modeller) unreachable(s *service) string {
	host, _, found := cutHost(s.name)
	if !found {
		switch v := m.get("inet_interfaces"); strings.ToLower(v.value) {
		case "loopback-only", "localhost", "127.0.0.1", "127.0.0.1, ::1", "127.0.0.1, [::1]":
			return "it listens on loopback only (inet_interfaces)"
		}
		return ""
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err == nil && a.IsLoopback() || host == "localhost" {
		return "it listens on loopback only"
	}
	return ""
}

func cutHost(name string) (host, port string, found bool) {
	at := strings.LastIndexByte(name, ':')
	if at < 0 {
		return "", name, false
	}
	return name[:at], name[at+1:], true
}

// lists are the restriction lists, in the order in which smtpd works through them.
var lists = []struct {
	name string
	at   place
	late bool // worked through at RCPT even where smtpd_delay_reject = no
}{
	{"smtpd_client_restrictions", place{rcpt: true}, false},
	{"smtpd_helo_restrictions", place{rcpt: true, helo: true}, false},
	{"smtpd_sender_restrictions", place{rcpt: true}, false},
	{"smtpd_relay_restrictions", place{rcpt: true}, true},
	{"smtpd_recipient_restrictions", place{rcpt: true}, true},
	// At DATA the recipient is known only where there is one: a second one of ours hides it.
	{"smtpd_data_restrictions", place{}, true},
	{"smtpd_end_of_data_restrictions", place{}, true},
}

// program makes the program of a service; nil where smtpd would not start.
func (m *modeller) program(s *service) (*policy.Program, error) {
	relay, rcpt := m.get("smtpd_relay_restrictions"), m.get("smtpd_recipient_restrictions")
	if !m.required(list(relay.value), 0) && !m.required(list(rcpt.value), 0) {
		return nil, nil
	}
	w := &writer{m: m, names: map[string]int{}}
	w.strangers(s)
	deciding := m.deciding()
	delay := m.yes("smtpd_delay_reject")
	for _, l := range lists {
		if l.name != deciding {
			w.list(l.name, m.steps(l.name, l.at, delay || l.late), l.at)
		}
	}
	for _, l := range lists {
		if l.name == deciding {
			w.decide(l.name, m.steps(l.name, l.at, true))
		}
	}
	return dialect.Program(w.filters, m.topology(s))
}

func (m *modeller) steps(name string, at place, rcptKnown bool) []step {
	if !rcptKnown {
		at.rcpt = false
	}
	p := m.get(name)
	return m.restrictions(list(p.value), p.pos, nil, at, name, 0)
}

// deciding is the list whose permits are what is to be blamed: the last of the two that
// keeps strangers from other destinations.
func (m *modeller) deciding() string {
	has := func(name string) bool { return m.required(list(m.get(name).value), 0) }
	if has("smtpd_relay_restrictions") || !has("smtpd_recipient_restrictions") {
		return "smtpd_relay_restrictions"
	}
	return "smtpd_recipient_restrictions"
}

// topology is where mail can go: to what is ours, as one host, or anywhere.
func (m *modeller) topology(s *service) *policy.Topology {
	own := policy.InsideHost{Name: "here", Address: netip.MustParseAddrPort("0.0.0.1:25"), Pos: s.pos}
	seen := map[string]bool{}
	for _, d := range m.owned {
		if pt, err := policy.ParsePattern(d, s.pos); err == nil && !seen[d] && pt.Kind != policy.MatchAll {
			seen[d] = true
			own.Domains = append(own.Domains, pt)
		}
	}
	all, _ := policy.ParsePattern("*", s.pos)
	t := &policy.Topology{
		Hostname: "mail.invalid", Accept: []policy.Pattern{all}, DefaultPool: "out",
		Listeners: []policy.Listener{{Pos: s.pos, Name: s.name, From: policy.FromStrangers}},
		Pools:     []policy.Pool{{Pos: s.pos, Name: "out"}},
	}
	if len(own.Domains) > 0 {
		t.Inside = []policy.InsideHost{own}
	}
	return t
}
