package report

import (
	_ "embed" // the shipped profiles
	"fmt"
	"slices"
	"strings"
	"sync"

	"postern.dev/postern/internal/message"
)

//go:embed shipped/profiles.txt
var shippedProfiles string

// Redaction is what a reporter puts in place of the recipient's local part.
type Redaction string

// The redactions.
const (
	RedactsNothing   Redaction = "nothing"
	RedactsPseudonym Redaction = "pseudonym" // 32 hexadecimal digits (RFC 6590 allows any hash)
	RedactsWord      Redaction = "word"
)

// Profile is what is known of a reporter: how to tell his reports and what they leave
// out. The shipped file says what each part means.
type Profile struct {
	Name    string
	Is      string
	From    []string // domains, or addresses, of the report's author
	Agents  []string // beginnings of User-Agent
	Signs   []string // DKIM domains of which one always signs
	Redacts Redaction
	Hides   []string
	Source  string
}

// Profiles gives those that come with the program.
func Profiles() []Profile { return slices.Clone(readProfiles()) }

// readProfiles reads a constant, so it is read once; a test reads it too, so that it
// cannot fail.
var readProfiles = sync.OnceValue(func() []Profile {
	ps, _ := parseProfiles(shippedProfiles)
	return ps
})

// parseProfiles reads the form of the shipped file.
func parseProfiles(text string) ([]Profile, error) {
	var out []Profile
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if word == "" {
			continue
		}
		if word == "profile" {
			out = append(out, Profile{Name: rest})
			continue
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("line %d: %q stands before the first profile", n, word)
		}
		if !out[len(out)-1].set(word, rest) {
			return nil, fmt.Errorf("line %d: %q with %q is not understood", n, word, rest)
		}
	}
	return out, nil
}

func (p *Profile) set(word, rest string) bool {
	switch word {
	case "is":
		p.Is = rest
	case "from":
		p.From = strings.Fields(rest)
	case "agent":
		p.Agents = append(p.Agents, rest)
	case "signs":
		p.Signs = strings.Fields(rest)
	case "redacts":
		p.Redacts = Redaction(rest)
		return slices.Contains([]Redaction{RedactsNothing, RedactsPseudonym, RedactsWord}, p.Redacts)
	case "hides":
		p.Hides = strings.Fields(rest)
	case "source":
		p.Source = rest
	default:
		return false
	}
	return rest != ""
}

// profileOf finds the profile of a report: by its author, else by the program that wrote
// it; nil where there is none. Both are the report's own words.
func profileOf(ps []Profile, r *message.Report) *Profile {
	from := strings.ToLower(r.From)
	_, domain, _ := strings.Cut(from, "@")
	for i := range ps {
		for _, f := range ps[i].From {
			if f == from || !strings.Contains(f, "@") && within(domain, f) {
				return &ps[i]
			}
		}
	}
	for i := range ps {
		for _, a := range ps[i].Agents {
			if strings.HasPrefix(r.UserAgent, a) {
				return &ps[i]
			}
		}
	}
	return nil
}

// wrote reports whether the report names the profile's author as its own.
func (p *Profile) wrote(from string) bool {
	from = strings.ToLower(from)
	_, domain, _ := strings.Cut(from, "@")
	return slices.ContainsFunc(p.From, func(f string) bool { return f == from || !strings.Contains(f, "@") && within(domain, f) })
}

// within reports a domain that is another or lies below it.
func within(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}
