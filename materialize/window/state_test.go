package window

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Merged counts what Values merges: nothing of an empty state, each hop with events in the window, and what an older
// window has in coarser ones.
func TestMerged(t *testing.T) {
	const minute = int64(feature.Minute)
	p, err := Compile([]Aggregation{{Func: Count, Input: -1, Where: -1, By: -1, Windows: []Window{
		{Length: feature.Hour, Hop: feature.Minute}, {Length: feature.Day, Hop: 5 * feature.Minute}, {Length: feature.Lifetime},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	var s State
	merged := func(at int64) (n [3]int) {
		for i := range n {
			n[i] = p.Merged(&s, at, i)
		}
		return n
	}
	if got := merged(0); got != [3]int{} {
		t.Errorf("nothing was seen, and %v merged", got)
	}
	for _, m := range []int64{-3000, -601, -600, -599, -61, -30, -30, -1, 0} { // minutes; two are of one hop, and three of one of 5
		p.Add(&s, Row{Version: feature.Version{EventTime: m*minute - 1}})
	}
	if got, want := merged(0), [3]int{3, 6, 7}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := merged(2*60*minute), [3]int{0, 6, 7}; got != want {
		t.Errorf("two hours later %v, want %v", got, want)
	}
	if got, want := merged(-24*60*minute), merged(-1); got != want {
		t.Errorf("before the newest event %v, want that of the newest, %v", got, want)
	}
}

// event is what the oracle knows of a row: the columns are n int64, x float64,
// s string, ok bool (the condition).
type event struct {
	version feature.Version
	n, x, s feature.Value
	ok      feature.Value
}

var inputs = []feature.Field{{Name: "n", Type: feature.TypeInt64}, {Name: "x", Type: feature.TypeFloat64}, {Name: "s", Type: feature.TypeString}, {Name: "ok", Type: feature.TypeBool}}

func (e event) column(i int) feature.Value { return []feature.Value{e.n, e.x, e.s, e.ok}[i] }

func batchOf(events []event) *feature.Batch {
	b := feature.NewBatch(inputs, len(events))
	for _, e := range events {
		for i, c := range b.Columns {
			c.Append(e.column(i))
		}
		b.Versions = append(b.Versions, e.version)
		b.Rows++
	}
	return b
}

// oracle computes one feature at t from its definition: all events, no tiles.
func oracle(a Aggregation, w Window, events []event, t int64) feature.Value {
	lower := int64(math.MinInt64)
	if w.Length != feature.Lifetime {
		lower = floorTo(t-int64(w.Length), int64(w.Hop))
	}
	var in []event
	for _, e := range events {
		if e.version.EventTime <= lower || e.version.EventTime > t {
			continue
		}
		if a.Where >= 0 && (e.ok.IsNull() || !e.ok.Bool()) {
			continue
		}
		if a.Input >= 0 {
			v := e.column(a.Input)
			if v.IsNull() || v.Kind() == feature.Float64 && math.IsNaN(v.Float64()) {
				continue
			}
		}
		if a.By >= 0 && e.column(a.By).IsNull() {
			continue
		}
		in = append(in, e)
	}
	slices.SortFunc(in, func(a, b event) int { return a.version.Compare(b.version) })
	if len(in) == 0 {
		if a.Func == Count || a.Func == DistinctCount || a.Func == ApproxDistinctCount {
			return feature.OfInt64(0)
		}
		return feature.Value{}
	}
	values := make([]feature.Value, len(in))
	for i, e := range in {
		if a.Input >= 0 {
			values[i] = e.column(a.Input)
		}
	}
	switch a.Func {
	case Count:
		return feature.OfInt64(int64(len(in)))
	case Sum:
		return oracleSum(a.Type, values)
	case Mean, Variance, Stddev, VariancePop, StddevPop:
		return oracleMoment(a.Func, values)
	case Min, Max:
		best := values[0]
		for _, v := range values[1:] {
			less := oracleLess(v, best)
			if a.Func == Max {
				less = oracleLess(best, v)
			}
			if less {
				best = v
			}
		}
		return best
	case First:
		return values[0]
	case Last:
		return values[len(values)-1]
	case FirstN:
		return feature.OfList(a.Type.Kind, values[:min(a.N, len(values))])
	case LastN:
		return feature.OfList(a.Type.Kind, values[max(0, len(values)-a.N):])
	case DistinctCount:
		seen := map[string]bool{}
		for _, v := range values {
			seen[fmt.Sprint(v.Bits(), v)] = true
		}
		if a.Type.Kind == feature.String {
			clear(seen)
			for _, v := range values {
				seen[v.Str()] = true
			}
		}
		return feature.OfInt64(int64(min(a.N, len(seen))))
	case TopK:
		return oracleTop(a, values)
	case CountBy, SumBy:
		return oracleBy(a, in)
	}
	panic("no oracle")
}

func floorTo(t, hop int64) int64 {
	r := t % hop
	if r < 0 {
		r += hop
	}
	return t - r
}

func oracleLess(a, b feature.Value) bool {
	switch a.Kind() {
	case feature.Float64:
		return a.Float64() < b.Float64() || a.Float64() == b.Float64() && math.Signbit(a.Float64()) && !math.Signbit(b.Float64())
	case feature.String:
		return a.Str() < b.Str()
	}
	return a.Int64() < b.Int64()
}

func oracleRats(values []feature.Value) (sum, squares *big.Rat, posInf, negInf bool) {
	sum, squares = new(big.Rat), new(big.Rat)
	for _, v := range values {
		x := new(big.Rat)
		switch {
		case v.Kind() == feature.Int64:
			x.SetInt64(v.Int64())
		case math.IsInf(v.Float64(), 1):
			posInf = true
		case math.IsInf(v.Float64(), -1):
			negInf = true
		default:
			x.SetFloat64(v.Float64())
		}
		sum.Add(sum, x)
		squares.Add(squares, x.Mul(x, x))
	}
	return sum, squares, posInf, negInf
}

func oracleSum(t feature.Type, values []feature.Value) feature.Value {
	sum, _, pos, neg := oracleRats(values)
	if t.Kind == feature.Int64 {
		if !sum.Num().IsInt64() {
			return feature.Invalid()
		}
		return feature.OfInt64(sum.Num().Int64())
	}
	return oracleFloat(sum, pos, neg)
}

func oracleFloat(r *big.Rat, pos, neg bool) feature.Value {
	f, _ := r.Float64()
	switch {
	case pos && neg:
		return feature.Invalid()
	case pos:
		return feature.OfFloat64(math.Inf(1))
	case neg:
		return feature.OfFloat64(math.Inf(-1))
	case math.IsInf(f, 0):
		return feature.Invalid()
	}
	return feature.OfFloat64(f)
}

func oracleMoment(f Func, values []feature.Value) feature.Value {
	sum, squares, pos, neg := oracleRats(values)
	n := new(big.Rat).SetInt64(int64(len(values)))
	mean := new(big.Rat).Quo(sum, n)
	if f == Mean {
		return oracleFloat(mean, pos, neg)
	}
	if pos || neg {
		return feature.Invalid()
	}
	d := int64(len(values))
	if f == Variance || f == Stddev {
		if d--; d == 0 {
			return feature.Value{}
		}
	}
	v := squares.Sub(squares, mean.Mul(mean, sum))
	v.Quo(v, new(big.Rat).SetInt64(d))
	x, _ := v.Float64()
	if math.IsInf(x, 0) {
		return feature.Invalid()
	}
	if f == Stddev || f == StddevPop {
		x = math.Sqrt(x)
	}
	return feature.OfFloat64(x)
}

func oracleTop(a Aggregation, values []feature.Value) feature.Value {
	type counted struct {
		v feature.Value
		n int
	}
	var all []counted
next:
	for _, v := range values {
		for i := range all {
			if all[i].v.Equal(v) {
				all[i].n++
				continue next
			}
		}
		all = append(all, counted{v, 1})
	}
	slices.SortFunc(all, func(a, b counted) int {
		if a.n != b.n {
			return b.n - a.n
		}
		if oracleLess(a.v, b.v) {
			return -1
		}
		return 1
	})
	vs := []feature.Value{}
	for _, c := range all[:min(a.N, len(all))] {
		vs = append(vs, c.v)
	}
	return feature.OfList(a.Type.Kind, vs)
}

func oracleBy(a Aggregation, in []event) feature.Value {
	groups := map[string][]feature.Value{}
	var keys []string
	for _, e := range in {
		k := e.column(a.By).Str()
		if _, ok := groups[k]; !ok {
			keys = append(keys, k)
		}
		v := feature.OfInt64(1)
		if a.Func == SumBy {
			v = e.column(a.Input)
		}
		groups[k] = append(groups[k], v)
	}
	if len(keys) > a.N {
		return feature.Invalid()
	}
	slices.Sort(keys)
	out := "{"
	for i, k := range keys {
		if i > 0 {
			out += ","
		}
		typ := feature.TypeInt64
		if a.Func == SumBy {
			typ = a.Type
		}
		v := oracleSum(typ, groups[k])
		if v.IsInvalid() {
			return v
		}
		out += fmt.Sprintf("%s:%s", feature.AppendStringJSON(nil, k), v.AppendJSON(nil))
	}
	return feature.OfString(out + "}")
}

const minute = int64(feature.Minute)

func randomWindow(r *rand.Rand) Window {
	lengths := []feature.Duration{feature.Minute, 10 * feature.Minute, feature.Hour, 3 * feature.Hour, feature.Day, feature.Week, feature.Lifetime}
	w := Window{Length: lengths[r.IntN(len(lengths))]}
	if w.Hop = registry.DefaultHop(w.Length); w.Length != feature.Lifetime && r.IntN(3) == 0 {
		hops := []feature.Duration{feature.Second, 7 * feature.Second, feature.Minute, 7 * feature.Minute, feature.Hour}
		if h := hops[r.IntN(len(hops))]; h <= w.Length {
			w.Hop = h
		}
	}
	return w
}

func randomAggregations(r *rand.Rand) []Aggregation {
	var aggs []Aggregation
	for range 1 + r.IntN(6) {
		a := Aggregation{Func: Func(r.IntN(int(SumBy) + 1)), Where: -1, By: -1, N: 1 + r.IntN(4)}
		if a.Func == ApproxDistinctCount || a.Func == ApproxPercentile {
			continue // told by TestSketches
		}
		if a.Input = r.IntN(3); a.Func == Count && r.IntN(2) == 0 || a.Func == CountBy {
			a.Input = -1
		}
		if a.Func == SumBy || a.Func == Sum || a.Func >= Mean && a.Func <= StddevPop && a.Func != Min && a.Func != Max {
			a.Input = r.IntN(2)
		}
		if a.Input >= 0 {
			a.Type = inputs[a.Input].Type
		}
		if r.IntN(3) == 0 {
			a.Where = 3
		}
		if a.Func == CountBy || a.Func == SumBy {
			a.By, a.ByType, a.N = 2, feature.TypeString, 2+r.IntN(3)
		}
		for range 1 + r.IntN(4) {
			a.Windows = append(a.Windows, randomWindow(r))
		}
		aggs = append(aggs, a)
	}
	return aggs
}

func randomEvents(r *rand.Rand, n int) []event {
	null := func(v feature.Value) feature.Value {
		if r.IntN(6) == 0 {
			return feature.Value{}
		}
		return v
	}
	spread := []int64{5 * minute, 3 * 60 * minute, 20 * 24 * 60 * minute}[r.IntN(3)]
	base := []int64{0, 1_700_000_000_000_000}[r.IntN(2)]
	wild := r.IntN(3) == 0
	events := make([]event, n)
	for i := range events {
		at := base + r.Int64N(spread)
		if r.IntN(4) == 0 {
			at = floorTo(at, minute) // on the edge of a hop
		}
		e := event{version: feature.Version{EventTime: at, IngestedAt: at + r.Int64N(3), Major: r.Int64N(2), Minor: int64(i)}}
		n := int64(r.IntN(7) - 3)
		x := float64(r.IntN(20)) / 4
		if wild {
			n = []int64{math.MaxInt64, math.MinInt64, 1, -1, 0}[r.IntN(5)]
			x = randomFloat(r)
			if r.IntN(12) == 0 {
				x = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[r.IntN(3)]
			}
		}
		e.n, e.x = null(feature.OfInt64(n)), null(feature.OfFloat64(x))
		e.s = null(feature.OfString([]string{"", "a", "b", "c\x00", "zoë"}[r.IntN(5)]))
		e.ok = null(feature.OfBool(r.IntN(2) == 0))
		events[i] = e
	}
	return events
}

// Every feature of random plans over random streams (late, reordered, on the edges
// of hops, null, extreme) equals the oracle, at the newest event and long after
// it, also when the state was encoded and decoded on the way.
func TestValuesEqualTheDefinition(t *testing.T) {
	r := seeded(t)
	var scratch Scratch
	for round := range 1000 {
		aggs := randomAggregations(r)
		if len(aggs) == 0 {
			continue
		}
		p, err := Compile(aggs)
		if err != nil {
			t.Fatalf("round %d: %+v: %v", round, aggs, err)
		}
		events := randomEvents(r, r.IntN(60))
		if r.IntN(2) == 0 { // a stream that is mostly in order
			slices.SortFunc(events, func(a, b event) int {
				return int(a.version.EventTime/minute/30 - b.version.EventTime/minute/30)
			})
		}
		b := batchOf(events)
		s := &State{}
		for i := range events {
			p.Add(s, Row{Version: b.Versions[i], Columns: b.Columns, Index: i})
			if r.IntN(10) == 0 {
				s = reload(t, p, s)
			}
			if r.IntN(4) == 0 || i == len(events)-1 {
				newest, _ := s.Newest()
				at := newest + []int64{0, 1, minute, 61 * minute, 36 * 60 * minute, r.Int64N(40 * 24 * 60 * minute)}[r.IntN(6)]
				compare(t, fmt.Sprintf("round %d", round), p, aggs, s, &scratch, events[:i+1], at)
			}
		}
	}
}

func reload(t *testing.T, p *Plan, s *State) *State {
	t.Helper()
	encoded := p.Append(nil, s)
	back, err := p.Decode(encoded)
	if err != nil {
		t.Fatalf("%x: %v", encoded, err)
	}
	// A frequency sketch writes its counts in the order of a hash table.
	top := slices.ContainsFunc(p.groups, func(g group) bool { return g.top > 0 })
	if again := p.Append(nil, back); !top && !bytes.Equal(encoded, again) {
		t.Fatalf("%x comes back as %x", encoded, again)
	}
	return back
}

func compare(t *testing.T, where string, p *Plan, aggs []Aggregation, s *State, scratch *Scratch, events []event, at int64) {
	t.Helper()
	got, found := p.Values(s, at, scratch, nil)
	wantFound := false
	longest := slices.MaxFunc(p.windows, func(a, b Window) int { return cmpDuration(a.Length, b.Length) })
	i := 0
	for _, a := range aggs {
		for _, w := range a.Windows {
			want := oracle(a, w, events, at)
			if !got[i].Equal(want) || got[i].IsInvalid() != want.IsInvalid() {
				t.Fatalf("%s: %+v over %s hop %s at %d of %d events: %v (invalid %v), want %v (invalid %v)", where, a, w.Length, w.Hop, at, len(events), got[i], got[i].IsInvalid(), want, want.IsInvalid())
			}
			i++
		}
	}
	for _, e := range events {
		wantFound = wantFound || e.version.EventTime > longest.tail(at)
	}
	tied := 0 // two windows of the greatest length may differ in their hops
	for _, w := range p.windows {
		if w.Length == longest.Length {
			tied++
		}
	}
	if found != wantFound && tied == 1 {
		t.Fatalf("%s: found %v, want %v", where, found, wantFound)
	}
}

func TestLateEventsAreSaid(t *testing.T) {
	p, err := Compile([]Aggregation{{Func: Count, Input: -1, Where: -1, By: -1, Windows: []Window{{feature.Hour, feature.Minute}}}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(micros int64) Row { return Row{Version: feature.Version{EventTime: micros}} }
	s := &State{}
	if out := p.Add(s, at(1000*minute)); out.Late {
		t.Error("the first event is late")
	}
	if out := p.Add(s, at(940*minute+1)); out.Late {
		t.Error("an event in the window is late")
	}
	if out := p.Add(s, at(940*minute)); !out.Late {
		t.Error("an event at the tail, which the window leaves out, is not late")
	}
	values, _ := p.Values(s, 0, &Scratch{}, nil)
	if values[0].Int64() != 2 {
		t.Errorf("count %v", values[0])
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, a := range []Aggregation{
		{Func: Sum, Input: -1, Windows: []Window{{feature.Hour, feature.Minute}}},
		{Func: Sum, Type: feature.TypeString, Windows: []Window{{feature.Hour, feature.Minute}}},
		{Func: Count, Input: -1, Windows: []Window{{feature.Minute, feature.Hour}}},
		{Func: Count, Input: -1, Windows: []Window{{feature.Minute, 0}}},
		{Func: Count, Input: -1},
	} {
		if _, err := Compile([]Aggregation{a}); err == nil {
			t.Errorf("%+v was compiled", a)
		}
	}
}

// Sketches stay within their stated errors, also when merged over many tiles.
func TestSketches(t *testing.T) {
	r := seeded(t)
	w := []Window{{feature.Day, feature.Hour}}
	p, err := Compile([]Aggregation{
		{Func: ApproxDistinctCount, Input: 0, Type: feature.TypeInt64, Where: -1, By: -1, Windows: w},
		{Func: ApproxPercentile, Input: 1, Type: feature.TypeFloat64, N: 90, Where: -1, By: -1, Windows: w},
		{Func: ApproxDistinctCount, Input: 2, Type: feature.TypeString, Where: -1, By: -1, Windows: w},
	})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	events := make([]event, n)
	for i := range events {
		events[i] = event{version: feature.Version{EventTime: r.Int64N(int64(feature.Day)) + 1, Minor: int64(i)},
			n: feature.OfInt64(int64(i)), x: feature.OfFloat64(r.Float64()), s: feature.OfString(fmt.Sprint("", i%2000))}
	}
	b := batchOf(events)
	s := &State{}
	for i := range events {
		p.Add(s, Row{Version: b.Versions[i], Columns: b.Columns, Index: i})
	}
	s = reload(t, p, s)
	got, _ := p.Values(s, int64(feature.Day), &Scratch{}, nil)
	if d := math.Abs(float64(got[0].Int64())/n - 1); d > 0.05 { // three standard errors
		t.Errorf("%v distinct of %d", got[0], n)
	}
	if d := math.Abs(got[1].Float64() - 0.9); d > 0.03 {
		t.Errorf("the 90th percentile of uniform numbers is %v", got[1])
	}
	if d := math.Abs(float64(got[2].Int64())/2000 - 1); d > 0.05 {
		t.Errorf("%v distinct texts of 2000", got[2])
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	w := []Window{{feature.Hour, feature.Minute}, {feature.Lifetime, 0}}
	var aggs []Aggregation
	for fn := Count; fn <= SumBy; fn++ {
		a := Aggregation{Func: fn, Input: 1, Type: feature.TypeFloat64, Where: -1, By: -1, N: 3, Windows: w}
		if fn >= CountBy {
			a.By, a.ByType = 2, feature.TypeString
		}
		aggs = append(aggs, a)
	}
	p, err := Compile(aggs)
	if err != nil {
		f.Fatal(err)
	}
	s := &State{}
	b := batchOf(randomEvents(r, 20))
	for i := range b.Rows {
		p.Add(s, Row{Version: b.Versions[i], Columns: b.Columns, Index: i})
	}
	f.Add(p.Append(nil, s))
	f.Add([]byte{stateVersion})
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := p.Decode(src)
		if err != nil {
			return
		}
		newest, _ := s.Newest()
		p.Values(s, newest, &Scratch{}, nil)
	})
}
