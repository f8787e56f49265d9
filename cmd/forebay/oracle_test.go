package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOracle builds random repositories, data and spines, runs the command over them and compares
// every value of the training datasets with what testdata/oracle.py works out row by row.
func TestOracle(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary and runs it some hundred times")
	}
	python := os.Getenv("FOREBAY_TEST_PYTHON")
	if python == "" {
		python = filepath.Join("..", "..", ".cache", "venv", "bin", "python")
	}
	if err := exec.Command(python, "-c", "import pyarrow").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s with pyarrow is missing: run make test-setup", python)
		}
		t.Skipf("%s with pyarrow is missing: run make test-setup", python)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "forebay")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	seed := os.Getenv("FOREBAY_SEED")
	if seed == "" {
		seed = "1" // the same everywhere, so that what lands does not depend on luck; FOREBAY_SEED looks further
	}
	work := filepath.Join(dir, "work")
	out, err := exec.Command(python, filepath.Join("testdata", "oracle.py"), bin, work, seed, "15").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
