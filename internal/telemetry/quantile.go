package telemetry

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
)

// quantiles are what a window reports.
var quantiles = map[string]float64{"0.5": 50, "0.9": 90, "0.99": 99, "0.999": 99.9}

// windowLength is how long an observation counts at least; at most twice as long.
const windowLength = time.Minute

// window is the distribution of durations of the last minute or two, to two digits.
// It is safe for concurrent use.
type window struct {
	mu       sync.Mutex
	now, old *hdrhistogram.Histogram
	since    time.Time // that now takes observations
}

func newWindow() *window {
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 2) } // a microsecond to ten minutes
	return &window{now: h(), old: h(), since: time.Now()}
}

func (w *window) observe(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn()
	_ = w.now.RecordValue(min(max(took.Microseconds(), 1), 600_000_000)) // within its bounds
}

// turn drops observations that are too old.
func (w *window) turn() {
	age := time.Since(w.since)
	if age < windowLength {
		return
	}
	w.now, w.old = w.old, w.now
	w.now.Reset()
	if age >= 2*windowLength {
		w.old.Reset()
	}
	w.since = time.Now()
}

// at is the quantiles in seconds; nil where nothing was observed.
func (w *window) at() map[string]float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn()
	all := hdrhistogram.New(1, 600_000_000, 2)
	all.Merge(w.old)
	all.Merge(w.now)
	if all.TotalCount() == 0 {
		return nil
	}
	found := make(map[string]float64, len(quantiles))
	for name, q := range quantiles {
		found[name] = float64(all.ValueAtQuantile(q)) / 1e6
	}
	return found
}

// latencies are the windows of all routes, as a collector.
type latencies struct {
	desc *prometheus.Desc

	mu     sync.Mutex
	routes map[string]*window
}

func newLatencies() *latencies {
	return &latencies{
		desc:   prometheus.NewDesc("forebay_http_request_latency_seconds", "Quantiles of the time from a request's headers to the end of its answer, of the last minute or two.", []string{"route", "quantile"}, nil),
		routes: map[string]*window{},
	}
}

var _ prometheus.Collector = (*latencies)(nil)

func (l *latencies) route(name string) *window {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.routes[name] == nil {
		l.routes[name] = newWindow()
	}
	return l.routes[name]
}

// Describe implements prometheus.Collector.
func (l *latencies) Describe(out chan<- *prometheus.Desc) { out <- l.desc }

// Collect implements prometheus.Collector.
func (l *latencies) Collect(out chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for route, w := range l.routes {
		for quantile, seconds := range w.at() {
			out <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, seconds, route, quantile)
		}
	}
}
