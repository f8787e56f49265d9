package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/registry/spec"
)

// server loads an environment with a section server.
func server(t *testing.T, section string) (Server, error) {
	t.Helper()
	dir := t.TempDir()
	text := "version: 1\nproject: p\nenvironments:\n  local:\n    server: " + section + "\n"
	if err := os.WriteFile(filepath.Join(dir, spec.SettingsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, diagnostics := spec.LoadSettings(dir)
	if err := diagnostics.Err(); err != nil {
		return Server{}, err
	}
	lookup := func(name string) (string, bool) {
		return map[string]string{"KEY": "from-the-environment", "RATE": "7"}[name], true
	}
	e, err := Load(settings.Environments[0], Options{Root: dir, Project: "p", Lookup: lookup})
	if err != nil {
		return Server{}, err
	}
	return e.Server, nil
}

func TestServer(t *testing.T) {
	got, err := server(t, `{api_keys: ["${env:KEY}", second-key], rate_limit: "${env:RATE}", max_concurrent: 100, timeout: 2s}`)
	if err != nil || len(got.APIKeys) != 2 || string(got.APIKeys[0]) != "from-the-environment" || got.RateLimit != 7 || got.MaxConcurrent != 100 || got.Timeout != 2*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
	if strings.Contains(got.APIKeys[0].String(), "environment") {
		t.Error("a key is printed")
	}
	if got, err := server(t, `{timeout: 50ms}`); err != nil || got.Timeout != 50*time.Millisecond {
		t.Errorf("%+v, %v", got, err)
	}
	for section, want := range map[string]string{
		`{api_keys: [short]}`:                      "server.api_keys[0]: has 5 characters",
		`{api_keys: [same-key-1, same-key-1]}`:     "server.api_keys[1]: is there twice",
		`{rate_limit: 0}`:                          "not a whole number from 1",
		`{rate_limit: 1.5}`:                        "not a whole number from 1",
		`{max_concurrent: [1]}`:                    "a whole number",
		`{timeout: soon}`:                          "server.timeout",
		`{timeout: 7d}`:                            "at most 1h",
		`{timeout: 0ms}`:                           "more than nothing",
		`{timeout: -5ms}`:                          "server.timeout",
		`{keys: [x]}`:                              "keys",
		`{api_keys: ["${env:KEY}", "${env:KEY}"]}`: "is there twice",
	} {
		if _, err := server(t, section); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", section, err, want)
		}
	}
}
