package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"postern.dev/postern/internal/policy"
)

// Bounds that keep a hostile or mistaken file from taking the machine with it.
const (
	maxFile  = 64 << 20
	maxFiles = 1000
	maxDepth = 200 // of brackets
)

// Options change how a configuration is read.
type Options struct {
	// ReadFile reads a file; os.ReadFile where nil.
	ReadFile func(name string) ([]byte, error)
	// Now is what waivers' dates are compared with; time.Now where nil.
	Now func() time.Time
	// AnyDay leaves the dates of waivers alone, for commands that only look for the
	// running node.
	AnyDay bool
	// Late is asked often whether reading has taken too long, and must not take back what
	// it has said. From then on nothing more is read, which is a fault at the place where
	// it ended. Nil is never late.
	Late func() bool
}

// loader gathers one configuration and all its faults.
type loader struct {
	read    func(string) ([]byte, error)
	now     func() time.Time
	anyDay  bool
	isLate  func() bool
	ended   bool // isLate has said so
	diags   Diagnostics
	files   []string
	sources map[string][]byte
	stack   []string // of includes under way
	root    string   // folder that relative names start from

	cfg      Config
	topology policy.Topology
	filters  []policy.Filter
	asserts  []policy.Assert
	names    map[string]hcl.Range // "listener internet" -> where
	single   map[string]hcl.Range // attributes and blocks that may stand once over all files
	poolRefs []item
	dkimRefs []item // keys that customers, pools and the node name
	vouched  []item // providers that intakes name
	waived   []item // names of the filters that waivers are for
	defaults *block
	pending  []*hclsyntax.Block // listeners, read when the default limits are known
	shape    shaped
}

// Load reads a file, or every *.hcl of a folder, with what they include. It reports
// all faults; the Config is nil when one of them is not a warning.
func Load(path string, o Options) (*Config, Diagnostics) {
	l := &loader{read: o.ReadFile, now: o.Now, anyDay: o.AnyDay, isLate: o.Late, sources: map[string][]byte{}, names: map[string]hcl.Range{}, single: map[string]hcl.Range{}}
	if l.read == nil {
		l.read = os.ReadFile
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.root = filepath.Dir(path)
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		l.root = path
		l.folder(path)
	} else {
		l.file(path, hcl.Range{Filename: path})
	}
	if !l.ended {
		l.listeners()
		l.shapingComplete()
		l.intakesComplete()
		l.complete()
	}
	if !l.ended {
		l.build()
	}
	ds := l.finish()
	if ds.HasErrors() {
		return nil, ds
	}
	l.cfg.Version, l.cfg.Files, l.cfg.Sources = l.version(), l.files, l.sources
	return &l.cfg, ds
}

func (l *loader) folder(dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "*.hcl"))
	if err != nil || len(names) == 0 {
		l.add(hcl.Range{Filename: dir}, fmt.Sprintf("no *.hcl in folder %q", dir), "")
		return
	}
	sort.Strings(names)
	for _, n := range names {
		l.file(n, hcl.Range{Filename: n})
	}
}

// version fingerprints all files.
func (l *loader) version() string {
	h := sha256.New()
	for _, f := range l.files {
		fmt.Fprintf(h, "%d\n", len(l.sources[f]))
		h.Write(l.sources[f])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// file reads one file. from is where it was named.
func (l *loader) file(name string, from hcl.Range) {
	if l.late(from) {
		return
	}
	for _, s := range l.stack {
		if s == name {
			l.add(from, "include in a circle: "+strings.Join(append(l.stack, name), " -> "), "")
			return
		}
	}
	if _, twice := l.sources[name]; twice {
		l.add(from, fmt.Sprintf("%s is included twice", name), "")
		return
	}
	if len(l.files) >= maxFiles {
		l.add(from, fmt.Sprintf("more than %d files", maxFiles), "")
		return
	}
	src, err := l.read(name)
	if err != nil {
		l.add(from, "read "+name+": "+cause(err), "")
		return
	}
	l.sources[name] = src
	l.files = append(l.files, name)
	if len(src) > maxFile {
		l.add(hcl.Range{Filename: name}, fmt.Sprintf("%s is larger than %d MiB", name, maxFile>>20), "")
		return
	}
	f, cuts := scan(src)
	if f != nil {
		at := hcl.Pos{Line: f.line, Column: f.column}
		l.add(hcl.Range{Filename: name, Start: at, End: at}, f.message, "")
		return
	}
	body := l.parse(src, name, cuts)
	if body == nil {
		return
	}
	l.stack = append(l.stack, name)
	l.top(body, name)
	l.stack = l.stack[:len(l.stack)-1]
}

func cause(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		return s[i+2:]
	}
	return s
}

func topAttributes() []string {
	return []string{"include", "accept", "reports", "sinks", "guard", "suppression", "suppression_addresses"}
}

func topBlocks() []string {
	return []string{"node", "listener", "limits", "retry", "customer", "inside", "provider", "pool", "filter", "assert", "waive", "log_file", "dkim", "tls_policy",
		"shaping", "destination", "rule", "warmup", "watch", "intake", "webhook"}
}

// top reads what stands outside of all blocks.
func (l *loader) top(body *hclsyntax.Body, name string) {
	b := l.open("the configuration", "", hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}, body, topAttributes(), topBlocks())
	for _, a := range sortedAttributes(body) {
		if a.Name != "include" && has(topAttributes(), a.Name) {
			l.once(a.Name, a.NameRange)
		}
	}
	l.topology.Accept = append(l.topology.Accept, b.patterns("accept")...)
	reports, _ := b.addresses("reports")
	l.topology.Reports = append(l.topology.Reports, reports...)
	sinks, at := b.addresses("sinks")
	l.topology.Sinks, l.topology.SinkPos = append(l.topology.Sinks, sinks...), append(l.topology.SinkPos, at...)
	if b.attr("suppression") != nil {
		l.cfg.Suppression.Mode = b.suppression()
	}
	if b.attr("suppression_addresses") != nil {
		l.cfg.Suppression.Hashed = b.oneOf("suppression_addresses", "plain", "plain", "hashed") == "hashed"
	}
	if b.attr("guard") != nil {
		l.cfg.Guard = Guard(b.oneOf("guard", "hold", "hold", "observe"))
	}
	for _, hb := range body.Blocks {
		if l.late(hb.DefRange()) {
			return
		}
		l.block(hb)
	}
	l.include(b, filepath.Dir(name))
}

// once notes what may stand only once over all files.
func (l *loader) once(name string, where hcl.Range) bool {
	if first, twice := l.single[name]; twice {
		l.add(where, fmt.Sprintf("second %s; the first is at %s", name, position(first)), "")
		return false
	}
	l.single[name] = where
	return true
}

func (l *loader) block(hb *hclsyntax.Block) {
	labelled := map[string]bool{"listener": true, "customer": true, "inside": true, "provider": true, "pool": true, "filter": true, "assert": true, "waive": true, "log_file": true, "dkim": true, "tls_policy": true,
		"destination": true, "rule": true, "warmup": true, "watch": true, "intake": true, "webhook": true}
	if !has(topBlocks(), hb.Type) {
		return
	}
	if want := labelled[hb.Type]; want != (len(hb.Labels) == 1) {
		hint := hb.Type + ` "NAME" { ... }`
		if !want {
			hint = hb.Type + " { ... }"
		}
		l.add(hb.DefRange(), fmt.Sprintf("%s takes %s", hb.Type, map[bool]string{true: "one name", false: "no name"}[want]), hint)
		return
	}
	if labelled[hb.Type] && hb.Type != "waive" && !l.unique(hb) { // a code may be waived for several filters
		return
	}
	if !labelled[hb.Type] && !l.once(hb.Type, hb.DefRange()) {
		return
	}
	switch hb.Type {
	case "node":
		l.node(hb)
	case "listener":
		l.pending = append(l.pending, hb)
	case "limits":
		l.defaults = l.openBlock(hb, append(limitAttributes(), egressAttributes()...), nil)
	case "retry":
		l.retry(hb)
	case "customer":
		l.customer(hb)
	case "inside":
		l.inside(hb)
	case "provider":
		l.provider(hb)
	case "pool":
		l.pool(hb)
	case "filter":
		l.filter(hb)
	case "assert":
		l.assert(hb)
	case "waive":
		l.waive(hb)
	case "dkim":
		l.dkim(hb)
	case "tls_policy":
		l.tlsPolicy(hb)
	case "log_file":
		l.logFile(hb)
	case "watch":
		l.watch(hb)
	case "intake":
		l.intake(hb)
	case "webhook":
		l.webhook(hb)
	default:
		l.shapingBlock(hb)
	}
}

func (l *loader) unique(hb *hclsyntax.Block) bool {
	name := hb.Labels[0]
	bad := " \t\r\n\x00"
	if hb.Type == "assert" {
		bad = "\t\r\n\x00" // a sentence may name what is asserted
	}
	if name == "" || len(name) > 64 || strings.ContainsAny(name, bad) {
		l.add(hb.LabelRanges[0], fmt.Sprintf("%q is not a name", name), "1 to 64 characters without spaces")
		return false
	}
	key := hb.Type + " " + name
	if first, twice := l.names[key]; twice {
		l.add(hb.LabelRanges[0], fmt.Sprintf("second %s %q; the first is at %s", hb.Type, name, position(first)), "names must differ")
		return false
	}
	l.names[key] = hb.DefRange()
	return true
}

func (l *loader) openBlock(hb *hclsyntax.Block, attrs, blocks []string) *block {
	label := ""
	if len(hb.Labels) > 0 {
		label = hb.Labels[0]
	}
	return l.open(hb.Type, label, hb.DefRange(), hb.Body, attrs, blocks)
}

// include reads the files that a file names, after it. A pattern that matches
// nothing is a fault, unless it has a wildcard.
func (l *loader) include(b *block, dir string) {
	for _, it := range b.strs("include") {
		pattern := it.text
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		if !strings.ContainsAny(pattern, "*?[") {
			l.file(pattern, it.where)
			continue
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			l.add(it.where, fmt.Sprintf("%q is not a pattern", it.text), "")
		}
		sort.Strings(names)
		for _, n := range names {
			l.file(n, it.where)
		}
	}
}

// Names lists the attributes of all blocks, for the reference.
func Names() []string {
	var all []string
	for _, list := range [][]string{topAttributes(), nodeAttributes(), limitAttributes(), egressAttributes(), filterAttributes(), waiverAttributes(),
		shapingAttributes(), destinationAttributes(), shapeLimitAttributes(), ruleAttributes(), warmupAttributes(), logFileAttributes(), watchAttributes(), intakeAttributes(), webhookAttributes(), dkimAttributes(), tlsPolicyAttributes(),
		{"address", "addresses", "from", "auth", "proxy_from", "networks", "senders", "users", "pool", "domains", "resends", "sources", "always",
			"first", "factor", "max", "jitter", "expire", "delay_notice"}} {
		all = append(all, list...)
	}
	return all
}
