package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/lineage"
)

// Plan is what applying a project would do. It is immutable.
type Plan struct {
	Project string
	// Base is the revision that the plan was made against; nil for an empty registry.
	Base *registry.Revision
	// Next is the project that is to be applied.
	Next *registry.Project
	// Changes are ordered by kind, as values flow, and then by name.
	Changes []Change
	// Findings are ordered by severity, the blocking ones first, then by what they are about.
	Findings []Finding
	// Generations are those of the new revision, sorted by view.
	Generations []registry.Generation
	// Backfills are the views whose stored values must be made, sorted by view.
	Backfills []Backfill
	// Consumers are the services and on-demand views, there before and after, that a change of
	// something they are made of gives other values, or none.
	Consumers []Consumer
}

// Backfill is a view whose generation has to be derived from the source's log.
type Backfill struct {
	View       string `json:"view"`
	Generation int    `json:"generation"`
	Previous   int    `json:"previous_generation,omitempty"` // that is live until then; 0 for a new view
	// Known says that the generation is one that the registry had before, so that its
	// values may be there up to some point.
	Known bool `json:"known,omitempty"`
}

// Consumer is a definition that changes of other definitions reach.
type Consumer struct {
	lineage.Node
	Through []lineage.Node `json:"through"` // the changed definitions, ordered
}

// Empty reports whether there is nothing to apply: Base declares it all. The first
// revision is something to apply, even of a project without definitions.
func (p *Plan) Empty() bool {
	return p.Base != nil && p.Base.Project.Name == p.Project && len(p.Changes) == 0
}

// Blocking reports whether a finding is blocking.
func (p *Plan) Blocking() bool {
	return slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Severity == Blocking })
}

// Revision is the revision that applies the plan, to be appended to the registry.
func (p *Plan) Revision(author, commit string, now time.Time) *registry.Revision {
	r := &registry.Revision{Author: author, Commit: commit, Time: now, Project: p.Next, Generations: p.Generations}
	if p.Base != nil {
		r.Parent = p.Base.ID
	}
	return r
}

// Against makes the plan that brings a registry to a project.
func Against(ctx context.Context, repo registry.Repository, next *registry.Project) (*Plan, error) {
	revisions, err := repo.History(ctx, 0)
	if err != nil {
		return nil, err
	}
	var head *registry.Revision
	if len(revisions) > 0 {
		head = revisions[0]
	}
	return Compute(head, Known(revisions), next)
}

// Known are the generations that revisions had, each once.
func Known(revisions []*registry.Revision) []registry.Generation {
	seen := map[registry.Generation]bool{}
	var known []registry.Generation
	for _, r := range revisions {
		for _, g := range r.Generations {
			if !seen[g] {
				seen[g] = true
				known = append(known, g)
			}
		}
	}
	return known
}

// Compute makes the plan that brings head, the newest revision (nil if there is
// none), to a project that package spec made without errors. known are the
// generations of all revisions there are, head's among them: a view whose meaning
// is that of an earlier generation gets its number again, and a new one a number
// that was never used.
func Compute(head *registry.Revision, known []registry.Generation, next *registry.Project) (*Plan, error) {
	c := &comparison{head: &registry.Revision{Project: &registry.Project{Name: next.Name}}, next: next}
	if head != nil {
		if head.Project == nil {
			return nil, errors.New("plan: the newest revision has no project")
		}
		c.head, c.known = head, append(slices.Clone(known), head.Generations...)
	}
	c.before, c.after = lineage.New(c.head.Project), lineage.New(next)
	p := &Plan{Project: next.Name, Base: head, Next: next}
	if err := c.generations(p); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := c.changes(p); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := c.check(p); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	c.consumers(p)
	return p, nil
}

// comparison is what a plan is computed from.
type comparison struct {
	head          *registry.Revision // with an empty project for an empty registry
	next          *registry.Project
	known         []registry.Generation
	before, after *lineage.Graph
}

// generations numbers the views of the next revision, and lists the backfills.
func (c *comparison) generations(p *Plan) error {
	p.Generations = []registry.Generation{}
	for i := range c.next.Views {
		v := &c.next.Views[i]
		fingerprint, err := Fingerprint(c.next, v)
		if err != nil {
			return err
		}
		g := registry.Generation{View: v.Name, Fingerprint: fingerprint}
		live := c.head.Generation(v.Name)
		greatest := 0
		for _, k := range c.known {
			if k.View != v.Name {
				continue
			}
			greatest = max(greatest, k.Number)
			if k.Fingerprint == fingerprint && (g.Number == 0 || k.Number == live) {
				g.Number = k.Number
			}
		}
		known := g.Number > 0
		if !known {
			g.Number = greatest + 1
		}
		p.Generations = append(p.Generations, g)
		if g.Number != live {
			p.Backfills = append(p.Backfills, Backfill{View: v.Name, Generation: g.Number, Previous: live, Known: known})
		}
	}
	return nil
}

// match calls visit for every name in before or after (sorted by name, as a
// project's are), with nil where it is not there.
func match[T any](before, after []T, name func(*T) string, visit func(before, after *T)) {
	for len(before) > 0 || len(after) > 0 {
		var b, a *T
		var order int
		switch {
		case len(after) == 0:
			order = -1
		case len(before) == 0:
			order = 1
		default:
			order = cmp.Compare(name(&before[0]), name(&after[0]))
		}
		if order <= 0 {
			b, before = &before[0], before[1:]
		}
		if order >= 0 {
			a, after = &after[0], after[1:]
		}
		visit(b, a)
	}
}

// changes lists what differs.
func (c *comparison) changes(p *Plan) error {
	old, add := c.head.Project, func(ch Change) { p.Changes = append(p.Changes, ch) }
	match(old.Entities, c.next.Entities, func(e *registry.Entity) string { return e.Name }, func(b, a *registry.Entity) {
		switch {
		case b == nil:
			add(AddEntity{a})
		case a == nil:
			add(RemoveEntity{b})
		default:
			if ds := differences(entityAttributes(b), entityAttributes(a)); len(ds) > 0 {
				add(ModifyEntity{b, a, ds})
			}
		}
	})
	match(old.Sources, c.next.Sources, func(s *registry.Source) string { return s.Name }, func(b, a *registry.Source) {
		switch {
		case b == nil:
			add(AddSource{a})
		case a == nil:
			add(RemoveSource{b})
		default:
			if ds := differences(sourceAttributes(b), sourceAttributes(a)); len(ds) > 0 {
				add(ModifySource{b, a, ds})
			}
		}
	})
	var failed error
	match(old.Views, c.next.Views, func(v *registry.FeatureView) string { return v.Name }, func(b, a *registry.FeatureView) {
		switch {
		case b == nil:
			add(AddView{a, generationOf(p.Generations, a.Name)})
		case a == nil:
			add(RemoveView{b, c.head.Generation(b.Name)})
		default:
			was, err1 := meaningOf(old, b)
			is, err2 := meaningOf(c.next, a)
			if err := errors.Join(err1, err2); err != nil {
				failed = err
				return
			}
			ds := differences(viewAttributes(b, was), viewAttributes(a, is))
			from, to := c.head.Generation(b.Name), generationOf(p.Generations, a.Name)
			if len(ds) > 0 || from != to {
				add(ModifyView{b, a, ds, from, to})
			}
		}
	})
	match(old.OnDemand, c.next.OnDemand, func(v *registry.OnDemandView) string { return v.Name }, func(b, a *registry.OnDemandView) {
		switch {
		case b == nil:
			add(AddOnDemandView{a})
		case a == nil:
			add(RemoveOnDemandView{b})
		default:
			if ds := differences(onDemandAttributes(b), onDemandAttributes(a)); len(ds) > 0 {
				add(ModifyOnDemandView{b, a, ds})
			}
		}
	})
	match(old.Services, c.next.Services, func(s *registry.Service) string { return s.Name }, func(b, a *registry.Service) {
		switch {
		case b == nil:
			add(AddService{a})
		case a == nil:
			add(RemoveService{b})
		default:
			if ds := differences(serviceAttributes(b), serviceAttributes(a)); len(ds) > 0 {
				add(ModifyService{b, a, ds})
			}
		}
	})
	return failed
}

func generationOf(gs []registry.Generation, view string) int {
	for _, g := range gs {
		if g.View == view {
			return g.Number
		}
	}
	return 0
}

// consumers lists whom the changes reach.
func (c *comparison) consumers(p *Plan) {
	through := map[lineage.Node][]lineage.Node{}
	for _, ch := range p.Changes {
		n := ch.Summary().Node
		if !altersValues(ch) {
			continue
		}
		for _, reached := range slices.Concat(c.before.Downstream(n), c.after.Downstream(n)) {
			if reached.Kind != lineage.OnDemandView && reached.Kind != lineage.Service || !c.before.Has(reached) || !c.after.Has(reached) {
				continue
			}
			if !slices.Contains(through[reached], n) {
				through[reached] = append(through[reached], n)
			}
		}
	}
	for n, by := range through {
		slices.SortFunc(by, lineage.Compare)
		p.Consumers = append(p.Consumers, Consumer{n, by})
	}
	slices.SortFunc(p.Consumers, func(a, b Consumer) int { return lineage.Compare(a.Node, b.Node) })
}

// altersValues reports whether a change of a definition may alter values that
// are made of it. What a source's or an entity's change does to stored values
// shows as a change of the views.
func altersValues(ch Change) bool {
	switch ch := ch.(type) {
	case RemoveView, RemoveOnDemandView:
		return true
	case ModifyView:
		return ch.From != ch.To || ch.Before.TTL != ch.After.TTL
	case ModifyOnDemandView:
		return onDemandDiffers(ch.Before, ch.After)
	case ModifySource:
		return newRowsDiffer(ch.Before, ch.After)
	}
	return false
}
