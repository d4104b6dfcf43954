// Package postfix reads the configuration of a Postfix server, as its files or as what
// postconf prints, and models what its SMTP services relay for strangers. Semantics are
// those of postconf(5), access(5), master(5) and SMTPD_ACCESS_README.
package postfix

import (
	"strings"

	"postern.dev/postern/internal/policy"
)

// param is the value of a parameter with its place.
type param struct {
	value string
	pos   policy.Pos
}

// params are parameters by name.
type params map[string]param

// logical gives the logical lines of a file in the format of main.cf: comments and empty
// lines are skipped, a line that begins with white space continues the one before.
func logical(file string, text []byte) []param {
	var out []param
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n \t")
		trimmed := strings.TrimLeft(line, " \t")
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if trimmed != line && len(out) > 0 {
			out[len(out)-1].value += " " + trimmed
			continue
		}
		out = append(out, param{value: trimmed, pos: policy.Pos{File: file, Line: n, Column: 1}})
	}
	return out
}

// readMain reads main.cf, or what postconf -n prints. The last of several settings of one
// name counts. Lines that set nothing are told as faults.
func readMain(file string, text []byte) (params, []param) {
	all, bad := params{}, []param(nil)
	for _, l := range logical(file, text) {
		name, value, found := strings.Cut(l.value, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" || strings.ContainsAny(name, " \t") {
			bad = append(bad, l)
			continue
		}
		all[name] = param{value: strings.TrimSpace(value), pos: l.pos}
	}
	return all, bad
}

// service is a line of master.cf.
type service struct {
	name, kind, command string
	args                []string
	overrides           params
	pos                 policy.Pos
}

// readMaster reads master.cf, or what postconf -M prints.
func readMaster(file string, text []byte) (all []service, bad []param) {
	for _, l := range logical(file, text) {
		fields := words(l.value)
		if len(fields) < 8 {
			bad = append(bad, l)
			continue
		}
		s := service{name: fields[0], kind: fields[1], command: fields[7], args: fields[8:], pos: l.pos}
		s.overrides = options(s.args, l.pos)
		all = append(all, s)
	}
	return all, bad
}

// options gives the parameters that a service's -o arguments set: "-o name=value",
// "-oname=value" and "-o { name = value }".
func options(args []string, pos policy.Pos) params {
	all := params{}
	for i := 0; i < len(args); i++ {
		text := ""
		switch {
		case args[i] == "-o" && i+1 < len(args):
			i++
			text = args[i]
		case strings.HasPrefix(args[i], "-o") && len(args[i]) > 2:
			text = args[i][2:]
		default:
			continue
		}
		if name, value, found := strings.Cut(unbrace(text), "="); found {
			all[strings.TrimSpace(name)] = param{value: strings.TrimSpace(value), pos: pos}
		}
	}
	return all
}

// words splits at white space outside of braces.
func words(s string) []string { return split(s, " \t\r\n") }

// list splits a restriction or name list: at commas and white space outside of braces.
func list(s string) []string { return split(s, " \t\r\n,") }

func split(s, seps string) []string {
	var out []string
	depth, from := 0, -1
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case depth == 0 && strings.IndexByte(seps, c) >= 0:
			if from >= 0 {
				out = append(out, s[from:i])
				from = -1
			}
			continue
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		}
		if from < 0 {
			from = i
		}
	}
	if from >= 0 {
		out = append(out, s[from:])
	}
	return out
}

// unbrace takes one pair of braces off, with the white space in it.
func unbrace(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '{' && s[len(s)-1] == '}' {
		return strings.TrimSpace(s[1 : len(s)-1])
	}
	return s
}
