package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Difference is one field of a definition that differs.
type Difference struct {
	Field  string `json:"field"`            // as in YAML, dotted: "features.last_delay.expr"
	Before string `json:"before,omitempty"` // "" where it was not there
	After  string `json:"after,omitempty"`  // "" where it is not there any more
}

// attribute is one field of a definition, as it is compared and shown. Those
// with an empty value are as if they were not there.
type attribute struct{ field, value string }

// differences compares two definitions field by field, in the order of the
// fields of the one after, then of those that are gone.
func differences(before, after []attribute) []Difference {
	was := map[string]string{}
	for _, a := range before {
		was[a.field] = a.value
	}
	var ds []Difference
	for _, a := range after {
		if was[a.field] != a.value {
			ds = append(ds, Difference{a.field, was[a.field], a.value})
		}
		delete(was, a.field)
	}
	for _, a := range before {
		if v := was[a.field]; v != "" {
			ds = append(ds, Difference{Field: a.field, Before: v})
		}
	}
	return ds
}

func metaAttributes(m registry.Meta) []attribute {
	as := []attribute{{"description", m.Description}, {"owner", m.Owner}}
	for _, tag := range slices.Sorted(maps.Keys(m.Tags)) {
		as = append(as, attribute{"tags." + tag, strconv.Quote(m.Tags[tag])})
	}
	return as
}

func entityAttributes(e *registry.Entity) []attribute {
	return append(metaAttributes(e.Meta), attribute{"join_keys", fieldList(e.JoinKeys)})
}

func sourceAttributes(s *registry.Source) []attribute {
	as := append(metaAttributes(s.Meta), attribute{"timestamp", s.Timestamp}, attribute{"created", s.Created},
		attribute{"timestamp_format", s.TimestampFormat}, attribute{"max_ahead", s.MaxAhead.String()})
	if s.Kafka != nil {
		as = append(as, attribute{"kafka.topic", s.Kafka.Topic}, attribute{"kafka.format", s.Kafka.Format}, attribute{"kafka.key", nameList(s.Kafka.Key)})
	}
	if s.Files != nil {
		as = append(as, attribute{"files.glob", s.Files.Glob})
	}
	for _, c := range s.Columns {
		as = append(as, attribute{"columns." + c.Name, columnText(c.Type, c.Outside(), c.Name)})
	}
	names := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		names[i] = c.Name
	}
	return append(as, attribute{"columns", nameList(names)})
}

func columnText(t feature.Type, outside, name string) string {
	if outside != name {
		return t.String() + " from " + outside
	}
	return t.String()
}

// viewAttributes has, beside what the view declares, what it takes from its
// entities and its source as far as that decides its meaning: a generation that
// changes for one of these says so.
func viewAttributes(v *registry.FeatureView, m *meaning) []attribute {
	as := append(metaAttributes(v.Meta), attribute{"entities", nameList(v.Entities)}, attribute{"source", v.Source}, attribute{"ttl", ttlText(v.TTL)}, attribute{"filter", v.Filter})
	as = append(as, featureAttributes(v.Features)...)
	for i, a := range v.Aggregations {
		as = append(as, attribute{aggregationField(v.Aggregations[:i], a), aggregationText(a)})
	}
	for _, h := range v.Hops {
		as = append(as, attribute{"hop." + h.Window.String(), h.Hop.String()})
	}
	as = append(as, attribute{"(join keys)", fieldList(m.JoinKeys)}, attribute{"(event time)", sourceColumnText(m.Source.Timestamp)})
	if m.Source.Created != nil {
		as = append(as, attribute{"(created)", sourceColumnText(*m.Source.Created)})
	}
	for _, c := range m.Source.Reads {
		as = append(as, attribute{"(reads)." + c.Name, columnText(c.Type, c.From, c.Name)})
	}
	return as
}

func sourceColumnText(c sourceColumn) string {
	return c.Name + " " + columnText(c.Type, c.From, c.Name)
}

func ttlText(d feature.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func featureAttributes(fs []registry.Feature) []attribute {
	var as []attribute
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.Name
		at := "features." + f.Name
		as = append(as, attribute{at + ".type", f.Type.String()}, attribute{at + ".expr", f.Expr}, attribute{at + ".description", f.Description})
	}
	return append(as, attribute{"features", nameList(names)})
}

// aggregationField tells an aggregation from those before it of the same function and column.
func aggregationField(before []registry.Aggregation, a registry.Aggregation) string {
	name := func(a registry.Aggregation) string {
		if a.Name != "" {
			return "aggregations." + a.Name
		}
		return "aggregations." + a.Function + "(" + a.Column + ")"
	}
	same := 1
	for _, b := range before {
		if name(b) == name(a) {
			same++
		}
	}
	if same > 1 {
		return name(a) + "#" + strconv.Itoa(same)
	}
	return name(a)
}

func aggregationText(a registry.Aggregation) string {
	s := a.Function + "(" + a.Column + ")"
	if a.N != 0 {
		s += " of " + strconv.Itoa(a.N)
	}
	if a.By != "" {
		s += " by " + a.By
	}
	windows := make([]string, len(a.Windows))
	for i, w := range a.Windows {
		windows[i] = string(w)
	}
	s += " over " + strings.Join(windows, ", ")
	if a.Where != "" {
		s += " where " + a.Where
	}
	return s
}

func onDemandAttributes(v *registry.OnDemandView) []attribute {
	as := append(metaAttributes(v.Meta), attribute{"inputs", nameList(v.Inputs)}, attribute{"request", fieldList(v.Request)})
	return append(as, featureAttributes(v.Features)...)
}

func serviceAttributes(s *registry.Service) []attribute {
	as := metaAttributes(s.Meta)
	entries := make([]string, len(s.Features))
	for i, f := range s.Features {
		entries[i] = f.Ref.String()
		if f.Prefix != "" {
			entries[i] += " prefix " + f.Prefix
		}
		for _, k := range f.Keys {
			entries[i] += fmt.Sprintf(" key %s=%s", k.JoinKey, k.To)
		}
	}
	as = append(as, attribute{"features", nameList(entries)})
	for _, k := range s.Entities {
		as = append(as, attribute{"entities." + k.Entity + "." + k.JoinKey, k.To})
	}
	return as
}

func nameList(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "[" + strings.Join(names, ", ") + "]"
}

func fieldList(fs []feature.Field) string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.Name + " " + f.Type.String()
	}
	return nameList(names)
}
