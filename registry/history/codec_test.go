package history

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// everything is a revision that uses every field of the model.
func everything() *registry.Revision {
	field := func(name string, t feature.Type) feature.Field { return feature.Field{Name: name, Type: t} }
	meta := func(name string) registry.Meta {
		return registry.Meta{Name: name, Description: "Naïve & <quick>,\nwith \"quotes\", \\ and \x01\u2028.", Owner: "ops@example.com", Tags: map[string]string{"z": "1", "a": "", "é": "2", "B": "3"}}
	}
	return &registry.Revision{
		Parent: "sha256:" + strings.Repeat("ab", 32), Number: 7, Author: "Ana <ana@example.com>", Commit: "0123abc-dirty", Note: "why",
		Time: time.Date(2026, 3, 1, 12, 0, 0, 120000000, time.UTC),
		Project: &registry.Project{
			Name:     "flights",
			Entities: []registry.Entity{{Meta: meta("airport"), JoinKeys: []feature.Field{field("origin", feature.TypeString)}}},
			Sources: []registry.Source{{
				Meta: meta("departures"), Timestamp: "date", Created: "loaded_at",
				Columns: []registry.SourceColumn{{Field: field("date", feature.TypeTimestamp)}, {Field: field("delay", feature.TypeInt64), From: "payload.late"}},
				Kafka:   &registry.Kafka{Topic: "departures", Format: "json", Key: []string{"origin"}}, Files: &registry.Files{Glob: "data/*.parquet"},
				TimestampFormat: "unix_ms", MaxAhead: feature.Minute,
			}},
			Views: []registry.FeatureView{{
				Meta: meta("airport_latest"), Entities: []string{"airport"}, Source: "departures", TTL: 7 * feature.Day, Filter: "delay != null",
				Features:     []registry.Feature{{Field: field("v", feature.EmbeddingOf(3)), Expr: "delay", Description: "d"}},
				Aggregations: []registry.Aggregation{{Function: "last_n", Column: "delay", By: "carrier", N: 5, Where: "delay > 15", Windows: []registry.Window{"60m", "lifetime"}, Name: "late"}},
				Hops:         []registry.Hop{{Window: feature.Day, Hop: 5 * feature.Minute}},
			}},
			OnDemand: []registry.OnDemandView{{
				Meta: meta("trend"), Inputs: []string{"airport_latest"}, Request: []feature.Field{field("x", feature.ListOf(feature.Float64))},
				Features: []registry.Feature{{Field: field("hot", feature.TypeBool), Expr: "x[0] > 1.0 && true"}},
			}},
			Services: []registry.Service{{
				Meta:     meta("model"),
				Features: []registry.ServiceFeature{{Ref: registry.Ref{View: "airport_latest", Generation: 3, Feature: "v"}, Prefix: "dest_", Keys: []registry.KeyRename{{JoinKey: "origin", To: "to"}}}},
				Entities: []registry.KeyRename{{Entity: "airport", JoinKey: "origin", To: "from"}},
			}},
		},
		Generations: []registry.Generation{{View: "airport_latest", Number: 3, Fingerprint: strings.Repeat("cd", 32)}},
	}
}

// TestFixture decodes what format 1 looked like when it was made. The file is never changed:
// a new format gets a new one.
func TestFixture(t *testing.T) {
	path := filepath.Join("testdata", "revision-1.json")
	want := everything()
	object, id, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	fixture, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(object, fixture) {
		t.Errorf("encoded as\n%s\nwhere the fixture has\n%s", object, fixture)
	}
	got, err := decode(fixture)
	if err != nil {
		t.Fatal(err)
	}
	const fixed = "sha256:ce7851316de55537634e1d603c3439866848ad7e8ba48502c1b257de21fcfed3"
	if got.ID != fixed || id != fixed {
		t.Errorf("ID is %s, and %s when encoded, want %s", got.ID, id, fixed)
	}
	want.ID = fixed
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Errorf("decoded\n%s\nwant\n%s", g, w)
	}
}

func TestDecodeRefuses(t *testing.T) {
	seal := func(rest string) string {
		return objectStart + `"id":"` + identify([]byte(rest)) + `",` + rest
	}
	for _, c := range []struct{ name, object, want string }{
		{"nothing", "", "it is not a revision"},
		{"not JSON", "hello", "it is not a revision"},
		{"a newer format", `{"format":2,"x":1}`, "it is in format 2 and this version of forebay reads format 1"},
		{"white space", `{"format": 1, "revision": {}}`, "it is not in canonical form"},
		{"no id", `{"format":1,"revision":{}}`, "no id where one belongs"},
		{"another id", `{"format":1,"id":"sha256:` + strings.Repeat("0", 64) + `","revision":{}}`, "altered since it was written: it says sha256:000"},
		{"an unknown field", seal(`"revision":{"colour":1}}`), `unknown field "colour"; a newer version of forebay may have written it`},
		{"no project", seal(`"revision":{}}`), "it holds no project"},
		{"no revision", seal(`"revision":null}`), "it holds no project"},
		{"a bad type", seal(`"revision":{"project":{"name":"p","entities":[{"name":"e","join_keys":[{"name":"k","type":"int32"}]}]}}}`), `unknown type "int32"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r, err := decode([]byte(c.object)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v; want an error with %q", r, err, c.want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, r := range []*registry.Revision{{Time: time.Now()}, {Project: project()}} {
		if object, _, err := encode(r); err == nil {
			t.Errorf("encoded %s", object)
		}
	}
}

func FuzzDecode(f *testing.F) {
	object, _, err := encode(everything())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object)
	f.Add([]byte(`{"format":1,"id":"sha256:`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err == nil && !bytes.Contains(b, []byte(r.ID)) {
			t.Errorf("an object was taken that does not hold its ID: %s", b)
		}
	})
}
