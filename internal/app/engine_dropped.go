package app

import (
	"context"
	"fmt"
	"maps"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// refuseDropped returns an error if a selection names a generation that was dropped: there is no
// record of it, and NOT_FOUND for every entity would look like an answer. It asks the store when a
// generation that is not live is first named; refresh asks again.
func (e *engine) refuseDropped(ctx context.Context, s *serving, sel *selection.Selection) error {
	for _, r := range sel.Roles {
		ref := registry.Ref{View: r.View.View.Name, Generation: r.View.Number}
		if live := s.live[ref.View]; live == ref.Generation || live == 0 && s.head.Generation(ref.View) == ref.Generation {
			continue
		}
		s.mu.Lock()
		gone, asked := s.dropped[ref]
		s.mu.Unlock()
		if !asked {
			var err error
			if gone, err = e.isDropped(ctx, ref); err != nil {
				return err
			}
			s.mu.Lock()
			s.dropped[ref] = gone
			s.mu.Unlock()
		}
		if !gone {
			continue
		}
		_, revisions, err := e.app.knownGenerations(ctx, s.head)
		if err != nil {
			return err
		}
		named := Generation{View: ref.View, Generation: ref.Generation, Revision: revisions[ref], Current: s.head.Generation(ref.View) == ref.Generation}
		refusal := dropped(named)
		if live := s.live[ref.View]; live != 0 {
			refusal.Hint = fmt.Sprintf("%s without @%d is answered from generation %d. %s", ref.View, ref.Generation, live, refusal.Hint)
		}
		return refusal
	}
	return nil
}

// isDropped reports whether a generation was dropped, and nothing was written to it since.
func (e *engine) isDropped(ctx context.Context, ref registry.Ref) (bool, error) {
	d, err := (&pointers{store: e.store}).read(ctx, ref.View)
	if err != nil || !d.gone(ref.Generation) {
		return false, err
	}
	points, err := e.store.Resumes(ctx, ref.View, ref.Generation)
	return len(points) == 0, err
}

// sameDropped reports whether the generations that were asked about are dropped, or not, as they were then.
func (e *engine) sameDropped(ctx context.Context, s *serving) (bool, error) {
	s.mu.Lock()
	asked := maps.Clone(s.dropped)
	s.mu.Unlock()
	for ref, was := range asked {
		if gone, err := e.isDropped(ctx, ref); err != nil || gone != was {
			return false, err
		}
	}
	return true, nil
}
