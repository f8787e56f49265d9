package lookup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/redis"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
	"github.com/forebay/forebay/registry/spec"
)

const windowsYAML = `
kind: Entity
name: airport
join_keys: [{name: origin, type: string}]
---
kind: Source
name: departures
timestamp: date
columns: {date: timestamp, origin: string, delay: int64, fare: float64}
files: {glob: "data/*.csv"}
---
kind: FeatureView
name: latest
entities: [airport]
source: departures
features: [{name: last_delay, type: int64, expr: delay}]
---
kind: FeatureView
name: delays
entities: [airport]
source: departures
aggregations:
  - {function: count, windows: [1h, 24h, 7d]}
  - {function: sum, column: delay, windows: [1h, 24h, 7d]}
  - {function: mean, column: fare, windows: [1h, 24h]}
  - {function: max, column: delay, windows: [1h, 7d]}
  - {function: last_n, column: delay, n: 3, windows: [24h]}
  - {function: count, column: delay, where: "delay > 15", windows: [24h], name: late}
---
kind: OnDemandFeatureView
name: trend
inputs: [delays, latest]
features:
  - {name: busier, type: bool, expr: "delays.count_1h * 24 > delays.count_24h"}
  - {name: above, type: float64, expr: "double(latest.last_delay) - delays.fare_mean_24h"}
`

func windowsProject(t testing.TB) *registry.Project {
	t.Helper()
	repo, diagnostics := spec.LoadFS(fstest.MapFS{
		"forebay.yaml":  {Data: []byte("version: 1\nproject: flights\n")},
		"features.yaml": {Data: []byte(windowsYAML)},
	})
	if len(diagnostics) > 0 {
		t.Fatalf("%v", diagnostics)
	}
	return repo.Project
}

// flight is an event of an airport.
type flight struct {
	at    int64
	delay feature.Value
	fare  feature.Value
}

// feed is a writer of one entity's record.
type feed struct {
	plan   *window.Plan
	codec  *rowcodec.WindowCodec
	view   *registry.FeatureView
	state  window.State
	events []flight
	key    online.Key
}

func newFeed(t testing.TB, p *registry.Project, origin string) *feed {
	t.Helper()
	v := p.View("delays")
	plan, err := window.ForView(v)
	if err != nil {
		t.Fatal(err)
	}
	return &feed{plan: plan, view: v, codec: delays(p), key: online.Key{View: v.Name, Generation: 1, Entity: feature.AppendKey(nil, str(origin), true)}}
}

// delays is the codec of the view that feeds are of.
func delays(p *registry.Project) *rowcodec.WindowCodec {
	return rowcodec.ForWindows(registry.ViewGeneration{Project: p, View: p.View("delays"), Number: 1})
}

// add puts an event into the state; the conditions are computed here, not by CEL.
func (f *feed) add(e flight) {
	var cols []*feature.Column
	for _, in := range f.view.Inputs {
		c := feature.NewColumn(in.Name, in.Type, 1)
		switch in.Expr {
		case "delay":
			c.Append(e.delay)
		case "fare":
			c.Append(e.fare)
		case "delay > 15":
			if e.delay.IsNull() {
				c.AppendNull()
			} else {
				c.Append(feature.OfBool(e.delay.Int64() > 15))
			}
		default:
			panic("an input that the test does not know: " + in.Expr)
		}
		cols = append(cols, c)
	}
	f.plan.Add(&f.state, window.Row{Version: feature.Version{EventTime: e.at, Minor: int64(len(f.events))}, Columns: cols})
	f.events = append(f.events, e)
}

func (f *feed) record() online.Record {
	return online.Record{Key: f.key, Value: f.codec.Append(nil, 1, int64(len(f.events)), f.plan.Append(nil, &f.state))}
}

// want computes features from their definition: the events in (floor(T-w, hop), T].
func (f *feed) want(now int64) (values map[string]string, found bool, newest int64) {
	at := now
	for _, e := range f.events {
		at = max(at, e.at)
	}
	hours := func(n int64) int64 { return n * 3600 * second }
	in := func(length, hop int64) []flight {
		lower := (at - length) / hop * hop // instants after 1970
		var events []flight
		for _, e := range f.events {
			if lower < e.at {
				events = append(events, e)
			}
		}
		slices.SortStableFunc(events, func(a, b flight) int { return int(a.at - b.at) })
		return events
	}
	values = map[string]string{}
	for name, w := range map[string][2]int64{"1h": {hours(1), 60 * second}, "24h": {hours(24), hours(1)}, "7d": {hours(7 * 24), hours(1)}} {
		events := in(w[0], w[1])
		if name == "7d" {
			found = len(events) > 0
		}
		var sum, most int64
		var fares float64
		var delays []feature.Value
		late, fare := 0, 0
		for _, e := range events {
			if !e.fare.IsNull() {
				fares, fare = fares+e.fare.Float64(), fare+1
			}
			if e.delay.IsNull() {
				continue
			}
			d := e.delay.Int64()
			if sum += d; len(delays) == 0 || d > most {
				most = d
			}
			if d > 15 {
				late++
			}
			delays = append(delays, e.delay)
		}
		values["count_"+name] = fmt.Sprint(len(events))
		values["delay_sum_"+name], values["delay_max_"+name], values["fare_mean_"+name], values["delay_last_3_"+name] = "null", "null", "null", "null"
		if len(delays) > 0 {
			values["delay_sum_"+name], values["delay_max_"+name] = fmt.Sprint(sum), fmt.Sprint(most)
			values["delay_last_3_"+name] = feature.OfList(feature.Int64, delays[max(0, len(delays)-3):]).String()
		}
		if fare > 0 {
			values["fare_mean_"+name] = feature.OfFloat64(fares / float64(fare)).String()
		}
		if name == "24h" {
			values["late_24h"] = fmt.Sprint(late)
			values["busier"] = fmt.Sprint(len(in(hours(1), 60*second))*24 > len(events))
		}
	}
	for _, e := range f.events {
		newest = max(newest, e.at)
	}
	return values, found, newest
}

func forEachStore(t *testing.T, run func(*testing.T, online.Store)) {
	t.Run("Pebble", func(t *testing.T) { run(t, openStore(t)) })
	t.Run("Redis", func(t *testing.T) {
		s, err := redis.Open(redis.Options{Addrs: []string{testenv.Redis(t).Addr}, Project: fmt.Sprintf("w%x", rand.Uint64())})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		run(t, s)
	})
}

// TestWindowsEqualTheDefinition: at every instant, also long after the last write,
// a lookup is what the definition says of all events.
func TestWindowsEqualTheDefinition(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	forEachStore(t, func(t *testing.T, s online.Store) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := windowsProject(t)
		// Not all features, and not in their order.
		names := []string{"late_24h", "count_7d", "delay_sum_1h", "delay_sum_24h", "fare_mean_24h", "delay_last_3_24h", "count_1h", "fare_mean_1h", "delay_max_7d", "busier"}
		var refs []string
		for _, n := range names {
			view := "delays:"
			if n == "busier" {
				view = "trend:"
			}
			refs = append(refs, view+n)
		}
		plan := planOf(t, p, selection.Request{Features: refs})
		const start = 1_700_000_000 * second
		var feeds []*feed
		keys := feature.NewColumn("origin", feature.TypeString, 0)
		for i := range 20 {
			feeds = append(feeds, newFeed(t, p, fmt.Sprint("A", i)))
			keys.Append(str(fmt.Sprint("A", i)))
		}
		now := start
		for step := range 60 {
			var records []online.Record
			for i, f := range feeds {
				if i == 0 || step > 30 || r.IntN(3) > 0 { // one is never seen, and in the second half nobody is written
					continue
				}
				for range 1 + r.IntN(5) {
					e := flight{at: now - r.Int64N(int64([]feature.Duration{feature.Minute, feature.Hour, 9 * feature.Day}[r.IntN(3)])), delay: i64(r.Int64N(90) - 30), fare: feature.OfFloat64(float64(r.IntN(400)) / 4)}
					switch r.IntN(8) {
					case 0:
						e.delay = null
					case 1:
						e.fare = null
					case 2:
						e.at = now + r.Int64N(60*second) // ahead of the clock
					}
					f.add(e)
				}
				records = append(records, f.record())
			}
			if _, err := s.Write(t.Context(), records, online.IfNewer); err != nil {
				t.Fatal(err)
			}
			got, err := Lookup(t.Context(), s, plan, Request{Keys: []*feature.Column{keys}, Rows: len(feeds), Now: now})
			if err != nil {
				t.Fatal(err)
			}
			instant := now
			for row, f := range feeds {
				values, found, newest := f.want(now)
				if found {
					instant = max(instant, newest)
				}
				for i, name := range names {
					where := fmt.Sprintf("step %d, entity %d, %s at %d", step, row, name, now)
					if v := got.Columns[i].Value(row).String(); v != values[name] {
						t.Fatalf("%s: %s, want %s", where, v, values[name])
					}
					status, at := feature.NotFound, int64(NoTime)
					if found {
						status, at = feature.Present, newest
						if values[name] == "null" {
							status = feature.NullValue
						}
					}
					if name == "busier" {
						status = feature.Present // it is computed of the values of empty windows
					}
					if got.Statuses[i][row] != status || got.EventTimes[i][row] != at {
						t.Fatalf("%s: %v of %d, want %v of %d", where, got.Statuses[i][row], got.EventTimes[i][row], status, at)
					}
				}
			}
			if got.Instant != instant || got.Corrupt != 0 {
				t.Fatalf("step %d: instant %d, want %d; %d corrupt: %v", step, got.Instant, instant, got.Corrupt, got.CorruptErr)
			}
			got.Release()
			now += r.Int64N(int64([]feature.Duration{feature.Minute, feature.Hour, feature.Day}[r.IntN(3)]))
		}
	})
}

// TestWindowsBesideRows: one lookup, one Get, for a newest row, windows and what is
// computed of both.
func TestWindowsBesideRows(t *testing.T) {
	p, s := windowsProject(t), openStore(t)
	plan := planOf(t, p, selection.Request{Features: []string{"latest", "delays:count_24h", "trend:above"}})
	const now = 1_700_000_000 * second
	f := newFeed(t, p, "SFO")
	f.add(flight{at: now - 5*second, delay: i64(3), fare: feature.OfFloat64(1.5)})
	write(t, s, f.record())
	put(t, s, p, "latest", []feature.Value{str("SFO")}, now-9*second, i64(20))
	put(t, s, p, "latest", []feature.Value{str("JFK")}, now-9*second, i64(4))
	keys := feature.NewColumn("origin", feature.TypeString, 0)
	keys.Append(str("SFO"))
	keys.Append(str("JFK"))
	keys.AppendNull()
	r, err := Lookup(t.Context(), s, plan, Request{Keys: []*feature.Column{keys}, Rows: 3, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	none := answer{"null", feature.NotFound, NoTime}
	for name, want := range map[string][]answer{
		"last_delay": {{"20", feature.Present, now - 9*second}, {"4", feature.Present, now - 9*second}, none},
		"count_24h":  {{"1", feature.Present, now - 5*second}, {"0", feature.NotFound, NoTime}, {"0", feature.NotFound, NoTime}},
		"above":      {{"18.5", feature.Present, now - 5*second}, {"null", feature.NullValue, now - 9*second}, {"null", feature.NullValue, NoTime}},
	} {
		if got := answers(r, name, plan.Selection()); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if s.gets != 1 {
		t.Errorf("%d Gets, want 1", s.gets)
	}
}

// TestDamagedWindows: what cannot be read is INVALID and counted, and what
// overflows is INVALID and not.
func TestDamagedWindows(t *testing.T) {
	p, s := windowsProject(t), openStore(t)
	plan := planOf(t, p, selection.Request{Features: []string{"delays:delay_sum_24h", "delays:count_24h"}})
	const now = 1_700_000_000 * second
	keys := feature.NewColumn("origin", feature.TypeString, 0)
	broken := []answer{{"null", feature.StatusInvalid, NoTime}, {"null", feature.StatusInvalid, NoTime}}
	want := [][]answer{
		{{"7", feature.Present, now}, {"1", feature.Present, now}},
		{{"null", feature.StatusInvalid, now}, {"2", feature.Present, now}},
		broken, broken, broken, broken, broken, broken, broken,
	}
	for i, damage := range []func([]byte) []byte{
		nil,
		nil, // overflow
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[20] ^= 1; return b },
		func([]byte) []byte { return newestRow(t, p) },
		// Whole as a record, and a state of something else.
		func([]byte) []byte { return delays(p).Append(nil, 1, 1, []byte("not a state of this view")) },
		// A whole record of this view's, in another project; of another generation; and of a view that has another feature.
		func(b []byte) []byte {
			_, _, state, _ := delays(p).Decode(b)
			other := *p
			other.Name = "other"
			return delays(&other).Append(nil, 1, 1, state)
		},
		func(b []byte) []byte {
			_, _, state, _ := delays(p).Decode(b)
			return rowcodec.ForWindows(registry.ViewGeneration{Project: p, View: p.View("delays"), Number: 2}).Append(nil, 1, 1, state)
		},
		func(b []byte) []byte {
			_, _, state, _ := delays(p).Decode(b)
			other := *p.View("delays")
			other.Features = other.Features[1:]
			return rowcodec.ForWindows(registry.ViewGeneration{Project: p, View: &other, Number: 1}).Append(nil, 1, 1, state)
		},
	} {
		origin := fmt.Sprint("A", i)
		keys.Append(str(origin))
		f := newFeed(t, p, origin)
		if i == 1 {
			f.add(flight{at: now, delay: i64(math.MaxInt64), fare: null})
			f.add(flight{at: now, delay: i64(1), fare: null})
		} else {
			f.add(flight{at: now, delay: i64(7), fare: null})
		}
		rec := f.record()
		if damage != nil {
			rec.Value = damage(rec.Value)
		}
		write(t, s, rec)
	}
	r, err := Lookup(t.Context(), s, plan, Request{Keys: []*feature.Column{keys}, Rows: len(want), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	sums, counts := answers(r, "delay_sum_24h", plan.Selection()), answers(r, "count_24h", plan.Selection())
	for i, w := range want {
		if got := []answer{sums[i], counts[i]}; !slices.Equal(got, w) {
			t.Errorf("entity %d: %v, want %v", i, got, w)
		}
	}
	if r.Corrupt != 7 || !errors.Is(r.CorruptErr, rowcodec.ErrCorrupt) {
		t.Errorf("%d corrupt, want 7: %v", r.Corrupt, r.CorruptErr)
	}

	// And the other way round: windows where a newest row is looked for.
	rows := planOf(t, p, selection.Request{Features: []string{"latest"}})
	alien := newFeed(t, p, "A0")
	alien.add(flight{at: now, delay: i64(7), fare: null})
	rec := alien.record()
	rec.Key.View = "latest"
	write(t, s, rec)
	other, err := Lookup(t.Context(), s, rows, Request{Keys: []*feature.Column{keys}, Rows: 1, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	if got := answers(other, "last_delay", rows.Selection())[0]; got != broken[0] || !errors.Is(other.CorruptErr, rowcodec.ErrKind) {
		t.Errorf("%v, %v", got, other.CorruptErr)
	}
}

func newestRow(t *testing.T, p *registry.Project) []byte {
	t.Helper()
	rec, err := rowcodec.For(registry.ViewGeneration{Project: p, View: p.View("latest"), Number: 1}).
		Append(nil, feature.Version{EventTime: second}, []*feature.Column{column(feature.TypeInt64, i64(1))}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// steady is the record of an entity with an event a minute for 30 days.
func steady(t testing.TB, p *registry.Project) ([]byte, int64) {
	f := newFeed(t, p, "SFO")
	const start = 1_700_000_000 * second
	for i := range int64(30 * 24 * 60) {
		f.add(flight{at: start + i*60*second, delay: i64(i % 90), fare: feature.OfFloat64(float64(i%400) / 4)})
	}
	newest, _ := f.state.Newest()
	return f.record().Value, newest
}

// TestWindowAllocations: a lookup of windows allocates nothing for a row, a tile or
// a value, but lists.
func TestWindowAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget at random")
	}
	p := windowsProject(t)
	rec, now := steady(t, p)
	plan := planOf(t, p, selection.Request{Features: []string{"delays:count_7d", "delays:delay_sum_24h", "delays:fare_mean_24h", "delays:delay_max_7d", "delays:late_24h"}})
	for _, rows := range []int{1, 100} {
		keys := feature.NewColumn("origin", feature.TypeString, 0)
		for i := range rows {
			keys.Append(str(fmt.Sprint("A", i)))
		}
		req := Request{Keys: []*feature.Column{keys}, Rows: rows, Now: now}
		n := testing.AllocsPerRun(100, func() {
			r, err := Lookup(context.Background(), nothing{record: rec}, plan, req)
			if err != nil {
				t.Fatal(err)
			}
			r.Release()
		})
		if n > 2 {
			t.Errorf("%d rows: %v allocations", rows, n)
		}
	}
}

// BenchmarkWindows looks up windows of entities with an event a minute, without a store.
func BenchmarkWindows(b *testing.B) {
	p := windowsProject(b)
	rec, now := steady(b, p)
	plan := planOf(b, p, selection.Request{Features: []string{"delays"}})
	for _, rows := range []int{1, 100} {
		keys := feature.NewColumn("origin", feature.TypeString, 0)
		for i := range rows {
			keys.Append(str(fmt.Sprint("A", i)))
		}
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := Lookup(context.Background(), nothing{record: rec}, plan, Request{Keys: []*feature.Column{keys}, Rows: rows, Now: now})
				if err != nil {
					b.Fatal(err)
				}
				r.Release()
			}
		})
	}
}
