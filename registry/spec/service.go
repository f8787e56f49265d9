package spec

import (
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
	"github.com/forebay/forebay/registry/nearest"
)

// serviceDecl is a service and the places of its parts.
type serviceDecl struct {
	registry.Service
	entries []serviceEntry
	renames []renameDecl
}

// serviceEntry is one entry of a service and the places of its parts.
type serviceEntry struct {
	registry.ServiceFeature
	ref  text
	keys []renameDecl
}

type renameDecl struct {
	registry.KeyRename
	entity, key, to text
}

func (l *loader) service(o *object) {
	m, named := l.meta(o, lineage.Service, "a feature service")
	d := &serviceDecl{Service: registry.Service{Meta: m}}
	if i, ok := o.need("features"); ok {
		items := i.list()
		if len(items) == 0 && i.kind() == "a list" {
			i.report(EmptyView, "", "the service has no features")
		}
		for _, e := range items {
			if s, ok := l.serviceEntry(e); ok {
				d.entries = append(d.entries, s)
			}
		}
	}
	if i, ok := o.get("entities"); ok {
		for _, e := range i.entries() {
			for _, r := range l.renames(e.value) {
				r.Entity, r.entity = e.key.string, e.key
				d.renames = append(d.renames, r)
			}
		}
	}
	if !named {
		l.nameless.services = append(l.nameless.services, d)
		return
	}
	l.services[m.Name] = d
}

func (l *loader) serviceEntry(i item) (serviceEntry, bool) {
	var s serviceEntry
	if i.kind() == "a mapping" {
		o, _ := i.object("a service's feature")
		s.ref = o.needText("ref")
		if p := o.text("prefix"); l.checkShape(p, "prefix") {
			s.Prefix = p.string
		}
		if k, ok := o.get("keys"); ok {
			s.keys = l.renames(k)
		}
		o.finish()
	} else if t, ok := i.text(); ok {
		s.ref = t
	}
	if !s.ref.given() {
		return s, false
	}
	ref, err := registry.ParseRef(s.ref.string)
	if err != nil {
		s.ref.report(BadReference, "", "%s", err)
		return s, false
	}
	s.Ref = ref
	return s, true
}

// renames reads a mapping of join keys to the columns of lookups and spines.
func (l *loader) renames(i item) []renameDecl {
	var rs []renameDecl
	for _, e := range i.entries() {
		to, ok := e.value.text()
		if !ok || !l.checkColumn(to, "column") {
			continue
		}
		rs = append(rs, renameDecl{KeyRename: registry.KeyRename{JoinKey: e.key.string, To: to.string}, key: e.key, to: to})
	}
	return rs
}

// needs is what must be given to compute a view: the join keys of the entities,
// and the fields of the request, of the view and of all that it reads.
type needs struct {
	entities []string
	keys     []feature.Field
	request  []feature.Field
}

func (l *loader) needs(view string) needs {
	var n needs
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		if v := l.views[name]; v != nil {
			for _, e := range v.Entities {
				if !slices.Contains(n.entities, e) {
					n.entities = append(n.entities, e)
					n.keys = append(n.keys, l.entities[e].JoinKeys...)
				}
			}
		}
		if v := l.onDemand[name]; v != nil {
			n.request = append(n.request, v.Request...)
			for _, in := range v.Inputs {
				visit(in)
			}
		}
	}
	visit(view)
	return n
}

// checkService holds a service against its views.
func (l *loader) checkService(d *serviceDecl) {
	l.checkRenames(d)
	c := serviceCheck{loader: l, service: d, outputs: map[string]text{}, columns: map[string]feature.Type{}}
	for i := range d.entries {
		c.entry(&d.entries[i])
	}
	for _, e := range d.entries {
		c.clashes(e)
	}
}

// checkRenames finds the join keys that a service renames for all of its views.
func (l *loader) checkRenames(d *serviceDecl) {
	for _, r := range d.renames {
		e := l.entities[r.Entity]
		if e == nil {
			r.entity.unknown("entity", r.Entity, sortedKeys(l.entities))
			continue
		}
		l.checkRename(r, e.JoinKeys, e.whole, "entity", e.Name)
	}
}

func (l *loader) checkRename(r renameDecl, keys []feature.Field, whole bool, what, name string) {
	var known []string
	for _, k := range keys {
		known = append(known, k.Name)
	}
	if whole && !slices.Contains(known, r.JoinKey) {
		hint := nearest.Hint(r.JoinKey, known)
		if hint == "" && len(known) > 0 {
			hint = "its join keys are " + strings.Join(known, ", ")
		}
		r.key.report(UnknownReference, hint, "%s %q has no join key %q", what, name, r.JoinKey)
	}
}

// serviceCheck collects what a service's entries give and need.
type serviceCheck struct {
	*loader
	service *serviceDecl
	outputs map[string]text         // by output name, the reference that gives it
	columns map[string]feature.Type // of lookups and spines
}

func (c *serviceCheck) entry(e *serviceEntry) {
	fs, whole, found := c.loader.outputs(e.Ref.View)
	if !found {
		e.ref.unknown("view", e.Ref.View, c.viewNames())
		return
	}
	if e.Ref.Generation > 0 && c.onDemand[e.Ref.View] != nil {
		e.ref.report(BadReference, "write "+registry.Ref{View: e.Ref.View, Feature: e.Ref.Feature}.String(), "an on-demand view has no generations")
	}
	if one := e.Ref.Feature; one != "" {
		i := slices.IndexFunc(fs, func(f feature.Field) bool { return f.Name == one })
		switch {
		case i >= 0:
			fs = fs[i : i+1]
		case e.Ref.Generation > 0 || !whole: // it may have had, or be meant to have, the feature
			fs = []feature.Field{{Name: one}}
		default:
			var known []string
			for _, f := range fs {
				known = append(known, f.Name)
			}
			e.ref.report(UnknownReference, nearest.Hint(one, known), "view %q has no feature %q", e.Ref.View, one)
			return
		}
	}
	for _, f := range fs {
		name := e.Prefix + f.Name
		if first, twice := c.outputs[name]; twice {
			e.ref.report(NameClash, "give one of them a prefix: {ref: …, prefix: …}", "two features of the service are called %q: of %s in line %d, and of %s",
				name, first.string, first.at().Line, e.ref.string)
			continue
		}
		c.outputs[name] = e.ref
	}
	c.needed(e)
}

// needed collects the columns that an entry needs, under the names they have in
// lookups and spines.
func (c *serviceCheck) needed(e *serviceEntry) {
	n := c.needs(e.Ref.View)
	whole := true
	for _, name := range n.entities {
		whole = whole && c.entities[name].whole
	}
	for _, r := range e.keys {
		c.checkRename(r, n.keys, whole, "view", e.Ref.View)
	}
	for _, name := range n.entities {
		for _, k := range c.entities[name].JoinKeys {
			column := k.Name
			for _, r := range c.service.renames {
				if r.Entity == name && r.JoinKey == k.Name {
					column = r.To
				}
			}
			for _, r := range e.keys {
				if r.JoinKey == k.Name {
					column = r.To
				}
			}
			c.column(e, column, k.Type)
		}
	}
	for _, f := range n.request {
		c.column(e, f.Name, f.Type)
	}
}

func (c *serviceCheck) column(e *serviceEntry, name string, t feature.Type) {
	if has, ok := c.columns[name]; ok && has != t {
		e.ref.report(TypeMismatch, "rename one of them with keys:", "%s needs the column %q of type %s, and another feature of the service needs it of type %s", e.ref.string, name, t, has)
		return
	}
	c.columns[name] = t
}

// clashes reports outputs that are called as a column of the spine is.
func (c *serviceCheck) clashes(e serviceEntry) {
	for _, name := range sortedKeys(c.outputs) {
		if _, taken := c.columns[name]; taken && c.outputs[name].at() == e.ref.at() {
			e.ref.report(NameClash, "give it a prefix: {ref: …, prefix: …}", "the feature %q is called as a column that the service needs", name)
		}
	}
}

// model is the service as the registry has it.
func (d *serviceDecl) model() registry.Service {
	s := d.Service
	for _, e := range d.entries {
		f := e.ServiceFeature
		for _, k := range e.keys {
			f.Keys = append(f.Keys, k.KeyRename)
		}
		s.Features = append(s.Features, f)
	}
	for _, r := range d.renames {
		s.Entities = append(s.Entities, r.KeyRename)
	}
	return s
}
