package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/canonical"
	"github.com/forebay/forebay/registry/feature"
)

func TestTokens(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"delay > 15", "delay|>|15"},
		{" a in  b // why\n&& c ", "a|in|b|&|&|c"},
		{`origin == "a // b" + 'it''s'`, `origin|=|=|"a // b"|+|'it'|'s'`},
		{`x == "a\" b" || y`, `x|=|=|"a\" b"|||||y`},
		{`x == r"a\" || y`, `x|=|=|r"a\"|||||y`},
		{`x == """a "b" c""" + y`, `x|=|=|"""a "b" c"""|+|y`},
		{`m.size() > 1.5e3`, `m|.|size|(|)|>|1|.|5e3`},
		{`x == "open`, `x|=|=|"open`},
		{`x == "open\`, `x|=|=|"open\`},
		{"é == 1", "é|=|=|1"},
		{"", ""},
	} {
		if got := strings.Join(tokens(c.in), "|"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
	}
}

func TestNormalise(t *testing.T) {
	for _, same := range [][]string{
		{"delay>15", "delay > 15", " delay\n\t> 15 // late"},
		{"a in b", "a  in\nb"},
		{`x == "a  b"`, `x=="a  b"`},
	} {
		for _, s := range same {
			if normalise(s) != normalise(same[0]) {
				t.Errorf("%q is %q and %q is %q", s, normalise(s), same[0], normalise(same[0]))
			}
			if normalise(normalise(s)) != normalise(s) {
				t.Errorf("%q is not stable", s)
			}
		}
	}
	for _, other := range [][2]string{{"a in b", "ainb"}, {`x == "a b"`, `x == "a  b"`}, {`x == "a" // b`, `x == "a // b"`}, {"a - b", "a + b"}} {
		if normalise(other[0]) == normalise(other[1]) {
			t.Errorf("%q and %q are both %q", other[0], other[1], normalise(other[0]))
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add(`a == r"x\" + b'''y''' // z`)
	f.Fuzz(func(t *testing.T, expr string) {
		if once := normalise(expr); normalise(once) != once && !strings.Contains(once, "//") {
			t.Errorf("%q is %q and then %q", expr, once, normalise(once))
		}
	})
}

// TestFingerprintFixed pins the bytes that are hashed: a change of them would have every
// view of every project backfilled.
func TestFingerprintFixed(t *testing.T) {
	p := flights()
	m, err := meaningOf(p, p.View("airport_latest"))
	if err != nil {
		t.Fatal(err)
	}
	form, err := canonical.Marshal(m)
	want := `{"features":[{"expr":"delay","name":"last_delay","type":"int64"},{"expr":"distance>1500","name":"long_haul","type":"bool"}],"filter":"delay!=null","format":1,` +
		`"join_keys":[{"name":"origin","type":"string"}],"source":{"created":{"from":"loaded_at","name":"loaded_at","type":"timestamp"},"name":"departures",` +
		`"reads":[{"from":"payload.late","name":"delay","type":"int64"},{"from":"distance","name":"distance","type":"int64"},{"from":"origin","name":"origin","type":"string"}],` +
		`"timestamp":{"from":"date","name":"date","type":"timestamp"}}}`
	if err != nil || string(form) != want {
		t.Errorf("got\n%s, %v, want\n%s", form, err, want)
	}
	if fp := fingerprint(t, p, "airport_latest"); fp != "1e64590ab378272d41ce8eb6f36a6e3c9975ce67bcde25454f7d52d914d71461" {
		t.Errorf("fingerprint is %s", fp)
	}
}

func fingerprint(t *testing.T, p *registry.Project, view string) string {
	t.Helper()
	fp, err := Fingerprint(p, p.View(view))
	if err != nil {
		t.Fatal(err)
	}
	return fp
}

func TestFingerprintChanges(t *testing.T) {
	view := func(p *registry.Project) *registry.FeatureView { return p.View("airport_latest") }
	source := func(p *registry.Project) *registry.Source { return p.Source("departures") }
	column := func(p *registry.Project, name string) *registry.SourceColumn {
		s := source(p)
		return &s.Columns[s.Column(name)]
	}
	for _, c := range []struct {
		what    string
		change  func(p *registry.Project)
		changes bool
	}{
		{"nothing", func(*registry.Project) {}, false},
		{"description", func(p *registry.Project) { view(p).Description = "x" }, false},
		{"owner", func(p *registry.Project) { view(p).Owner = "x" }, false},
		{"tags", func(p *registry.Project) { view(p).Tags = map[string]string{"a": "b"} }, false},
		{"ttl", func(p *registry.Project) { view(p).TTL = feature.Hour }, false},
		{"feature description", func(p *registry.Project) { view(p).Features[0].Description = "x" }, false},
		{"white space", func(p *registry.Project) { view(p).Features[1].Expr = "distance>1500 // far" }, false},
		{"topic", func(p *registry.Project) { source(p).Kafka.Topic = "x" }, false},
		{"max ahead", func(p *registry.Project) { source(p).MaxAhead = feature.Hour }, false},
		{"files", func(p *registry.Project) { source(p).Files = &registry.Files{Glob: "x"} }, false},
		{"a column that is not read", func(p *registry.Project) { column(p, "destination").Type = feature.TypeInt64 }, false},
		{"another column", func(p *registry.Project) {
			source(p).Columns = append(source(p).Columns, registry.SourceColumn{Field: field("gate", feature.TypeString)})
		}, false},
		{"order of columns", func(p *registry.Project) { slices.Reverse(source(p).Columns) }, false},
		{"a new service", func(p *registry.Project) {
			p.Services = append(p.Services, registry.Service{Meta: meta("z"), Features: refs("airport_latest")})
		}, false},

		{"expression", func(p *registry.Project) { view(p).Features[1].Expr = "distance > 1501" }, true},
		{"feature type", func(p *registry.Project) { view(p).Features[0].Type = feature.TypeFloat64 }, true},
		{"feature name", func(p *registry.Project) { view(p).Features[0].Name = "x" }, true},
		{"order of features", func(p *registry.Project) { slices.Reverse(view(p).Features) }, true},
		{"a feature more", func(p *registry.Project) {
			view(p).Features = append(view(p).Features, registry.Feature{Field: field("x", feature.TypeInt64), Expr: "delay"})
		}, true},
		{"a feature less", func(p *registry.Project) { view(p).Features = view(p).Features[:1] }, true},
		{"filter", func(p *registry.Project) { view(p).Filter = "" }, true},
		{"join key name", func(p *registry.Project) { p.Entities[0].JoinKeys[0].Name = "destination" }, true},
		{"join key type", func(p *registry.Project) { p.Entities[0].JoinKeys[0].Type = feature.TypeBytes }, true},
		{"another join key", func(p *registry.Project) {
			p.Entities[0].JoinKeys = append(p.Entities[0].JoinKeys, field("destination", feature.TypeString))
		}, true},
		{"no entity", func(p *registry.Project) { view(p).Entities = nil }, true},
		{"source name", func(p *registry.Project) { source(p).Name, view(p).Source = "x", "x" }, true},
		{"event time", func(p *registry.Project) { source(p).Timestamp = "loaded_at" }, true},
		{"created", func(p *registry.Project) { source(p).Created = "" }, true},
		{"type of a column that is read", func(p *registry.Project) { column(p, "distance").Type = feature.TypeFloat64 }, true},
		{"outside name of a column that is read", func(p *registry.Project) { column(p, "delay").From = "payload.delay" }, true},
		{"outside name of a join key", func(p *registry.Project) { column(p, "origin").From = "o" }, true},
		{"aggregations", func(p *registry.Project) {
			view(p).Aggregations = []registry.Aggregation{{Function: "count", Windows: []registry.Window{"1h"}}}
		}, true},
		{"hops", func(p *registry.Project) { view(p).Hops = []registry.Hop{{Window: feature.Hour, Hop: feature.Minute}} }, true},
	} {
		p := flights()
		before := fingerprint(t, p, "airport_latest")
		c.change(p)
		if changed := fingerprint(t, p, "airport_latest") != before; changed != c.changes {
			t.Errorf("%s: changes the fingerprint: %t", c.what, changed)
		}
	}
}

func TestFingerprintAggregations(t *testing.T) {
	base := registry.Aggregation{Function: "last_n", Column: "delay", By: "destination", N: 5, Where: "distance > 1", Windows: []registry.Window{"1h"}, Name: "x"}
	seen := map[string]string{}
	for what, change := range map[string]func(*registry.Aggregation){
		"base":     func(*registry.Aggregation) {},
		"function": func(a *registry.Aggregation) { a.Function = "first_n" },
		"column":   func(a *registry.Aggregation) { a.Column = "distance" },
		"by":       func(a *registry.Aggregation) { a.By = "origin" },
		"n":        func(a *registry.Aggregation) { a.N = 6 },
		"where":    func(a *registry.Aggregation) { a.Where = "distance > 2" },
		"windows": func(a *registry.Aggregation) {
			a.Windows = []registry.Window{"lifetime"}
		},
		"name": func(a *registry.Aggregation) { a.Name = "y" },
	} {
		p := flights()
		a := base
		change(&a)
		v := p.View("airport_latest")
		v.Features, v.Aggregations = nil, []registry.Aggregation{a}
		fp := fingerprint(t, p, "airport_latest")
		if other, same := seen[fp]; same {
			t.Errorf("%s and %s have one fingerprint", what, other)
		}
		seen[fp] = what
	}
	p := flights()
	v := p.View("airport_latest")
	v.Features, v.Aggregations, v.Filter = nil, []registry.Aggregation{base}, ""
	if got := fmt.Sprint(columnsRead(p, v, p.Source("departures"))); got != "[delay destination distance origin]" {
		t.Errorf("columns read: %s", got)
	}
}
