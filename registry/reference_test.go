package registry

import "testing"

func TestParseRef(t *testing.T) {
	for s, want := range map[string]Ref{
		"v":     {View: "v"},
		"v:f":   {View: "v", Feature: "f"},
		"v@3:f": {View: "v", Generation: 3, Feature: "f"},
		"v@12":  {View: "v", Generation: 12},
	} {
		r, err := ParseRef(s)
		if err != nil || r != want || r.String() != s {
			t.Errorf("%q: %+v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", ":f", "v:", "v:f:g", "v@", "v@0", "v@-1", "v@01", "v@x:f", "@2:f"} {
		if r, err := ParseRef(s); err == nil {
			t.Errorf("%q was taken as %+v", s, r)
		}
	}
}
