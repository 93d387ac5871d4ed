package chaos

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The sizes of a chart, in its own units.
const (
	chartWidth = 960
	leftEdge   = 56
	rightEdge  = chartWidth - 12
	rateTop    = 34
	rateHeight = 120
	latTop     = rateTop + rateHeight + 34
	latHeight  = 90
	bandTop    = latTop + latHeight + 34
	bandRow    = 18
	maxBands   = 14
)

// chart is a timeline of an experiment, laid out.
type chart struct {
	Width, Height           int
	Left, Right             int
	RateTop, RateBottom     int
	LatTop, LatBottom       int
	Sent, Accepted          string // paths
	Confirmed, Failed       string
	P50, P99                string
	RateTicks, LatTicks     []tickMark
	Seconds                 []tickMark
	Faults                  []area
	Bands                   []band
	More                    int // breakers beyond what is shown
	AxisY                   int
	Describe                string
	FaultTop, FaultHeight   int
	RateTitleY, LatTitleY   int
	BandTitleY, FaultLabelY int
}

// tickMark is a place on a scale with its words.
type tickMark struct {
	At   string
	Text string
}

// area is an interval of time.
type area struct {
	X, Width string
	Text     string
	Class    string
}

// band is a breaker with the intervals in which it was not closed.
type band struct {
	Name  string
	Y     int
	Text  int // where its name stands
	Areas []area
}

// scale maps seconds and values to places.
type scale struct{ last, most float64 }

func (s scale) x(at time.Duration) float64 {
	return leftEdge + (rightEdge-leftEdge)*min(1, max(0, at.Seconds()/s.last))
}

func (s scale) rate(v float64) float64 { return rateTop + rateHeight*(1-v/s.most) }

// The ends of the scale of latencies, which is logarithmic.
const (
	fastest = time.Millisecond
	slowest = 10 * time.Second
)

func latencyAt(d time.Duration) float64 {
	d = min(max(d, fastest), slowest)
	return latTop + latHeight*(1-math.Log(float64(d)/float64(fastest))/math.Log(float64(slowest)/float64(fastest)))
}

// newChart lays out a timeline.
func newChart(r *Result) chart {
	s := scale{last: max(1, float64(len(r.Timeline))), most: 1}
	for _, p := range r.Timeline {
		s.most = max(s.most, float64(p.Sent), float64(p.Confirmed))
	}
	s.most = nice(s.most, 1, 1.2, 1.6, 2, 3, 4, 6, 8)
	c := chart{Width: chartWidth, Left: leftEdge, Right: rightEdge, RateTop: rateTop, RateBottom: rateTop + rateHeight, LatTop: latTop, LatBottom: latTop + latHeight,
		RateTitleY: rateTop - 6, LatTitleY: latTop - 6, BandTitleY: bandTop - 8, FaultTop: rateTop, FaultLabelY: 12}
	value := func(of func(Point) float64) string {
		return path(r.Timeline, s, func(p Point) (float64, bool) { return s.rate(of(p)), true })
	}
	c.Sent = value(func(p Point) float64 { return float64(p.Sent) })
	c.Accepted = value(func(p Point) float64 { return float64(p.Accepted) })
	c.Confirmed = value(func(p Point) float64 { return float64(p.Confirmed) })
	c.Failed = value(func(p Point) float64 { return float64(p.Refused + p.Unknown) })
	c.P50 = path(r.Timeline, s, func(p Point) (float64, bool) { return latencyAt(p.P50), p.Accepted > 0 })
	c.P99 = path(r.Timeline, s, func(p Point) (float64, bool) { return latencyAt(p.P99), p.Accepted > 0 })
	for _, share := range []float64{0, 0.5, 1} {
		c.RateTicks = append(c.RateTicks, tickMark{fmt.Sprintf("%.1f", s.rate(share*s.most)), fmt.Sprintf("%g", share*s.most)})
	}
	for _, d := range []time.Duration{fastest, 10 * fastest, 100 * fastest, time.Second, slowest} {
		c.LatTicks = append(c.LatTicks, tickMark{fmt.Sprintf("%.1f", latencyAt(d)), d.String()})
	}
	every := nice(s.last/8, 1, 2, 5)
	for at := 0.0; at <= s.last; at += every {
		c.Seconds = append(c.Seconds, tickMark{fmt.Sprintf("%.1f", s.x(time.Duration(at*float64(time.Second)))), fmt.Sprintf("%g s", at)})
	}
	c.bands(r, s)
	c.AxisY = c.LatBottom + 16
	if len(c.Bands) > 0 {
		c.AxisY = bandTop + bandRow*len(c.Bands) + 14
	}
	c.Height = c.AxisY + 8
	c.FaultHeight = c.AxisY - 14 - rateTop
	for _, f := range r.Faults {
		c.Faults = append(c.Faults, interval(s, f.From, f.To, f.Fault, "fault"))
	}
	c.Describe = describe(r)
	return c
}

func interval(s scale, from, to time.Duration, text, class string) area {
	x := s.x(from)
	return area{X: fmt.Sprintf("%.1f", x), Width: fmt.Sprintf("%.1f", max(2, s.x(to)-x)), Text: text, Class: class}
}

// path is a line through the points that have a value, broken where they have none.
func path(points []Point, s scale, of func(Point) (float64, bool)) string {
	var b strings.Builder
	pen := "M"
	for _, p := range points {
		y, ok := of(p)
		if !ok {
			pen = "M"
			continue
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", pen, s.x(time.Duration(p.Second)*time.Second+time.Second/2), y)
		pen = "L"
	}
	return b.String()
}

// nice rounds up to a short number: one of the steps times a power of ten.
func nice(v float64, steps ...float64) float64 {
	if v <= 1 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range steps {
		if v <= m*base {
			return m * base
		}
	}
	return 10 * base
}

// bands are the breakers that did not stay closed.
func (c *chart) bands(r *Result, s scale) {
	places := map[string]int{}
	open := map[string]Change{}
	end := time.Duration(s.last * float64(time.Second))
	for _, change := range append(append([]Change{}, r.Changes...), Change{At: end}) {
		for key, began := range open {
			if key == change.Part+" "+change.Breaker || change.Breaker == "" {
				c.Bands[places[key]].Areas = append(c.Bands[places[key]].Areas, interval(s, began.At, change.At, strings.ReplaceAll(began.State, "_", " "), began.State))
				delete(open, key)
			}
		}
		if change.Breaker == "" || change.State == "closed" || change.State == "forced_closed" || change.State == "disabled" {
			continue
		}
		key := change.Part + " " + change.Breaker
		if _, ok := places[key]; !ok {
			if len(c.Bands) == maxBands {
				c.More++
				continue
			}
			places[key] = len(c.Bands)
			y := bandTop + bandRow*len(c.Bands)
			c.Bands = append(c.Bands, band{Name: strings.TrimSpace(key), Y: y, Text: y + bandRow - 6})
		}
		open[key] = change
	}
}

// describe says in words what a chart shows.
func describe(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d seconds.", r.Name, len(r.Timeline))
	for _, f := range r.Faults {
		fmt.Fprintf(&b, " From second %.0f to %.0f: %s.", f.From.Seconds(), f.To.Seconds(), f.Fault)
	}
	for _, p := range r.Phases {
		fmt.Fprintf(&b, " %s: %d of %d orders accepted, half of them within %s, %d confirmed.", p.Name, p.Accepted, p.Sent, p.Accept.P50.Round(time.Millisecond), p.Confirmed)
	}
	return b.String()
}
