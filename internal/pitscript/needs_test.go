package pitscript

import (
	"testing"

	"github.com/forebay/forebay/registry"
)

// TestNeeded: a script is run with the views that it looks at and those that decide what becomes of its rows.
func TestNeeded(t *testing.T) {
	p := project(t)
	other := *p.View("latest")
	other.Name = "other"
	all := *p
	all.Views = append(append([]registry.FeatureView{}, p.Views...), other)
	all.Sources = append(append([]registry.Source{}, p.Sources...), registry.Source{Meta: registry.Meta{Name: "unused"}})
	for script, want := range map[string]int{
		"expect latest:delay origin=SFO = 1":                                                        1,
		"expect service model origin=SFO\n  delay\n  1":                                             1,
		"load departures\n  date, origin\n  10:00, SFO\nexpect latest:delay origin=SFO = 1":         1,
		"load departures\n  date, origin\n  10:00, null\nat 10:00 expect latest:delay origin=A = 1": 2,
		"push departures\n  date, origin\n  10:00, SFO\nexpect latest:delay origin=SFO = 1":         2,
		"refused departures null_key = 0":                                                           0,
	} {
		program, err := Compile("a.pit", []byte(script), &all)
		if err != nil {
			t.Fatal(err)
		}
		part := program.Needed(&all)
		if len(part.Views) != want || len(part.Sources) != 1 {
			t.Errorf("%q: %d views and %d sources, want %d and 1", script, len(part.Views), len(part.Sources), want)
		}
	}
}
