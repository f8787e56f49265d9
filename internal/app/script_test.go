package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/pitscript"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/redis"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/spec"
)

// scriptWorld is where tests run scripts: the definitions of a repository, and a Kafka.
type scriptWorld struct {
	project *registry.Project
	brokers []string
	name    string // begins the names of topics and groups
	runs    int
}

func newScriptWorld(t testing.TB, root string) *scriptWorld {
	t.Helper()
	repo, diagnostics := spec.Load(root)
	if err := diagnostics.Err(); err != nil {
		t.Fatal(err)
	}
	all := registry.Service{Meta: registry.Meta{Name: serviceOfAll}}
	for _, v := range repo.Project.Views {
		all.Features = append(all.Features, registry.ServiceFeature{Ref: registry.Ref{View: v.Name}, Prefix: v.Name + "_"})
	}
	repo.Project.Services = append(repo.Project.Services, all)
	w := &scriptWorld{project: repo.Project, name: "run"}
	if os.Getenv("FOREBAY_TEST_LONG") != "" { // a real Kafka, whose groups take seconds to form
		brokers := testenv.Kafka(t)
		w.brokers, w.name = brokers.Addrs(), brokers.Name(t)
		return w
	}
	broker, err := kafka.Embedded(t.TempDir(), embeddedListen, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	w.brokers = []string{broker.Addr()}
	return w
}

func (w *scriptWorld) compile(t testing.TB, file, text string) *pitscript.Program {
	t.Helper()
	p, err := pitscript.Compile(file, []byte(text), w.project)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// scriptStores open the online store of each kind of engine; nil for the offline one.
var scriptStores = []struct {
	name string
	open func(t testing.TB, project, dir string) online.Store
}{
	{"offline", nil},
	{"pebble", func(t testing.TB, project, dir string) online.Store {
		s, err := scriptPebble(project, dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}},
	{"redis", func(t testing.TB, project, dir string) online.Store {
		s, err := redis.Open(redis.Options{Project: project + "-" + filepath.Base(filepath.Dir(dir)), Addrs: []string{testenv.Redis(t).Addr}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}},
}

// config is that of an offline engine of its own.
func (w *scriptWorld) config(t testing.TB) scriptConfig {
	t.Helper()
	w.runs++
	dir, err := os.MkdirTemp(t.TempDir(), "engine-")
	if err != nil {
		t.Fatal(err)
	}
	return scriptConfig{Project: w.project, Name: fmt.Sprintf("%s-%d", w.name, w.runs), Dir: dir, Brokers: w.brokers}
}

func (w *scriptWorld) run(t testing.TB, p *pitscript.Program, open func(t testing.TB, project, dir string) online.Store) (*pitscript.Result, error) {
	t.Helper()
	c := w.config(t)
	if open != nil {
		c.Online = open(t, w.project.Name, filepath.Join(c.Dir, "online"))
	}
	e, err := newScriptEngine(t.Context(), c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	res, err := p.Run(t.Context(), e)
	if err == nil && open != nil {
		for _, m := range verified(t, e).Mismatches {
			t.Errorf("verify: %s of %s at %s: %s: %s: %v", m.View, m.Entity, m.Instant, m.Reason, m.Message, m.Features)
		}
	}
	return res, err
}

// verified verifies all that an engine serves.
func verified(t testing.TB, e *scriptEngine) *Verified {
	t.Helper()
	v, err := e.app.Verify(t.Context(), VerifyOptions{Service: serviceOfAll})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Views) != len(e.views) {
		t.Errorf("%d views were verified, want %d", len(v.Views), len(e.views))
	}
	return v
}

// serviceOfAll has every feature of every view.
const serviceOfAll = "all_there_is"

// TestSemantics runs the scripts that tell the meaning of everything on every engine.
func TestSemantics(t *testing.T) {
	roots, err := filepath.Glob("testdata/scripts/*")
	if err != nil || len(roots) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, root := range roots {
		t.Run(filepath.Base(root), func(t *testing.T) {
			w := newScriptWorld(t, root)
			files, err := filepath.Glob(filepath.Join(root, "tests", "*.pit"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no scripts: %v", err)
			}
			for _, file := range files {
				t.Run(strings.TrimSuffix(filepath.Base(file), ".pit"), func(t *testing.T) { w.everywhere(t, file) })
			}
		})
	}
}

// everywhere runs a script on every engine.
func (w *scriptWorld) everywhere(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := w.compile(t, file, string(text))
	for _, s := range scriptStores {
		t.Run(s.name, func(t *testing.T) {
			res, err := w.run(t, p, s.open)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range res.Failures {
				t.Error(f)
			}
			if got := res.Checked + res.Skipped; got != p.Expectations() || res.Checked == 0 {
				t.Errorf("%d expectations were checked and %d skipped, of %d", res.Checked, res.Skipped, p.Expectations())
			}
		})
	}
}
