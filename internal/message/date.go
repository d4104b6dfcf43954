package message

import (
	"strconv"
	"strings"
	"time"
)

// zoneOffset knows the names that dates carry instead of an offset, in minutes east of UTC
// (RFC 5322, section 4.3, and what mailers write).
func zoneOffset(name string) (minutes int, ok bool) {
	switch strings.ToUpper(name) {
	case "UT", "UTC", "GMT", "Z", "WET":
		return 0, true
	case "EST", "CDT":
		return -300, true
	case "EDT", "AST":
		return -240, true
	case "CST", "MDT":
		return -360, true
	case "MST", "PDT":
		return -420, true
	case "PST", "AKDT":
		return -480, true
	case "AKST":
		return -540, true
	case "HST":
		return -600, true
	case "BST", "WEST", "CET", "MET", "MEZ":
		return 60, true
	case "CEST", "MEST", "MESZ", "EET", "SAST":
		return 120, true
	case "EEST", "MSK":
		return 180, true
	case "MSD":
		return 240, true
	case "JST", "KST":
		return 540, true
	case "AEST":
		return 600, true
	case "AEDT":
		return 660, true
	case "NZST":
		return 720, true
	case "NZDT":
		return 780, true
	}
	return 0, false
}

// dateParts is what the words of a date have said so far.
type dateParts struct {
	year, day, clock, offset int // clock in seconds of the day
	month                    time.Month
	hasClock, hasOffset      bool
}

// Date reads a date-time (RFC 5322, section 3.3) in the ways in which it is really
// written: with or without the day of the week, the order of ANSI C, two digits of a
// year, names of zones, comments behind it, or as ISO 8601. A zone that is missing or
// unknown is taken for UTC. The result is in UTC; the zero time where nothing can be
// read.
func Date(value string) time.Time {
	var d dateParts
	depth := 0
	for i := 0; i < len(value); {
		switch c := value[i]; {
		case c == '(':
			depth++
			i++
		case c == ')':
			depth = max(0, depth-1)
			i++
		case depth > 0 || c == ' ' || c == ',' || c == '\t' || c == '\r' || c == '\n':
			i++
		default:
			end := i
			for end < len(value) && strings.IndexByte(" ,\t\r\n()", value[end]) < 0 {
				end++
			}
			d.word(value[i:end])
			i = end
		}
	}
	return d.time()
}

func (d *dateParts) word(w string) {
	switch {
	case len(w) >= 10 && w[4] == '-' && w[7] == '-':
		d.iso(w)
	case strings.IndexByte(w, ':') > 0:
		d.readClock(w)
	case (w[0] == '+' || w[0] == '-') && d.hasClock:
		d.readOffset(w)
	case w[0] >= '0' && w[0] <= '9':
		d.number(w)
	default:
		d.name(w)
	}
}

// iso reads "2006-01-02", with "T15:04:05Z" behind it or without.
func (d *dateParts) iso(w string) {
	day, err := time.Parse(time.DateOnly, w[:10])
	if err != nil {
		return
	}
	d.year, d.month, d.day = day.Year(), day.Month(), day.Day()
	if len(w) > 11 && (w[10] == 'T' || w[10] == 't') {
		d.readClock(w[11:])
	}
}

// readClock reads "15:04", "15:04:05" or "15:04:05.000", and an offset that touches it.
func (d *dateParts) readClock(w string) {
	zone := ""
	if i := strings.IndexAny(w, "+-Zz"); i > 0 {
		w, zone = w[:i], w[i:]
	}
	w, _, _ = strings.Cut(w, ".")
	seconds, n := 0, 0
	for part := range strings.SplitSeq(w, ":") {
		v, err := strconv.Atoi(part)
		if err != nil || n > 2 || v < 0 || v > 60 || (n == 0 && v > 24) {
			return
		}
		seconds = seconds*60 + v
		n++
	}
	if n == 2 {
		seconds *= 60
	}
	if n >= 2 && !d.hasClock {
		d.clock, d.hasClock = seconds, true
	}
	switch {
	case zone == "":
	case zone[0] == 'Z' || zone[0] == 'z':
		d.hasOffset = true
	default:
		d.readOffset(zone)
	}
}

func (d *dateParts) readOffset(w string) {
	digits := strings.ReplaceAll(w[1:], ":", "")
	v, err := strconv.Atoi(digits)
	if err != nil || len(digits) != 4 || v%100 >= 60 || v >= 1500 || v < 0 || d.hasOffset {
		return
	}
	d.offset, d.hasOffset = v/100*60+v%100, true
	if w[0] == '-' {
		d.offset = -d.offset
	}
}

// number reads a day or a year, or "02-Jan-2006" in one.
func (d *dateParts) number(w string) {
	if strings.IndexByte(w, '-') > 0 {
		for part := range strings.SplitSeq(w, "-") {
			if part != "" {
				d.word(part)
			}
		}
		return
	}
	v, err := strconv.Atoi(w)
	switch {
	case err != nil:
	case len(w) <= 2 && d.day == 0 && v >= 1 && v <= 31:
		d.day = v
	case len(w) == 4 && d.year == 0:
		d.year = v
	case len(w) == 2 && d.year == 0 && d.month != 0: // RFC 5322, section 4.3
		if d.year = 1900 + v; v < 50 {
			d.year = 2000 + v
		}
	case len(w) == 3 && d.year == 0:
		d.year = 1900 + v
	}
}

// name reads a month or a zone; days of the week say nothing new.
func (d *dateParts) name(w string) {
	if m := month(w); m != 0 && d.month == 0 {
		d.month = m
		return
	}
	if offset, ok := zoneOffset(w); ok && !d.hasOffset && d.hasClock {
		d.offset, d.hasOffset = offset, true
	} else if len(w) > 4 && !d.hasOffset && d.hasClock && (w[3] == '+' || w[3] == '-') {
		d.readOffset(w[3:]) // "GMT+0200"
	}
}

// month reads a month's English name or its first three letters.
func month(w string) time.Month {
	if len(w) < 3 {
		return 0
	}
	i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(w[:3]))
	if i < 0 || i%3 != 0 {
		return 0
	}
	m := time.Month(i/3 + 1)
	if len(w) > 3 && !strings.EqualFold(w, m.String()) && !strings.EqualFold(w, "sept") {
		return 0
	}
	return m
}

func (d *dateParts) time() time.Time {
	if d.year == 0 || d.month == 0 || d.day == 0 {
		return time.Time{}
	}
	return time.Date(d.year, d.month, d.day, 0, 0, d.clock-d.offset*60, 0, time.UTC)
}
