package redis

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

// windowPlan is (count, sum, mean, max) of one column over 1h, 24h, 7d and 30d with
// the default hops.
func windowPlan(t testing.TB, typ feature.Type) *window.Plan {
	t.Helper()
	const minute = feature.Minute
	windows := []window.Window{{Length: feature.Hour, Hop: minute}, {Length: feature.Day, Hop: feature.Hour}, {Length: 7 * feature.Day, Hop: feature.Hour}, {Length: 30 * feature.Day, Hop: feature.Day}}
	aggs := []window.Aggregation{{Func: window.Count, Input: -1, Where: -1, By: -1, Windows: windows}}
	for _, fn := range []window.Func{window.Sum, window.Mean, window.Max} {
		aggs = append(aggs, window.Aggregation{Func: fn, Input: 0, Type: typ, Where: -1, By: -1, Windows: windows})
	}
	p, err := window.Compile(aggs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const windowNewest = int64(1_700_000_000_000_000)

// windowState is the state of an entity with events at random instants of the last
// 30 days, or one a minute where events is 0.
func windowState(p *window.Plan, typ feature.Type, events int, r *rand.Rand) []byte {
	col := feature.NewColumn("x", typ, 1)
	s := &window.State{}
	add := func(at int64) {
		col.Reset()
		if typ == feature.TypeInt64 {
			col.Append(feature.OfInt64(r.Int64N(120) - 20)) // delays of flights
		} else {
			col.Append(feature.OfFloat64(math.Round(r.ExpFloat64()*5000) / 100)) // amounts
		}
		p.Add(s, window.Row{Version: feature.Version{EventTime: at}, Columns: []*feature.Column{col}})
	}
	const minute, days = int64(feature.Minute), 30
	if events == 0 {
		for at := windowNewest - days*int64(feature.Day); at <= windowNewest; at += minute {
			add(at)
		}
	}
	for range events {
		add(windowNewest - r.Int64N(days*int64(feature.Day)))
	}
	return p.Append(nil, s)
}

// TestWindowMemory measures what an entity's windows take, with and without an
// expiry, beside the length of the record alone.
func TestWindowMemory(t *testing.T) {
	if raceDetector {
		t.Skip("a measurement, and minutes long under the race detector")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range []feature.Type{feature.TypeInt64, feature.TypeFloat64} {
		p := windowPlan(t, typ)
		for _, events := range []int{1, 10, 100, 1000, 0} {
			entities := 2000
			if events == 0 {
				entities = 20 // they are made slowly, and repeated
			}
			var states [][]byte
			length := 0
			for range entities {
				states = append(states, windowState(p, typ, events, r))
				length += len(states[len(states)-1]) + rowcodec.WindowOverhead
			}
			without, with := windowMemory(t, states, 0), windowMemory(t, states, p.Expiry())
			name := fmt.Sprint(events, " events")
			if events == 0 {
				name = "1 a minute"
			}
			t.Logf("%-8s %-11s record %5d  redis %6.0f  expiry %+5.1f bytes", typ, name, length/entities, without, with-without)
			if without > 1.35*float64(length)/float64(entities)+150 || with-without > 100 {
				t.Errorf("%s, %s: %.0f and %.0f bytes for records of %d", typ, name, without, with, length/entities)
			}
		}
	}
}

// windowMemory is what Redis needs for each of 20,000 entities.
func windowMemory(t *testing.T, states [][]byte, ttl time.Duration) float64 {
	t.Helper()
	const entities = 20_000
	n := testenv.RedisServer(t)
	c := n.Client(t)
	memory := func() float64 {
		m, err := strconv.ParseFloat(parseInfo(c.Info(t.Context(), "memory").Val())["used_memory"], 64)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	s := open(t, Options{Addrs: []string{n.Addr}, Project: "bench"})
	codec := rowcodec.NewWindows("bench/stats@1", nil)
	write := func(from, to int) {
		var records []online.Record
		for i := from; i < to; i++ {
			key := feature.AppendKey(nil, feature.OfInt64(int64(i)), true)
			records = append(records, online.Record{
				Key:   online.Key{View: "stats", Generation: 1, Entity: key},
				Value: codec.Append(nil, windowNewest, int64(i), states[i%len(states)]), TTL: ttl,
			})
		}
		// What was sent again, because its answer was late, is stale the second time.
		if res, err := s.Write(t.Context(), records, online.IfNewer); err != nil || res.Applied+res.Stale != len(records) {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	write(0, 1) // scripts, buffers and the like
	before := memory()
	for at := 1; at < entities; at += 1000 {
		write(at, min(at+1000, entities))
	}
	return (memory() - before) / (entities - 1)
}
