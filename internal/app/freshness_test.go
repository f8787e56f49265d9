package app

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/forebay/forebay/materialize"
)

// TestFreshness: what status says of a stream while it runs, through its socket, and afterwards.
func TestFreshness(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	apply(t, a)
	if err := a.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := filepath.Join(dir, "events.ndjson")
	write(t, events, `{"date":"2001-01-02T12:00:00Z","origin":"OAK","delay":5}
{"date":"2001-01-02T13:00:00Z","origin":"SFO","delay":6}
{"date":"2001-01-02T11:00:00Z","origin":"OAK","delay":4}
`)
	if n, err := a.Produce(t.Context(), ProduceOptions{Source: "departures", File: events}); n != 3 || err != nil {
		t.Fatalf("produced %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := a.Stream(ctx, StreamOptions{})
		ended <- err
	}()
	other := open(t, dir)
	status := func() *StreamStatus {
		t.Helper()
		s, err := other.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v := s.Views[0]; v.Watermark != nil && v.LagSeconds == nil {
			t.Errorf("view %+v", v)
		}
		return s.Sources[0].Stream
	}
	want := func(s *StreamStatus, running bool, state materialize.State) {
		t.Helper()
		if s.Running != running || s.State != state || s.Lag != 0 || s.LagSeconds != 0 || s.Served != 3 || s.ServedP99 == 0 ||
			s.Watermark == nil || !s.Watermark.Equal(time.Date(2001, 1, 2, 13, 0, 0, 0, time.UTC)) || s.Rows != 3 {
			t.Errorf("stream %+v", s)
		}
	}
	var s *StreamStatus
	eventually(t, func() bool {
		s = status()
		return s != nil && s.Rows == 3
	})
	want(s, true, materialize.StateRunning)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	want(status(), false, materialize.StateStopped)
	// Killed, it would have said nothing of its end: it is silent after a while.
	other.wall = func() time.Time { return time.Now().Add(time.Hour) }
	if s := status(); s.Running {
		t.Errorf("an hour later: %+v", s)
	}
}

// TestStreamStatus sums up what several members left: a partition is as its last owner says, and members that are gone count no more.
func TestStreamStatus(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	src := &mustHead(t, a).Project.Sources[0]
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	mark := func(s int) *time.Time {
		m := now.Add(time.Duration(s) * time.Second)
		return &m
	}
	part := func(id int32, next, end int64, watermark, at int) materialize.PartitionStats {
		return materialize.PartitionStats{Partition: id, Next: next, End: end, Lag: end - next, LagSeconds: float64(end - next), Watermark: mark(watermark), At: *mark(at)}
	}
	leave := func(at int, s materialize.SourceStats) {
		t.Helper()
		s.Source, s.Topic = "departures", "departures"
		b := &App{wall: func() time.Time { return *mark(at) }}
		if err := b.publish(t.Context(), a.on, []materialize.SourceStats{s}); err != nil {
			t.Fatal(err)
		}
	}
	leave(-300, materialize.SourceStats{State: materialize.StateRunning, Rows: 1000, Partitions: []materialize.PartitionStats{part(3, 5, 5, -400, -300)}})
	leave(-2, materialize.SourceStats{State: materialize.StateRunning, Rows: 10, Partitions: []materialize.PartitionStats{part(0, 7, 9, -20, -2)}, Left: []materialize.PartitionStats{part(1, 1, 1, -99, -50)},
		Views: []materialize.ViewStats{{View: "latest", Generation: 1, Stale: 1, Late: 2}}})
	leave(-1, materialize.SourceStats{State: materialize.StateRetrying, Error: "redis is away", Rows: 20, Partitions: []materialize.PartitionStats{part(1, 4, 4, -30, -1)},
		Views: []materialize.ViewStats{{View: "latest", Generation: 1, Stale: 3, NaNs: 4}, {View: "latest", Generation: 2, Stale: 100}}})
	s, err := streamStatus(t.Context(), a.on, src, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Running || s.Members != 2 || s.State != materialize.StateRetrying || s.Error != "redis is away" || s.Rows != 30 || s.Lag != 2 || s.LagSeconds != 2 || !s.Watermark.Equal(*mark(-20)) || len(s.Partitions) != 3 || s.Partitions[1].Next != 4 {
		t.Errorf("%+v", s)
	}
	if sum := s.view("latest", 1); sum.Stale != 4 || sum.Late != 2 || sum.NaNs != 4 {
		t.Errorf("view %+v", sum)
	}
	// The topic goes on where nobody reads it.
	s, err = streamStatus(t.Context(), a.on, src, map[int32]int64{0: 9, 1: 10, 2: 0, 3: 5}, now)
	if err != nil {
		t.Fatal(err)
	}
	if s.Lag != 8 || len(s.Partitions) != 3 || s.Partitions[1].Lag != 6 || s.Partitions[1].LagSeconds != 1 || s.LagSeconds != 4 {
		t.Errorf("%+v", s)
	}
	src.Kafka.Topic = "another"
	if s, err := streamStatus(t.Context(), a.on, src, nil, now); err != nil || s != nil {
		t.Errorf("of another topic: %+v, %v", s, err)
	}
}
