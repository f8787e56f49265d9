package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
)

// findings collects what the checks find.
type findings struct {
	c    *comparison
	list []Finding
}

func (f *findings) add(code Code, s Severity, n lineage.Node, consumers []lineage.Node, format string, args ...any) {
	f.list = append(f.list, Finding{Code: code, Severity: s, Node: n, Message: fmt.Sprintf(format, args...), Consumers: consumers})
}

// addRead adds a finding that is blocking where services read the thing today, and else a warning.
func (f *findings) addRead(code Code, n lineage.Node, consumers []lineage.Node, format string, args ...any) {
	severity := Warning
	if slices.ContainsFunc(consumers, func(n lineage.Node) bool { return n.Kind == lineage.Service }) {
		severity = Blocking
	}
	f.add(code, severity, n, consumers, format, args...)
}

// consumers are the services and on-demand views that are made of a definition today.
func (f *findings) consumers(n lineage.Node) []lineage.Node {
	return slices.DeleteFunc(f.c.before.Downstream(n), func(n lineage.Node) bool {
		return n.Kind != lineage.OnDemandView && n.Kind != lineage.Service
	})
}

// check looks at every change for what is dangerous about it.
func (c *comparison) check(p *Plan) error {
	f := &findings{c: c}
	if was := c.head.Project.Name; p.Base != nil && was != c.next.Name {
		f.add(ProjectChanged, Blocking, lineage.Node{}, nil, "The registry belongs to project %q, and this is project %q: one of the two is the wrong one, or rename it back.", was, c.next.Name)
	}
	for _, ch := range p.Changes {
		switch ch := ch.(type) {
		case ModifyEntity:
			f.entity(ch)
		case RemoveSource:
			f.add(SourceRemoved, Warning, node(lineage.Source, ch.Source.Meta), nil, "Source %s is no longer read. Its log stays in the offline store.", ch.Source.Name)
		case ModifySource:
			f.source(ch)
		case RemoveView:
			n := node(lineage.View, ch.View.Meta)
			f.addRead(ViewRemoved, n, f.consumers(n), "View %s is gone for lookups and training.%s", ch.View.Name, readBy(f.consumers(n)))
		case ModifyView:
			f.view(ch)
		case RemoveOnDemandView:
			n := node(lineage.OnDemandView, ch.View.Meta)
			f.addRead(ViewRemoved, n, f.consumers(n), "On-demand view %s is gone for lookups and training.%s", ch.View.Name, readBy(f.consumers(n)))
		case ModifyOnDemandView:
			f.onDemand(ch)
		case RemoveService:
			f.add(ServiceRemoved, Blocking, node(lineage.Service, ch.Service.Meta), nil, "Service %s is gone: whoever looks it up gets an error.", ch.Service.Name)
		}
	}
	for i := range c.head.Project.Services {
		before := &c.head.Project.Services[i]
		after := c.next.Service(before.Name)
		if after == nil {
			continue
		}
		if err := f.service(before, after); err != nil {
			return err
		}
	}
	for _, b := range p.Backfills {
		f.backfill(b)
	}
	sortFindings(f.list)
	p.Findings = f.list
	return nil
}

// readBy is the end of a message: who reads it.
func readBy(consumers []lineage.Node) string {
	if len(consumers) == 0 {
		return ""
	}
	return " It is read by " + nodeList(consumers) + "."
}

func nodeList(ns []lineage.Node) string {
	words := map[lineage.Kind]string{lineage.Entity: "entity ", lineage.Source: "source ", lineage.View: "view ", lineage.OnDemandView: "on-demand view ", lineage.Service: "service "}
	names := make([]string, len(ns))
	for i, n := range ns {
		names[i] = words[n.Kind] + n.Name
	}
	return strings.Join(names, ", ")
}

func (f *findings) entity(ch ModifyEntity) {
	if slices.Equal(ch.Before.JoinKeys, ch.After.JoinKeys) {
		return
	}
	n := node(lineage.Entity, ch.After.Meta)
	f.addRead(EntityKeysChanged, n, f.consumers(n), "The join keys of entity %s were %s and become %s: lookups and spines must have other columns, and every view of it gets a new generation.%s",
		ch.After.Name, fieldList(ch.Before.JoinKeys), fieldList(ch.After.JoinKeys), readBy(f.consumers(n)))
}

func (f *findings) source(ch ModifySource) {
	b, a := ch.Before, ch.After
	n := node(lineage.Source, a.Meta)
	consumers := f.consumers(n)
	var added, moved []string
	for _, col := range b.Columns {
		i := a.Column(col.Name)
		if i < 0 {
			readers := f.columnReaders(b, col.Name)
			f.add(SourceColumnRemoved, Warning, n, readers, "Source %s loses column %s: rows that arrive from now on are kept without it.%s", a.Name, col.Name, readBy(readers))
			continue
		}
		if now := a.Columns[i]; now.Type != col.Type {
			f.add(SourceColumnTypeChanged, Blocking, n, f.columnReaders(b, col.Name), "Column %s of source %s was %s and becomes %s, but its log holds %s. Declare a column of another name (from: %s), or a new source.",
				col.Name, a.Name, col.Type, now.Type, col.Type, col.Outside())
		} else if now.Outside() != col.Outside() {
			moved = append(moved, fmt.Sprintf("column %s is read from %s instead of %s", col.Name, now.Outside(), col.Outside()))
		}
	}
	for _, col := range a.Columns {
		if b.Column(col.Name) < 0 {
			added = append(added, col.Name)
		}
	}
	if len(added) > 0 {
		f.add(SourceColumnAdded, Notice, n, nil, "Source %s gains %s: null in the rows that its log holds already.", a.Name, strings.Join(added, ", "))
	}
	if was, is := topic(b), topic(a); was != is && was != "" {
		to := "topic " + is
		if is == "" {
			to = "no topic"
		}
		f.add(SourceTopicChanged, Warning, n, consumers, "Source %s was read from topic %s and is now read from %s. Events of the old topic that were not yet read stay behind, and the new one is read from its start.", a.Name, was, to)
	}
	if b.Timestamp != a.Timestamp || b.Created != a.Created {
		f.add(SourceTimeChanged, Warning, n, consumers, "Source %s takes its event time from %s (created: %s) instead of %s (created: %s). Rows that its log holds keep the times they were given.",
			a.Name, a.Timestamp, orNone(a.Created), b.Timestamp, orNone(b.Created))
	}
	if b.TimestampFormat != a.TimestampFormat {
		moved = append(moved, fmt.Sprintf("timestamps are read as %s instead of %s", orNone(a.TimestampFormat), orNone(b.TimestampFormat)))
	}
	if b.Kafka != nil && a.Kafka != nil && b.Kafka.Format != a.Kafka.Format {
		moved = append(moved, fmt.Sprintf("events are %s instead of %s", a.Kafka.Format, b.Kafka.Format))
	}
	if len(moved) > 0 {
		f.add(SourceDecodingChanged, Warning, n, consumers, "Source %s: %s. That holds for rows that arrive from now on; those that its log holds stay as they were read.", a.Name, strings.Join(moved, "; "))
	}
}

// columnReaders are the consumers of the views that read a column today.
func (f *findings) columnReaders(src *registry.Source, column string) []lineage.Node {
	p := f.c.head.Project
	var found []lineage.Node
	for i := range p.Views {
		v := &p.Views[i]
		if v.Source != src.Name || !slices.Contains(columnsRead(p, v, src), column) {
			continue
		}
		found = append(found, f.consumers(node(lineage.View, v.Meta))...)
	}
	slices.SortFunc(found, lineage.Compare)
	return slices.Compact(found)
}

func topic(s *registry.Source) string {
	if s.Kafka == nil {
		return ""
	}
	return s.Kafka.Topic
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// newRowsDiffer reports whether rows that arrive are read in another way than before.
func newRowsDiffer(b, a *registry.Source) bool {
	if topic(b) != topic(a) || b.Timestamp != a.Timestamp || b.Created != a.Created || b.TimestampFormat != a.TimestampFormat || b.MaxAhead != a.MaxAhead {
		return true
	}
	return b.Kafka != nil && a.Kafka != nil && b.Kafka.Format != a.Kafka.Format
}

func (f *findings) view(ch ModifyView) {
	n := node(lineage.View, ch.After.Meta)
	f.features(n, ch.Before.Features, ch.After.Features)
	if was, is := ch.Before.TTL, ch.After.TTL; was != is {
		if is != 0 && (was == 0 || is < was) {
			f.add(TTLShortened, Warning, n, f.consumers(n), "The ttl of view %s was %s and becomes %s: values older than that are OUTSIDE_MAX_AGE at once.%s", n.Name, orNone(ttlText(was)), is, readBy(f.consumers(n)))
		} else {
			f.add(TTLExtended, Notice, n, f.consumers(n), "The ttl of view %s was %s and becomes %s: values that were too old are served again at once.%s", n.Name, was, orNone(ttlText(is)), readBy(f.consumers(n)))
		}
	}
}

// features finds features that are gone or have another type.
func (f *findings) features(n lineage.Node, before, after []registry.Feature) {
	for _, b := range before {
		i := slices.IndexFunc(after, func(a registry.Feature) bool { return a.Name == b.Name })
		readers := f.readers(n, b.Name)
		switch {
		case i < 0:
			f.addRead(FeatureRemoved, n, readers, "Feature %s:%s is gone for lookups and training.%s", n.Name, b.Name, readBy(readers))
		case after[i].Type != b.Type:
			f.addRead(FeatureTypeChanged, n, readers, "Feature %s:%s was %s and becomes %s.%s", n.Name, b.Name, b.Type, after[i].Type, readBy(readers))
		}
	}
}

// readers are the services and on-demand views that read a feature of a view
// today, directly or through on-demand views.
func (f *findings) readers(view lineage.Node, name string) []lineage.Node {
	p := f.c.head.Project
	var found []lineage.Node
	add := func(n lineage.Node) {
		if !slices.Contains(found, n) {
			found = append(found, n)
		}
	}
	for i := range p.OnDemand {
		v := &p.OnDemand[i]
		if !slices.Contains(v.Inputs, view.Name) {
			continue
		}
		for _, feat := range v.Features {
			if !mentions(feat.Expr, view.Name, name) {
				continue
			}
			n := node(lineage.OnDemandView, v.Meta)
			add(n)
			for _, r := range f.readers(n, feat.Name) {
				add(r)
			}
		}
	}
	for _, s := range p.Services {
		for _, e := range s.Features {
			if e.Ref.View == view.Name && (e.Ref.Feature == "" || e.Ref.Feature == name) {
				add(node(lineage.Service, s.Meta))
			}
		}
	}
	slices.SortFunc(found, lineage.Compare)
	return found
}

// mentions reports whether an expression reads view.feature.
func mentions(expr, view, feature string) bool {
	ts := tokens(expr)
	for i := 0; i+2 < len(ts); i++ {
		if ts[i] == view && ts[i+1] == "." && ts[i+2] == feature {
			return true
		}
	}
	return false
}

func (f *findings) onDemand(ch ModifyOnDemandView) {
	n := node(lineage.OnDemandView, ch.After.Meta)
	f.features(n, ch.Before.Features, ch.After.Features)
	var changed []string
	for _, b := range ch.Before.Features {
		for _, a := range ch.After.Features {
			if a.Name == b.Name && normalise(a.Expr) != normalise(b.Expr) {
				changed = append(changed, a.Name)
			}
		}
	}
	if len(changed) > 0 {
		consumers := f.consumers(n)
		f.add(OnDemandChanged, Warning, n, consumers, "On-demand view %s computes %s in another way: served values change at once, for there is no generation to fill first.%s", n.Name, strings.Join(changed, ", "), readBy(consumers))
	}
}

// onDemandDiffers reports whether an on-demand view may give other values.
func onDemandDiffers(b, a *registry.OnDemandView) bool {
	same := func(x, y registry.Feature) bool { return x.Field == y.Field && normalise(x.Expr) == normalise(y.Expr) }
	return !slices.Equal(b.Request, a.Request) || !slices.EqualFunc(b.Features, a.Features, same)
}

func (f *findings) backfill(b Backfill) {
	n := lineage.Node{Kind: lineage.View, Name: b.View}
	switch {
	case b.Known:
		f.add(BackfillNeeded, Notice, n, nil, "View %s means again what its generation %d did, and takes that number. What is stored of it is brought up to date from the log.", b.View, b.Generation)
	case b.Previous == 0:
		f.add(BackfillNeeded, Notice, n, nil, "View %s is new: its values are derived from the log of its source, as generation %d.", b.View, b.Generation)
	default:
		f.add(BackfillNeeded, Notice, n, f.consumers(n), "View %s stores values of another meaning: generation %d is derived from the log of its source, and generation %d stays live until it is filled.", b.View, b.Generation, b.Previous)
	}
}

// columnTypes are fields by name.
func columnTypes(fs ...[]feature.Field) map[string]feature.Type {
	types := map[string]feature.Type{}
	for _, f := range slices.Concat(fs...) {
		types[f.Name] = f.Type
	}
	return types
}
