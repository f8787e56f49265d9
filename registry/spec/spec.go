// Package spec reads a feature repository: a folder of YAML files into a
// registry.Project. It is strict, and reports every mistake in one run, each
// with its place, a stable code and, where there is one, a hint.
//
//	forebay.yaml     version, project, environments
//	**/*.yaml, .yml  definitions, any number of documents per file
//	tests/           scripts of `forebay test`, not read here
//	.anything/       hidden folders, not read
//
// Reading goes in two steps. First each document is taken apart into a
// definition, with the place of every part; what is wrong with a document by
// itself is found here. Then the definitions are held against each other:
// references, types, expressions, names.
package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/lineage"
	"github.com/forebay/forebay/registry/nearest"
)

// SettingsFile is the file at a repository's root.
const SettingsFile = "forebay.yaml"

// Settings are what forebay.yaml says.
type Settings struct {
	Version      int
	Project      string
	Environments []Environment // in the order of the file; the default one if it names none
}

// Environment finds an environment by name; nil if there is none.
func (s *Settings) Environment(name string) *Environment {
	for i := range s.Environments {
		if s.Environments[i].Name == name {
			return &s.Environments[i]
		}
	}
	return nil
}

// Repository is a feature repository as read from its files.
type Repository struct {
	Settings Settings
	// Project is what the files define, complete and consistent; nil if there
	// are diagnostics.
	Project *registry.Project

	places map[lineage.Node]Position
}

// Position is the place of a definition's name.
func (r *Repository) Position(n lineage.Node) (Position, bool) {
	p, ok := r.places[n]
	return p, ok
}

// Load reads the feature repository in a folder. The Repository is never nil.
func Load(dir string) (*Repository, Diagnostics) { return LoadFS(os.DirFS(dir)) }

// LoadFS is Load for a file system.
func LoadFS(root fs.FS) (*Repository, Diagnostics) {
	l := newLoader()
	repo := &Repository{places: map[lineage.Node]Position{}}
	repo.Settings = l.settings(root)
	for _, name := range l.files(root) {
		if name == SettingsFile {
			continue
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			l.add(Position{name, 1, 1}, FileUnreadable, "", "%s", cause(err))
			continue
		}
		for _, document := range parse(&l.report, name, content) {
			l.definition(document)
		}
	}
	project := l.check()
	project.Name = repo.Settings.Project
	for node, p := range l.places {
		repo.places[node] = p
	}
	if len(l.diagnostics) == 0 {
		repo.Project = project
	}
	return repo, l.diagnostics.sorted()
}

// LoadSettings reads forebay.yaml alone: for those who work with what was
// applied, and need no definitions.
func LoadSettings(dir string) (Settings, Diagnostics) {
	l := newLoader()
	s := l.settings(os.DirFS(dir))
	return s, l.diagnostics.sorted()
}

// loader holds the definitions while they are read and checked.
type loader struct {
	report
	places   map[lineage.Node]Position
	entities map[string]*entityDecl
	sources  map[string]*sourceDecl
	views    map[string]*viewDecl
	onDemand map[string]*onDemandDecl
	services map[string]*serviceDecl
	// Definitions without a name, or with one that is taken, are checked by
	// themselves: nobody can refer to them.
	nameless struct {
		views    []*viewDecl
		onDemand []*onDemandDecl
		services []*serviceDecl
	}
}

func newLoader() *loader {
	return &loader{
		places: map[lineage.Node]Position{}, entities: map[string]*entityDecl{}, sources: map[string]*sourceDecl{},
		views: map[string]*viewDecl{}, onDemand: map[string]*onDemandDecl{}, services: map[string]*serviceDecl{},
	}
}

// cause is an error without the path, which the diagnostic's place says.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// files lists the YAML files of a repository, sorted.
func (l *loader) files(root fs.FS) []string {
	var names []string
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			l.add(Position{name, 1, 1}, FileUnreadable, "", "%s", cause(err))
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		hidden := name != "." && strings.HasPrefix(path.Base(name), ".")
		switch ext := path.Ext(name); {
		case d.IsDir() && (hidden || name == "tests"):
			return fs.SkipDir
		case d.IsDir(), hidden, ext != ".yaml" && ext != ".yml":
			return nil
		case name == "forebay.yml":
			l.add(Position{name, 1, 1}, MissingFile, "rename it", "the file at the root is called %s", SettingsFile)
			return nil
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		l.add(Position{".", 1, 1}, FileUnreadable, "", "%s", cause(err))
	}
	slices.Sort(names)
	return names
}

// settings reads forebay.yaml.
func (l *loader) settings(root fs.FS) Settings {
	none := Settings{Version: 1}
	content, err := fs.ReadFile(root, SettingsFile)
	if err != nil {
		code, hint := FileUnreadable, ""
		if errors.Is(err, fs.ErrNotExist) {
			code, hint = MissingFile, "`forebay init` makes one; -C names another folder"
			err = fmt.Errorf("there is no %s, so this is no feature repository", SettingsFile)
		}
		l.add(Position{SettingsFile, 1, 1}, code, hint, "%s", cause(err))
		return none
	}
	before := len(l.diagnostics)
	documents := parse(&l.report, SettingsFile, content)
	if len(documents) == 0 {
		if len(l.diagnostics) == before {
			l.add(Position{SettingsFile, 1, 1}, MissingKey, "", "the file is empty: it needs the keys \"version\" and \"project\"")
		}
		return none
	}
	for _, d := range documents[1:] {
		d.report(BadValue, "put definitions into another file", "%s holds one document", SettingsFile)
	}
	o, ok := documents[0].object(SettingsFile)
	if !ok {
		return none
	}
	s := none
	if v, ok := o.need("version"); ok && v.scalar() {
		if v.raw() != "1" {
			v.report(UnsupportedVersion, "this Forebay reads version 1", "version %s is not supported", v.raw())
		}
	} else if ok {
		v.wrong("a whole number")
	}
	project := o.needText("project")
	l.checkName(project, "project")
	s.Project = project.string
	if i, ok := o.get("environments"); ok {
		s.Environments = l.environments(i)
	} else {
		s.Environments = []Environment{defaultEnvironment()}
	}
	o.finish()
	return s
}

// definition reads one document of a file of definitions.
func (l *loader) definition(document item) {
	o, ok := document.object("a definition")
	if !ok {
		return
	}
	kind := o.needText("kind")
	switch lineage.Kind(kind.string) {
	case lineage.Entity:
		l.entity(o)
	case lineage.Source:
		l.source(o)
	case lineage.View:
		l.view(o)
	case lineage.OnDemandView:
		l.onDemandView(o)
	case lineage.Service:
		l.service(o)
	default:
		if kind.given() {
			var known []string
			for _, k := range lineage.Kinds() {
				known = append(known, string(k))
			}
			hint := nearest.Hint(kind.string, known)
			if hint == "" {
				hint = "the kinds are " + strings.Join(known, ", ")
			}
			kind.report(UnknownKind, hint, "there is no kind %q", kind.string)
		}
		return // without a kind, nothing can be said about the keys
	}
	o.finish()
}

// meta reads what every definition has. It reports false if the definition has
// no name, or one that is taken.
func (l *loader) meta(o *object, kind lineage.Kind, what string) (registry.Meta, bool) {
	o.what = what
	name := o.needText("name")
	m := registry.Meta{Name: name.string, Description: o.text("description").string, Owner: o.text("owner").string}
	if i, ok := o.get("tags"); ok {
		m.Tags = map[string]string{}
		for _, e := range i.entries() {
			if !e.value.scalar() {
				e.value.wrong("a text")
				continue
			}
			m.Tags[e.key.string] = e.value.raw()
		}
	}
	if !name.given() {
		return m, false
	}
	l.checkName(name, "name") // a bad name is one all the same: what refers to it is not wrong as well
	taken := []lineage.Kind{kind}
	switch kind { // views and on-demand views share their names
	case lineage.View:
		taken = append(taken, lineage.OnDemandView)
	case lineage.OnDemandView:
		taken = append(taken, lineage.View)
	}
	for _, k := range taken {
		if first, twice := l.places[lineage.Node{Kind: k, Name: m.Name}]; twice {
			name.report(DuplicateName, "", "%q is already the name of the %s at %s:%d", m.Name, k, first.File, first.Line)
			return m, false
		}
	}
	l.places[lineage.Node{Kind: kind, Name: m.Name}] = name.at()
	return m, true
}
