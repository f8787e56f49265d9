package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/forebay/forebay/registry/nearest"
	"github.com/forebay/forebay/registry/spec"
)

// ErrNoRepository says that there is no repository where one was looked for.
var ErrNoRepository = errors.New("no feature repository")

// Find finds the root of the repository that dir is in: dir itself, or the
// nearest folder above it that has a forebay.yaml. The path is absolute.
func Find(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", spec.SettingsFile, err)
	}
	if info, err := os.Stat(abs); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoRepository, err)
	} else if !info.IsDir() {
		return "", fmt.Errorf("%w: %s is not a folder", ErrNoRepository, abs)
	}
	for at := abs; ; at = filepath.Dir(at) {
		switch info, err := os.Stat(filepath.Join(at, spec.SettingsFile)); {
		case err == nil && info.Mode().IsRegular():
			return at, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("looking for %s: %w", spec.SettingsFile, err)
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%w: there is no %s in %s, nor in a folder above it; `forebay init` makes one", ErrNoRepository, spec.SettingsFile, abs)
		}
	}
}

// Local is the environment that is meant where none is named.
const Local = "local"

// Variable is the environment variable that names the environment.
const Variable = "FOREBAY_ENV"

// ErrUnknownEnvironment says that forebay.yaml declares no such environment.
var ErrUnknownEnvironment = errors.New("unknown environment")

// Choose finds the environment to use among those of forebay.yaml: the one that
// flag names, else the one that the variable FOREBAY_ENV names, else local, which
// need not be declared.
func Choose(declared []spec.Environment, flag string, lookup LookupEnv) (spec.Environment, error) {
	name, by := flag, "-e"
	if name == "" {
		if v, ok := lookup(Variable); ok {
			name, by = v, Variable
		}
	}
	if name == "" {
		name, by = Local, "the default"
	}
	names := make([]string, 0, len(declared))
	for _, e := range declared {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	if name == Local {
		return spec.Environment{Name: Local}, nil
	}
	hint := ""
	if h := nearest.Hint(name, names); h != "" {
		hint = "; " + h
	}
	if len(names) == 0 {
		return spec.Environment{}, fmt.Errorf("%w %q (%s): %s declares none%s", ErrUnknownEnvironment, name, by, spec.SettingsFile, hint)
	}
	return spec.Environment{}, fmt.Errorf("%w %q (%s): %s declares %s%s", ErrUnknownEnvironment, name, by, spec.SettingsFile, strings.Join(names, ", "), hint)
}
