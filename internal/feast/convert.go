package feast

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry/feature"
)

// Options say what to convert.
type Options struct {
	// Project is the one to take of a registry that has several; "" is the only one.
	Project string
	// Dir is the folder of the Feast repository, to which its relative paths are; Out the folder that the
	// YAML is for. Both are absolute.
	Dir, Out string
}

// Note says what could not be carried over, or was carried over in another form.
type Note struct {
	// Kind and Name are Feast's: "feature view", "driver_stats".
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Message string `json:"message"`
	// Lost is whether something that Feast did will not happen.
	Lost bool `json:"lost"`
}

// Converted is what became of a registry.
type Converted struct {
	Project string
	// Settings is forebay.yaml, Definitions everything else.
	Settings, Definitions []byte
	Counts                Counts
	// Notes are sorted by kind and name.
	Notes []Note
}

// Counts are how many definitions were written.
type Counts struct {
	Entities int `json:"entities"`
	Sources  int `json:"sources"`
	Views    int `json:"feature_views"`
	Services int `json:"feature_services"`
}

// Convert turns a registry file's content into YAML. An error wraps ErrRegistry
// where it is none, or says which projects there are.
func Convert(registry []byte, o Options) (*Converted, error) {
	projects, err := decode(registry)
	if err != nil {
		return nil, err
	}
	delete(projects, "") // what has no project is not Feast's
	if len(projects) == 0 {
		return nil, fmt.Errorf("%w: it declares nothing", ErrRegistry)
	}
	names := slices.Sorted(maps.Keys(projects))
	if o.Project == "" && len(names) > 1 {
		return nil, fmt.Errorf("the registry has several projects: %s; name one", strings.Join(names, ", "))
	}
	name := cmp.Or(o.Project, names[0])
	p, ok := projects[name]
	if !ok {
		return nil, fmt.Errorf("the registry has no project %q; it has %s", name, strings.Join(names, ", "))
	}
	c := &converter{o: o, p: p, made: map[string]*sourceOut{}, renamed: map[string]string{}, views: map[string]*viewOut{}, types: map[string]feature.Type{}}
	c.project(name)
	c.convert()
	slices.SortStableFunc(c.notes, func(a, b Note) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return &Converted{Project: c.name, Settings: c.settings(), Definitions: c.definitions(), Notes: c.notes, Counts: Counts{len(c.entities), len(c.sources), len(c.order), len(c.services)}}, nil
}

type converter struct {
	o    Options
	p    *project
	name string

	entities []entityOut
	sources  []*sourceOut
	made     map[string]*sourceOut // by Feast's name
	order    []*viewOut
	views    map[string]*viewOut // by Feast's name
	onDemand []onDemand          // as comments
	services []serviceOut
	brokers  []string
	types    map[string]feature.Type // of join keys
	renamed  map[string]string       // reported already
	notes    []Note
}

func (c *converter) lost(kind, name, format string, args ...any) {
	c.notes = append(c.notes, Note{kind, name, fmt.Sprintf(format, args...), true})
}

func (c *converter) changed(kind, name, format string, args ...any) {
	c.notes = append(c.notes, Note{kind, name, fmt.Sprintf(format, args...), false})
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_]`)

// rename makes a name of ours of one of Feast's, which may have any characters.
func (c *converter) rename(kind, name string) string {
	to := notInNames.ReplaceAllString(name, "_")
	for strings.Contains(to, "__") {
		to = strings.ReplaceAll(to, "__", "_")
	}
	if to = strings.TrimLeft(to, "_"); to == "" || to[0] >= '0' && to[0] <= '9' {
		to = "x_" + to
	}
	to = to[:min(len(to), 63)]
	if to != name && c.renamed[kind+name] == "" {
		c.renamed[kind+name] = to
		c.changed(kind, name, "is called %s here: a name has letters, digits and single _", to)
	}
	return to
}

var projectShape = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

func (c *converter) project(name string) {
	if c.name = name; !projectShape.MatchString(name) {
		c.name = c.rename("project", strings.ToLower(name))
	}
}

// Outputs, as they are written.
type (
	entityOut struct {
		meta
		to  string
		key feature.Field
	}
	sourceOut struct {
		meta
		to, timestamp, created string
		columns                []columnOut
		glob, topic, format    string
	}
	columnOut struct {
		feature.Field
		from string
	}
	viewOut struct {
		meta
		to, source   string
		entities     []string
		ttl          int64
		features     []feature.Field
		describes    map[string]string
		aggregations []aggregationOut
		names        map[string]string // Feast's feature -> ours
	}
	aggregationOut struct {
		function, column, window, hop string
	}
	serviceOut struct {
		meta
		to      string
		entries []string // YAML
	}
)

// dummy is the entity that Feast gives to views without one.
const dummy = "__dummy"

func (c *converter) convert() {
	c.keyTypes()
	for _, e := range c.p.entities {
		if e.name == dummy {
			continue
		}
		key := feature.Field{Name: c.rename("join key", e.joinKey), Type: c.types[e.joinKey]}
		c.entities = append(c.entities, entityOut{e.meta, c.rename("entity", e.name), key})
	}
	for _, v := range c.p.views {
		c.view(v)
	}
	for _, o := range c.p.onDemand {
		c.lost("on-demand feature view", o.name, "is computed in Python; its text is in a comment, to be written as CEL expressions")
		c.onDemand = append(c.onDemand, o)
	}
	for _, name := range c.p.labels {
		c.lost("label view", name, "there is nothing of the kind here")
	}
	for _, s := range c.p.services {
		c.service(s)
	}
}

// keyTypes finds the type of each join key: the entity's, else the one that views say.
func (c *converter) keyTypes() {
	for _, e := range c.p.entities {
		if t, ok, _ := typeOf(field{valueType: e.valueType}); ok && t.Key() {
			c.types[e.joinKey] = t
		}
	}
	for _, v := range c.p.views {
		for _, k := range v.keys {
			if t, ok, _ := typeOf(k); ok && t.Key() {
				if had, found := c.types[k.name]; found && had != t && had != feature.TypeString {
					c.changed("join key", k.name, "is %s to some views and %s to others; %s is taken", had, t, had)
				} else if !found || had == feature.TypeString { // older Feast calls every key a string
					c.types[k.name] = t
				}
			}
		}
	}
	for _, e := range c.p.entities {
		if _, ok := c.types[e.joinKey]; !ok && e.name != dummy {
			c.types[e.joinKey] = feature.TypeString
			c.changed("entity", e.name, "the registry does not say the type of the join key %s; string is taken", e.joinKey)
		}
	}
}

// typeOf is the type of a feature. ok is false where we have nothing like it; note
// says what is different where something is.
func typeOf(f field) (t feature.Type, ok bool, note string) {
	scalars := map[uint64]feature.Kind{1: feature.Bytes, 2: feature.String, 3: feature.Int64, 4: feature.Int64, 5: feature.Float64, 6: feature.Float64, 7: feature.Bool, 8: feature.Timestamp}
	if k, ok := scalars[f.valueType]; ok {
		return feature.Type{Kind: k}, true, ""
	}
	if k, ok := scalars[f.valueType-10]; ok && f.valueType > 10 {
		if f.valueType == 16 && f.vector && f.length > 0 && f.length <= feature.MaxDim {
			return feature.EmbeddingOf(int(f.length)), true, "" //nolint:gosec // checked
		}
		return feature.ListOf(k), true, ""
	}
	switch f.valueType {
	case 32:
		return feature.TypeString, true, "is JSON there and a string here"
	case 36, 37:
		return feature.TypeString, true, "is a UUID there and a string here"
	case 38, 39:
		return feature.ListOf(feature.String), true, "is a list of UUIDs there and of strings here"
	case 44:
		return feature.TypeString, true, "is a decimal there and a string here"
	case 48:
		return feature.TypeTimestamp, true, "has a time zone there; here it is the instant in UTC"
	}
	return t, false, ""
}

// typeName is what Feast's Python calls a type that is not carried over.
func typeName(valueType uint64) string {
	names := map[uint64]string{
		19: "Null", 20: "Map", 21: "Array(Map)", 22: "Set(Bytes)", 23: "Set(String)", 24: "Set(Int32)", 25: "Set(Int64)", 26: "Set(Float64)", 27: "Set(Float32)",
		28: "Set(Bool)", 29: "Set(UnixTimestamp)", 33: "Array(Json)", 34: "Struct", 35: "Array(Struct)", 40: "Set(Uuid)", 41: "Set(TimeUuid)",
		42: "Array(Array)", 43: "Set(Set)", 45: "Array(Decimal)", 46: "Set(Decimal)", 47: "ScalarMap",
	}
	if name, ok := names[valueType]; ok {
		return name
	}
	return fmt.Sprintf("number %d of Feast's", valueType)
}

var aggregateFunctions = map[string]string{
	"sum": "sum", "count": "count", "mean": "mean", "avg": "mean", "min": "min", "max": "max", "std": "stddev", "stddev": "stddev", "var": "variance", "variance": "variance",
	"count_distinct": "distinct_count", "nunique": "distinct_count", "first": "first", "last": "last",
}

func (c *converter) view(v view) {
	const kind = "feature view"
	if v.batch == nil && v.stream == nil {
		c.lost(kind, v.name, "has no data source: it is computed from other views, which a view here is not")
		return
	}
	out := &viewOut{meta: v.meta, to: c.rename(kind, v.name), ttl: v.ttl, describes: map[string]string{}, names: map[string]string{}}
	keys := map[string]bool{}
	for _, name := range v.entities {
		if name == dummy {
			continue
		}
		i := slices.IndexFunc(c.p.entities, func(e entity) bool { return e.name == name })
		if i < 0 {
			c.lost(kind, v.name, "its entity %s is not in the registry: the view is left out", name)
			return
		}
		keys[c.p.entities[i].joinKey] = true
		out.entities = append(out.entities, c.rename("entity", name))
	}
	if v.transformed != "" {
		c.lost(kind, v.name, "is transformed in Python or by a plan, which is not carried over: its source must have the features as columns, or write expressions")
	}
	if v.disabled {
		c.changed(kind, v.name, "is disabled there; it is not here")
	}
	if !v.online {
		c.changed(kind, v.name, "is not online there; here it is as soon as it is materialized")
	}
	columns := c.viewColumns(v, out, keys)
	if len(out.features) == 0 && len(out.aggregations) == 0 {
		c.lost(kind, v.name, "none of its features could be carried over: it is left out")
		return
	}
	out.source = c.source(v, columns)
	c.order = append(c.order, out)
	c.views[v.name] = out
}

// viewColumns fills in a view's features, and returns the columns that its source needs for them.
func (c *converter) viewColumns(v view, out *viewOut, keys map[string]bool) (columns []columnOut) {
	const kind = "feature view"
	add := func(name string, t feature.Type) string {
		to := c.rename("column", name)
		column := columnOut{Field: feature.Field{Name: to, Type: t}, from: c.outside(v, name)}
		if column.from == to {
			column.from = ""
		}
		if !slices.ContainsFunc(columns, func(c columnOut) bool { return c.Name == to }) {
			columns = append(columns, column)
		}
		return to
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		add(key, c.types[key])
	}
	for _, a := range v.aggregations {
		c.aggregation(v, out, a, add)
	}
	if len(v.aggregations) > 0 {
		if v.ttl > 0 {
			c.changed(kind, v.name, "a view with aggregations has no ttl here: its windows end by themselves")
		}
		out.ttl = 0
		return columns
	}
	for _, f := range v.features {
		t, ok, note := typeOf(f)
		switch {
		case keys[f.name]:
			continue
		case !ok:
			c.lost(kind, v.name, "the feature %s has a type that there is not here (%s): it is left out", f.name, typeName(f.valueType))
			continue
		case note != "":
			c.changed(kind, v.name, "the feature %s %s", f.name, note)
		}
		if f.metric != "" {
			c.lost(kind, v.name, "the feature %s has the vector_search_metric %s, which is dropped: there is no search by vector here", f.name, f.metric)
		}
		name := add(f.name, t)
		out.names[f.name] = name
		out.features = append(out.features, feature.Field{Name: name, Type: t})
		out.describes[name] = f.description
	}
	return columns
}

func (c *converter) aggregation(v view, out *viewOut, a aggregation, add func(string, feature.Type) string) {
	const kind = "feature view"
	function, ok := aggregateFunctions[strings.ToLower(a.function)]
	if !ok {
		c.lost(kind, v.name, "the aggregate function %s is not carried over", a.function)
		return
	}
	// Feast says the type of what comes out, not of what goes in.
	t := feature.TypeFloat64
	for _, f := range v.features {
		if f.name == a.column || strings.HasPrefix(f.name, a.function+"_"+a.column) && function != "count" && function != "distinct_count" && function != "mean" {
			if known, ok, _ := typeOf(f); ok {
				t = known
			}
		}
	}
	g := aggregationOut{function: function, window: "lifetime"}
	if a.column != "" {
		g.column = add(a.column, t)
	}
	if a.window > 0 {
		g.window = duration(a.window)
	}
	if a.slide > 0 && a.slide != a.window {
		g.hop = duration(a.slide)
	}
	out.aggregations = append(out.aggregations, g)
	name := function + "_" + g.window
	if g.column != "" {
		name = g.column + "_" + name
	}
	c.changed(kind, v.name, "the aggregation %s of %s is the feature %s here", a.function, cmp.Or(a.column, "rows"), name)
}

// outside is what a column of a view is called in its data source.
func (c *converter) outside(v view, name string) string {
	for _, s := range []*source{v.batch, v.stream} {
		if s == nil {
			continue
		}
		for _, from := range slices.Sorted(maps.Keys(s.mapping)) {
			if s.mapping[from] == name {
				return from
			}
		}
	}
	return name
}

// duration writes seconds as we do.
func duration(seconds int64) string { return feature.Duration(seconds * 1e6).String() }

// source makes the source of a view, or adds the view's columns to the one that is there.
func (c *converter) source(v view, columns []columnOut) string {
	stream, batch := v.stream, v.batch
	if batch != nil && batch.batch != nil && (batch.kind == pushSource || batch.kind == kafkaSource) {
		stream, batch = batch, batch.batch
	}
	if stream != nil && batch == nil {
		batch = stream.batch
	}
	main := cmp.Or(stream, batch)
	name := cmp.Or(main.name, v.name+"_source")
	timestamp := ""
	created := ""
	for _, s := range []*source{batch, stream} {
		if s != nil {
			timestamp, created = cmp.Or(timestamp, s.timestamp), cmp.Or(created, s.created)
		}
	}
	if timestamp == "" {
		timestamp = "event_timestamp"
		c.changed("data source", name, "the registry does not say its timestamp's column; event_timestamp is taken")
	}
	at := func(name string) columnOut {
		to := c.rename("column", name)
		from := name
		if from == to {
			from = ""
		}
		return columnOut{Field: feature.Field{Name: to, Type: feature.TypeTimestamp}, from: from}
	}
	columns = append([]columnOut{at(timestamp)}, columns...)
	if created != "" && created != timestamp {
		columns = append(columns, at(created))
	} else {
		created = ""
	}
	out := c.made[name]
	if out != nil && !out.takes(columns, columns[0].Name) {
		c.changed("data source", name, "views read its columns as different types: the view %s has a source of its own", v.name)
		name += "_" + v.name
		out = nil
	}
	if out == nil {
		out = &sourceOut{meta: main.meta, to: c.rename("data source", name), timestamp: columns[0].Name}
		if created != "" {
			out.created = columns[len(columns)-1].Name
		}
		c.made[name] = out
		c.sources = append(c.sources, out)
		c.outsides(out, name, stream, batch)
	}
	for _, column := range columns {
		if !slices.ContainsFunc(out.columns, func(had columnOut) bool { return had.Name == column.Name }) {
			out.columns = append(out.columns, column)
		}
	}
	return out.to
}

// takes reports whether columns fit those that the source has.
func (s *sourceOut) takes(columns []columnOut, timestamp string) bool {
	for _, c := range columns {
		for _, had := range s.columns {
			if had.Name == c.Name && had != c {
				return false
			}
		}
	}
	return s.timestamp == timestamp
}

// outsides says where a source's rows come from.
func (c *converter) outsides(out *sourceOut, name string, stream, batch *source) {
	const kind = "data source"
	if stream != nil {
		switch stream.kind {
		case kafkaSource:
			out.topic, out.format = stream.topic, map[uint64]string{1: "avro", 2: "protobuf", 3: "json"}[stream.format]
			if stream.watermark > 0 {
				c.changed(kind, name, "its watermark_delay_threshold (%s) is dropped: an event counts however late it is", duration(stream.watermark))
			}
			if stream.servers != "" && !slices.Contains(c.brokers, stream.servers) {
				c.brokers = append(c.brokers, stream.servers)
			}
			if out.format == "" {
				out.format = "json"
			}
			if out.format != "json" {
				c.changed(kind, name, "its %s schema comes from a schema registry here: set stream.schema_registry", out.format)
			}
		case pushSource: // rows are pushed under the source's name, as there
		default:
			c.lost(kind, name, "%s is not a stream that is read here", cmp.Or(sourceKinds[stream.kind], "its stream"))
		}
	}
	switch {
	case batch == nil:
	case batch.kind == fileSource && batch.delta:
		c.lost(kind, name, "%s is a Delta table: write it out as Parquet", batch.uri)
	case batch.kind == fileSource && strings.Contains(batch.uri, "://") && !strings.HasPrefix(batch.uri, "file://"):
		c.lost(kind, name, "%s is not on this machine: fetch it and name the files to `forebay ingest`", batch.uri)
	case batch.kind == fileSource:
		out.glob = c.glob(batch.uri)
	default:
		c.lost(kind, name, "reads %s (%s): write it out as Parquet and name the files to `forebay ingest`", cmp.Or(sourceKinds[batch.kind], "something"), strings.TrimSpace(batch.table))
	}
}

// glob is a path of Feast's repository as one of ours.
func (c *converter) glob(uri string) string {
	path := uri
	if u, err := url.Parse(uri); err == nil && u.Scheme == "file" {
		path = u.Host + u.Path
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.o.Dir, path)
	}
	if filepath.Ext(path) == "" { // a folder
		path = filepath.Join(path, "*.parquet")
	}
	if rel, err := filepath.Rel(c.o.Out, path); err == nil {
		path = rel
	}
	return filepath.ToSlash(path)
}

func (c *converter) service(s service) {
	const kind = "feature service"
	out := serviceOut{meta: s.meta, to: c.rename(kind, s.name)}
	taken := map[string]bool{}
	for _, p := range s.features {
		v := c.views[p.view]
		if v == nil {
			c.lost(kind, s.name, "%s is left out, as the view is", p.view)
			continue
		}
		var names []string
		for _, f := range p.features {
			if name := v.names[f.name]; name != "" {
				names = append(names, name)
			} else if len(v.aggregations) == 0 {
				c.lost(kind, s.name, "the feature %s:%s is left out, as it is in the view", p.view, f.name)
			}
		}
		refs := []string{v.to} // all of the view
		if len(v.aggregations) > 0 {
			names = nil
		} else if len(names) < len(v.features) || len(names) == 0 {
			refs = nil
			for _, n := range names {
				refs = append(refs, v.to+":"+n)
			}
		}
		prefix := ""
		if p.alias != "" && p.alias != p.view {
			prefix = c.rename("alias", p.alias) + "__"
			c.changed(kind, s.name, "%s under the name %s: its features are called %s… here, as with full names there", p.view, p.alias, prefix)
		} else if slices.ContainsFunc(names, func(n string) bool { return taken[n] }) {
			prefix = v.to + "__"
			c.changed(kind, s.name, "two views have features of one name: those of %s are called %s… here, as with full names there", p.view, prefix)
		}
		for _, n := range names {
			taken[prefix+n] = true
		}
		for _, ref := range refs {
			out.entries = append(out.entries, c.entry(ref, prefix, p.keys))
		}
	}
	if len(out.entries) == 0 {
		c.lost(kind, s.name, "nothing of it could be carried over: it is left out")
		return
	}
	c.services = append(c.services, out)
}

// entry is an entry of a service.
func (c *converter) entry(ref, prefix string, keys map[string]string) string {
	if prefix == "" && len(keys) == 0 {
		return quote(ref)
	}
	text := "{ref: " + quote(ref)
	if prefix != "" {
		text += ", prefix: " + prefix
	}
	if len(keys) > 0 {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			pairs = append(pairs, c.rename("join key", k)+": "+c.rename("join key", keys[k]))
		}
		text += ", keys: {" + strings.Join(pairs, ", ") + "}"
	}
	return text + "}"
}
