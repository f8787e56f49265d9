package materialize

import "sort"

// delayBounds are the upper ends of the buckets of Delays, in seconds, inclusive.
var delayBounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

// delayMicros are delayBounds in microseconds.
var delayMicros = func() (micros [len(delayBounds)]int64) {
	for i, b := range delayBounds {
		micros[i] = int64(b * 1e6)
	}
	return micros
}()

// Delays is a histogram of lengths of time.
type Delays struct {
	Count uint64  `json:"count"`
	Sum   float64 `json:"sum_seconds"`
	// Buckets are the lengths up to each of the bounds (DelayBounds) and above that before, and
	// at last those above all of them.
	Buckets [len(delayBounds) + 1]uint64 `json:"buckets"`
}

// DelayBounds are the bounds of the buckets of Delays, in seconds.
func DelayBounds() []float64 { return delayBounds[:] }

// add counts a length in microseconds; less than none counts as none.
func (d *Delays) add(micros int64) {
	micros = max(0, micros)
	d.Count++
	d.Sum += float64(micros) / 1e6
	d.Buckets[sort.Search(len(delayMicros), func(i int) bool { return micros <= delayMicros[i] })]++
}

// Merge adds the lengths of another histogram.
func (d *Delays) Merge(o Delays) {
	d.Count += o.Count
	d.Sum += o.Sum
	for i, n := range o.Buckets {
		d.Buckets[i] += n
	}
}

// Quantile is a bound, in seconds, that a part (0 to 1) of the lengths do not exceed: the end of a
// bucket; the greatest bound where they do; 0 for no lengths.
func (d *Delays) Quantile(part float64) float64 {
	if d.Count == 0 {
		return 0
	}
	seen := uint64(0)
	for i, n := range d.Buckets[:len(delayBounds)] {
		if seen += n; float64(seen) >= part*float64(d.Count) {
			return delayBounds[i]
		}
	}
	return delayBounds[len(delayBounds)-1]
}

// cumulative are the buckets as Prometheus wants them.
func (d *Delays) cumulative() map[float64]uint64 {
	buckets := make(map[float64]uint64, len(delayBounds))
	seen := uint64(0)
	for i, b := range delayBounds {
		seen += d.Buckets[i]
		buckets[b] = seen
	}
	return buckets
}
