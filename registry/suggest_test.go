package registry

import "testing"

func TestSuggest(t *testing.T) {
	known := []string{"airport_latest", "airport_delays", "carrier", "pilot"}
	for _, c := range []struct{ name, want string }{
		{"airport_lastest", "airport_latest"},
		{"Airport_Latest", "airport_latest"},
		{"airprot_delays", "airport_delays"},
		{"carier", "carrier"},
		{"polit", ""},      // two of five letters
		{"piolt", "pilot"}, // a swap counts once
		{"x", ""},
		{"", ""},
		{"weather", ""},
	} {
		if got := Suggest(c.name, known); got != c.want {
			t.Errorf("Suggest(%q) = %q, want %q", c.name, got, c.want)
		}
	}
	if got := DidYouMean("carier", known); got != "; did you mean carrier?" {
		t.Errorf("DidYouMean = %q", got)
	}
	if got := DidYouMean("weather", known); got != "" {
		t.Errorf("DidYouMean of a far name = %q", got)
	}
}
