package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/forebay/forebay/registry/spec"
)

// LookupEnv finds an environment variable, as os.LookupEnv does.
type LookupEnv func(name string) (value string, ok bool)

// Error is a mistake in a setting.
type Error struct {
	Position spec.Position // in forebay.yaml; zero where the setting does not come from there
	Field    string        // its path: environments.production.online.password
	Msg      string        // what is wrong and what to do; holds no secret
}

func (e *Error) Error() string {
	if e.Position != (spec.Position{}) {
		return e.Position.String() + ": " + e.Field + ": " + e.Msg
	}
	return e.Field + ": " + e.Msg
}

// expander replaces references in values.
type expander struct {
	root   string // relative files are below it
	lookup LookupEnv
}

// expand replaces the references in a value. A mistake of one is described without
// the value's other parts.
func (x expander) expand(raw string) (string, error) {
	var b strings.Builder
	for rest := raw; ; {
		before, after, found := strings.Cut(rest, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		ref, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("a reference is not closed: ${%s", ref)
		}
		value, err := x.resolve(ref)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		rest = tail
	}
}

// resolve is what one reference stands for.
func (x expander) resolve(ref string) (string, error) {
	kind, name, _ := strings.Cut(ref, ":")
	switch {
	case kind == "env" && name != "":
		value, ok := x.lookup(name)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", name)
		}
		return value, nil
	case kind == "file" && name != "":
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(x.root, path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading a value from a file: %w", err)
		}
		value := strings.TrimSuffix(string(content), "\n")
		return strings.TrimSuffix(value, "\r"), nil
	}
	return "", fmt.Errorf("${%s} is not a reference: write ${env:NAME} or ${file:PATH}", ref)
}
