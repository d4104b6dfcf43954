package audit

import (
	"fmt"
	"io"

	"postern.dev/postern/internal/verify"
)

// Text writes a report for people. path names the configuration.
func (r *Report) Text(w io.Writer, path string) {
	for i := range r.Services {
		s := &r.Services[i]
		if s.Note != "" {
			fmt.Fprintf(w, "%s:%d: service %s: %s\n", s.File, s.Line, s.Name, s.Note)
			continue
		}
		for k := range s.Findings {
			s.Findings[k].text(w, s.Name)
		}
	}
	if r.Status != verify.Open && len(r.Gaps) > 0 {
		fmt.Fprintln(w, "not in the configuration, and taken to permit whatever it could:")
		for _, g := range r.Gaps {
			fmt.Fprintf(w, "  %s: %s: %s\n", place(g.File, g.Line), g.Text, g.Why)
		}
		fmt.Fprintln(w)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "%s: note: %s: %s\n", place(n.File, n.Line), n.Text, n.Why)
	}
	for _, a := range r.Assumptions {
		fmt.Fprintf(w, "assumed: %s\n", a)
	}
	services := "services"
	if len(r.Services) == 1 {
		services = "service"
	}
	fmt.Fprintf(w, "%s: %s, %d %s: %s\n", path, r.Dialect, len(r.Services), services, r.Status)
}

func (f *Finding) text(w io.Writer, service string) {
	fmt.Fprintf(w, "%s: %s %s: service %s: %s\n", place(f.File, f.Line), f.Code, f.Status, service, f.Message)
	fmt.Fprintf(w, "    by %s\n", f.Rule)
	if f.Witness != nil {
		name := ""
		if f.Witness.Name != "" {
			name = " (" + f.Witness.Name + ")"
		}
		fmt.Fprintf(w, "    from %s%s:\n", f.Witness.Peer, name)
		for _, l := range f.Witness.Session {
			fmt.Fprintf(w, "      %s\n", l)
		}
	}
	for i, l := range f.Repair {
		if i == 0 {
			l = "repair: " + l
		} else {
			l = "    " + l
		}
		fmt.Fprintf(w, "    %s\n", l)
	}
	for _, g := range f.Gaps {
		fmt.Fprintf(w, "    %s: %s: %s\n", place(g.File, g.Line), g.Text, g.Why)
	}
	fmt.Fprintln(w)
}

func place(file string, line int) string {
	if line == 0 {
		return "(default)"
	}
	return fmt.Sprintf("%s:%d", file, line)
}
