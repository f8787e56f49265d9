package materialize

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// TestFreshness follows the watermarks, delays and metrics of a source through chunks of two
// partitions, one of which has nothing new.
func TestFreshness(t *testing.T) {
	src := &registry.Source{Meta: registry.Meta{Name: "s"}, Kafka: &registry.Kafka{Topic: "t"}}
	v := registry.ViewGeneration{View: &registry.FeatureView{Meta: registry.Meta{Name: "v"}}, Number: 2}
	p := &pipeline{src: src}
	p.stats.init(src, nil)
	p.stats.addView(v)
	now := time.UnixMicro(1_000_000_000).UTC()
	p.stats.now = func() time.Time { return now }
	p.stats.setState(StateRunning, nil)
	p.stats.assign(Partition{ID: 0, End: 3}, 0)
	p.stats.assign(Partition{ID: 1, End: 1}, 0)
	if w := p.stats.snapshot().Watermark; w != nil {
		t.Fatalf("a watermark before the first event: %s", w)
	}
	row := func(p int32, offset, event, ingested int64) feature.Version {
		return feature.Version{EventTime: event, IngestedAt: ingested, Major: int64(p), Minor: offset}
	}
	chunk := func(end int64, versions ...feature.Version) *Chunk {
		c := &Chunk{Rows: &feature.Batch{Rows: len(versions), Versions: versions}}
		seen := map[int32]int{}
		for _, v := range versions {
			id := int32(v.Major)
			i, ok := seen[id]
			if !ok {
				i = len(c.Partitions)
				seen[id] = i
				c.Partitions = append(c.Partitions, ChunkPartition{ID: id, End: end})
			}
			c.Partitions[i].Next, c.Partitions[i].Newest = v.Minor+1, v.IngestedAt
		}
		return c
	}
	us := now.UnixMicro()
	p.stats.count(chunk(3, row(0, 0, 50, us-2_000), row(0, 1, 40, us-40_000)), nil)
	p.stats.count(chunk(1, row(1, 0, 10, us-7_200_000_000)), nil)
	s := p.stats.snapshot()
	// Partition 0 is behind; partition 1, whose watermark is far lower, has nothing new.
	if s.Watermark == nil || s.Watermark.UnixMicro() != 50 {
		t.Errorf("watermark %v, want 50 us: an idle partition holds nothing back", s.Watermark)
	}
	if a, b := s.Partitions[0], s.Partitions[1]; a.Lag != 1 || a.LagSeconds != .04 || a.Watermark.UnixMicro() != 50 || b.Lag != 0 || b.LagSeconds != 0 || b.Watermark.UnixMicro() != 10 {
		t.Errorf("partitions %+v", s.Partitions)
	}
	if s.Served.Count != 3 || s.Served.Quantile(.3) != .0025 || s.Served.Quantile(.6) != .05 || s.Served.Quantile(1) != 3600 {
		t.Errorf("served %+v", s.Served)
	}
	p.stats.count(chunk(3, row(0, 2, 60, us+5)), nil)
	if s := p.stats.snapshot(); s.Watermark.UnixMicro() != 60 || s.Served.Buckets[0] != 1 {
		t.Errorf("caught up: watermark %s, %+v; want the greatest event time, and no delay below none", s.Watermark, s.Served)
	}
	p.stats.countWindows(v, 2, 3)
	p.stats.setEpoch(v, 5_000_000)

	stream := &Stream{pipelines: []*pipeline{p}}
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{stream})
	want := `
# HELP forebay_stream_view_epoch_seconds Epoch of the states that are written: when they were built anew, in seconds since the Unix epoch.
# TYPE forebay_stream_view_epoch_seconds gauge
forebay_stream_view_epoch_seconds{generation="2",source="s",view="v"} 5
# HELP forebay_stream_view_late_events_total Events older than every window of the view, which change no value online.
# TYPE forebay_stream_view_late_events_total counter
forebay_stream_view_late_events_total{generation="2",source="s",view="v"} 2
# HELP forebay_stream_view_nan_values_total Inputs of windows that are NaN, which are skipped.
# TYPE forebay_stream_view_nan_values_total counter
forebay_stream_view_nan_values_total{generation="2",source="s",view="v"} 3
# HELP forebay_stream_watermark_seconds Greatest event time that was applied, in seconds since the Unix epoch.
# TYPE forebay_stream_watermark_seconds gauge
forebay_stream_watermark_seconds{partition="0",source="s"} 6e-05
forebay_stream_watermark_seconds{partition="1",source="s"} 1e-05
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "forebay_stream_view_epoch_seconds", "forebay_stream_view_late_events_total", "forebay_stream_view_nan_values_total", "forebay_stream_watermark_seconds"); err != nil {
		t.Error(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "forebay_stream_served_seconds" {
			if h := f.GetMetric()[0].GetHistogram(); h.GetSampleCount() != 4 || h.GetBucket()[len(h.GetBucket())-1].GetCumulativeCount() != 3 {
				t.Errorf("histogram %v", h)
			}
			return
		}
	}
	t.Error(errors.New("no histogram of delays"))
}
