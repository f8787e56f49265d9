package app

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/api"
)

// TestArrowElsewhere has pyarrow put a spine and get datasets over Arrow Flight, and pyarrow, Polars and DuckDB read the
// Arrow streams and files that the server and the builder make.
func TestArrowElsewhere(t *testing.T) {
	python := os.Getenv("FOREBAY_TEST_PYTHON")
	if python == "" {
		python, _ = filepath.Abs("../../.cache/venv/bin/python") // of an absolute folder there is no error
	}
	if err := exec.Command(python, "-c", "import pyarrow.flight, polars, duckdb").Run(); err != nil {
		const msg = "no Python with pyarrow, polars and duckdb: run make test, or set FOREBAY_TEST_PYTHON"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	dir, err := filepath.Abs("../../cmd/forebay/testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if err := os.CopyFS(work, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), Options{Dir: work})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	p, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ingest(t.Context(), IngestOptions{Source: "departures"}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(work, "direct.arrow")
	direct, err := a.BuildDataset(t.Context(), DatasetOptions{Service: "delay", Spine: filepath.Join(work, "spine.csv"), Out: out})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	var location string
	ready := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Serve(ctx, ServeOptions{Listen: "127.0.0.1:0", FlightListen: "127.0.0.1:0",
			FlightReady: func(l string) { location = l }, Ready: func(url string) { ready <- url }})
	}()
	var url string
	select {
	case url = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	cmd := exec.Command(python, "testdata/arrow.py", location, url, out, direct.ID)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Errorf("arrow.py: %v\n%s%s", err, text, stderr.String())
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var put api.Dataset
	if err := json.Unmarshal(text, &put); err != nil || put.Rows != 7 || !strings.HasPrefix(put.ID, "sha256:") || put.Name != "flown" {
		t.Errorf("got %s, %v", text, err)
	}
}
