package app

import (
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// The window of a feature is (floor(T - w, hop), T].
func TestExplainedWindow(t *testing.T) {
	v := &registry.FeatureView{
		Aggregations: []registry.Aggregation{{Function: "count", Windows: []registry.Window{"1h", "lifetime"}}, {Function: "sum", Column: "delay", Windows: []registry.Window{"24h"}}},
		Hops:         []registry.Hop{{Window: feature.Day, Hop: 5 * feature.Minute}},
	}
	at, err := feature.ParseTimestamp("2001-01-05T10:02:30Z")
	if err != nil {
		t.Fatal(err)
	}
	if w := explainedWindow(v, 0, at); w.Function != "count" || *w.From != "2001-01-05T09:02:00Z" || w.Hop != "1m" || w.To != "2001-01-05T10:02:30Z" {
		t.Errorf("%+v from %s", w, *w.From)
	}
	if w := explainedWindow(v, 1, at); w.From != nil || w.Length != "lifetime" {
		t.Errorf("%+v", w)
	}
	if w := explainedWindow(v, 2, at); w.Column != "delay" || *w.From != "2001-01-04T10:00:00Z" {
		t.Errorf("%+v from %s", w, *w.From)
	}
	if w := explainedWindow(&registry.FeatureView{}, 0, at); w != nil {
		t.Errorf("%+v", w)
	}
}
