package history

import (
	"bytes"
	"time"
)

// clock reads times. Lines of one second follow on one another, so the last one read
// is kept.
type clock struct {
	location  *time.Location
	reference time.Time
	last      []byte
	at        time.Time
	fixed     *time.Location // the zone of the last time that had one
	offset    int
}

// cached reads b by fn unless it is what was read last.
func (c *clock) cached(b []byte, fn func(s string) (time.Time, bool)) (time.Time, bool) {
	if len(c.last) > 0 && bytes.Equal(b, c.last) {
		return c.at, true
	}
	t, ok := fn(string(b))
	if ok {
		c.last, c.at = append(c.last[:0], b...), t
	}
	return t, ok
}

// syslog takes the time off a line: "Nov 30 12:00:00 " (RFC 3164) or
// "2026-11-30T12:00:00.123456+01:00 " (RFC 3339). A priority before it is passed over.
func (c *clock) syslog(line []byte) (t time.Time, rest []byte, ok bool) {
	if len(line) > 0 && line[0] == '<' {
		if i := bytes.IndexByte(line, '>'); i > 0 && i < 6 {
			line = line[i+1:]
			if bytes.HasPrefix(line, []byte("1 ")) { // the version of RFC 5424
				line = line[2:]
			}
		}
	}
	if len(line) > 16 && line[0] >= 'A' && line[0] <= 'Z' {
		t, ok = c.cached(line[:15], c.stamp)
		if !ok || line[15] != ' ' {
			return t, nil, false
		}
		return t, line[16:], true
	}
	word, rest, found := bytes.Cut(line, []byte(" "))
	if !found || len(word) < 19 {
		return t, nil, false
	}
	t, ok = c.cached(word, c.iso)
	return t, rest, ok
}

// stamp reads "Jan _2 15:04:05" (RFC 3164, section 4.1.2): the latest such time that is
// no more than a day after the reference.
func (c *clock) stamp(s string) (time.Time, bool) {
	year := c.reference.Year()
	if c.reference.IsZero() {
		year = 1970
	}
	for range 5 { // the 29th of February is not in every year
		t, err := time.ParseInLocation("2006 Jan _2 15:04:05", itoa(year)+" "+s, c.location)
		if err == nil && (c.reference.IsZero() || !t.After(c.reference.Add(24*time.Hour))) {
			return t, true
		}
		year--
	}
	return time.Time{}, false
}

func itoa(year int) string {
	return string([]byte{byte('0' + year/1000%10), byte('0' + year/100%10), byte('0' + year/10%10), byte('0' + year%10)})
}

// iso reads "2026-11-30T12:00:00.123+01:00" and its relatives: a space for the T, a space
// before the zone, a zone without its colon, or none.
func (c *clock) iso(s string) (time.Time, bool) {
	if len(s) < 19 || s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != ' ') || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	var n [6]int
	for i, at := range [6][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		v, ok := digits(s[at[0]:at[1]])
		if !ok {
			return time.Time{}, false
		}
		n[i] = v
	}
	if n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 || n[4] > 59 || n[5] > 60 {
		return time.Time{}, false
	}
	nanos, rest := fraction(s[19:])
	zone, ok := c.zone(rest)
	if !ok {
		return time.Time{}, false
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], nanos, zone), true
}

func digits(s string) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, len(s) > 0
}

// fraction reads ".123" in nanoseconds, and gives what follows.
func fraction(s string) (nanos int, rest string) {
	if s == "" || (s[0] != '.' && s[0] != ',') {
		return 0, s
	}
	unit := 100_000_000
	for s = s[1:]; s != "" && s[0] >= '0' && s[0] <= '9'; s = s[1:] {
		nanos += int(s[0]-'0') * unit
		unit /= 10
	}
	return nanos, s
}

// zone reads "Z", "+01:00", "+0100", or nothing, which is the log's own zone.
func (c *clock) zone(s string) (*time.Location, bool) {
	if s != "" && s[0] == ' ' {
		s = s[1:]
	}
	switch {
	case s == "":
		return c.location, true
	case s == "Z", s == "+00:00", s == "+0000":
		return time.UTC, true
	case len(s) == 6 && s[3] == ':':
		s = s[:3] + s[4:]
	}
	if len(s) != 5 || (s[0] != '+' && s[0] != '-') {
		return nil, false
	}
	v, ok := digits(s[1:])
	if !ok || v%100 > 59 || v > 2359 {
		return nil, false
	}
	offset := v/100*3600 + v%100*60
	if s[0] == '-' {
		offset = -offset
	}
	if c.fixed == nil || c.offset != offset {
		c.fixed, c.offset = time.FixedZone("", offset), offset
	}
	return c.fixed, true
}
