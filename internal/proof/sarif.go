package proof

import (
	"net/url"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// The parts of SARIF 2.1.0 (OASIS, 2020) that are used.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Columns string        `json:"columnKind"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string      `json:"id"`
		Short   sarifText   `json:"shortDescription"`
		Default sarifConfig `json:"defaultConfiguration"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Kind         string             `json:"kind,omitempty"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Related      []sarifLocation    `json:"relatedLocations,omitempty"`
		Fixes        []sarifFix         `json:"fixes,omitempty"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Prints       map[string]string  `json:"partialFingerprints,omitempty"`
	}
	sarifLocation struct {
		ID       int           `json:"id,omitempty"`
		Message  *sarifText    `json:"message,omitempty"`
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
		EndLine     int `json:"endLine,omitempty"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
	sarifFix struct {
		Description sarifText          `json:"description"`
		Changes     []sarifArtifactFix `json:"artifactChanges"`
	}
	sarifArtifactFix struct {
		Artifact     sarifArtifact      `json:"artifactLocation"`
		Replacements []sarifReplacement `json:"replacements"`
	}
	sarifReplacement struct {
		Deleted  sarifRegion `json:"deletedRegion"`
		Inserted *sarifText  `json:"insertedContent,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

// rule of a fault in the configuration itself.
const configRule = "PC001"

// Sarif puts an outcome into SARIF 2.1.0; o is nil for a configuration that does not
// load. The answer is for json.Marshal.
func Sarif(cfg *config.Config, ds config.Diagnostics, o *Outcome, version string) any {
	run := sarifRun{Tool: sarifTool{Driver: sarifDriver{Name: "postern", Version: version}}, Columns: "unicodeCodePoints", Results: []sarifResult{}}
	index := map[string]int{}
	rule := func(id, text, level string) {
		index[id] = len(run.Tool.Driver.Rules)
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: id, Short: sarifText{text}, Default: sarifConfig{level}})
	}
	rule(configRule, "the configuration is sound", "error")
	for _, c := range verify.Codes() {
		rule(string(c), c.Title(), "error")
	}
	for _, c := range verify.Warnings() {
		rule(string(c), c.Title(), "warning")
	}
	for i := range ds {
		level := "error"
		if ds[i].Warning {
			level = "warning"
		}
		run.Results = append(run.Results, sarifResult{RuleID: configRule, RuleIndex: index[configRule], Level: level, Message: sarifText{join(ds[i].Message, ds[i].Hint)}, Locations: []sarifLocation{location(ds[i].Pos)}})
	}
	if o != nil {
		fixes := map[*verify.Repair][]sarifFix{}
		for i := range o.Result.Findings {
			f := &o.Result.Findings[i]
			run.Results = append(run.Results, sarifFinding(cfg, f, o.Waived[i], index[string(f.Code)], fixes))
		}
	}
	return &sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

func join(message, hint string) string {
	if hint == "" {
		return message
	}
	return message + "\nhint: " + hint
}

func sarifFinding(cfg *config.Config, f *verify.Finding, waived *config.Waiver, rule int, fixes map[*verify.Repair][]sarifFix) sarifResult {
	r := sarifResult{RuleID: string(f.Code), RuleIndex: rule, Level: "error", Message: sarifText{join(f.Message, f.Hint)}, Locations: []sarifLocation{location(f.Pos)},
		Prints: map[string]string{"postern/v1": string(f.Code) + "/" + f.Filter + f.Assert}}
	if f.Severity == verify.Warning {
		r.Level = "warning"
	}
	if w := f.Witness; w != nil {
		var b strings.Builder
		for i := range w.Hops {
			b.WriteString("\n\n" + Who(&w.Hops[i]) + ":\n" + strings.Join(Dialogue(cfg.Program, &w.Hops[i], &w.Decisions[i]), "\n") + "\n" + Fate(&w.Decisions[i]))
		}
		r.Message.Text += b.String()
	}
	for i, b := range f.Blockers {
		l := location(b.Pos)
		l.ID, l.Message = i+1, &sarifText{"filter " + b.Filter + " would have stopped it, had it come first"}
		r.Related = append(r.Related, l)
	}
	if f.Repair != nil {
		if _, known := fixes[f.Repair]; !known {
			fixes[f.Repair] = nil
			if edited, err := Edit(cfg, f.Repair); err == nil {
				fixes[f.Repair] = []sarifFix{sarifRepair(cfg, f.Repair, edited)}
			}
		}
		r.Fixes = fixes[f.Repair]
	}
	if waived != nil {
		r.Suppressions = []sarifSuppression{{Kind: "inSource", Status: "accepted", Justification: waived.Reason + " (until " + lastDay(waived) + ")"}}
	}
	return r
}

func location(p policy.Pos) sarifLocation {
	l := sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{URI: uri(p.File)}}}
	if p.Line > 0 {
		l.Physical.Region = &sarifRegion{StartLine: p.Line, StartColumn: p.Column}
	}
	return l
}

// uri is the reference of a file: relative as it was given, or a file: URI.
func uri(name string) string {
	u := url.URL{Path: slashed(filepath.Clean(name))}
	if filepath.IsAbs(name) {
		u.Scheme = "file"
	}
	return strings.TrimPrefix(u.String(), "./")
}

// sarifRepair turns edited files into replacements of runs of lines.
func sarifRepair(cfg *config.Config, r *verify.Repair, edited map[string][]byte) sarifFix {
	fix := sarifFix{Description: sarifText{r.String()}}
	for _, name := range cfg.Files {
		next, ok := edited[name]
		if !ok {
			continue
		}
		fix.Changes = append(fix.Changes, sarifArtifactFix{Artifact: sarifArtifact{URI: uri(name)}, Replacements: replacements(cfg.Sources[name], next)})
	}
	return fix
}

func replacements(old, next []byte) []sarifReplacement {
	var out []sarifReplacement
	line, last := 1, ""
	cs := changes(split(old), split(next))
	for i := 0; i < len(cs); {
		if cs[i].op == ' ' {
			last = cs[i].text
			line, i = line+1, i+1
			continue
		}
		begin, inserted := line, ""
		for ; i < len(cs) && cs[i].op != ' '; i++ {
			if cs[i].op == '-' {
				last = cs[i].text
				line++
			} else {
				inserted += cs[i].text
			}
		}
		rep := sarifReplacement{Deleted: sarifRegion{StartLine: begin, StartColumn: 1, EndLine: line, EndColumn: 1}, Inserted: &sarifText{inserted}}
		if i == len(cs) && last != "" && !strings.HasSuffix(last, "\n") { // the last line has no end
			rep.Deleted.EndLine, rep.Deleted.EndColumn = line-1, utf8.RuneCountInString(last)+1
		}
		out = append(out, rep)
	}
	return out
}
