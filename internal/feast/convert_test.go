package feast

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/spec"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// Registries that Feast 0.67 has made (testdata/make.py) become YAML that is valid as it stands.
func TestConvert(t *testing.T) {
	for _, name := range []string{"drivers", "shop"} {
		t.Run(name, func(t *testing.T) {
			registry, err := os.ReadFile(filepath.Join("testdata", name, "registry.db"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := Convert(registry, Options{Dir: "/feast/repo", Out: "/features"})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			write(t, filepath.Join(dir, "forebay.yaml"), c.Settings)
			write(t, filepath.Join(dir, "feast.yaml"), c.Definitions)
			repo, diagnostics := spec.Load(dir)
			if len(diagnostics) > 0 {
				t.Fatalf("not valid:\n%v\n%s", diagnostics.Err(), c.Definitions)
			}
			if p := repo.Project; p.Name != name || len(p.Entities) != c.Counts.Entities || len(p.Sources) != c.Counts.Sources || len(p.Views) != c.Counts.Views || len(p.Services) != c.Counts.Services {
				t.Errorf("counted %+v", c.Counts)
			}
			var all bytes.Buffer
			all.Write(c.Definitions)
			for _, n := range c.Notes {
				fmt.Fprintf(&all, "# note: %s %s (lost %v): %s\n", n.Kind, n.Name, n.Lost, n.Message)
			}
			golden := filepath.Join("testdata", name, "want.yaml")
			if *update {
				write(t, golden, all.Bytes())
			}
			want, err := os.ReadFile(golden)
			if err != nil || !bytes.Equal(all.Bytes(), want) {
				t.Errorf("%v; got\n%s", err, all.Bytes())
			}
		})
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNotARegistry(t *testing.T) {
	for _, content := range []string{"", "hello, world", "SQLite format 3\x00", "\x0a\xff\xff\xff\xff"} {
		if _, err := Convert([]byte(content), Options{}); !errors.Is(err, ErrRegistry) {
			t.Errorf("%q: %v", content, err)
		}
	}
	registry, err := os.ReadFile("testdata/drivers/registry.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Convert(registry, Options{Project: "nobody"}); err == nil || !strings.Contains(err.Error(), "drivers") {
		t.Errorf("a project that is not there: %v", err)
	}
	other, err := os.ReadFile("testdata/shop/registry.db")
	if err != nil {
		t.Fatal(err)
	}
	// Messages of Protocol Buffers put together are one with the entries of both.
	both := append(bytes.Clone(registry), other...)
	if _, err := Convert(both, Options{}); err == nil || !strings.Contains(err.Error(), "drivers, shop") {
		t.Errorf("two projects: %v", err)
	}
	if c, err := Convert(both, Options{Project: "shop"}); err != nil || c.Project != "shop" {
		t.Errorf("one of two: %v", err)
	}
}

// Names with any characters become names that are ours, and stay apart from their YAML.
func TestQuote(t *testing.T) {
	for text, want := range map[string]string{"a_1": "a_1", "": `""`, "1a": `"1a"`, "no": `"no"`, "a: b": `"a: b"`, "a\nb": `"a\nb"`, "é": `"é"`} {
		if got := quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := duration(86400 * 30); got != feature.Duration(30*86400*1e6).String() {
		t.Error(got)
	}
}

// Every type of Feast 0.67 is carried over, or has a name for the note that it is not.
func TestTypeNames(t *testing.T) {
	for n := uint64(1); n <= 48; n++ {
		if n == 9 || n == 10 || n == 30 || n == 31 { // which it does not have in a registry
			continue
		}
		if _, ok, _ := typeOf(field{valueType: n}); ok == (strings.Contains(typeName(n), "number")) {
			continue
		}
		t.Errorf("type %d: carried over or not, its name is %q", n, typeName(n))
	}
}

// Whatever the bytes, the importer gives YAML that is valid or an error.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"drivers", "shop"} {
		registry, err := os.ReadFile(filepath.Join("testdata", name, "registry.db"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(registry)
	}
	f.Fuzz(func(_ *testing.T, registry []byte) {
		c, err := Convert(registry, Options{Dir: "/feast", Out: "/out"})
		if err == nil && len(c.Settings) == 0 {
			panic("neither an error nor YAML")
		}
	})
}
