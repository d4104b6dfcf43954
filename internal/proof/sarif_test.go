package proof_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

// sarifSchema is OASIS's own; testdata/README.md says whence.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/sarif-2.1.0-rtm.5.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, b []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// TestSarifSchema holds what is printed about every kind of configuration against the
// schema: the examples, the fixtures of the prover with every code, waived ones, and files
// that do not load.
func TestSarifSchema(t *testing.T) {
	s := sarifSchema(t)
	var files []string
	for _, pattern := range []string{"../../examples/*/postern.hcl", "../../examples/2008/*.hcl", "../verify/testdata/*/*.hcl", "../verify/testdata/*.hcl", "../config/testdata/bad/*.hcl"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, names...)
	}
	if len(files) < 60 {
		t.Fatalf("only %d files", len(files))
	}
	codes := map[string]bool{}
	fixes, waived := 0, 0
	for _, name := range files {
		b := sarifOf(t, name, func(f *verify.Finding, w *config.Waiver) {
			codes[string(f.Code)] = true
			if f.Repair != nil {
				fixes++
			}
			if w != nil {
				waived++
			}
		})
		if err := validate(t, s, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range append(verify.Codes(), verify.Warnings()...) {
		if c != verify.Unmodelled && !codes[string(c)] {
			t.Errorf("no file has a finding %s", c)
		}
	}
	if fixes == 0 || waived == 0 {
		t.Errorf("%d fixes, %d waived findings", fixes, waived)
	}
}

func sarifOf(t *testing.T, name string, seen func(*verify.Finding, *config.Waiver)) []byte {
	t.Helper()
	cfg, ds := config.Load(name, config.Options{})
	var o *proof.Outcome
	if cfg != nil {
		r := verify.Check(cfg.Program, verify.Options{})
		ws := cfg.Waivers
		if len(r.Findings) > 1 && len(ws) == 0 { // waive the first, to see how that looks
			ws = []config.Waiver{{Code: r.Findings[0].Code, Reason: "for now", Until: time.Now().AddDate(0, 0, 1)}}
		}
		o = proof.Apply(r, ws, time.Now())
		for i := range r.Findings {
			seen(&r.Findings[i], o.Waived[i])
		}
	}
	b, err := json.Marshal(proof.Sarif(cfg, ds, o, "1.0"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSarifSchemaRefuses shows that the schema finds what is wrong.
func TestSarifSchemaRefuses(t *testing.T) {
	s := sarifSchema(t)
	b := sarifOf(t, "../../examples/2008/postern.hcl", func(*verify.Finding, *config.Waiver) {})
	if err := validate(t, s, b); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{`"level":"error"`, `"level":"bad"`}, {`"version":"2.1.0"`, `"version":"2.0"`}, {`"startLine":`, `"beginLine":`}, {`"text":`, `"words":`}, {`"uri":"`, `"uri":"%%`}} {
		broken := []byte(strings.ReplaceAll(string(b), c[0], c[1]))
		if bytes.Equal(broken, b) {
			t.Errorf("there is no %s", c[0])
		} else if validate(t, s, broken) == nil {
			t.Errorf("%s goes for %s", c[1], c[0])
		}
	}
}
