package nearest

import "testing"

func TestName(t *testing.T) {
	names := []string{"delay", "distance", "destination", "origin"}
	for _, c := range []struct{ mistyped, want string }{
		{"dealy", "delay"}, {"delya", "delay"}, {"orign", "origin"}, {"Delay", "delay"},
		{"distnce", "distance"}, {"altitude", ""}, {"x", ""}, {"DELAY", "delay"}, {"a", ""}, {"", ""}, {"delay", ""},
	} {
		got, ok := Name(c.mistyped, names)
		if !ok {
			got = ""
		}
		if got != c.want {
			t.Errorf("Name(%q) = %q, want %q", c.mistyped, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"abc", "abc", 0}} {
		if got := distance(c.a, c.b, 100); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
