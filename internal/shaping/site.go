package shaping

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

// maxSite bounds the name of a site.
const maxSite = 120

// providers finds a destination's provider by domain or MX.
type providers struct {
	domains, mx   hostTable
	separate      map[string]bool
	hasMX, hasDom bool
}

// hostTable finds who owns a name: exact names before suffixes, longer suffixes before
// shorter ones.
type hostTable struct {
	exact  map[string]string
	suffix map[string]string // without the leading dot
}

func (t *hostTable) add(pattern, owner string) {
	if t.exact == nil {
		t.exact, t.suffix = map[string]string{}, map[string]string{}
	}
	if s, ok := strings.CutPrefix(pattern, "."); ok {
		t.suffix[s] = owner
		return
	}
	t.exact[pattern] = owner
}

// owner gives the owner of a name, "" where there is none. A suffix does not match the
// apex itself.
func (t *hostTable) owner(name string) string {
	if o, ok := t.exact[name]; ok {
		return o
	}
	for i := strings.IndexByte(name, '.'); i >= 0; {
		rest := name[i+1:]
		if o, ok := t.suffix[rest]; ok {
			return o
		}
		j := strings.IndexByte(rest, '.')
		if j < 0 {
			break
		}
		i += j + 1
	}
	return ""
}

func newProviders(defs []Definition) *providers {
	p := &providers{separate: map[string]bool{}}
	for i := range defs {
		d := &defs[i]
		for _, s := range d.Domains {
			p.domains.add(s, d.Name)
			p.hasDom = true
		}
		for _, s := range d.MX {
			p.mx.add(s, d.Name)
			p.hasMX = true
		}
		p.separate[d.Name] = d.Separate
	}
	return p
}

// resolve finds provider and site. A domain belongs to a provider by its name, or when
// every one of its exchangers is the provider's: a domain that also names a host
// elsewhere is a site of its own.
func (p *providers) resolve(domain string, mx []string) Destination {
	d := Destination{Domain: domain}
	if p.hasDom {
		d.Provider = p.domains.owner(domain)
	}
	if d.Provider == "" && p.hasMX && len(mx) > 0 {
		d.Provider = p.mx.owner(host(mx[0]))
		for _, h := range mx[1:] {
			if d.Provider == "" || p.mx.owner(host(h)) != d.Provider {
				d.Provider = ""
				break
			}
		}
	}
	if d.Provider != "" && !p.separate[d.Provider] {
		d.Site = d.Provider
		return d
	}
	d.Site = siteName(domain, mx)
	return d
}

// host brings a host's name into normal form. It makes no copy of one that is.
func host(s string) string {
	s = strings.TrimSuffix(s, ".")
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

// siteName names the set of a domain's exchangers, whatever their order: what they
// differ in, and what they share. Without exchangers the domain is the site.
func siteName(domain string, mx []string) string {
	switch len(mx) {
	case 0:
		return domain
	case 1:
		return host(mx[0])
	}
	names := make([]string, 0, len(mx))
	for _, h := range mx {
		names = append(names, host(h))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 1 {
		return names[0]
	}
	shared := sharedSuffix(names)
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], shared)
	}
	name := "(" + strings.Join(names, "|") + ")" + shared
	if len(name) > maxSite {
		h := fnv.New64a()
		_, _ = h.Write([]byte(name))
		name = "(" + names[0] + "|.." + strconv.FormatUint(h.Sum64(), 36) + ")" + shared
	}
	return name
}

// sharedSuffix gives the labels that all names end with, two at least, with the dot
// before them. The first label of a name is never part of it.
func sharedSuffix(names []string) string {
	shared := names[0]
	if i := strings.IndexByte(shared, '.'); i >= 0 {
		shared = shared[i:]
	} else {
		return ""
	}
	for strings.Count(shared, ".") > 1 {
		all := true
		for _, n := range names {
			all = all && strings.HasSuffix(n, shared) && len(n) > len(shared)
		}
		if all {
			return shared
		}
		shared = shared[strings.IndexByte(shared[1:], '.')+1:]
	}
	return ""
}
