package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
)

// Shown is one definition of the newest revision.
type Shown struct {
	api.Definition
	YAML string `json:"-"` // as it would be declared
}

// Show finds a definition by kind, as lineage.ParseKind reads it, and name.
func (a *App) Show(ctx context.Context, kind, name string) (*Shown, error) {
	list, err := a.List(ctx)
	if err != nil {
		return nil, err
	}
	known, ok := lineage.ParseKind(kind)
	if !ok {
		var kinds []string
		for _, k := range lineage.Kinds() {
			kinds = append(kinds, string(k))
		}
		return nil, unknown(api.CodeUnknownKind, "kind", kind, kinds)
	}
	var names []string
	for _, d := range list.Definitions {
		if d.Kind != known {
			continue
		}
		if d.Name == name {
			head, err := a.Head(ctx)
			if err != nil {
				return nil, err
			}
			return show(head, d)
		}
		names = append(names, d.Name)
	}
	return nil, unknown(api.CodeNotFound, string(known), name, names)
}

func show(head *registry.Revision, d Definition) (*Shown, error) {
	var y yaml
	var definition any
	p := head.Project
	switch d.Kind {
	case lineage.Entity:
		e := p.Entity(d.Name)
		definition = e
		y.start(d.Kind, e.Meta)
		y.fields("join_keys", e.JoinKeys)
	case lineage.Source:
		s := p.Source(d.Name)
		definition = s
		y.source(s)
	case lineage.View:
		v := p.View(d.Name)
		definition = v
		y.view(v)
	case lineage.OnDemandView:
		v := p.OnDemandView(d.Name)
		definition = v
		y.start(d.Kind, v.Meta)
		y.line("inputs: [%s]", strings.Join(v.Inputs, ", "))
		if len(v.Request) > 0 {
			y.line("request: {%s}", typed(v.Request))
		}
		y.features(v.Features)
	case lineage.Service:
		s := p.Service(d.Name)
		definition = s
		y.service(s)
	}
	raw, err := json.Marshal(definition)
	return &Shown{
		Definition: api.Definition{Revision: head.ID, Kind: string(d.Kind), Definition: raw, Generation: d.Generation},
		YAML:       y.String(),
	}, err
}

// yaml writes definitions as a repository declares them.
type yaml struct{ strings.Builder }

func (y *yaml) line(format string, a ...any) { fmt.Fprintf(y, format+"\n", a...) }

// quoted is a text as a YAML value: JSON's strings are YAML's.
func quoted(s string) string { return string(feature.AppendStringJSON(nil, s)) }

func (y *yaml) text(name, value string) {
	if value != "" {
		y.line("%s: %s", name, quoted(value))
	}
}

func (y *yaml) start(kind lineage.Kind, m registry.Meta) {
	y.line("kind: %s", kind)
	y.line("name: %s", m.Name)
	y.text("description", m.Description)
	y.text("owner", m.Owner)
	if len(m.Tags) > 0 {
		raw, err := json.Marshal(m.Tags) // JSON is YAML too, and sorts the names
		if err == nil {
			y.line("tags: %s", raw)
		}
	}
}

func (y *yaml) fields(name string, fields []feature.Field) {
	y.line("%s:", name)
	for _, f := range fields {
		y.line("  - {name: %s, type: %s}", f.Name, f.Type)
	}
}

func typed(fields []feature.Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = fmt.Sprintf("%s: %s", f.Name, f.Type)
	}
	return strings.Join(parts, ", ")
}

func (y *yaml) features(features []registry.Feature) {
	if len(features) > 0 {
		y.line("features:")
	}
	for _, f := range features {
		about := ""
		if f.Description != "" {
			about = ", description: " + quoted(f.Description)
		}
		y.line("  - {name: %s, type: %s, expr: %s%s}", f.Name, f.Type, quoted(f.Expr), about)
	}
}

func (y *yaml) source(s *registry.Source) {
	y.start(lineage.Source, s.Meta)
	y.line("timestamp: %s", s.Timestamp)
	if s.Created != "" {
		y.line("created: %s", s.Created)
	}
	y.line("columns:")
	for _, c := range s.Columns {
		if c.From == "" {
			y.line("  %s: %s", c.Name, c.Type)
		} else {
			y.line("  %s: {type: %s, from: %s}", c.Name, c.Type, quoted(c.From))
		}
	}
	if k := s.Kafka; k != nil {
		key := ""
		if len(k.Key) > 0 {
			key = fmt.Sprintf(", key: [%s]", strings.Join(k.Key, ", "))
		}
		y.line("kafka: {topic: %s, format: %s%s}", k.Topic, k.Format, key)
	}
	if s.Files != nil {
		y.line("files: {glob: %s}", quoted(s.Files.Glob))
	}
	if s.TimestampFormat != "" {
		y.line("timestamp_format: %s", s.TimestampFormat)
	}
	y.line("max_ahead: %s", s.MaxAhead)
}

func (y *yaml) view(v *registry.FeatureView) {
	y.start(lineage.View, v.Meta)
	y.line("entities: [%s]", strings.Join(v.Entities, ", "))
	y.line("source: %s", v.Source)
	if v.TTL > 0 {
		y.line("ttl: %s", v.TTL)
	}
	y.text("filter", v.Filter)
	y.features(v.Features)
}

func (y *yaml) service(s *registry.Service) {
	y.start(lineage.Service, s.Meta)
	y.line("features:")
	for _, f := range s.Features {
		if f.Prefix == "" && len(f.Keys) == 0 {
			y.line("  - %s", quoted(f.Ref.String()))
			continue
		}
		parts := []string{"ref: " + quoted(f.Ref.String())}
		if f.Prefix != "" {
			parts = append(parts, "prefix: "+f.Prefix)
		}
		if len(f.Keys) > 0 {
			parts = append(parts, "keys: {"+renames(f.Keys, "")+"}")
		}
		y.line("  - {%s}", strings.Join(parts, ", "))
	}
	var entities []string
	for _, k := range s.Entities {
		if len(entities) == 0 || entities[len(entities)-1] != k.Entity {
			entities = append(entities, k.Entity)
		}
	}
	if len(entities) > 0 {
		y.line("entities:")
	}
	for _, e := range entities {
		y.line("  %s: {%s}", e, renames(s.Entities, e))
	}
}

// renames are the renames of one entity's join keys.
func renames(keys []registry.KeyRename, entity string) string {
	var parts []string
	for _, k := range keys {
		if k.Entity == entity {
			parts = append(parts, k.JoinKey+": "+k.To)
		}
	}
	return strings.Join(parts, ", ")
}
