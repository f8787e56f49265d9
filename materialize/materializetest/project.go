package materializetest

import (
	"fmt"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Project is a small project: the source events of a topic (time, user, shop, amount, note), and two views
// of it: user_latest (one join key, no filter) and pair_latest (two join keys, amount >= 10).
func Project(topic, format string) *registry.Project {
	column := func(name string, t feature.Type) registry.SourceColumn {
		return registry.SourceColumn{Field: feature.Field{Name: name, Type: t}}
	}
	key := func(name string, t feature.Type) registry.Entity {
		return registry.Entity{Meta: registry.Meta{Name: name}, JoinKeys: []feature.Field{{Name: name, Type: t}}}
	}
	return &registry.Project{
		Name:     "test",
		Entities: []registry.Entity{key("shop", feature.TypeInt64), key("user", feature.TypeString)},
		Sources: []registry.Source{{
			Meta: registry.Meta{Name: "events"}, Timestamp: "time", TimestampFormat: "rfc3339", MaxAhead: registry.DefaultMaxAhead,
			Columns: []registry.SourceColumn{column("time", feature.TypeTimestamp), column("user", feature.TypeString), column("shop", feature.TypeInt64),
				column("amount", feature.TypeInt64), column("note", feature.TypeString)},
			Kafka: &registry.Kafka{Topic: topic, Format: format},
		}},
		Views: []registry.FeatureView{
			{Meta: registry.Meta{Name: "pair_latest"}, Entities: []string{"user", "shop"}, Source: "events", Filter: "amount >= 10",
				Features: []registry.Feature{{Field: feature.Field{Name: "double", Type: feature.TypeInt64}, Expr: "amount * 2"}}},
			{Meta: registry.Meta{Name: "user_latest"}, Entities: []string{"user"}, Source: "events",
				Features: []registry.Feature{{Field: feature.Field{Name: "last_amount", Type: feature.TypeInt64}, Expr: "amount"},
					{Field: feature.Field{Name: "last_note", Type: feature.TypeString}, Expr: "note"}}},
		},
	}
}

// Generations are the first generations of a project's views.
func Generations(p *registry.Project) []registry.ViewGeneration {
	var gens []registry.ViewGeneration
	for i := range p.Views {
		gens = append(gens, registry.ViewGeneration{Project: p, View: &p.Views[i], Number: 1})
	}
	return gens
}

// Event is one event of the source events, as an oracle sees it; a nil field is null.
type Event struct {
	Time      int64 // microseconds
	User      *string
	Shop      *int64
	Amount    *int64
	Note      *string
	Ingested  int64 // microseconds: the record's own timestamp
	Partition int32
	Offset    int64
}

// Version is the event's version.
func (e Event) Version() feature.Version {
	return feature.Version{EventTime: e.Time, IngestedAt: e.Ingested, Major: int64(e.Partition), Minor: e.Offset}
}

func jsonText(s *string) string {
	if s == nil {
		return "null"
	}
	return string(feature.AppendStringJSON(nil, *s))
}

func jsonNumber(n *int64) string {
	if n == nil {
		return "null"
	}
	return fmt.Sprint(*n)
}

// JSON is the event as a record's value.
func (e Event) JSON() string {
	return fmt.Sprintf(`{"time":%q,"user":%s,"shop":%s,"amount":%s,"note":%s}`, feature.FormatTimestamp(e.Time), jsonText(e.User), jsonNumber(e.Shop), jsonNumber(e.Amount), jsonText(e.Note))
}

// Row is the event's row in the log, as Values writes it.
func (e Event) Row() string {
	return fmt.Sprintf(`%q,%s,%s,%s,%s`, feature.FormatTimestamp(e.Time), jsonText(e.User), jsonNumber(e.Shop), jsonNumber(e.Amount), jsonText(e.Note))
}

// Oracle says what the views of Project have after events, by brute force: for each view its records, by
// their columns as Values writes them.
func Oracle(events []Event) map[string]map[string]feature.Version {
	newest := map[string]map[string]Event{"pair_latest": {}, "user_latest": {}}
	put := func(view, key string, e Event) {
		if have, ok := newest[view][key]; !ok || e.Version().Compare(have.Version()) > 0 {
			newest[view][key] = e
		}
	}
	for _, e := range events {
		if e.User != nil {
			put("user_latest", *e.User, e)
			if e.Shop != nil && e.Amount != nil && *e.Amount >= 10 {
				put("pair_latest", fmt.Sprintf("%q %d", *e.User, *e.Shop), e)
			}
		}
	}
	want := map[string]map[string]feature.Version{"pair_latest": {}, "user_latest": {}}
	for _, e := range newest["user_latest"] {
		want["user_latest"][fmt.Sprintf("%s,%s,%s", jsonText(e.User), jsonNumber(e.Amount), jsonText(e.Note))] = e.Version()
	}
	for _, e := range newest["pair_latest"] {
		double := "null" // where it overflows
		if a := *e.Amount; a*2/2 == a {
			double = fmt.Sprint(a * 2)
		}
		want["pair_latest"][fmt.Sprintf("%s,%s,%s", jsonText(e.User), jsonNumber(e.Shop), double)] = e.Version()
	}
	return want
}

// Differences compares what the store has with what the oracle says: the records of the
// views, and the rows of the log, each exactly once. It is empty where they are equal.
func (s *Store) Differences(p *registry.Project, events []Event) []string {
	var diffs []string
	want := Oracle(events)
	for _, v := range Generations(p) {
		if v.View.Windowed() {
			continue // see WindowDifferences
		}
		got := map[string]feature.Version{}
		for _, r := range s.Records(v) {
			got[r.Values] = r.Version
		}
		for values, version := range want[v.View.Name] {
			if have, ok := got[values]; !ok || have != version {
				diffs = append(diffs, fmt.Sprintf("%s: want %s at %+v, got %+v (there: %t)", v, values, version, have, ok))
			}
		}
		for values := range got {
			if _, ok := want[v.View.Name][values]; !ok {
				diffs = append(diffs, fmt.Sprintf("%s: has %s, which is not the newest", v, values))
			}
		}
	}
	rows := s.Rows(&p.Sources[0])
	count := map[feature.Version]int{}
	for i, v := range rows.Versions {
		count[v]++
		if count[v] > 1 {
			diffs = append(diffs, fmt.Sprintf("log: %s at %+v is there %d times", Values(rows, i), v, count[v]))
		}
	}
	logged := map[feature.Version]string{}
	for i, v := range rows.Versions {
		logged[v] = Values(rows, i)
	}
	for _, e := range events {
		if got, ok := logged[e.Version()]; !ok || got != e.Row() {
			diffs = append(diffs, fmt.Sprintf("log: want %s at %+v, got %q (there: %t)", e.Row(), e.Version(), got, ok))
		}
	}
	if rows.Rows != len(events) {
		diffs = append(diffs, fmt.Sprintf("log: %d rows, want %d", rows.Rows, len(events)))
	}
	return diffs
}
