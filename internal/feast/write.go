package feast

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry/feature"
)

// settings is forebay.yaml: the local environment, which needs no server, and Kafka where Feast named some.
func (c *converter) settings() []byte {
	b := fmt.Appendf(nil, "version: 1\nproject: %s\nenvironments:\n  local:\n    registry: file://./.forebay/registry\n    offline: {store: parquet, url: \"file://./.forebay/offline\"}\n    online: {store: embedded, path: ./.forebay/online}\n    stream: {brokers: [embedded], path: ./.forebay/stream}\n", c.name)
	if len(c.brokers) > 0 {
		b = append(b, "  # Feast's sources named these brokers, for an environment with Kafka:\n"...)
		for _, servers := range c.brokers {
			b = fmt.Appendf(b, "  #   stream: {brokers: [%s]}\n", oneLine(servers))
		}
	}
	return b
}

// quote is a text as YAML takes it anywhere: plain where it can be, else in double quotes as JSON has it.
func quote(s string) string {
	plain := s != ""
	for i := range len(s) {
		letter := s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] == '_'
		plain = plain && (letter || i > 0 && s[i] >= '0' && s[i] <= '9')
	}
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf":
		plain = false
	}
	if plain {
		return s
	}
	return string(feature.AppendStringJSON(nil, s))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// writer writes documents of YAML.
type writer struct {
	b     []byte
	begun bool
}

func (w *writer) line(format string, args ...any) {
	w.b = append(fmt.Appendf(w.b, format, args...), '\n')
}

func (w *writer) begin(kind, name string, m meta) {
	if w.begun {
		w.line("---")
	}
	w.begun = true
	w.line("kind: %s\nname: %s", kind, quote(name))
	if m.description != "" {
		w.line("description: %s", quote(m.description))
	}
	if m.owner != "" {
		w.line("owner: %s", quote(m.owner))
	}
	if len(m.tags) > 0 {
		w.line("tags:")
		for _, k := range slices.Sorted(maps.Keys(m.tags)) {
			w.line("  %s: %s", quote(k), quote(m.tags[k]))
		}
	}
}

func (c *converter) definitions() []byte {
	w := writer{b: []byte("# Made by `forebay import feast`. It says once what could not be carried over; the file is yours now.\n")}
	for _, e := range c.entities {
		w.begin("Entity", e.to, e.meta)
		w.line("join_keys: [{name: %s, type: %s}]", quote(e.key.Name), e.key.Type)
	}
	for _, s := range c.sources {
		c.writeSource(&w, s)
	}
	for _, v := range c.order {
		c.writeView(&w, v)
	}
	for _, s := range c.services {
		w.begin("FeatureService", s.to, s.meta)
		w.line("features:")
		for _, e := range s.entries {
			w.line("  - %s", e)
		}
	}
	for _, o := range c.onDemand {
		c.writeOnDemand(&w, o)
	}
	return w.b
}

func (c *converter) writeSource(w *writer, s *sourceOut) {
	w.begin("Source", s.to, s.meta)
	w.line("timestamp: %s", quote(s.timestamp))
	if s.created != "" {
		w.line("created: %s", quote(s.created))
	}
	w.line("columns:")
	for _, col := range s.columns {
		if col.from == "" {
			w.line("  %s: %s", quote(col.Name), col.Type)
		} else {
			w.line("  %s: {type: %s, from: %s}", quote(col.Name), quote(col.Type.String()), quote(col.from))
		}
	}
	if s.topic != "" {
		w.line("kafka: {topic: %s, format: %s}", quote(s.topic), s.format)
	}
	if s.glob != "" {
		w.line("files: {glob: %s}", quote(s.glob))
	}
}

func (c *converter) writeView(w *writer, v *viewOut) {
	w.begin("FeatureView", v.to, v.meta)
	var entities []string
	for _, e := range v.entities {
		entities = append(entities, quote(e))
	}
	w.line("entities: [%s]\nsource: %s", strings.Join(entities, ", "), quote(v.source))
	if v.ttl > 0 {
		w.line("ttl: %s", duration(v.ttl))
	}
	if len(v.aggregations) > 0 {
		w.line("aggregations:")
		hops := map[string]string{}
		for _, a := range v.aggregations {
			column := ""
			if a.column != "" {
				column = ", column: " + quote(a.column)
			}
			w.line("  - {function: %s%s, windows: [%s]}", a.function, column, a.window)
			if a.hop != "" {
				hops[a.window] = a.hop
			}
		}
		if len(hops) > 0 {
			w.line("hop:")
			for _, window := range slices.Sorted(maps.Keys(hops)) {
				w.line("  %s: %s", window, hops[window])
			}
		}
		return
	}
	w.line("features:")
	for _, f := range v.features {
		description := ""
		if d := v.describes[f.Name]; d != "" {
			description = ", description: " + quote(d)
		}
		w.line("  - {name: %s, type: %s, expr: %s%s}", quote(f.Name), quote(f.Type.String()), quote(f.Name), description)
	}
}

// writeOnDemand writes an on-demand view as a comment: what it is, but for its expressions.
func (c *converter) writeOnDemand(w *writer, o onDemand) {
	comment := writer{}
	comment.begin("OnDemandFeatureView", c.rename("on-demand feature view", o.name), o.meta)
	var inputs, request []string
	for _, s := range o.sources {
		if v := c.views[s]; v != nil {
			inputs = append(inputs, v.to)
		}
	}
	comment.line("inputs: [%s]", strings.Join(inputs, ", "))
	for _, f := range o.request {
		if t, ok, _ := typeOf(f); ok {
			request = append(request, fmt.Sprintf("%s: %s", f.name, quote(t.String())))
		}
	}
	if len(request) > 0 {
		comment.line("request: {%s}", strings.Join(request, ", "))
	}
	comment.line("features:")
	for _, f := range o.features {
		t, _, _ := typeOf(f)
		comment.line("  - {name: %s, type: %s, expr: \"…\"}", f.name, quote(t.String()))
	}
	comment.line("Feast's Python:")
	comment.b = append(comment.b, o.python...)
	w.line("#\n# To be written by hand, without the # and below a line of ---:")
	for line := range strings.Lines(strings.TrimRight(string(comment.b), "\n")) {
		w.line("# %s", strings.TrimRight(line, "\r\n"))
	}
}
