package dataset

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gocloud.dev/blob/memblob"
)

// python finds an interpreter with PyArrow, or skips the test.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("FOREBAY_TEST_PYTHON")
	if p == "" {
		p, _ = filepath.Abs("../../.cache/venv/bin/python") // of an absolute folder there is no error
	}
	if err := exec.Command(p, "-c", "import pyarrow, duckdb").Run(); err != nil {
		const msg = "no Python with pyarrow and duckdb: run make test, or set FOREBAY_TEST_PYTHON"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	return p
}

// TestRecomputedElsewhere has a program that knows the documentation alone recompute the ID and the
// hashes of a dataset from its manifest and its file.
func TestRecomputedElsewhere(t *testing.T) {
	py := python(t)
	w := newWorld(t, 300)
	bucket := memblob.OpenBucket(nil)
	defer func() { _ = bucket.Close() }()
	b := &Builder{Store: w.store, Manifests: NewManifests(bucket)}
	known := int64(70)
	for _, ext := range []string{".parquet", ".arrow"} {
		out := filepath.Join(t.TempDir(), "out"+ext)
		m, err := b.Build(t.Context(), Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: w.spine(t, ".parquet"), KnownAt: &known}, out)
		if err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(t.TempDir(), "manifest.json")
		if err := os.WriteFile(kept, must(bucket.ReadAll(t.Context(), object(m.ID))), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(py, "testdata/recompute.py", kept, out)
		cmd.Stderr = os.Stderr
		got := string(must(cmd.Output()))
		if want := fmt.Sprintf("id %s\ncontent %s\nspine %s\n", m.ID, m.ContentHash, m.Inputs.Spine.Hash); got != want {
			t.Errorf("%s: recomputed\n%swant\n%s", ext, got, want)
		}
	}
}
