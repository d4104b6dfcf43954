package postern_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "postern.dev/postern/"

// lattice says what each package may import of the others: the names behind the
// colon and nothing else. ARCHITECTURE.md draws it. A new line is a decision about
// the design; do not edit it to silence the test.
const lattice = `
internal/ahocorasick:
internal/smtp:
internal/message/xarf:
internal/message: internal/smtp internal/ahocorasick internal/message/xarf
internal/message/unpack: internal/message
internal/message/dmarc: internal/message/unpack
internal/message/tlsrpt: internal/message/unpack
internal/stamp: internal/smtp
internal/policy: internal/smtp internal/ahocorasick
internal/bounce: internal/ahocorasick
internal/history:
internal/policy/policytest: internal/policy
internal/mailauth: internal/smtp internal/message
internal/dialect: internal/policy
internal/dialect/asyncos: internal/dialect internal/policy
internal/dialect/postfix: internal/dialect internal/policy
internal/dialect/opensmtpd: internal/dialect internal/policy
internal/audit: internal/dialect internal/policy internal/verify internal/proof
internal/verify/sat:
internal/verify/lang:
internal/verify: internal/policy internal/verify/sat internal/verify/lang
internal/spool: internal/smtp
internal/spool/faultfs: internal/spool
internal/ledger: internal/smtp internal/policy
internal/suppress: internal/smtp internal/policy
internal/journal: internal/smtp internal/bounce internal/ledger
internal/watch: internal/history internal/smtp internal/ledger
internal/dkim:
internal/config: internal/dkim internal/smtp internal/policy internal/verify internal/shaping internal/bounce
internal/proof: internal/smtp internal/policy internal/verify internal/config
internal/egress: internal/smtp
internal/shaping: internal/smtp internal/ahocorasick
internal/queue: internal/smtp internal/policy internal/message internal/stamp internal/spool internal/ledger internal/egress internal/shaping
internal/report: internal/smtp internal/message internal/stamp internal/ledger internal/mailauth
internal/incident: internal/smtp internal/ledger internal/report
internal/monitor: internal/ledger
internal/inbox: internal/message internal/message/xarf
internal/webhook: internal/ledger
internal/gateway: internal/dkim internal/smtp internal/message internal/stamp internal/policy internal/spool internal/ledger
internal/lab: internal/smtp internal/message
internal/app: *
internal/replay: *
internal/demo: *
cmd/postern: *
`

// pure packages take readers and values: no files, sockets, clock, log or process.
var pure = []string{"internal/ahocorasick", "internal/bounce", "internal/history", "internal/smtp", "internal/message", "internal/message/xarf", "internal/message/unpack", "internal/message/dmarc", "internal/message/tlsrpt", "internal/stamp", "internal/policy", "internal/dkim",
	"internal/verify", "internal/verify/sat", "internal/verify/lang", "internal/dialect", "internal/dialect/asyncos", "internal/dialect/opensmtpd", "internal/dialect/postfix"}

// dirty is what a pure package may not import itself. smtp is given connections and
// a logger, so net and log/slog are barred to the others only.
var dirty = []string{"os", "os/exec", "syscall", "log", "net/http"}

// sockets may be opened here only. internal/inbox dials the mail servers whose mailboxes
// it reads (record 9), internal/webhook the receivers that the operator names, by net/http.
var sockets = []string{"internal/gateway", "internal/egress", "internal/inbox", "internal/webhook", "internal/lab", "internal/app", "internal/replay", "internal/demo", "cmd/postern"}

// databases may be opened here only: the ledger's, and the suppression list (record 8).
var databases = []string{"internal/ledger", "internal/suppress"}

// imports lists the direct imports of every package of the module.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		path, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		all[strings.TrimPrefix(path, module)] = strings.Fields(deps)
	}
	return all
}

func TestImportsPointOneWay(t *testing.T) {
	allowed := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(lattice)) {
		name, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		allowed[name] = strings.Fields(deps)
	}
	for pkg, deps := range imports(t) {
		if !strings.Contains(pkg, "/") || pkg+"/" == module {
			continue
		}
		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s stands nowhere in the lattice", pkg)
			continue
		}
		for _, d := range deps {
			name, ours := strings.CutPrefix(d, module)
			if ours && !slices.Contains(may, "*") && !slices.Contains(may, name) {
				t.Errorf("%s imports %s", pkg, name)
			}
		}
	}
}

func TestPurity(t *testing.T) {
	all := imports(t)
	for _, pkg := range pure {
		for _, d := range all[pkg] {
			if slices.Contains(dirty, d) || (pkg != "internal/smtp" && (d == "net" || d == "log/slog")) {
				t.Errorf("%s is to be pure and imports %s", pkg, d)
			}
		}
	}
}

// TestSocketsAndDrivers keeps the doors few: who dials, who listens, who opens a
// database.
func TestSocketsAndDrivers(t *testing.T) {
	for pkg, deps := range imports(t) {
		for _, d := range deps {
			if strings.HasPrefix(d, "github.com/cockroachdb/pebble") && !slices.Contains(databases, pkg) {
				t.Errorf("%s opens a database", pkg)
			}
			if d == "github.com/miekg/dns" && !slices.Contains(sockets, pkg) {
				t.Errorf("%s speaks DNS", pkg)
			}
		}
		if slices.Contains(deps, "net") && !slices.Contains(sockets, pkg) {
			if where := opensSockets(t, pkg); where != "" {
				t.Errorf("%s opens a socket: %s", pkg, where)
			}
		}
	}
}

// opensSockets looks for the calls in the package's sources.
func opensSockets(t *testing.T, pkg string) string {
	t.Helper()
	out, err := exec.Command("grep", "-nE", `net\.(Dial|Listen)[A-Za-z]*\(|\.DialContext\(|ListenConfig\{`, "-r", "--include=*.go", "--exclude=*_test.go", pkg).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
