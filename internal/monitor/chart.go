package monitor

import (
	"math"
	"time"
)

// Bounds of a chart's knowledge of its rate.
const (
	priorShape = 2.0            // of a chart that is new: its rate may be a few times the prior one
	mostShape  = 40.0           // however much is known, hours differ by a sixth: campaigns are not alike
	memory     = 14 * 24        // hours after which what was learnt has faded to a third
	ratio      = 4.0            // the rise that a chart is tuned to; what lies below half of it is no alarm: campaigns please more or less
	quiet      = 24 * time.Hour // between two alarms of one chart
	silentOdds = 1e-6           // of no report at all, below which that is an alarm
)

// sends are the messages of an hour, since the beginning of 1970.
type sends struct {
	hour int64
	n    float64
}

// chart follows the complaints about one thing. What is known of its rate is a gamma
// distribution over complaints for each expected one; seen through it, a count is
// negative binomial, wide while little is known and never narrower than mostShape.
type chart struct {
	sent     []sends
	got      int // complaints in the present hour
	shape    float64
	weight   float64 // exposure behind shape
	prior    float64 // rate
	sum      float64 // CUSUM
	observed int     // since sum was zero
	expected float64
	since    int64
	alarmed  time.Time
	unheard  float64 // expected since the last complaint
	silent   bool
	touched  int64
}

func newChart(prior float64, hour int64) *chart {
	return &chart{prior: prior, shape: priorShape, weight: priorShape / prior, since: hour, touched: hour}
}

// send counts messages.
func (c *chart) send(hour int64, n float64) {
	c.touched = max(c.touched, hour)
	for i := len(c.sent) - 1; i >= 0 && i >= len(c.sent)-4; i-- { // events are nearly in order
		if c.sent[i].hour == hour {
			c.sent[i].n += n
			return
		}
	}
	c.sent = append(c.sent, sends{hour, n})
}

// exposure is what a complaint share of one would make of an hour, and forgets what lies
// beyond the horizon.
func (c *chart) exposure(hour int64, l *law) (e float64) {
	for len(c.sent) > 0 && hour-c.sent[0].hour >= horizon {
		c.sent = c.sent[1:]
	}
	for _, s := range c.sent {
		if age := hour - s.hour; age >= 0 && age < horizon {
			e += s.n * l.share[age]
		}
	}
	return e
}

func (c *chart) rate() float64 { return c.shape / c.weight }

// close ends an hour: score, then learn. It reports whether the sum has passed the
// threshold.
func (c *chart) close(hour int64, exposure, threshold float64) (alarm bool) {
	o, mean, r := float64(c.got), exposure*c.rate(), math.Min(c.shape, mostShape)
	c.got = 0
	if exposure <= 0 && o == 0 {
		return false
	}
	if c.sum == 0 {
		c.observed, c.expected, c.since = 0, 0, hour
	}
	c.observed += int(o)
	c.expected += mean
	c.sum = math.Max(0, c.sum+score(o, mean, r))
	alarm = c.sum > threshold
	if o > 0 {
		c.unheard, c.silent = 0, false
	} else {
		c.unheard += mean
	}
	if c.sum < threshold/3 { // a leak is not to be learnt
		c.learn(o, exposure)
	}
	return alarm
}

// score is the log-likelihood ratio of a count under ratio times the mean and under the
// mean, negative binomial of shape r.
func score(o, mean, r float64) float64 {
	mean = math.Max(mean, 1e-9)
	return o*math.Log(ratio*(mean+r)/(ratio*mean+r)) - r*math.Log((ratio*mean+r)/(mean+r))
}

// learn takes an hour into account, and lets older ones fade towards the prior.
func (c *chart) learn(o, exposure float64) {
	f := math.Exp(-1.0 / memory)
	c.shape = priorShape + (c.shape-priorShape)*f + o
	base := priorShape / c.prior
	c.weight = base + (c.weight-base)*f + exposure
}

// mute reports that the silence is too long to be chance.
func (c *chart) mute() bool {
	r := math.Min(c.shape, mostShape)
	return r*math.Log(r/(r+c.unheard)) < math.Log(silentOdds)
}
