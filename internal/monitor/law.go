package monitor

import (
	"math"
	"time"
)

// horizon is how long after a message complaints about it are expected, in hours: the
// rest, about a twentieth, comes too thinly to matter in any hour.
const horizon = 30 * 24

// automatic is the time within which filters complain and people do not.
const automatic = 3 * time.Minute

// The delay law as measured on 33 public reports of 2010 to 2016: an eighth by filters,
// the others log-normal with a median of 27.6 hours. It counts like that many reports
// against what a provider shows by itself.
const (
	priorReports   = 33
	priorAutomatic = 4.0 / 33
	priorSigma     = 1.9
	forgetReports  = 5000 // beyond so many, old reports are forgotten as new ones come
)

var priorMu = math.Log(27.6)

// law is how long complaints of one provider take: a share at once, the rest log-normal
// in hours. It is fitted online.
type law struct {
	n, autos    float64
	people      float64
	mean, m2    float64 // of ln hours
	changed     bool
	share       [horizon]float64 // of complaints, by age of the message in hours
	initialised bool
}

func newLaw() *law {
	people := priorReports * (1 - priorAutomatic)
	l := &law{n: priorReports, autos: priorReports * priorAutomatic, people: people, mean: priorMu, m2: priorSigma * priorSigma * people}
	l.fit()
	return l
}

// observe takes one delay into account.
func (l *law) observe(d time.Duration) {
	if d < 0 || d > 400*24*time.Hour {
		return
	}
	l.changed = true
	l.n++
	if d < automatic {
		l.autos++
	} else {
		x := math.Log(d.Hours())
		l.people++
		delta := x - l.mean
		l.mean += delta / l.people
		l.m2 += delta * (x - l.mean)
	}
	if l.n > forgetReports {
		f := forgetReports / l.n
		l.n, l.autos, l.people, l.m2 = l.n*f, l.autos*f, l.people*f, l.m2*f
	}
}

// fit makes the shares by hour anew, if there is something new.
func (l *law) fit() {
	if l.initialised && !l.changed {
		return
	}
	l.initialised, l.changed = true, false
	before := 0.0
	for h := range l.share {
		now := l.within(float64(h + 1))
		l.share[h], before = now-before, now
	}
}

// within gives the share of complaints that come within so many hours.
func (l *law) within(hours float64) float64 {
	a := l.autos / l.n
	sigma := math.Max(0.3, math.Sqrt(l.m2/math.Max(l.people, 1)))
	return a + (1-a)*0.5*math.Erfc(-(math.Log(hours)-l.mean)/(sigma*math.Sqrt2))
}
