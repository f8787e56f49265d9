// Package examples_test runs what the documentation tells readers to run.
package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestTour runs every sh block of README's tour, in order, in one shell, on a copy of the
// examples. Any command that fails fails the test.
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary and runs the whole tour")
	}
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool)
		}
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tour, ok := strings.Cut(string(readme), "## A tour of ten minutes")
	if !ok {
		t.Fatal("README has no tour")
	}
	tour, _, _ = strings.Cut(tour, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(tour, -1)
	if len(blocks) < 5 {
		t.Fatalf("the tour has %d blocks", len(blocks))
	}

	work := t.TempDir()
	bin := filepath.Join(work, "bin")
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "forebay"), "../cmd/forebay")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.CopyFS(filepath.Join(work, "examples"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	// The server of the tour listens on a port that readers can remember; a test takes its own.
	script := "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
	for _, b := range blocks {
		script += "set -x\n" + b[1] + "{ set +x; } 2>/dev/null\n"
	}
	script = strings.ReplaceAll(script, "6566", freePort(t))
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the tour: %v", err)
	}
	for _, want := range []string{
		"OUTSIDE_MAX_AGE", // before the ttl is lifted
		`"PRESENT"`,       // over HTTP, after it
		"sha256:",         // the dataset's ID
		"features.yaml:",  // where the mistake is
		"did you mean",    // and what was meant
		`"feature_names"`, // Feast's answer
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the tour printed no %q", want)
		}
	}
	if runtime.GOOS == "linux" && !strings.Contains(string(out), "42") {
		t.Error("the pushed delay was not looked up")
	}
}

func missing(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", tool)
	}
	t.Skipf("%s is missing", tool)
}
