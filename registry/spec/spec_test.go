package spec

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
)

var update = flag.Bool("update", false, "write expect.txt of the broken repositories anew")

// TestBroken pins every message: each folder is a repository, and expect.txt
// what is wrong with it.
func TestBroken(t *testing.T) {
	dirs, err := filepath.Glob("testdata/broken/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) < 30 {
		t.Fatalf("%d broken repositories", len(dirs))
	}
	codes := map[Code]bool{}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			repo, ds := Load(dir)
			if len(ds) == 0 || repo.Project != nil {
				t.Errorf("%d diagnostics, project %v", len(ds), repo.Project)
			}
			for _, d := range ds {
				codes[d.Code] = true
			}
			golden := filepath.Join(dir, "expect.txt")
			got := ds.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
	docs, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range allCodes {
		if !codes[c] && c != FileUnreadable { // see TestUnreadable
			t.Errorf("no broken repository has %s", c)
		}
		if !strings.Contains(string(docs), "`"+string(c)+"`") {
			t.Errorf("docs/errors.md does not explain %s", c)
		}
	}
}

var allCodes = []Code{FileUnreadable, MissingFile, YAMLSyntax, YAMLUnsupported, UnsupportedVersion, UnknownKind, UnknownKey,
	DuplicateKey, MissingKey, WrongType, BadName, BadValue, BadDuration, UnknownType, BadReference, DuplicateName, UnknownReference,
	TypeMismatch, Expression, MissingColumn, BadJoinKey, NameClash, Cycle, EmptyView, TTLWithWindows, BadAggregation, BadHop}

// TestGood loads repositories without a mistake, and compiles their views.
func TestGood(t *testing.T) {
	for _, dir := range []string{"testdata/good/flights", "testdata/good/compat", "testdata/good/windows", "../../examples/flights"} {
		repo, ds := Load(dir)
		if err := ds.Err(); err != nil {
			t.Errorf("%s:\n%v", dir, err)
			continue
		}
		for i := range repo.Project.Views {
			if _, err := expr.CompileView(repo.Project, &repo.Project.Views[i]); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
		}
		for i := range repo.Project.OnDemand {
			if _, err := expr.CompileOnDemand(repo.Project, &repo.Project.OnDemand[i]); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
		}
		for _, e := range repo.Project.Entities {
			if _, ok := repo.Position(lineage.Node{Kind: lineage.Entity, Name: e.Name}); !ok {
				t.Errorf("%s: entity %s has no place", dir, e.Name)
			}
		}
	}
}

// TestProjects pins the projects that the examples of the surface make.
func TestProjects(t *testing.T) {
	t.Run("windows", func(t *testing.T) { pinned(t, "testdata/good/windows") })
	repo := pinned(t, "testdata/good/flights")
	p, _ := repo.Position(lineage.Node{Kind: lineage.View, Name: "airport_latest"})
	if p.String() != "views.yaml:3:7" {
		t.Errorf("airport_latest is at %s", p)
	}
	e := repo.Settings.Environment("production")
	if e == nil || e.Stream.SASL.Username != "u" || !e.Online.TLS.Enabled || e.Online.Password != "${file:/run/secrets/redis}" || len(e.Online.Addrs) != 1 {
		t.Fatalf("production is %+v", e)
	}
	if p := e.Position("online.addrs.0"); p.String() != "forebay.yaml:13:38" {
		t.Errorf("online.addrs.0 is at %s", p)
	}
	if p := e.Position("offline.nothing"); p != e.Position("offline") || !e.Given("offline.url") || e.Given("online.db") {
		t.Errorf("offline.nothing is at %s", p)
	}
}

func TestDefaults(t *testing.T) {
	repo, ds := LoadFS(fstest.MapFS{
		"forebay.yaml": {Data: []byte("version: 1\nproject: p\n")},
		"a.yml": {Data: []byte("kind: Source\nname: s\ntimestamp: t\ncolumns: {t: timestamp}\n---\n" +
			"kind: FeatureView\nname: v\nsource: s\nttl: lifetime\nfeatures:\n- {name: f, type: timestamp, expr: t}\n")},
		".hidden/b.yaml":   {Data: []byte("]")},
		"tests/c.yaml":     {Data: []byte("]")},
		"not.yaml.txt":     {Data: []byte("]")},
		".forebay/d.yaml":  {Data: []byte("]")},
		"sub/.hidden.yaml": {Data: []byte("]")},
	})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	if got := repo.Project.Sources[0].MaxAhead; got != registry.DefaultMaxAhead {
		t.Errorf("max_ahead %s", got)
	}
	if got := repo.Project.Views[0].TTL; got != 0 {
		t.Errorf("ttl %s", got)
	}
	if e := repo.Settings.Environment("local"); e == nil || e.Online.Store != "embedded" {
		t.Errorf("environment %+v", e)
	}
	if repo.Project.Name != "p" || repo.Project.Views[0].Features[0].Type != feature.TypeTimestamp {
		t.Errorf("project %+v", repo.Project)
	}
}

func TestUnreadable(t *testing.T) {
	large := append([]byte("kind: Entity\n"), make([]byte, maxFile)...)
	_, ds := LoadFS(fstest.MapFS{
		"forebay.yaml": {Data: []byte("version: 1\nproject: p\n")},
		"large.yaml":   {Data: large},
		"link.yaml":    {Data: []byte("nowhere.yaml"), Mode: fs.ModeSymlink},
		"other.yaml":   {Data: []byte("kind: Entitty\n")},
	})
	var got []string
	for _, d := range ds {
		got = append(got, d.String())
	}
	want := []string{
		"large.yaml:1:1: the file is larger than 4 MiB [file-unreadable] (split it)",
		"link.yaml:1:1: file does not exist [file-unreadable]",
		`other.yaml:1:7: there is no kind "Entitty" [unknown-kind] (did you mean "Entity"?)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestNoFolder(t *testing.T) {
	_, ds := Load("testdata/nowhere")
	if len(ds) == 0 || ds.Err() == nil {
		t.Error("a folder that does not exist is fine")
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*/*.yaml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a: &a [*a]\n<<: *a"))
	f.Add([]byte("? [a]\n: {b: c}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 1<<14 {
			return
		}
		for _, name := range []string{SettingsFile, "features.yaml"} {
			root := fstest.MapFS{SettingsFile: {Data: []byte("version: 1\nproject: p\n")}}
			root[name] = &fstest.MapFile{Data: content}
			repo, ds := LoadFS(root)
			if (repo.Project == nil) != (len(ds) > 0) {
				t.Errorf("%d diagnostics, project %v", len(ds), repo.Project)
			}
			for _, d := range ds {
				if d.Line < 1 || d.Column < 1 || d.Code == "" || d.Message == "" {
					t.Errorf("diagnostic %+v", d)
				}
			}
		}
	})
}

// pinned loads a repository and compares its project with expect.json.
func pinned(t *testing.T, dir string) *Repository {
	t.Helper()
	repo, ds := Load(dir)
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(repo.Project, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := dir + "/expect.json"
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("got\n%s", got)
	}
	return repo
}
