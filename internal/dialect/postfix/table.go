package postfix

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"postern.dev/postern/internal/policy"
)

// table is a lookup table whose contents are known: of keys, or of ordered rules.
type table struct {
	kind  string
	name  string
	keyed []entry // texthash, hash, inline ...: whole keys, each once, in lower case
	rules []rule  // cidr, regexp, pcre: the first that applies wins
	all   *entry  // static: every key has this value
}

type entry struct {
	key, value string
	pos        policy.Pos
}

// rule is a line of an ordered table.
type rule struct {
	re     string // of RE2; "" in a cidr table
	net    netip.Prefix
	negate bool
	value  string
	pos    policy.Pos
	groups bool // the value has $1 and the like in it
}

// reader reads files of the configuration once each.
type reader struct {
	read   func(string) ([]byte, error)
	tables map[string]*table
}

// open reads the table "type:name". The error says why it cannot be known.
func (r *reader) open(spec string, pos policy.Pos) (*table, error) {
	if t, is := r.tables[spec]; is {
		return t, nil
	}
	t, err := r.load(spec, pos)
	if err == nil {
		r.tables[spec] = t
	}
	return t, err
}

func (r *reader) load(spec string, pos policy.Pos) (*table, error) {
	spec = strings.TrimPrefix(strings.TrimPrefix(spec, "proxy:"), "maps:")
	kind, name, found := strings.Cut(spec, ":")
	if !found {
		kind, name = "hash", spec
	}
	t := &table{kind: kind, name: name}
	switch kind {
	case "static":
		t.all = &entry{value: unbrace(name), pos: pos}
		return t, nil
	case "inline":
		return t, t.inline(name, pos)
	case "fail":
		return nil, fmt.Errorf("a %s table", kind)
	case "texthash", "hash", "btree", "dbm", "cdb", "lmdb", "sdbm":
		return t, r.source(t, name, t.line)
	case "cidr":
		return t, r.source(t, name, t.network)
	case "regexp", "pcre":
		return t, r.source(t, name, t.expression)
	}
	return nil, fmt.Errorf("what a table of type %s answers is not in the configuration", kind)
}

// source reads the text of a table: a file, or rules within braces.
func (r *reader) source(t *table, name string, add func(text string, pos policy.Pos) error) error {
	if strings.HasPrefix(name, "{") {
		for _, rule := range words(unbrace(name)) {
			if err := add(unbrace(rule), policy.Pos{}); err != nil {
				return err
			}
		}
		return nil
	}
	text, err := r.read(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	depth := 0
	for _, l := range logical(name, text) {
		word := strings.ToLower(strings.Fields(l.value)[0])
		switch {
		case t.kind != "texthash" && strings.HasPrefix(word, "if") && (word == "if" || strings.HasPrefix(word, "if/") || strings.HasPrefix(word, "if!")) && !t.keyedKind():
			return fmt.Errorf("%s: if ... endif is not followed", l.pos)
		case word == "endif" && !t.keyedKind():
			depth--
			continue
		}
		if err := add(l.value, l.pos); err != nil {
			return fmt.Errorf("%s: %w", l.pos, err)
		}
	}
	return nil
}

func (t *table) keyedKind() bool { return t.kind != "cidr" && t.kind != "regexp" && t.kind != "pcre" }

// line reads "key value" of an indexed table.
func (t *table) line(text string, pos policy.Pos) error {
	key, value := cutKey(text)
	t.add(entry{key: strings.ToLower(key), value: value, pos: pos})
	return nil
}

// cutKey splits a table's line at the first white space outside of quotes.
func cutKey(text string) (key, value string) {
	if strings.HasPrefix(text, `"`) {
		if end := strings.Index(text[1:], `"`); end >= 0 {
			return text[1 : 1+end], strings.TrimSpace(text[end+2:])
		}
	}
	at := strings.IndexAny(text, " \t")
	if at < 0 {
		return text, ""
	}
	return text[:at], strings.TrimSpace(text[at:])
}

// add keeps the first of several values of one key, as postmap does.
func (t *table) add(e entry) {
	for i := range t.keyed {
		if t.keyed[i].key == e.key {
			return
		}
	}
	t.keyed = append(t.keyed, e)
}

// inline reads inline:{ key=value, { key = value with spaces } }.
func (t *table) inline(text string, pos policy.Pos) error {
	for _, item := range list(unbrace(text)) {
		key, value, found := strings.Cut(unbrace(item), "=")
		if !found {
			return fmt.Errorf("inline table: %q has no value", item)
		}
		t.add(entry{key: strings.ToLower(strings.TrimSpace(key)), value: strings.TrimSpace(value), pos: pos})
	}
	return nil
}

// network reads a line of a cidr table.
func (t *table) network(text string, pos policy.Pos) error {
	key, value := cutKey(text)
	ru := rule{value: value, pos: pos}
	if strings.HasPrefix(key, "!") {
		ru.negate, key = true, key[1:]
	}
	n, err := prefix(key)
	if err != nil {
		return err
	}
	ru.net = n
	t.rules = append(t.rules, ru)
	return nil
}

// prefix reads an address or network as Postfix writes them: "[::1]/128", "10.0.0.0/8".
func prefix(s string) (netip.Prefix, error) {
	s = strings.NewReplacer("[", "", "]", "").Replace(s)
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return p.Masked(), nil
}

// expression reads a line of a regexp or pcre table: /pattern/flags value.
func (t *table) expression(text string, pos policy.Pos) error {
	ru := rule{pos: pos}
	if strings.HasPrefix(text, "!") {
		ru.negate, text = true, text[1:]
	}
	if text == "" || strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789", text[0]|0x20) >= 0 {
		return fmt.Errorf("%q is no expression", text)
	}
	end := unescaped(text[1:], text[0])
	if end < 0 {
		return fmt.Errorf("%q is not closed", text)
	}
	pattern, rest := text[1:1+end], text[end+2:]
	flags, value := cutKey(rest)
	if rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
		flags, value = "", strings.TrimSpace(rest)
	}
	re, err := t.translate(pattern, flags)
	if err != nil {
		return err
	}
	ru.re, ru.value, ru.groups = re, value, strings.Contains(value, "$")
	t.rules = append(t.rules, ru)
	return nil
}

func unescaped(s string, c byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case c:
			return i
		}
	}
	return -1
}

// translate gives an expression in RE2's syntax. Case is folded unless the flag i turns
// that off; a $ is the end of the text.
func (t *table) translate(pattern, flags string) (string, error) {
	fold, extended := true, true
	for _, f := range flags {
		switch f {
		case 'i':
			fold = !fold
		case 'x':
			if t.kind == "pcre" {
				return "", fmt.Errorf("the flag x of %q is not followed", pattern)
			}
			extended = !extended
		case 'm', 's', 'A', 'E', 'U', 'X':
			return "", fmt.Errorf("the flag %c of %q is not followed", f, pattern)
		default:
			return "", fmt.Errorf("flag %q of %q", f, pattern)
		}
	}
	if !extended {
		return "", fmt.Errorf("%q is a basic expression, which is not followed", pattern)
	}
	if t.kind == "regexp" && strings.ContainsAny(pattern, "\\") && odd.MatchString(pattern) {
		return "", fmt.Errorf("%q has an escape that POSIX leaves open", pattern)
	}
	re := pattern
	if fold {
		re = "(?i)" + re
	}
	if _, err := regexp.Compile(re); err != nil {
		return "", fmt.Errorf("%q cannot be followed: %w", pattern, err)
	}
	return re, nil
}

// odd finds escapes of letters and digits, which mean different things to POSIX and RE2.
var odd = regexp.MustCompile(`\\[A-Za-z0-9]`)

// freeDomain reports a result whose domain has a captured part in it.
func freeDomain(value string) bool {
	for _, address := range list(value) {
		at := strings.LastIndexByte(address, '@')
		if strings.Contains(address[at+1:], "$") {
			return true
		}
	}
	return false
}
