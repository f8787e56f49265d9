package spec

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
)

var nameShape = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// checkName reports a name that is none: of a definition or a feature. "__" is
// what parts a view from a feature in a full name. A name that is not there is
// nobody's mistake here.
func (l *loader) checkName(t text, what string) bool {
	if !l.checkShape(t, what) {
		return false
	}
	if strings.Contains(t.string, "__") {
		t.report(BadName, "", "the %s %q contains \"__\", which parts views from features in full names", what, t.string)
		return false
	}
	return t.given()
}

// checkColumn reports a name that no column, feature or request field can have.
func (l *loader) checkColumn(t text, what string) bool {
	if !l.checkShape(t, what) {
		return false
	}
	if strings.HasPrefix(t.string, "_") {
		t.report(BadName, "", "the %s %q starts with \"_\", which is for Forebay's own columns", what, t.string)
		return false
	}
	return t.given()
}

func (l *loader) checkShape(t text, what string) bool {
	if t.given() && !nameShape.MatchString(t.string) {
		t.report(BadName, "letters, digits and _, at most 63, no digit first", "%q cannot be a %s", t.string, what)
		return false
	}
	return t.given()
}

// featureType reads a type; false if it is none, which has been reported.
func (t text) featureType() (feature.Type, bool) {
	if !t.given() {
		return feature.Type{}, false
	}
	ft, err := feature.ParseType(t.string)
	if err == nil {
		return ft, true
	}
	hint := nearest.Hint(t.string, feature.TypeNames())
	switch strings.ToLower(t.string) {
	case "int", "integer", "long", "bigint", "int32":
		hint = "write int64"
	case "float", "double", "float32", "real":
		hint = "write float64"
	case "text", "str", "varchar":
		hint = "write string"
	case "boolean":
		hint = "write bool"
	case "datetime", "date", "time":
		hint = "write timestamp"
	}
	if hint == "" {
		hint = "the types are " + strings.Join(feature.TypeNames(), ", ")
	}
	t.report(UnknownType, hint, "%s", err)
	return ft, false
}

// duration reads a duration; false if it is none, which has been reported.
func (t text) duration() (feature.Duration, bool) {
	if !t.given() {
		return 0, false
	}
	d, err := feature.ParseDuration(t.string)
	if err != nil {
		t.report(BadDuration, "", "%s", err)
		return 0, false
	}
	return d, true
}

// duration finds the duration of a key, which may be missing.
func (o *object) duration(key string) (feature.Duration, text, bool) {
	i, ok := o.get(key)
	if !ok {
		return 0, text{}, false
	}
	if !i.scalar() { // 90 is a scalar too, and ParseDuration says what it lacks
		i.wrong("a duration")
		return 0, text{}, false
	}
	t := text{i.raw(), i}
	d, ok := t.duration()
	return d, t, ok
}

// fields reads a mapping of names to types, such as the fields of a request.
func (l *loader) fields(i item, what string) (fs []feature.Field, names []text) {
	for _, e := range i.entries() {
		t, ok := e.value.text()
		if !ok {
			continue
		}
		ft, typed := t.featureType()
		if l.checkColumn(e.key, what) && typed {
			fs, names = append(fs, feature.Field{Name: e.key.string, Type: ft}), append(names, e.key)
		}
	}
	return fs, names
}

// featureDecl is a feature and the places of its parts.
type featureDecl struct {
	feature.Field
	name, typ, expr text
	description     string
}

// features reads the features of a view or an on-demand view.
func (l *loader) features(i item) []featureDecl {
	var out []featureDecl
	seen := map[string]string{} // by the name in lower case
	for _, e := range i.list() {
		o, ok := e.object("a feature")
		if !ok {
			continue
		}
		f := featureDecl{name: o.needText("name"), typ: o.needText("type")}
		if i, ok := o.need("expr"); ok {
			f.expr = i.expression()
		}
		f.description = o.text("description").string
		o.finish()
		var typed bool
		f.Name = f.name.string
		f.Type, typed = f.typ.featureType()
		if !l.checkName(f.name, "feature") || !l.checkColumn(f.name, "feature") {
			continue
		}
		if isInstant(f.Name) {
			f.name.report(BadName, "", "a feature cannot be called %q, as the instant of each row is in tables and datasets", f.Name)
			continue
		}
		folded := strings.ToLower(f.Name)
		if other, ok := seen[folded]; ok {
			f.name.report(DuplicateName, "", "the view already has a feature %q%s", other, letterCase(f.Name, other))
			continue
		}
		seen[folded] = f.Name
		if !typed {
			f.Type = feature.Type{} // of no type: nobody is told about what follows from it
		}
		out = append(out, f)
	}
	return out
}

func (f featureDecl) model() registry.Feature {
	return registry.Feature{Field: f.Field, Expr: f.expr.string, Description: f.description}
}

// isInstant says whether a name is that of the instant of each row in tables and datasets. Engines
// that read tables do not tell upper from lower case, so neither is told in the columns of one.
func isInstant(name string) bool { return strings.EqualFold(name, "event_timestamp") }

// letterCase says what two names differ in that are one to tables.
func letterCase(name, other string) string {
	if name == other {
		return ""
	}
	return ", and tables do not tell upper from lower case"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
