// Package archtest fails when a package imports what the layout does not allow.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/forebay/forebay"

type pkg struct {
	ImportPath string
	Imports    []string
}

// name is the package's path below the module: "online/redis".
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// under reports whether a package or import path is one of the trees, or below one.
func under(name string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return name == tree || strings.HasPrefix(name, tree+"/")
	})
}

// TestEachTechnologyHasOneHome keeps each library behind the package that adapts it.
func TestEachTechnologyHasOneHome(t *testing.T) {
	homes := map[string][]string{
		"github.com/labstack/echo":         {"internal/httpapi"},
		"github.com/redis/go-redis":        {"online/redis", "internal/testenv"},
		"github.com/cockroachdb/pebble":    {"online/embedded"},
		"github.com/twmb/franz-go":         {"materialize/kafka", "internal/testenv"},
		"github.com/twmb/avro":             {"materialize/kafka"},
		"github.com/apache/iceberg-go":     {"offline/parquet"},
		"github.com/ClickHouse":            {"offline/clickhouse", "internal/testenv"},
		"github.com/apache/arrow-go":       {"offline/parquet", "offline/files", "internal/flight"}, // files: its Parquet reader, flight: its protocol; two versions of these do not link
		"github.com/parquet-go/parquet-go": {"offline"},
		"github.com/apache/arrow/go":       {"offline/files", "offline/dataset", "internal/httpapi", "internal/app", "sdk"},
		"github.com/google/flatbuffers":    {"internal/httpapi"},
		"google.golang.org/grpc":           {"internal/flight"},
		"github.com/google/cel-go":         {"registry/expr"},
		"github.com/goccy/go-yaml":         {"registry/spec"},
		"gocloud.dev":                      {"registry/history", "offline", "internal/app"},
		"github.com/spf13/cobra":           {"cmd/forebay"},
	}
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for library, allowed := range homes {
				if under(imp, library) && !under(p.name(), allowed...) {
					t.Errorf("%s imports %s, whose home is %s", p.name(), imp, strings.Join(allowed, ", "))
				}
			}
		}
	}
}

// TestImportsPointDownwards pins who may import whom within the module. The pure
// materialize/window is for all three: one aggregation library for stream, training and serving.
func TestImportsPointDownwards(t *testing.T) {
	rules := []struct {
		from      []string // packages, and those below them
		forbidden []string
		why       string
	}{
		{[]string{"registry"}, []string{"online", "offline", "materialize", "internal/app", "internal/httpapi", "sdk", "cmd"}, "the registry is below everything"},
		{[]string{"online"}, []string{"offline", "materialize", "internal/app", "internal/httpapi", "sdk", "cmd"}, "online, offline and materialize never import each other"},
		{[]string{"offline"}, []string{"online", "materialize", "internal/app", "internal/httpapi", "sdk", "cmd"}, "online, offline and materialize never import each other"},
		{[]string{"materialize"}, []string{"online", "offline", "internal/app", "internal/httpapi", "sdk", "cmd"}, "online, offline and materialize never import each other"},
		{[]string{"internal/httpapi"}, []string{"internal/app", "sdk", "cmd", "online/redis", "online/embedded", "offline/parquet", "offline/clickhouse", "materialize/kafka"}, "the HTTP layer knows interfaces, not stores"},
		{[]string{"internal/flight"}, []string{"internal/app", "internal/httpapi", "sdk", "cmd", "online", "offline", "materialize"}, "Arrow Flight knows an interface, not stores"},
		{[]string{"internal/rowcodec", "internal/rowjson", "internal/api", "internal/telemetry", "internal/config"}, []string{"online", "offline", "materialize", "internal/app", "internal/httpapi", "sdk", "cmd"}, "leaves"},
		{[]string{"internal/app"}, []string{"sdk", "cmd"}, "the app is below its users"},
		{[]string{"cmd"}, []string{"online/redis", "online/embedded", "offline/parquet", "offline/clickhouse", "materialize/kafka"}, "only internal/app wires implementations"},
	}
	for _, p := range packages(t) {
		for _, r := range rules {
			if !under(p.name(), r.from...) {
				continue
			}
			for _, imp := range p.Imports {
				if below, ok := strings.CutPrefix(imp, module+"/"); ok && under(below, r.forbidden...) && !(below == "materialize/window" && under(p.name(), "online", "offline")) {
					t.Errorf("%s imports %s: %s", p.name(), below, r.why)
				}
			}
		}
	}
}

// TestLeavesStayLight pins packages that may import the standard library and little else.
func TestLeavesStayLight(t *testing.T) {
	allowed := map[string][]string{
		"registry/feature":   nil,
		"registry":           {"registry/feature"},
		"registry/lineage":   {"registry", "registry/feature"},
		"offline/pit":        {"registry/feature", "materialize/window"},
		"internal/rowcodec":  {"registry", "registry/feature"},
		"materialize/window": {"registry", "registry/feature", "github.com/apache/datasketches-go/common", "github.com/apache/datasketches-go/frequencies", "github.com/apache/datasketches-go/hll", "github.com/apache/datasketches-go/kll"},
	}
	for _, p := range packages(t) {
		ok, pinned := allowed[p.name()]
		if !pinned {
			continue
		}
		for _, imp := range p.Imports {
			first, _, _ := strings.Cut(imp, "/")
			if strings.Contains(first, ".") && !slices.Contains(ok, strings.TrimPrefix(imp, module+"/")) {
				t.Errorf("%s imports %s; it may import the standard library and %v", p.name(), imp, ok)
			}
		}
	}
}

// TestWhoMayOpenTheApp: the SDK's in-process store is the one user of internal/app beside the
// commands (docs/decisions/0003-sdk-open.md).
func TestWhoMayOpenTheApp(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(p.Imports, module+"/internal/app") && !under(p.name(), "cmd/forebay", "sdk") {
			t.Errorf("%s imports internal/app; only cmd/forebay and sdk may", p.name())
		}
	}
}

// TestPackageNames refuses names that say nothing.
func TestPackageNames(t *testing.T) {
	for _, p := range packages(t) {
		switch path.Base(p.ImportPath) {
		case "util", "utils", "common", "helper", "helpers", "shared", "misc", "base":
			t.Errorf("%s: the name does not say what the package is for", p.name())
		}
	}
}
