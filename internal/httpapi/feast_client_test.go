package httpapi

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// Feast's own client, with its remote online store, reads our server unchanged.
func TestRealFeastClient(t *testing.T) {
	python := os.Getenv("FEAST_PYTHON")
	if testing.Short() {
		t.Skip("half a minute of Python")
	}
	if python == "" {
		python = filepath.Join("..", "..", ".cache", "feast-venv", "bin", "python")
	}
	if _, err := exec.LookPath(python); err != nil {
		t.Skip("Feast's client is missing: python3 -m venv .cache/feast-venv && .cache/feast-venv/bin/pip install feast==0.67.0")
	}
	addr := start(t, newTestServer(t, Config{}, newCompatEngine(t)))
	out, err := exec.CommandContext(t.Context(), python, "testdata/feast/client.py", "http://"+addr).Output() //nolint:gosec // the test's own script
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The client itself says null for what has no value, whatever the status.
	const expected = `{
		"refs": {"driver_id": [1001, 1006, 9999], "trips": [7, 2, null], "label": ["gold", "new", null], "vip": [true, true, null]},
		"full": {"driver_id": [1001], "customer_id": ["c-1"], "driver_stats__conv_rate": [0.1], "customer_profile__conv_rate": [0.75]},
		"service": {"driver_id": [1003], "trips": [9007199254740993], "conv_rate": [100]},
		"types": {"driver_id": [1001], "recent": [[3, 2, 1]], "scores": [[0.5, -1.25, 3]], "tags": [["a", "b"]], "flags": [[true, false]]},
		"unknown view": {"raised": "FeatureViewNotFoundException"},
		"collision": {"raised": "FeatureNameCollisionError"},
		"online_read": [{"trips": 7, "label": "gold"}, {"trips": 2, "label": "new"}]
	}`
	if err := json.Unmarshal([]byte(expected), &want); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: the client has %v, want %v", name, got[name], want[name])
		}
	}
}
