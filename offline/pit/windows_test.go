package pit

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry/feature"
)

// eventBlocks hands out what windows need of blocks, once each.
type eventBlocks struct {
	blocks
	ordered bool
	loaded  int // the start of the block that was loaded last
	fail    error
}

func (c *eventBlocks) Load() (window.Rows, error) {
	if c.fail != nil {
		return window.Rows{}, c.fail
	}
	if c.loaded == c.next {
		panic("a block is loaded twice")
	}
	c.loaded = c.next
	x := feature.NewColumn("x", feature.TypeInt64, 0)
	rows := window.Rows{Columns: []*feature.Column{x}}
	for _, r := range c.rows[c.start:c.next] {
		x.Append(feature.OfInt64(r.v.Minor))
		if c.ordered {
			rows.Ingested, rows.Major, rows.Minor = append(rows.Ingested, r.v.IngestedAt), append(rows.Major, r.v.Major), append(rows.Minor, r.v.Minor)
		}
	}
	return rows, nil
}

// TestWindowsAgainstStates: random events in random runs and blocks, beside random spines, against a state
// that is made anew of all events for each row of the spine.
func TestWindowsAgainstStates(t *testing.T) {
	s := seed(t)
	hop := feature.Duration(4)
	windows := []window.Window{{Length: 5, Hop: 2}, {Length: 13, Hop: hop}, {Length: 13, Hop: 3}, {Length: feature.Lifetime}}
	for round := range 500 {
		rng := rand.New(rand.NewPCG(s, uint64(round)))
		types := keyTypes[rng.IntN(len(keyTypes))]
		var aggs []window.Aggregation
		for _, fn := range []window.Func{window.Count, window.Sum, window.Max, window.LastN, window.FirstN, window.DistinctCount} {
			if rng.IntN(2) == 0 || fn == window.Count {
				aggs = append(aggs, window.Aggregation{Func: fn, Type: feature.TypeInt64, Where: -1, By: -1, N: 3, Windows: windows[:1+rng.IntN(len(windows))]})
			}
		}
		plan, err := window.Compile(aggs)
		if err != nil {
			t.Fatal(err)
		}
		outputs := rng.Perm(len(plan.Outputs()))
		sweep := plan.Sweep(outputs)
		span := int64(1 + rng.IntN(60))
		runs := make([]*eventBlocks, 1+rng.IntN(4))
		for i := range runs {
			runs[i] = &eventBlocks{blocks: blocks{types: types, rng: rng}, ordered: sweep.Ordered(), loaded: -1}
		}
		var all []row
		for i := range rng.IntN(120) {
			r := row{randomKey(rng, types), feature.Version{EventTime: rng.Int64N(span) - span/2, IngestedAt: rng.Int64N(6), Major: rng.Int64N(3), Minor: int64(i)}}
			all = append(all, r)
			at := runs[rng.IntN(len(runs))]
			at.rows = append(at.rows, r)
		}
		byKey := func(a, b row) int {
			if c := less(a.key, b.key); c != 0 {
				return c
			}
			return a.v.Compare(b.v)
		}
		for _, run := range runs {
			slices.SortFunc(run.rows, byKey)
		}
		keys := make([]row, rng.IntN(80)) // of the spine
		for i := range keys {
			keys[i] = row{randomKey(rng, types), feature.Version{EventTime: rng.Int64N(span+30) - span/2 - 5}}
			if rng.IntN(20) == 0 {
				keys[i].v.EventTime = []int64{-1 << 63, 1<<63 - 1}[rng.IntN(2)]
			}
		}
		sort.SliceStable(keys, func(i, j int) bool { return byKey(keys[i], keys[j]) < 0 })
		spine := Spine{Keys: NewKeys(types)}
		var ks [][]feature.Value
		for _, k := range keys {
			ks, spine.Times = append(ks, k.key), append(spine.Times, k.v.EventTime)
		}
		spine.Keys.AppendRows(columns(types, ks), 0, len(keys))
		knownAt := int64(NoKnownAt)
		if rng.IntN(2) == 0 {
			knownAt = rng.Int64N(7) - 1
		}
		got := map[int]string{}
		var cursors []EventCursor
		for _, r := range runs {
			cursors = append(cursors, r)
		}
		last := -1
		err = Windows(spine, cursors, knownAt, sweep, func(s int, values []feature.Value, found bool) error {
			if s <= last {
				t.Fatalf("round %d: row %d after %d", round, s, last)
			}
			last = s
			got[s] = fmt.Sprint(found, values)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		nothing, _ := plan.Sweep(outputs).Values(0, nil)
		for i, k := range keys {
			state := &window.State{}
			x := feature.NewColumn("x", feature.TypeInt64, 0)
			for _, r := range all {
				if less(r.key, k.key) == 0 && r.v.EventTime <= k.v.EventTime && r.v.IngestedAt <= knownAt {
					x.Append(feature.OfInt64(r.v.Minor))
					plan.Add(state, window.Row{Version: r.v, Columns: []*feature.Column{x}, Index: x.Len - 1})
				}
			}
			want := fmt.Sprint(false, nothing)
			if x.Len > 0 {
				values, found := plan.Values(state, k.v.EventTime, &window.Scratch{}, nil)
				chosen := make([]feature.Value, len(outputs))
				for n, o := range outputs {
					chosen[n] = values[o]
				}
				want = fmt.Sprint(found, chosen)
			}
			have, ok := got[i]
			if !ok { // no event of the key
				have = fmt.Sprint(false, nothing)
			}
			if have != want {
				t.Fatalf("round %d, %d runs, known at %d: key %v at %d: %s, want %s", round, len(runs), knownAt, k.key, k.v.EventTime, have, want)
			}
		}
	}
}

// TestWindowsErrors: what a run or a receiver says ends it.
func TestWindowsErrors(t *testing.T) {
	plan, err := window.Compile([]window.Aggregation{{Func: window.Sum, Type: feature.TypeInt64, Where: -1, By: -1, Windows: []window.Window{{Length: 5, Hop: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	types := []feature.Type{feature.TypeInt64}
	boom := errors.New("boom")
	key := []feature.Value{feature.OfInt64(1)}
	spine := Spine{Keys: NewKeys(types), Times: []int64{5}}
	spine.Keys.AppendRows(columns(types, [][]feature.Value{key}), 0, 1)
	run := func() *eventBlocks {
		return &eventBlocks{blocks: blocks{types: types, rng: rand.New(rand.NewPCG(1, 2)), rows: []row{{key, feature.Version{EventTime: 3}}}}, loaded: -1}
	}
	emit := func(int, []feature.Value, bool) error { return nil }
	broken := run()
	broken.fail = boom
	if err := Windows(spine, []EventCursor{broken}, NoKnownAt, plan.Sweep([]int{0}), emit); !errors.Is(err, boom) {
		t.Errorf("a run that cannot be loaded: %v", err)
	}
	if err := Windows(spine, []EventCursor{&stuck{boom}}, NoKnownAt, plan.Sweep([]int{0}), emit); !errors.Is(err, boom) {
		t.Errorf("a run that cannot be read: %v", err)
	}
	if err := Windows(spine, []EventCursor{run()}, NoKnownAt, plan.Sweep([]int{0}), func(int, []feature.Value, bool) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("a receiver that fails: %v", err)
	}
	if err := Windows(spine, []EventCursor{&stuck{io.EOF}}, NoKnownAt, plan.Sweep([]int{0}), func(int, []feature.Value, bool) error { return boom }); err != nil {
		t.Errorf("an empty run: %v", err)
	}
}

type stuck struct{ err error }

func (s *stuck) Next(*Keys, int) (*Block, error) { return nil, s.err }
func (s *stuck) Load() (window.Rows, error)      { return window.Rows{}, s.err }
