package app

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// generations finds the generation of a view that a reference means, for one
// revision and one set of live generations. It is safe for concurrent use.
type generations struct {
	repo registry.Repository
	head *registry.Revision
	live map[string]int // of each view that has one set; the revision's own otherwise

	mu     sync.Mutex
	pinned map[registry.Ref]registry.ViewGeneration // read from earlier revisions
}

func newGenerations(repo registry.Repository, head *registry.Revision, live map[string]int) *generations {
	return &generations{repo: repo, head: head, live: maps.Clone(live), pinned: map[registry.Ref]registry.ViewGeneration{}}
}

var _ selection.Generations = (*generations)(nil).find

// find is a selection.Generations. A generation other than the revision's own is
// defined by the newest revision that had it; its ttl, which may change without
// making a new generation, is the one that the view has now.
func (g *generations) find(ctx context.Context, view string, number int) (registry.ViewGeneration, error) {
	current := g.head.Project.View(view)
	if number == 0 && current == nil {
		return registry.ViewGeneration{}, fmt.Errorf("view %q: %w", view, registry.ErrNoRevision)
	}
	if number == 0 {
		number = g.live[view]
	}
	own := g.head.Generation(view)
	if current != nil && (number == 0 || number == own) {
		return registry.ViewGeneration{Project: g.head.Project, View: current, Number: own}, nil
	}
	id := registry.Ref{View: view, Generation: number}
	g.mu.Lock()
	defer g.mu.Unlock()
	if found, ok := g.pinned[id]; ok {
		return found, nil
	}
	r, err := g.repo.ViewAt(ctx, view, number)
	if err != nil {
		return registry.ViewGeneration{}, err
	}
	found := registry.ViewGeneration{Project: r.Project, View: r.Project.View(view), Number: number}
	if current != nil && current.TTL != found.View.TTL {
		v := *found.View
		v.TTL = current.TTL
		found.View = &v
	}
	g.pinned[id] = found
	return found, nil
}

// viewGeneration is a revision's own generation of one of its views.
func viewGeneration(r *registry.Revision, v *registry.FeatureView) registry.ViewGeneration {
	return registry.ViewGeneration{Project: r.Project, View: v, Number: r.Generation(v.Name)}
}
