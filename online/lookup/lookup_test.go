package lookup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/embedded"
	"github.com/forebay/forebay/online/redis"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second = int64(1e6)

func field(name string, t feature.Type) feature.Field { return feature.Field{Name: name, Type: t} }

func feat(name string, t feature.Type, expr string) registry.Feature {
	return registry.Feature{Field: field(name, t), Expr: expr}
}

func meta(name string) registry.Meta { return registry.Meta{Name: name} }

// project has a view of one key, with and without a ttl, one of two keys, one without
// entities, and on-demand features over them.
func project() *registry.Project {
	return &registry.Project{
		Name: "flights",
		Entities: []registry.Entity{
			{Meta: meta("airport"), JoinKeys: []feature.Field{field("origin", feature.TypeString)}},
			{Meta: meta("route"), JoinKeys: []feature.Field{field("origin", feature.TypeString), field("flight", feature.TypeInt64)}},
		},
		Views: []registry.FeatureView{
			{Meta: meta("airport_latest"), Entities: []string{"airport"}, TTL: 100 * feature.Second, Features: []registry.Feature{
				feat("delay", feature.TypeInt64, "d"), feat("city", feature.TypeString, "c"), feat("busy", feature.TypeBool, "b"), feat("recent", feature.ListOf(feature.Int64), "r"),
			}},
			{Meta: meta("route_latest"), Entities: []string{"route"}, Features: []registry.Feature{feat("minutes", feature.TypeFloat64, "m")}},
			{Meta: meta("world"), TTL: feature.Lifetime, Features: []registry.Feature{feat("airborne", feature.TypeInt64, "a")}},
		},
		OnDemand: []registry.OnDemandView{
			{
				Meta: meta("trend"), Inputs: []string{"airport_latest", "world"}, Request: []feature.Field{field("planned", feature.TypeInt64)},
				Features: []registry.Feature{
					feat("late", feature.TypeInt64, "airport_latest.delay - planned"),
					feat("share", feature.TypeInt64, "airport_latest.delay / world.airborne"),
					feat("known", feature.TypeBool, "airport_latest.delay != null"),
				},
			},
			{
				Meta: meta("verdict"), Inputs: []string{"trend"},
				Features: []registry.Feature{feat("bad", feature.TypeBool, "trend.late > 10")},
			},
		},
		Services: []registry.Service{{Meta: meta("all"), Features: []registry.ServiceFeature{
			{Ref: registry.Ref{View: "airport_latest"}},
			{Ref: registry.Ref{View: "route_latest"}},
			{Ref: registry.Ref{View: "world"}},
			{Ref: registry.Ref{View: "trend"}},
			{Ref: registry.Ref{View: "verdict"}},
			{Ref: registry.Ref{View: "airport_latest"}, Prefix: "dest_", Keys: []registry.KeyRename{{JoinKey: "origin", To: "destination"}}},
		}}},
	}
}

func planOf(t testing.TB, p *registry.Project, req selection.Request) *Plan {
	t.Helper()
	sel, err := selection.Resolve(t.Context(), p, req, func(_ context.Context, view string, number int) (registry.ViewGeneration, error) {
		return registry.ViewGeneration{Project: p, View: p.View(view), Number: max(number, 1)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(sel)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// counting counts the calls of a store.
type counting struct {
	online.Store
	gets, keys int
}

func (c *counting) Get(ctx context.Context, keys []online.Key, dst [][]byte) error {
	c.gets, c.keys = c.gets+1, c.keys+len(keys)
	return c.Store.Get(ctx, keys, dst)
}

func openStore(t testing.TB) *counting {
	t.Helper()
	s, err := embedded.Open(embedded.Options{Dir: t.TempDir(), Project: "flights", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &counting{Store: s}
}

// put writes a row of a view.
func put(t testing.TB, s online.Store, p *registry.Project, view string, key []feature.Value, event int64, values ...feature.Value) {
	t.Helper()
	g := registry.ViewGeneration{Project: p, View: p.View(view), Number: 1}
	var entity []byte
	for i, v := range key {
		entity = feature.AppendKey(entity, v, i == len(key)-1)
	}
	var cols []*feature.Column
	for i, f := range g.View.Features {
		c := feature.NewColumn(f.Name, f.Type, 1)
		c.Append(values[i])
		cols = append(cols, c)
	}
	rec, err := rowcodec.For(g).Append(nil, feature.Version{EventTime: event}, cols, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, online.Record{Key: online.Key{View: view, Generation: 1, Entity: entity}, Value: rec})
}

func write(t testing.TB, s online.Store, records ...online.Record) {
	t.Helper()
	if _, err := s.Write(context.Background(), records, online.Always); err != nil {
		t.Fatal(err)
	}
}

func column(t feature.Type, vs ...feature.Value) *feature.Column {
	c := feature.NewColumn("", t, len(vs))
	for _, v := range vs {
		c.Append(v)
	}
	return c
}

var (
	str  = feature.OfString
	i64  = feature.OfInt64
	null = feature.Value{}
)

// answer is one value with its status and event time.
type answer struct {
	value  string
	status feature.Status
	event  int64
}

func answers(r *Result, name string, sel *selection.Selection) (as []answer) {
	for i, o := range sel.Outputs {
		if o.Name != name {
			continue
		}
		for row := range r.Rows {
			as = append(as, answer{r.Columns[i].Value(row).String(), r.Statuses[i][row], r.EventTimes[i][row]})
		}
	}
	return as
}

func TestLookup(t *testing.T) {
	p, s := project(), openStore(t)
	now := 1000 * second
	list := feature.OfList(feature.Int64, []feature.Value{i64(1), i64(2)})
	put(t, s, p, "airport_latest", []feature.Value{str("SFO")}, 950*second, i64(30), str("San Francisco"), feature.OfBool(true), list)
	put(t, s, p, "airport_latest", []feature.Value{str("JFK")}, 900*second, i64(7), null, feature.OfBool(false), null) // just young enough
	put(t, s, p, "airport_latest", []feature.Value{str("LAX")}, 900*second-1, i64(8), str("too old"), feature.OfBool(true), list)
	put(t, s, p, "airport_latest", []feature.Value{str("SEA")}, 1030*second, feature.Invalid(), str("ahead"), null, list)
	put(t, s, p, "route_latest", []feature.Value{str("SFO"), i64(1)}, 1, feature.OfFloat64(90.5))
	put(t, s, p, "world", nil, 5*second, i64(0))

	plan := planOf(t, p, selection.Request{Service: "all"})
	sel := plan.Selection()
	if names := []string{sel.Keys[0].Name, sel.Keys[1].Name, sel.Keys[2].Name}; !slices.Equal(names, []string{"origin", "flight", "destination"}) {
		t.Fatalf("keys %v", names)
	}
	req := Request{
		Keys: []*feature.Column{
			column(feature.TypeString, str("SFO"), str("JFK"), str("LAX"), str("SEA"), str("???"), null, str("SFO")),
			column(feature.TypeInt64, i64(1), i64(1), i64(1), null, i64(1), i64(1), i64(1)),
			column(feature.TypeString, str("JFK"), str("SFO"), str("SFO"), str("SFO"), str("SFO"), str("SFO"), str("JFK")),
		},
		Request: []*feature.Column{column(feature.TypeInt64, i64(10), i64(-90), i64(1), i64(1), i64(1), i64(1), null)},
		Rows:    7,
		Now:     now,
	}
	const (
		pr, nv, nf, old, inv = feature.Present, feature.NullValue, feature.NotFound, feature.OutsideMaxAge, feature.StatusInvalid
		sfo, jfk, lax, sea   = 950 * second, 900 * second, 900*second - 1, 1030 * second
	)
	for range 3 { // the memory of a result is used again
		r, err := Lookup(t.Context(), s, plan, req)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]answer{
			"delay":      {{"30", pr, sfo}, {"7", pr, jfk}, {"null", old, lax}, {"null", inv, sea}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"30", pr, sfo}},
			"city":       {{"San Francisco", pr, sfo}, {"null", nv, jfk}, {"null", old, lax}, {"ahead", pr, sea}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"San Francisco", pr, sfo}},
			"busy":       {{"true", pr, sfo}, {"false", pr, jfk}, {"null", old, lax}, {"null", nv, sea}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"true", pr, sfo}},
			"recent":     {{"[1,2]", pr, sfo}, {"null", nv, jfk}, {"null", old, lax}, {"[1,2]", pr, sea}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"[1,2]", pr, sfo}},
			"minutes":    {{"90.5", pr, 1}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"null", nf, NoTime}, {"90.5", pr, 1}},
			"airborne":   {{"0", pr, 5 * second}, {"0", pr, 5 * second}, {"0", pr, 5 * second}, {"0", pr, 5 * second}, {"0", pr, 5 * second}, {"0", pr, 5 * second}, {"0", pr, 5 * second}},
			"late":       {{"20", pr, sfo}, {"97", pr, jfk}, {"null", nv, lax}, {"null", inv, sea}, {"null", nv, NoTime}, {"null", nv, NoTime}, {"null", nv, sfo}},
			"known":      {{"true", pr, sfo}, {"true", pr, jfk}, {"false", pr, lax}, {"false", pr, sea}, {"false", pr, NoTime}, {"false", pr, NoTime}, {"true", pr, sfo}},
			"bad":        {{"true", pr, sfo}, {"true", pr, jfk}, {"null", nv, lax}, {"null", inv, sea}, {"null", nv, NoTime}, {"null", nv, NoTime}, {"null", nv, sfo}},
			"dest_delay": {{"7", pr, jfk}, {"30", pr, sfo}, {"30", pr, sfo}, {"30", pr, sfo}, {"30", pr, sfo}, {"30", pr, sfo}, {"7", pr, jfk}},
		} {
			if got := answers(r, name, sel); !slices.Equal(got, want) {
				t.Errorf("%s:\n%v, want\n%v", name, got, want)
			}
		}
		if share := answers(r, "share", sel); share[0] != (answer{"null", inv, sfo}) { // a division by zero
			t.Errorf("share: %v", share)
		}
		if r.Instant != sea {
			t.Errorf("instant %d, want that of the event ahead of the clock, %d", r.Instant, sea)
		}
		if r.Corrupt != 0 || r.CorruptErr != nil {
			t.Errorf("%d corrupt: %v", r.Corrupt, r.CorruptErr)
		}
		r.Release()
	}
	// SFO, JFK, LAX, SEA and ??? of one view, four routes and the world, once each, in one call.
	if s.gets != 3 || s.keys != 3*(5+4+1) {
		t.Errorf("%d calls with %d keys", s.gets, s.keys)
	}
}

func TestCorruptRecords(t *testing.T) {
	p, s := project(), openStore(t)
	plan := planOf(t, p, selection.Request{Features: []string{"airport_latest:delay", "airport_latest:recent"}})
	for _, e := range []string{"good", "cut", "kind", "alien"} {
		put(t, s, p, "airport_latest", []feature.Value{str(e)}, second, i64(1), null, null, null)
	}
	change := func(entity string, f func([]byte) []byte) {
		k := online.Key{View: "airport_latest", Generation: 1, Entity: []byte(entity)}
		dst := make([][]byte, 1)
		if err := s.Store.Get(t.Context(), []online.Key{k}, dst); err != nil {
			t.Fatal(err)
		}
		write(t, s, online.Record{Key: k, Value: f(dst[0])})
	}
	change("cut", func(b []byte) []byte { return b[:len(b)-9] })
	change("kind", func(b []byte) []byte { b[0] = 77; return b })
	alien := project()
	alien.Name = "trains"
	put(t, s, alien, "airport_latest", []feature.Value{str("alien")}, second, i64(1), null, null, null)
	req := Request{
		Keys: []*feature.Column{column(feature.TypeString, str("good"), str("cut"), str("kind"), str("alien"), str("cut"))},
		Rows: 5, Now: 2 * second,
	}
	r, err := Lookup(t.Context(), s, plan, req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	broken := answer{"null", feature.StatusInvalid, NoTime}
	if got, want := answers(r, "delay", plan.Selection()), []answer{{"1", feature.Present, second}, broken, broken, broken, broken}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if r.Corrupt != 3 || !errors.Is(r.CorruptErr, rowcodec.ErrCorrupt) {
		t.Errorf("%d corrupt, want 3: %v", r.Corrupt, r.CorruptErr)
	}
}

func TestAbsentFeature(t *testing.T) {
	p, s := project(), openStore(t)
	old := project()
	old.Views[0].Features = old.Views[0].Features[1:] // without delay
	put(t, s, old, "airport_latest", []feature.Value{str("SFO")}, second, str("San Francisco"), null, null)
	sel, err := selection.Resolve(t.Context(), p, selection.Request{Features: []string{"airport_latest", "trend:known"}}, func(_ context.Context, view string, _ int) (registry.ViewGeneration, error) {
		return registry.ViewGeneration{Project: old, View: old.View(view), Number: 1}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(sel)
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Keys: []*feature.Column{column(feature.TypeString, str("SFO"))}, Rows: 1, Now: second}
	for range sel.Request {
		req.Request = append(req.Request, column(feature.TypeInt64, i64(1)))
	}
	for range 2 {
		r, err := Lookup(t.Context(), s, plan, req)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]answer{
			"delay": {"null", feature.NotFound, NoTime},
			"city":  {"San Francisco", feature.Present, second},
			"known": {"false", feature.Present, NoTime},
		} {
			if got := answers(r, name, sel); !slices.Equal(got, []answer{want}) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		r.Release()
	}
}

func TestBadRequest(t *testing.T) {
	p, s := project(), openStore(t)
	plan := planOf(t, p, selection.Request{Features: []string{"airport_latest:delay"}})
	for _, req := range []Request{
		{Rows: 1},
		{Rows: 1, Keys: []*feature.Column{column(feature.TypeInt64, i64(1))}},
		{Rows: 2, Keys: []*feature.Column{column(feature.TypeString, str("a"))}},
		{Rows: 1, Keys: []*feature.Column{column(feature.TypeString, str("a"))}, Request: []*feature.Column{column(feature.TypeInt64)}},
	} {
		if _, err := Lookup(t.Context(), s, plan, req); err == nil {
			t.Errorf("%+v: no error", req)
		}
	}
	r, err := Lookup(t.Context(), s, plan, Request{Keys: []*feature.Column{column(feature.TypeString)}})
	if err != nil || r.Rows != 0 {
		t.Errorf("no rows: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	req := Request{Rows: 1, Keys: []*feature.Column{column(feature.TypeString, str("a"))}}
	if _, err := Lookup(t.Context(), s, plan, req); !errors.Is(err, online.ErrClosed) {
		t.Errorf("of a closed store: %v", err)
	}
}

// TestRandom compares with an oracle that looks at one row and one value at a time.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	p, s := project(), openStore(t)
	type row struct {
		event  int64
		values []feature.Value
	}
	const entities = 40
	rows := map[string]row{}
	for e := range entities / 2 {
		r := row{event: rnd.Int64N(2000) * second}
		for _, f := range p.Views[0].Features {
			v := null
			switch rnd.IntN(4) {
			case 0:
				v = feature.Invalid()
			case 1, 2:
				v = map[string]feature.Value{"delay": i64(rnd.Int64()), "city": str(fmt.Sprint("city", e)), "busy": feature.OfBool(true),
					"recent": feature.OfList(feature.Int64, []feature.Value{i64(int64(e))})}[f.Name]
			}
			r.values = append(r.values, v)
		}
		rows[fmt.Sprint(e)] = r
		put(t, s, p, "airport_latest", []feature.Value{str(fmt.Sprint(e))}, r.event, r.values...)
	}
	plan := planOf(t, p, selection.Request{Features: []string{"airport_latest:recent", "airport_latest:city", "airport_latest:delay", "airport_latest:busy"}})
	features := []int{3, 1, 0, 2}
	for range 200 {
		now := rnd.Int64N(2200) * second
		keys := feature.NewColumn("origin", feature.TypeString, 0)
		var asked []string
		for range rnd.IntN(30) {
			e := fmt.Sprint(rnd.IntN(entities))
			if rnd.IntN(10) == 0 {
				asked = append(asked, "null")
				keys.AppendNull()
				continue
			}
			asked = append(asked, e)
			keys.Append(str(e))
		}
		r, err := Lookup(t.Context(), s, plan, Request{Keys: []*feature.Column{keys}, Rows: len(asked), Now: now})
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range asked {
			for out, f := range features {
				want := answer{"null", feature.NotFound, NoTime}
				if row, ok := rows[e]; ok {
					instant := max(now, row.event)
					if row.event >= instant-100*second {
						want = answer{row.values[f].String(), feature.StatusOf(row.values[f]), row.event}
					} else {
						want = answer{"null", feature.OutsideMaxAge, row.event}
					}
				}
				if got := (answer{r.Columns[out].Value(i).String(), r.Statuses[out][i], r.EventTimes[out][i]}); got != want {
					t.Fatalf("at %d, entity %s, output %d: %v, want %v", now, e, out, got, want)
				}
			}
		}
		r.Release()
	}
}

// nothing is a store that answers at once, to see what a lookup itself costs.
type nothing struct {
	online.Store
	record []byte
}

func (n nothing) Get(_ context.Context, keys []online.Key, dst [][]byte) error {
	for i := range keys {
		dst[i] = n.record
	}
	return nil
}

// wide is a project of one view with n float64 features, and the record of a row of it.
func wide(t testing.TB, n int) (*registry.Project, []byte) {
	p := &registry.Project{
		Name:     "bench",
		Entities: []registry.Entity{{Meta: meta("user"), JoinKeys: []feature.Field{field("user_id", feature.TypeInt64)}}},
		Views:    []registry.FeatureView{{Meta: meta("stats"), Entities: []string{"user"}, TTL: feature.Day}},
	}
	var cols []*feature.Column
	for i := range n {
		f := feat(fmt.Sprintf("feature_%d", i), feature.TypeFloat64, "x")
		p.Views[0].Features = append(p.Views[0].Features, f)
		cols = append(cols, column(f.Type, feature.OfFloat64(rand.Float64())))
	}
	rec, err := rowcodec.For(registry.ViewGeneration{Project: p, View: &p.Views[0], Number: 1}).Append(nil, feature.Version{EventTime: second}, cols, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p, rec
}

func users(n int, id func(int) int64) []*feature.Column {
	c := feature.NewColumn("user_id", feature.TypeInt64, n)
	for i := range n {
		c.Append(i64(id(i)))
	}
	return []*feature.Column{c}
}

// TestAllocations holds that a lookup allocates nothing for a row or a value,
// beyond what the store does.
func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget at random")
	}
	for _, rows := range []int{1, 100} {
		p, rec := wide(t, 50)
		plan := planOf(t, p, selection.Request{Features: []string{"stats"}})
		req := Request{Keys: users(rows, func(i int) int64 { return int64(i) }), Rows: rows, Now: 2 * second}
		s := nothing{record: rec}
		n := testing.AllocsPerRun(100, func() {
			r, err := Lookup(context.Background(), s, plan, req)
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

func benchmarkStore(b *testing.B, s online.Store) {
	const entities = 10_000
	p, rec := wide(b, 50)
	plan := planOf(b, p, selection.Request{Features: []string{"stats"}})
	var records []online.Record
	for i := range entities {
		k := feature.AppendKey(nil, i64(int64(i)), true)
		records = append(records, online.Record{Key: online.Key{View: "stats", Generation: 1, Entity: k}, Value: rec})
	}
	write(b, s, records...)
	for _, rows := range []int{1, 100} {
		b.Run(fmt.Sprintf("%dx50", rows), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				start := rand.IntN(entities)
				req := Request{Rows: rows, Now: 2 * second}
				req.Keys = users(rows, func(i int) int64 { return int64((start + i*97) % entities) })
				nums := req.Keys[0].Nums
				for pb.Next() {
					for i := range nums {
						nums[i] = (nums[i] + 31) % entities
					}
					r, err := Lookup(b.Context(), s, plan, req)
					if err != nil || r.Statuses[49][0] != feature.Present {
						b.Error(err)
						return
					}
					r.Release()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
		})
	}
}

func BenchmarkLookupAlone(b *testing.B) {
	for _, rows := range []int{1, 100} {
		b.Run(fmt.Sprintf("%dx50", rows), func(b *testing.B) {
			p, rec := wide(b, 50)
			plan := planOf(b, p, selection.Request{Features: []string{"stats"}})
			req := Request{Keys: users(rows, func(i int) int64 { return int64(i) }), Rows: rows, Now: 2 * second}
			b.ReportAllocs()
			for b.Loop() {
				r, err := Lookup(b.Context(), nothing{record: rec}, plan, req)
				if err != nil {
					b.Fatal(err)
				}
				r.Release()
			}
		})
	}
}

func BenchmarkEmbedded(b *testing.B) { benchmarkStore(b, openStore(b)) }

func BenchmarkRedis(b *testing.B) {
	s, err := redis.Open(redis.Options{Addrs: []string{testenv.RedisServer(b).Addr}, Project: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	benchmarkStore(b, s)
}

// FuzzRecord puts any bytes under a key: the request is answered.
func FuzzRecord(f *testing.F) {
	p := project()
	_, rec := wide(f, 3)
	f.Add(rec)
	f.Add(binary.BigEndian.AppendUint64(nil, 1))
	plan := planOf(f, p, selection.Request{Features: []string{"airport_latest"}})
	f.Fuzz(func(t *testing.T, rec []byte) {
		req := Request{Keys: []*feature.Column{column(feature.TypeString, str("a"))}, Rows: 1}
		r, err := Lookup(t.Context(), nothing{record: rec}, plan, req)
		if err != nil || len(r.Columns) != 4 || r.Columns[0].Len != 1 {
			t.Fatal(err)
		}
		r.Release()
	})
}
