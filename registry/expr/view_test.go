package expr

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

func flights() *registry.Project {
	columns := []registry.SourceColumn{
		{Field: feature.Field{Name: "unused", Type: feature.TypeString}}, {Field: feature.Field{Name: "delay", Type: feature.TypeInt64}},
		{Field: feature.Field{Name: "origin", Type: feature.TypeString}}, {Field: feature.Field{Name: "distance", Type: feature.TypeInt64}},
		{Field: feature.Field{Name: "date", Type: feature.TypeTimestamp}},
	}
	f := func(name string, t feature.Type, expr string) registry.Feature {
		return registry.Feature{Field: feature.Field{Name: name, Type: t}, Expr: expr}
	}
	return &registry.Project{
		Entities: []registry.Entity{{Meta: registry.Meta{Name: "airport"}, JoinKeys: []feature.Field{{Name: "origin", Type: feature.TypeString}}}},
		Sources:  []registry.Source{{Meta: registry.Meta{Name: "departures"}, Timestamp: "date", Columns: columns}},
		Views: []registry.FeatureView{
			{Meta: registry.Meta{Name: "latest"}, Entities: []string{"airport"}, Source: "departures", Filter: "1000 / distance > 0 || delay > 100",
				Features: []registry.Feature{f("last_delay", feature.TypeInt64, "delay"), f("speed", feature.TypeInt64, "distance / delay"), f("from", feature.TypeString, "origin")}},
			{Meta: registry.Meta{Name: "world"}, Source: "departures", Features: []registry.Feature{f("delay", feature.TypeInt64, "delay")}},
		},
		OnDemand: []registry.OnDemandView{{Meta: registry.Meta{Name: "trend"}, Inputs: []string{"latest", "world"}, Request: []feature.Field{{Name: "limit", Type: feature.TypeInt64}},
			Features: []registry.Feature{f("worse", feature.TypeBool, "latest.last_delay > world.delay + limit"), f("same", feature.TypeInt64, "latest.last_delay")}}},
	}
}

func TestApply(t *testing.T) {
	p := flights()
	v, err := CompileView(p, &p.Views[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Columns(); len(got) != 3 || got[0] != 1 || got[1] != 2 || got[2] != 3 {
		t.Fatalf("columns %v", got)
	}
	in := feature.NewBatch(p.Sources[0].Fields(), 0)
	in.Columns[0], in.Columns[4] = nil, nil
	i, null := feature.OfInt64, feature.Value{}
	for n, r := range []struct{ delay, origin, distance feature.Value }{
		{i(5), feature.OfString("SFO"), i(100)},   // taken
		{i(5), feature.OfString("SFO"), i(5000)},  // false
		{i(5), feature.OfString("SFO"), null},     // the filter is null
		{i(5), feature.OfString("SFO"), i(0)},     // the filter is invalid
		{i(500), feature.OfString("JFK"), i(0)},   // invalid || true
		{i(0), feature.OfString("JFK"), i(10)},    // speed is invalid
		{null, feature.OfString(""), i(10)},       // speed is null
		{i(5), null, i(10)},                       // no key
		{i(-7), feature.OfString("LAX"), i(1000)}, // taken
	} {
		in.Columns[1].Append(r.delay)
		in.Columns[2].Append(r.origin)
		in.Columns[3].Append(r.distance)
		in.Versions = append(in.Versions, feature.Version{EventTime: int64(n)})
		in.Rows++
	}
	out := feature.NewBatch(v.Fields(), 0)
	for range 2 { // the second time, after what is there
		if got, want := v.Apply(in, out), (Stats{Rows: 9, Filtered: 3, NullKeys: 1, Invalid: 2}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	var got []string
	for r := range out.Rows {
		row := []string{feature.OfInt64(out.Versions[r].EventTime).String()}
		for _, c := range out.Columns {
			row = append(row, c.Name+"="+c.Value(r).String())
			if c.Value(r).IsInvalid() {
				row = append(row, "(invalid)")
			}
		}
		got = append(got, strings.Join(row, " "))
	}
	want := []string{
		"0 origin=SFO last_delay=5 speed=20 from=SFO", "4 origin=JFK last_delay=500 speed=0 from=JFK", "5 origin=JFK last_delay=0 speed=null (invalid) from=JFK",
		"6 origin= last_delay=null speed=null from=", "8 origin=LAX last_delay=-7 speed=-142 from=LAX",
	}
	if s := strings.Join(got, "\n"); s != strings.Join(append(want, want...), "\n") {
		t.Errorf("got\n%s", s)
	}
}

func TestApplyWithoutKeysAndRows(t *testing.T) {
	p := flights()
	v, err := CompileView(p, &p.Views[1])
	if err != nil {
		t.Fatal(err)
	}
	in, out := feature.NewBatch(p.Sources[0].Fields(), 0), feature.NewBatch(v.Fields(), 0)
	if got := v.Apply(in, out); got != (Stats{}) || out.Rows != 0 {
		t.Errorf("%+v, %d rows", got, out.Rows)
	}
	in.Columns[1].Append(feature.OfInt64(1))
	in.Versions, in.Rows = []feature.Version{{}}, 1
	if got := v.Apply(in, out); got != (Stats{Rows: 1}) || out.Rows != 1 || len(out.Versions) != 1 {
		t.Errorf("%+v, %d rows", got, out.Rows)
	}
	// A filter that selects nothing is not a missing one.
	p.Views[1].Filter = "delay > 1"
	if v, err = CompileView(p, &p.Views[1]); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if got := v.Apply(in, out); got != (Stats{Rows: 1, Filtered: 1}) || out.Rows != 0 || out.Columns[0].Len != 0 {
		t.Errorf("%+v, %d rows", got, out.Rows)
	}
}

func TestCompileViewErrors(t *testing.T) {
	for _, c := range []struct {
		breaks func(*registry.Project)
		want   string
	}{
		{func(p *registry.Project) { p.Views[0].Source = "x" }, `there is no source "x"`},
		{func(p *registry.Project) { p.Views[0].Entities[0] = "x" }, `there is no entity "x"`},
		{func(p *registry.Project) { p.Entities[0].JoinKeys[0].Type = feature.TypeInt64 }, `no column "origin" of type int64`},
		{func(p *registry.Project) { p.Views[0].Filter = "x" }, `filter: at 1: there is no column "x"`},
		{func(p *registry.Project) { p.Views[0].Features[1].Expr = "speed" }, `feature "speed": at 1`},
		{func(p *registry.Project) {
			p.Views[0].Aggregations = []registry.Aggregation{{}}
			p.Views[0].Inputs = []registry.Feature{{Field: feature.Field{Name: "late", Type: feature.TypeBool}, Expr: "late > 3"}}
		}, `input "late": at 1`},
	} {
		p := flights()
		c.breaks(p)
		if _, err := CompileView(p, &p.Views[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestOnDemand(t *testing.T) {
	p := flights()
	programs, err := CompileOnDemand(p, &p.OnDemand[0])
	if err != nil {
		t.Fatal(err)
	}
	worse := programs[0]
	if in := worse.Inputs(); len(in) != 3 || in[0] != (Input{"latest", "last_delay", feature.TypeInt64}) || in[2] != (Input{"", "limit", feature.TypeInt64}) {
		t.Fatalf("inputs %v", in)
	}
	if in := programs[1].Inputs(); len(in) != 1 || in[0].String() != "latest.last_delay" {
		t.Fatalf("inputs %v", in)
	}
	p.OnDemand[0].Features[0].Expr = "limit > latest.lats_delay"
	if _, err := CompileOnDemand(p, &p.OnDemand[0]); err == nil || !strings.Contains(err.Error(), "last_delay") {
		t.Errorf("%v", err)
	}
}

// TestCopyRows: copying many rows is appending them one by one.
func TestCopyRows(t *testing.T) {
	g := newRand(t)
	for range 200 {
		for _, typ := range []feature.Type{feature.TypeInt64, feature.TypeString, feature.ListOf(feature.Int64)} {
			in, one, many := feature.NewColumn("in", typ, 0), feature.NewColumn("one", typ, 0), feature.NewColumn("many", typ, 0)
			rows := g.IntN(200)
			for n := range rows {
				switch {
				case g.IntN(3) == 0:
					in.AppendNull()
				case g.IntN(5) == 0:
					in.AppendInvalid()
				case typ == feature.TypeInt64:
					in.Append(feature.OfInt64(int64(n)))
				case typ == feature.TypeString:
					in.Append(feature.OfString("text"[:n%4]))
				default:
					in.Append(ints(int64(n)))
				}
			}
			for range 2 {
				var sel []int
				if g.IntN(2) == 0 {
					sel = []int{}
				}
				invalid := 0
				for n := range rows {
					if sel != nil && g.IntN(2) == 0 {
						continue
					}
					if sel != nil {
						sel = append(sel, n)
					}
					one.AppendRow(in, n)
					if in.Value(n).IsInvalid() {
						invalid++
					}
				}
				if got := copyRows(in, rows, sel, many); got != invalid {
					t.Fatalf("%d invalid, want %d", got, invalid)
				}
			}
			if one.Len != many.Len {
				t.Fatalf("%d rows, want %d", many.Len, one.Len)
			}
			for n := range one.Len {
				if a, b := one.Value(n), many.Value(n); !a.Equal(b) || a.IsInvalid() != b.IsInvalid() {
					t.Fatalf("row %d of %s: %v, want %v", n, typ, b, a)
				}
			}
		}
	}
}

// TestConcurrent runs one program in many goroutines; the race detector watches.
func TestConcurrent(t *testing.T) {
	scope := testScope(t)
	p, err := Compile("ns.map(n, ns.filter(m, m < n).size()).exists(k, k == 2) && s.replace('a', 'b').contains('b')", scope, feature.TypeBool)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				in := make([]*feature.Column, len(p.Inputs()))
				for i, input := range p.Inputs() {
					v := ints(rand.Int64N(3), 4, 5)
					if input.Name == "s" {
						v = feature.OfString("cat")
					}
					in[i] = one(input.Name, input.Type, v)
				}
				out := feature.NewColumn("out", feature.TypeBool, 1)
				if p.Eval(in, 1, out); !out.Value(0).Bool() {
					t.Error("false")
				}
				if _, err := Compile("a + 1", scope, feature.TypeInt64); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
