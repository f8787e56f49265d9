package materialize

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// collector gives a stream's Stats to Prometheus.
type collector struct{ stream *Stream }

var _ prometheus.Collector = (*collector)(nil)

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("forebay_stream_"+name, help, append([]string{"source"}, labels...), nil)
}

var (
	metricUp          = metric("up", "1 while the source is streamed and everything it needs answers.")
	metricRows        = metric("rows_total", "Records decoded and applied.")
	metricDeadLetters = metric("dead_letters_total", "Records put on the dead-letter topic.", "reason")
	metricLogged      = metric("logged_rows_total", "Rows appended to the offline log.")
	metricRetries     = metric("retries_total", "Calls repeated because a store or Kafka was unavailable.")
	metricRestarts    = metric("restarts_total", "Times the stream started again from what the stores hold.")
	metricStalls      = metric("stalls_total", "Times that fetching waited for the offline log, its memory being used up.")
	metricSkipped     = metric("skipped_offsets_total", "Offsets in gaps that were accepted.")
	metricLag         = metric("lag_records", "Records between what is applied and the end of the partition.", "partition")
	metricLagSeconds  = metric("lag_seconds", "Age of the last applied record while there are newer ones, else 0.", "partition")
	metricWatermark   = metric("watermark_seconds", "Greatest event time that was applied, in seconds since the Unix epoch.", "partition")
	metricServed      = metric("served_seconds", "Time from a record's own timestamp to its row being applied everywhere online.")
	metricLate        = metric("view_late_events_total", "Events older than every window of the view, which change no value online.", "view", "generation")
	metricNaNs        = metric("view_nan_values_total", "Inputs of windows that are NaN, which are skipped.", "view", "generation")
	metricEpoch       = metric("view_epoch_seconds", "Epoch of the states that are written: when they were built anew, in seconds since the Unix epoch.", "view", "generation")
	metricApplied     = metric("view_applied_rows_total", "Rows written to the online store.", "view", "generation")
	metricStale       = metric("view_stale_rows_total", "Rows not written: the online store had them, or newer ones.", "view", "generation")
	metricFiltered    = metric("view_filtered_rows_total", "Rows that the view's filter did not select.", "view", "generation")
	metricInvalid     = metric("view_invalid_values_total", "Values that could not be computed.", "view", "generation")
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricUp, metricRows, metricDeadLetters, metricLogged, metricRetries, metricRestarts, metricStalls, metricSkipped,
		metricLag, metricLagSeconds, metricWatermark, metricServed, metricLate, metricNaNs, metricEpoch, metricApplied, metricStale, metricFiltered, metricInvalid} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	for _, p := range c.stream.pipelines {
		if p.copies != nil {
			continue // part of its source
		}
		s, up := c.stream.statsOf(p), 0.0
		if c.stream.health(p.src) == nil && s.State == StateRunning {
			up = 1
		}
		send(metricUp, prometheus.GaugeValue, up, s.Source)
		send(metricRows, prometheus.CounterValue, float64(s.Rows), s.Source)
		for reason, n := range s.DeadLetters {
			send(metricDeadLetters, prometheus.CounterValue, float64(n), s.Source, string(reason))
		}
		send(metricLogged, prometheus.CounterValue, float64(s.Logged), s.Source)
		send(metricRetries, prometheus.CounterValue, float64(s.Retries), s.Source)
		send(metricRestarts, prometheus.CounterValue, float64(s.Restarts), s.Source)
		send(metricStalls, prometheus.CounterValue, float64(s.Stalls), s.Source)
		send(metricSkipped, prometheus.CounterValue, float64(s.Skipped), s.Source)
		for _, part := range s.Partitions {
			id := strconv.Itoa(int(part.Partition))
			send(metricLag, prometheus.GaugeValue, float64(part.Lag), s.Source, id)
			send(metricLagSeconds, prometheus.GaugeValue, part.LagSeconds, s.Source, id)
			if part.Watermark != nil {
				send(metricWatermark, prometheus.GaugeValue, float64(part.Watermark.UnixMicro())/1e6, s.Source, id)
			}
		}
		ch <- prometheus.MustNewConstHistogram(metricServed, s.Served.Count, s.Served.Sum, s.Served.cumulative(), s.Source)
		for _, v := range s.Views {
			gen := strconv.Itoa(v.Generation)
			send(metricApplied, prometheus.CounterValue, float64(v.Applied), s.Source, v.View, gen)
			send(metricStale, prometheus.CounterValue, float64(v.Stale), s.Source, v.View, gen)
			send(metricFiltered, prometheus.CounterValue, float64(v.Filtered), s.Source, v.View, gen)
			send(metricInvalid, prometheus.CounterValue, float64(v.Invalid), s.Source, v.View, gen)
			send(metricLate, prometheus.CounterValue, float64(v.Late), s.Source, v.View, gen)
			send(metricNaNs, prometheus.CounterValue, float64(v.NaNs), s.Source, v.View, gen)
			if v.Epoch > 0 {
				send(metricEpoch, prometheus.GaugeValue, float64(v.Epoch)/1e6, s.Source, v.View, gen)
			}
		}
	}
}
