package telemetry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// p99 reads the gauge as a scrape does; 0 where it is not there.
func p99(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "forebay_http_request_latency_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["quantile"] == "0.99" && labels["route"] == "/r" {
				return value(m)
			}
		}
	}
	return 0
}

func value(m *dto.Metric) float64 { return m.GetGauge().GetValue() }

func TestLatencyOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		h, err := NewHTTP(registry)
		if err != nil {
			t.Fatal(err)
		}
		route := h.Route("/r")
		if got := p99(t, registry); got != 0 {
			t.Errorf("p99 of nothing: %v", got)
		}
		for i := range 1000 {
			took := time.Millisecond
			if i >= 985 {
				took = 100 * time.Millisecond
			}
			route.Begin()
			route.End(200, took, 10)
		}
		if got := p99(t, registry); got < 0.099 || got > 0.101 {
			t.Errorf("p99 %v, want 0.1", got)
		}
		time.Sleep(90 * time.Second)
		for range 1000 {
			route.Begin()
			route.End(200, time.Millisecond, 10)
		}
		if got := p99(t, registry); got > 0.1 || got < 0.0009 {
			t.Errorf("p99 %v", got)
		}
		time.Sleep(90 * time.Second)
		if got := p99(t, registry); got > 0.0011 || got < 0.0009 {
			t.Errorf("p99 three minutes later: %v, want 0.001", got)
		}
		time.Sleep(10 * time.Minute)
		if got := p99(t, registry); got != 0 {
			t.Errorf("p99 when nothing was asked for long: %v", got)
		}
	})
}
