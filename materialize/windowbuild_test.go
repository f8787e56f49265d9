package materialize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// windowHistory appends n random events to the log, in the partition of their user; "topic" has three.
func windowHistory(t *testing.T, s *materializetest.Store, p *registry.Project, g *materializetest.Generator, from map[int32]int64, n int) (events []materializetest.Event) {
	t.Helper()
	src := &p.Sources[0]
	rows := feature.NewBatch(src.Fields(), n)
	ranges := map[int32]materialize.OffsetRange{}
	for range n {
		e := g.Event()
		e.Ingested = 1_700_000_100_000_000
		if e.User != nil {
			e.Partition = int32(len(*e.User)) % 3
		}
		e.Offset = from[e.Partition]
		from[e.Partition]++
		at, ok := ranges[e.Partition]
		if !ok {
			at.From = e.Offset
		}
		at.To = e.Offset + 1
		ranges[e.Partition] = at
		values := []feature.Value{feature.OfTimestamp(e.Time), {}, {}, {}, {}}
		if e.User != nil {
			values[1] = feature.OfString(*e.User)
		}
		if e.Shop != nil {
			values[2] = feature.OfInt64(*e.Shop)
		}
		if e.Amount != nil {
			values[3] = feature.OfInt64(*e.Amount)
		}
		if e.Note != nil {
			values[4] = feature.OfString(*e.Note)
		}
		for i, c := range rows.Columns {
			c.Append(values[i])
		}
		rows.Versions = append(rows.Versions, e.Version())
		rows.Rows++
		events = append(events, e)
	}
	if err := s.Append(t.Context(), src, []*feature.Batch{rows}, ranges); err != nil {
		t.Fatal(err)
	}
	return events
}

func windowDiff(t *testing.T, s *materializetest.Store, p *registry.Project, events []materializetest.Event) {
	t.Helper()
	if d := s.WindowDifferences(p, events); len(d) > 0 {
		t.Fatalf("%d differences:\n%s", len(d), strings.Join(d[:min(len(d), 5)], "\n"))
	}
}

func windowWorld(t *testing.T) (*registry.Project, *materializetest.Store, *materializetest.Generator, []registry.ViewGeneration) {
	t.Helper()
	p, err := materializetest.WithWindows("topic", "json", "user")
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var windowed []registry.ViewGeneration
	for _, v := range materializetest.Generations(p) {
		if v.View.Windowed() {
			windowed = append(windowed, v)
		}
	}
	return p, materializetest.NewStore(), &materializetest.Generator{Rand: rand.New(rand.NewPCG(seed, 0)), Clock: 1_700_000_000_000_000}, windowed
}

func TestBatchBuildsWindows(t *testing.T) {
	p, s, g, views := windowWorld(t)
	offsets := map[int32]int64{}
	var events []materializetest.Event
	b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 3}
	for round := range 3 {
		events = append(events, windowHistory(t, s, p, g, offsets, 150)...)
		for _, v := range views {
			before, _ := s.Resumes(t.Context(), v)
			r, err := b.Run(t.Context(), materialize.BatchRequest{View: v, Partitions: 3})
			if err != nil {
				t.Fatal(err)
			}
			if r.Applied == 0 || r.Stale != 0 || r.WentLive != (round == 0) {
				t.Fatalf("%s: %+v", v, r)
			}
			after, _ := s.Resumes(t.Context(), v)
			if before["epoch"] >= after["epoch"] || after["building"] != "-" || after["partitions"] != "3" {
				t.Fatalf("resume points %v, before %v", after, before)
			}
			for partition, next := range offsets {
				name := fmt.Sprintf("topic/%d", partition)
				if mark := fmt.Sprintf("%d %s server-0", next, after["epoch"]); after[name] != fmt.Sprint(next) || after[name+"/a"] != mark {
					t.Fatalf("resume points of %s: %v; want %d", name, after, next)
				}
			}
			if r, err = b.Run(t.Context(), materialize.BatchRequest{View: v}); err != nil || r.Rows != 0 || r.Applied != 0 {
				t.Fatalf("%s is built again, though its table is as it was: %+v, %v", v, r, err)
			}
		}
		windowDiff(t, s, p, events)
	}
	if _, err := b.Run(t.Context(), materialize.BatchRequest{View: views[0], From: ptr(int64(0))}); !errors.Is(err, materialize.ErrRange) {
		t.Fatalf("got %v", err)
	}
}

// TestBatchOfWindowsIsKilled breaks builds off at random calls, and lets the online store lose writes.
func TestBatchOfWindowsIsKilled(t *testing.T) {
	p, s, g, views := windowWorld(t)
	offsets := map[int32]int64{}
	var events []materializetest.Event
	b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 2, Retry: materialize.Backoff{Min: time.Microsecond, Max: time.Millisecond}}
	dead := errors.New("killed")
	for range 60 {
		s.Fault = nil
		events = append(events, windowHistory(t, s, p, g, offsets, 5)...)
		var calls atomic.Int64
		kill, failover := g.Rand.Int64N(120), g.Rand.Int64N(240)
		lose := g.Rand.IntN(8)
		s.Fault = func(context.Context, string, bool) error {
			n := calls.Add(1)
			if n == failover {
				s.Failover(lose)
			}
			if n >= kill {
				return dead
			}
			return nil
		}
		for _, v := range views {
			if _, err := b.Run(t.Context(), materialize.BatchRequest{View: v, Overwrite: g.Rand.IntN(2) == 0}); err != nil && !errors.Is(err, dead) {
				t.Fatal(err)
			}
		}
	}
	s.Fault = nil
	for _, v := range views {
		// The last failover may have lost what the build before wrote: only a stream notices that.
		if _, err := b.Run(t.Context(), materialize.BatchRequest{View: v, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
	}
	windowDiff(t, s, p, events)
}

// TestBatchGivesWayToALaterBuild: of two builds at a time the later one stays.
func TestBatchGivesWayToALaterBuild(t *testing.T) {
	p, s, g, views := windowWorld(t)
	events := windowHistory(t, s, p, g, map[int32]int64{}, 300)
	b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 2, Writes: 1}
	var inner atomic.Bool
	s.Fault = func(_ context.Context, call string, _ bool) error {
		if call == "Batch" && inner.CompareAndSwap(false, true) {
			if _, err := b.Run(t.Context(), materialize.BatchRequest{View: views[0], Overwrite: true}); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	_, err := b.Run(t.Context(), materialize.BatchRequest{View: views[0]})
	if !errors.Is(err, materialize.ErrSuperseded) {
		t.Fatalf("got %v", err)
	}
	s.Fault = nil
	if _, err := b.Run(t.Context(), materialize.BatchRequest{View: views[1]}); err != nil {
		t.Fatal(err)
	}
	windowDiff(t, s, p, events)
}

// TestBatchLooksAtTheLogAgain: without a topic, rows that came while the windows were built are in them.
func TestBatchLooksAtTheLogAgain(t *testing.T) {
	p, s, g, views := windowWorld(t)
	p.Sources[0].Kafka = nil
	offsets := map[int32]int64{}
	events := windowHistory(t, s, p, g, offsets, 100)
	more := 2
	s.Fault = func(_ context.Context, call string, after bool) error {
		if call == "SetResumes" && after && more > 0 {
			more--
			events = append(events, windowHistory(t, s, p, g, offsets, 10)...)
		}
		return nil
	}
	b := materialize.Batch{Tables: s, Online: s, Log: s}
	for _, v := range views {
		if _, err := b.Run(t.Context(), materialize.BatchRequest{View: v}); err != nil {
			t.Fatal(err)
		}
	}
	windowDiff(t, s, p, events)
}
