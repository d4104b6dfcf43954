package monitor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// poisson draws a count.
func poisson(rng *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*rng.NormFloat64())))
	}
	n, p, limit := 0, rng.Float64(), math.Exp(-mean)
	for p > limit {
		p *= rng.Float64()
		n++
	}
	return n
}

// sender is one customer in the simulation.
type sender struct {
	share float64 // of messages that are complained of
	perH  float64
	sent  [horizon]float64 // by hour, as a ring
}

// truth is a delay law other than the one that is expected beforehand.
func truth(median, sigma float64) *law {
	l := newLaw()
	l.n, l.autos, l.people, l.mean, l.m2 = 1e4, 1e3, 9e3, math.Log(median), sigma*sigma*9e3
	l.changed = true
	l.fit()
	return l
}

// month lets hours pass for many customers with one true law and gives the alarms of
// rate. surge changes what a customer sends in an hour, leak what is complained of.
func simulate(seed uint64, customers, hours int, noise float64, surge func(c, hour int) float64, leak func(c, hour int) float64) (alarms map[int][]int) {
	rng := rand.New(rand.NewPCG(seed, 5))
	m := New(Options{})
	l := truth(15, 1.6)
	m.laws[""] = truth(15, 1.6)
	alarms = map[int][]int{}
	senders := make([]sender, customers)
	for i := range senders {
		senders[i] = sender{share: 0.0001 * math.Exp(rng.NormFloat64()), perH: 100 * math.Exp(1.5*rng.NormFloat64())}
	}
	const first = 490_000
	m.Tick(timeOf(first))
	for h := range hours {
		for i := range senders {
			s := &senders[i]
			n := s.perH * (1 + 0.8*math.Sin(float64(h)*2*math.Pi/24)) * surge(i, h)
			if rng.IntN(200) == 0 {
				n *= 100 // a campaign
			}
			k := Chart{"customer", fmt.Sprint(i)}
			c := m.chart(k, first+int64(h))
			s.sent[h%horizon] = n * math.Exp(noise*rng.NormFloat64()-noise*noise/2)
			c.send(first+int64(h), n)
			mean := 0.0
			for age := range min(h+1, horizon) {
				mean += s.sent[(h-age)%horizon] * l.share[age]
			}
			c.got += poisson(rng, mean*s.share*leak(i, h))
		}
		for _, a := range m.Tick(timeOf(first + int64(h) + 1)) {
			if a.Kind == Rate {
				var c int
				_, _ = fmt.Sscan(a.Chart.Name, &c)
				alarms[c] = append(alarms[c], h)
			}
		}
	}
	return alarms
}

func one(int, int) float64 { return 1 }

func total(alarms map[int][]int) (n int) {
	for _, hs := range alarms {
		n += len(hs)
	}
	return n
}

// TestFalseAlarms: half a year of 60 customers whose shares of complaints nobody knows
// beforehand, with days and nights, campaigns a hundred times the usual hour, and
// campaigns that please more or less than usual.
func TestFalseAlarms(t *testing.T) {
	seeds, hours := uint64(2), 26*7*24
	if testing.Short() {
		seeds, hours = 1, 60*24
	}
	false1 := 0
	for seed := range seeds {
		a := simulate(seed, 60, hours, 0.3, one, one)
		false1 += total(a)
		t.Logf("seed %d: %v", seed, a)
	}
	t.Logf("%d false alarms in %d half years of 60 charts", false1, seeds)
	if false1 > 2 { // one a year is what they are set for
		t.Errorf("%d false alarms", false1)
	}
}

// TestSurge: a customer who sends forty times as much for a week gets more complaints,
// and that is to be expected.
func TestSurge(t *testing.T) {
	a := simulate(11, 10, 90*24, 0.1, func(c, h int) float64 {
		if c == 3 && h > 60*24 && h < 67*24 {
			return 40
		}
		return 1
	}, one)
	if total(a) > 0 {
		t.Errorf("alarms: %v", a)
	}
}

// TestDetection measures how long a rise takes to an alarm, for charts of rising traffic:
// the thresholds are those of a node with 1,000 charts and one false alarm a year.
func TestDetection(t *testing.T) {
	threshold := math.Log(365 * 24 * 1000)
	for _, c := range []struct {
		perHour float64 // complaints
		rise    float64
		within  float64 // hours, on average
	}{{0.05, 20, 40}, {0.1, 10, 60}, {0.5, 5, 48}, {2, 3, 48}, {10, 3, 16}, {10, 10, 4}, {100, 3, 8}} {
		t.Run(fmt.Sprintf("%g an hour, times %g", c.perHour, c.rise), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(c.perHour*100)))
			sum, early, runs := 0, 0, 100
			for range runs {
				chart := newChart(0.0002, 0)
				exposure := c.perHour / 0.0003 // the rate is half as much again as thought
				hour, start := int64(0), int64(90*24)
				for ; hour < start; hour++ {
					chart.got = poisson(rng, c.perHour)
					if chart.close(hour, exposure, threshold) {
						early++
						chart.sum = 0
					}
				}
				for ; hour < start+2000; hour++ {
					chart.got = poisson(rng, c.perHour*c.rise)
					if chart.close(hour, exposure, threshold) {
						break
					}
				}
				sum += int(hour-start) + 1
			}
			mean := float64(sum) / float64(runs)
			t.Logf("%.1f hours on average; %d false alarms in %d quarters of a year", mean, early, runs)
			if mean > c.within || early > 1 {
				t.Errorf("%.1f hours on average, %d false alarms", mean, early)
			}
		})
	}
}

// TestLeakIsSeen: the whole of it, one customer's credentials stolen.
func TestLeakIsSeen(t *testing.T) {
	const begins = 80 * 24
	for seed := range uint64(3) {
		a := simulate(seed+20, 20, begins+14*24, 0.2, one, func(c, h int) float64 {
			if c == 4 && h >= begins {
				return 10
			}
			return 1
		})
		hs := a[4]
		if len(hs) == 0 || hs[0] < begins {
			t.Errorf("seed %d: %v", seed, a)
			continue
		}
		t.Logf("seed %d: seen after %d hours", seed, hs[0]-begins)
	}
}
