package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry/spec"
)

func TestFind(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "repo", "features", "airports")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(deep); !errors.Is(err, ErrNoRepository) || !strings.Contains(err.Error(), deep) || !strings.Contains(err.Error(), "forebay init") {
		t.Errorf("no repository: %v", err)
	}
	// A folder of that name is not the file.
	if err := os.Mkdir(filepath.Join(deep, spec.SettingsFile), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "repo", spec.SettingsFile)
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{deep, filepath.Join(root, "repo"), filepath.Join(deep, "..")} {
		if got, err := Find(dir); err != nil || got != filepath.Join(root, "repo") {
			t.Errorf("Find(%s) = %s, %v", dir, got, err)
		}
	}
	for _, dir := range []string{filepath.Join(root, "nowhere"), file} {
		if got, err := Find(dir); !errors.Is(err, ErrNoRepository) || !strings.Contains(err.Error(), dir) {
			t.Errorf("Find(%s) = %s, %v", dir, got, err)
		}
	}
	t.Chdir(deep)
	if got, err := Find("."); err != nil || filepath.Base(got) != "repo" {
		t.Errorf("Find(.) = %s, %v", got, err)
	}
}

func TestChoose(t *testing.T) {
	declared := []spec.Environment{{Name: "local", Registry: "mem://"}, {Name: "production"}, {Name: "staging"}}
	for _, c := range []struct {
		name     string
		declared []spec.Environment
		flag     string
		env      map[string]string
		want     string // the name, or the message
	}{
		{"default", declared, "", nil, "local"},
		{"flag", declared, "production", nil, "production"},
		{"variable", declared, "", map[string]string{"FOREBAY_ENV": "staging"}, "staging"},
		{"flag before variable", declared, "production", map[string]string{"FOREBAY_ENV": "staging"}, "production"},
		{"empty variable", declared, "", map[string]string{"FOREBAY_ENV": ""}, "local"},
		{"local need not be declared", declared[1:], "", nil, "local"},
		{"nothing declared", nil, "local", nil, "local"},
		{"unknown", declared, "prodution", nil, `unknown environment "prodution" (-e): forebay.yaml declares local, production, staging; did you mean "production"?`},
		{"unknown in the variable", declared, "", map[string]string{"FOREBAY_ENV": "x"}, `unknown environment "x" (FOREBAY_ENV): forebay.yaml declares local, production, staging`},
		{"unknown and none declared", nil, "x", nil, `unknown environment "x" (-e): forebay.yaml declares none`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Choose(c.declared, c.flag, variables(c.env))
			if err != nil {
				if !errors.Is(err, ErrUnknownEnvironment) || err.Error() != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if got.Name != c.want {
				t.Errorf("got %s, want %s", got.Name, c.want)
			}
		})
	}
	if e, err := Choose(declared, "", variables(nil)); err != nil || e.Registry != "mem://" {
		t.Errorf("the declared local environment is not the one: %+v, %v", e, err)
	}
}
