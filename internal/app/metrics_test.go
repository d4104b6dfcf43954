package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// described reads a description as the client library prints it.
var described = regexp.MustCompile(`fqName: "(postern_[a-z_]+)".*variableLabels: \{([a-z_,]*)\}`)

// TestEveryMetricIsDocumented compares what /metrics can show with the table of
// docs/metrics.md, names and labels, both ways.
func TestEveryMetricIsDocumented(t *testing.T) {
	w := newWorld(t, "")
	there := map[string]string{}
	descriptions := make(chan *prometheus.Desc)
	go func() { w.node.Registry().Describe(descriptions); close(descriptions) }()
	for d := range descriptions {
		if m := described.FindStringSubmatch(d.String()); m != nil {
			there[m[1]] = strings.ReplaceAll(m[2], ",", " ")
		} else if strings.Contains(d.String(), "postern_") {
			t.Errorf("not read: %s", d)
		}
	}
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`([a-z_]+)`")
	documented := map[string]string{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`postern_") {
			continue
		}
		var labels []string
		for _, m := range name.FindAllStringSubmatch(cells[2], -1) {
			labels = append(labels, m[1])
		}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			documented[m[1]] = strings.Join(labels, " ")
		}
		if what := strings.TrimSpace(cells[3]); what == "" {
			t.Errorf("nothing is said of %s", cells[1])
		}
	}
	for n, labels := range there {
		if got, ok := documented[n]; !ok || !same(got, labels) {
			t.Errorf("%s has the labels %q, docs/metrics.md says %q (%v)", n, labels, got, ok)
		}
	}
	for n := range documented {
		if _, ok := there[n]; !ok {
			t.Errorf("docs/metrics.md has %s, the node has not", n)
		}
	}
	if len(there) < 25 {
		t.Errorf("only %d metrics were found", len(there))
	}
}

func same(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
