package history

import (
	"regexp"
	"testing"
	"time"
)

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzISO holds the reader of times against the standard one.
func FuzzISO(f *testing.F) {
	for _, s := range []string{"2026-11-30T12:00:00Z", "2026-11-30T12:00:00.123456+01:00", "2024-02-29T23:59:59-11:30", "2026-02-30T12:00:00Z", "2024-02-29T2:59:59-11:30"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || len(s) > 30 || !rfc3339.MatchString(s) {
			return // the standard one takes more, such as hours of one digit and zones of +00:60
		}
		c := clock{location: time.UTC}
		if got, ok := c.iso(s); !ok || !got.Equal(want) {
			t.Fatalf("%q: %v %v, want %v", s, got, ok, want)
		}
	})
}

func TestTimes(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	c := clock{location: berlin}
	for s, want := range map[string]string{
		"2026-11-30 12:00:00":              "2026-11-30T11:00:00Z",
		"2026-11-30 12:00:00+0200":         "2026-11-30T10:00:00Z",
		"2026-11-30 12:00:00.5 -0130":      "2026-11-30T13:30:00.5Z",
		"2026-11-30T12:00:00.000001+01:00": "2026-11-30T11:00:00.000001Z",
		"2026-11-30T12:00:00,25Z":          "2026-11-30T12:00:00.25Z",
	} {
		got, ok := c.iso(s)
		if !ok || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %v %v", s, got.UTC(), ok)
		}
	}
	for _, s := range []string{"", "2026-11-30", "2026-13-30T12:00:00Z", "2026-11-30T12:00:00+1", "2026-11-30T12:00:00 CET", "2026-11-30T12:00:00+99:00", "2026-11-3 T12:00:00Z"} {
		if got, ok := c.iso(s); ok {
			t.Errorf("%q is read as %v", s, got)
		}
	}
}
