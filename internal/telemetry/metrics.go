package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry makes a registry with the metrics of the Go runtime and the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// durationBuckets are the bounds, in seconds, of histograms of requests: from a
// lookup that takes 50 µs to a dataset that takes minutes.
var durationBuckets = []float64{50e-6, 100e-6, 200e-6, 400e-6, 700e-6, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 10e-3, 15e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1, 5, 30, 120}

// HTTP are the metrics of an HTTP server. Methods are safe for concurrent use.
type HTTP struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	size     *prometheus.HistogramVec
	inFlight prometheus.Gauge
	latency  *latencies
}

// NewHTTP registers the metrics of an HTTP server.
func NewHTTP(r prometheus.Registerer) (*HTTP, error) {
	h := &HTTP{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "forebay_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "forebay_http_request_duration_seconds", Help: "Time from a request's headers to the end of its answer.",
			Buckets: durationBuckets,
		}, []string{"route"}),
		size: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "forebay_http_response_bytes", Help: "Bytes of answers' bodies.",
			Buckets: prometheus.ExponentialBuckets(256, 8, 9),
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "forebay_http_requests_in_flight", Help: "HTTP requests being answered.",
		}),
		latency: newLatencies(),
	}
	for _, c := range []prometheus.Collector{h.requests, h.duration, h.size, h.inFlight, h.latency} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Route are the metrics of one route, looked up once.
type Route struct {
	http     *HTTP
	name     string
	duration prometheus.Observer
	size     prometheus.Observer
	ok       prometheus.Counter
	latency  *window
}

// Route prepares the metrics of a route: its pattern, never the path itself.
func (h *HTTP) Route(pattern string) *Route {
	return &Route{
		http: h, name: pattern,
		duration: h.duration.WithLabelValues(pattern),
		size:     h.size.WithLabelValues(pattern),
		ok:       h.requests.WithLabelValues(pattern, "200"),
		latency:  h.latency.route(pattern),
	}
}

// Begin counts a request in.
func (r *Route) Begin() { r.http.inFlight.Inc() }

// End counts a request out: its status, the time it took and the bytes of its answer.
func (r *Route) End(status int, took time.Duration, bytes int64) {
	r.http.inFlight.Dec()
	if status == 200 {
		r.ok.Inc()
	} else {
		r.http.requests.WithLabelValues(r.name, strconv.Itoa(status)).Inc()
	}
	r.duration.Observe(took.Seconds())
	r.latency.observe(took)
	r.size.Observe(float64(bytes))
}
