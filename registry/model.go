// Package registry is the model of a feature repository: what a project
// declares, as validated values, and the revisions in which it was applied.
//
// The model is made by package spec from YAML, compared by package plan, and
// kept by package history. A Project that spec returned without errors is
// complete and consistent: every name it refers to exists, every expression
// type-checks. Nothing in it is changed after that; share it freely.
package registry

import (
	"fmt"

	"github.com/forebay/forebay/registry/feature"
)

// Project is everything that one feature repository declares. The slices are
// sorted by name.
type Project struct {
	Name     string         `json:"name"`
	Entities []Entity       `json:"entities,omitempty"`
	Sources  []Source       `json:"sources,omitempty"`
	Views    []FeatureView  `json:"views,omitempty"`
	OnDemand []OnDemandView `json:"on_demand,omitempty"`
	Services []Service      `json:"services,omitempty"`
}

// Meta is what every definition has.
type Meta struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// Entity is a thing that features describe, and the columns that identify it.
type Entity struct {
	Meta
	JoinKeys []feature.Field `json:"join_keys"`
}

// Source is a stream of events, a set of files, or both: rows of one shape.
type Source struct {
	Meta
	// Timestamp names the column of the event time; it is one of Columns.
	Timestamp string `json:"timestamp"`
	// Created names the column that says when a row from a file became known; "" for none.
	Created string         `json:"created,omitempty"`
	Columns []SourceColumn `json:"columns"`
	Kafka   *Kafka         `json:"kafka,omitempty"`
	Files   *Files         `json:"files,omitempty"`
	// TimestampFormat is how JSON events write timestamps: rfc3339, unix_s, unix_ms or unix_us.
	TimestampFormat string `json:"timestamp_format,omitempty"`
	// MaxAhead is how far ahead of the clock an event may be.
	MaxAhead feature.Duration `json:"max_ahead"`
}

// DefaultMaxAhead is the MaxAhead of a source that declares none.
const DefaultMaxAhead = feature.Minute

// SourceColumn is a column of a source, in the order of the declaration.
type SourceColumn struct {
	feature.Field
	// From is the outside name, a dotted path into nested fields; "" where it is Name.
	From string `json:"from,omitempty"`
}

// Outside is the column's name in files and events.
func (c SourceColumn) Outside() string {
	if c.From != "" {
		return c.From
	}
	return c.Name
}

// Kafka says where a source's events come from.
type Kafka struct {
	Topic  string `json:"topic"`
	Format string `json:"format"` // json, avro or protobuf
	// Key are the columns the topic is keyed by; none if it is not.
	Key []string `json:"key,omitempty"`
}

// Files says where a source's history lies.
type Files struct {
	Glob string `json:"glob"` // relative to the repository's root, or absolute
}

// Fields are the source's columns without their outside names.
func (s *Source) Fields() []feature.Field {
	fs := make([]feature.Field, len(s.Columns))
	for i, c := range s.Columns {
		fs[i] = c.Field
	}
	return fs
}

// AheadOfClock says why an event is refused that is further ahead of a clock than MaxAhead; "" where it is not. Both are
// instants in microseconds.
func (s *Source) AheadOfClock(event, clock int64) string {
	if event <= clock+int64(s.MaxAhead) {
		return ""
	}
	return fmt.Sprintf("%s is ahead of the clock (%s) by more than max_ahead (%s)", feature.FormatTimestamp(event), feature.FormatTimestamp(clock), s.MaxAhead)
}

// Column finds a column by its name; -1 if there is none.
func (s *Source) Column(name string) int {
	for i, c := range s.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

// FeatureView computes features of an entity from one source: either Features
// of the newest row, or Aggregations over windows of rows.
type FeatureView struct {
	Meta
	Entities []string `json:"entities,omitempty"` // in order; their join keys, in order, make the entity key
	Source   string   `json:"source"`
	// TTL is the age up to which the newest row is used; 0 for any age.
	TTL    feature.Duration `json:"ttl,omitempty"`
	Filter string           `json:"filter,omitempty"`
	// Features are declared or, of a windowed view, named by Aggregations: one for each of
	// their windows, in order, with no Expr.
	Features     []Feature     `json:"features,omitempty"`
	Aggregations []Aggregation `json:"aggregations,omitempty"`
	// Inputs are what a windowed view keeps of each event: the columns it aggregates and its
	// conditions, each once.
	Inputs []Feature `json:"inputs,omitempty"`
	// Hops overrides the hop of windows.
	Hops []Hop `json:"hops,omitempty"`
}

// Windowed reports whether the view aggregates windows.
func (v *FeatureView) Windowed() bool { return len(v.Aggregations) > 0 }

// Stored is what a row of the view holds beside its join keys: the features or, of a windowed view, the inputs.
func (v *FeatureView) Stored() []Feature {
	if v.Windowed() {
		return v.Inputs
	}
	return v.Features
}

// Input is the index of the input that an expression makes; -1 for "", which makes none.
func (v *FeatureView) Input(expr string) int {
	for i := range v.Inputs {
		if v.Inputs[i].Expr == expr {
			return i
		}
	}
	return -1
}

// Feature is one named value: of a view's newest row, or computed on demand.
type Feature struct {
	feature.Field
	Expr        string `json:"expr"`
	Description string `json:"description,omitempty"`
}

// Aggregation declares one aggregate function over one or more windows.
type Aggregation struct {
	Function string   `json:"function"`
	Column   string   `json:"column,omitempty"`
	By       string   `json:"by,omitempty"` // the secondary key
	N        int      `json:"n,omitempty"`
	Where    string   `json:"where,omitempty"`
	Windows  []Window `json:"windows"`
	Name     string   `json:"name,omitempty"`
}

// Window is the length of a window as it is written: 24h and 1d are one length
// and name two features.
type Window string

// Length is the window's length. A window that spec has read is a duration.
func (w Window) Length() feature.Duration {
	d, err := feature.ParseDuration(string(w))
	if err != nil {
		panic("registry: a window of " + err.Error())
	}
	return d
}

// DefaultHop is the hop of a window that declares none.
func DefaultHop(w feature.Duration) feature.Duration {
	switch {
	case w <= feature.Hour:
		return feature.Minute
	case w <= 12*feature.Hour:
		return 5 * feature.Minute
	case w <= 12*feature.Day:
		return feature.Hour
	}
	return feature.Day
}

// Hop is the hop to which the tail of the view's window of a length is aligned.
func (v *FeatureView) Hop(w feature.Duration) feature.Duration {
	for _, h := range v.Hops {
		if h.Window == w {
			return h.Hop
		}
	}
	return DefaultHop(w)
}

// Hop is the declared hop of a window.
type Hop struct {
	Window feature.Duration `json:"window"`
	Hop    feature.Duration `json:"hop"`
}

// OnDemandView computes features from other views and from the request.
type OnDemandView struct {
	Meta
	Inputs   []string        `json:"inputs,omitempty"` // views and on-demand views
	Request  []feature.Field `json:"request,omitempty"`
	Features []Feature       `json:"features"`
}

// Service is a named list of features that a model needs.
type Service struct {
	Meta
	Features []ServiceFeature `json:"features"`
	// Entities renames join keys for the whole service.
	Entities []KeyRename `json:"entities,omitempty"`
}

// ServiceFeature is one entry of a service: a view's features, all or one.
type ServiceFeature struct {
	Ref    Ref    `json:"ref"`
	Prefix string `json:"prefix,omitempty"`
	// Keys gives join keys another name in lookups and spines, for this entry.
	Keys []KeyRename `json:"keys,omitempty"`
}

// KeyRename says that a join key is called To in lookups and spines.
type KeyRename struct {
	Entity  string `json:"entity,omitempty"` // "" in ServiceFeature.Keys
	JoinKey string `json:"join_key"`
	To      string `json:"to"`
}

func find[T any](s []T, name string, nameOf func(*T) string) *T {
	for i := range s {
		if nameOf(&s[i]) == name {
			return &s[i]
		}
	}
	return nil
}

// Entity finds an entity by name; nil if there is none.
func (p *Project) Entity(name string) *Entity {
	return find(p.Entities, name, func(e *Entity) string { return e.Name })
}

// Source finds a source by name; nil if there is none.
func (p *Project) Source(name string) *Source {
	return find(p.Sources, name, func(s *Source) string { return s.Name })
}

// View finds a feature view by name; nil if there is none.
func (p *Project) View(name string) *FeatureView {
	return find(p.Views, name, func(v *FeatureView) string { return v.Name })
}

// OnDemandView finds an on-demand view by name; nil if there is none.
func (p *Project) OnDemandView(name string) *OnDemandView {
	return find(p.OnDemand, name, func(v *OnDemandView) string { return v.Name })
}

// Service finds a service by name; nil if there is none.
func (p *Project) Service(name string) *Service {
	return find(p.Services, name, func(s *Service) string { return s.Name })
}

// JoinKeys are the columns of a view's entity key, in order.
func (p *Project) JoinKeys(v *FeatureView) []feature.Field {
	var keys []feature.Field
	for _, name := range v.Entities {
		keys = append(keys, p.Entity(name).JoinKeys...)
	}
	return keys
}
