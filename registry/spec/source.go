package spec

import (
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
	"github.com/forebay/forebay/registry/nearest"
)

// entityDecl is an entity; whole if all of its join keys could be read.
type entityDecl struct {
	registry.Entity
	whole bool
}

func (l *loader) entity(o *object) {
	m, named := l.meta(o, lineage.Entity, "an entity")
	d := &entityDecl{Entity: registry.Entity{Meta: m}, whole: true}
	keys, ok := o.need("join_keys")
	if !ok {
		d.whole = false
	} else {
		items := keys.list()
		if len(items) == 0 && keys.kind() == "a list" {
			keys.report(MissingKey, "", "an entity needs at least one join key")
		}
		d.whole = len(items) > 0
		for _, i := range items {
			d.whole = l.joinKey(d, i) && d.whole
		}
	}
	if named {
		l.entities[m.Name] = d
	}
}

func (l *loader) joinKey(d *entityDecl, i item) bool {
	o, ok := i.object("a join key")
	if !ok {
		return false
	}
	name, typ := o.needText("name"), o.needText("type")
	o.finish()
	t, typed := typ.featureType()
	if !l.checkColumn(name, "join key") || !typed {
		return false
	}
	if !t.Key() {
		typ.report(BadJoinKey, "join keys are bool, int64, string, bytes or timestamp", "a join key cannot be of type %s", t)
		return false
	}
	for _, k := range d.JoinKeys {
		if k.Name == name.string {
			name.report(DuplicateName, "", "the entity already has a join key %q", k.Name)
			return false
		}
	}
	d.JoinKeys = append(d.JoinKeys, feature.Field{Name: name.string, Type: t})
	return true
}

// sourceDecl is a source; whole if all of its columns could be read, so that
// what is not among them is not there.
type sourceDecl struct {
	registry.Source
	whole bool
}

func (d *sourceDecl) columnNames() []string {
	names := make([]string, len(d.Columns))
	for i, c := range d.Columns {
		names[i] = c.Name
	}
	return names
}

func (l *loader) source(o *object) {
	m, named := l.meta(o, lineage.Source, "a source")
	d := &sourceDecl{Source: registry.Source{Meta: m, MaxAhead: registry.DefaultMaxAhead}}
	timestamp := o.needText("timestamp")
	if i, ok := o.need("columns"); ok {
		d.whole = l.columns(d, i)
	}
	created := o.text("created")
	d.Timestamp, d.Created = timestamp.string, created.string
	l.timeColumn(d, timestamp, "timestamp")
	l.timeColumn(d, created, "created")
	if i, ok := o.get("kafka"); ok {
		d.Kafka = l.kafka(d, i)
	}
	if i, ok := o.get("files"); ok {
		if f, ok := i.object("files"); ok {
			d.Files = &registry.Files{Glob: f.needText("glob").string}
			f.finish()
		}
	}
	d.TimestampFormat = o.choice("timestamp_format", "rfc3339", "rfc3339", "unix_s", "unix_ms", "unix_us")
	if i, ok := o.get("timestamp_format"); ok && d.Kafka != nil && d.Kafka.Format != "json" {
		i.report(BadValue, "leave it out", "%q is for JSON; %s says itself how it writes timestamps", "timestamp_format", d.Kafka.Format)
	}
	if ahead, _, ok := o.duration("max_ahead"); ok {
		d.MaxAhead = ahead
	}
	if named {
		l.sources[m.Name] = d
	}
}

// columns reads a source's columns; false if one of them could not be read.
func (l *loader) columns(d *sourceDecl, i item) bool {
	before := len(l.diagnostics)
	entries := i.entries()
	if len(entries) == 0 && i.kind() == "a mapping" {
		i.report(MissingKey, "", "a source needs columns")
	}
	for _, e := range entries {
		var typ text
		from := ""
		if e.value.kind() == "a mapping" {
			o, _ := e.value.object("a column")
			typ = o.needText("type")
			from = o.needText("from").string
			o.finish()
		} else if t, ok := e.value.text(); ok {
			typ = t
		}
		t, typed := typ.featureType()
		if i := slices.IndexFunc(d.Columns, func(c registry.SourceColumn) bool { return strings.EqualFold(c.Name, e.key.string) }); i >= 0 {
			e.key.report(DuplicateName, "keep the name of one outside: NAME: {type: "+typ.string+", from: "+e.key.string+"}",
				"the source already has a column %q%s", d.Columns[i].Name, letterCase(e.key.string, d.Columns[i].Name))
			continue
		}
		if l.checkColumn(e.key, "column") && typed {
			d.Columns = append(d.Columns, registry.SourceColumn{Field: feature.Field{Name: e.key.string, Type: t}, From: from})
		}
	}
	return len(l.diagnostics) == before
}

// column finds a column that a text names; -1 if there is none, which is
// reported unless it may be among the columns that could not be read.
func (l *loader) column(d *sourceDecl, t text) int {
	i := d.Column(t.string)
	if i < 0 && d.whole {
		t.report(UnknownReference, nearest.Hint(t.string, d.columnNames()), "source %q has no column %q", d.Name, t.string)
	}
	return i
}

func (l *loader) timeColumn(d *sourceDecl, t text, key string) {
	if !t.given() {
		return
	}
	if i := l.column(d, t); i >= 0 && d.Columns[i].Type != feature.TypeTimestamp {
		t.report(TypeMismatch, "", "%q names the column %q of type %s, not timestamp", key, t.string, d.Columns[i].Type)
	}
}

func (l *loader) kafka(d *sourceDecl, i item) *registry.Kafka {
	o, ok := i.object("kafka")
	if !ok {
		return nil
	}
	k := &registry.Kafka{Topic: o.needText("topic").string, Format: o.choice("format", "json", "json", "avro", "protobuf")}
	seen := map[string]bool{}
	for _, t := range o.texts("key") {
		l.column(d, t)
		if seen[t.string] {
			t.report(DuplicateName, "", "the key already has the column %q", t.string)
		}
		seen[t.string] = true
		k.Key = append(k.Key, t.string)
	}
	o.finish()
	return k
}
