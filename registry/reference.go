package registry

import (
	"fmt"
	"strconv"
	"strings"
)

// Ref is a feature reference: view:feature, view (all of its features), and
// either of them of a pinned generation: view@3:feature.
type Ref struct {
	View       string
	Generation int    // 0: the live one
	Feature    string // "": all
}

// ParseRef reads a feature reference.
func ParseRef(s string) (Ref, error) {
	view, name, one := strings.Cut(s, ":")
	if one && (name == "" || strings.Contains(name, ":")) {
		return Ref{}, fmt.Errorf("feature reference %q: want view, view:feature or view@N:feature", s)
	}
	r := Ref{View: view, Feature: name}
	if base, gen, pinned := strings.Cut(view, "@"); pinned {
		n, err := strconv.Atoi(gen)
		if err != nil || n < 1 || gen != strconv.Itoa(n) {
			return Ref{}, fmt.Errorf("feature reference %q: the generation after @ is a whole number from 1", s)
		}
		r.View, r.Generation = base, n
	}
	if r.View == "" {
		return Ref{}, fmt.Errorf("feature reference %q names no view", s)
	}
	return r, nil
}

func (r Ref) String() string {
	s := r.View
	if r.Generation > 0 {
		s += "@" + strconv.Itoa(r.Generation)
	}
	if r.Feature != "" {
		s += ":" + r.Feature
	}
	return s
}

// MarshalText writes the reference as YAML holds it.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Ref) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRef(string(b))
	return err
}
