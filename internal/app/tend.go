package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

const (
	// tendEvery is how often a process that runs for long looks for generations to drop. It drops
	// at most one each time.
	tendEvery = time.Minute
	// tendGrace is the time between the note that a generation is to be dropped, which streams look for
	// every followEvery, and the dropping.
	tendGrace = 3 * time.Second
)

// surplus is a generation that nothing needs: it is not live, not of the newest revision, not
// pinned, and named by no service.
type surplus struct {
	registry.Ref
	ended, dropping time.Time
}

// surplus lists the generations with records, or what may be some, that nothing needs. It notes
// when it first saw each, and moves pointers that are not where they are pinned.
func (a *App) surplus(ctx context.Context, head *registry.Revision, p *pointers, dryRun bool) ([]surplus, error) {
	byView, _, err := a.knownGenerations(ctx, head)
	if err != nil {
		return nil, err
	}
	pinned := pinnedByServices(head)
	var found []surplus
	for _, view := range slices.Sorted(maps.Keys(byView)) {
		declared := head.Project.View(view) != nil
		if declared && len(byView[view]) < 2 {
			continue
		}
		if declared && !dryRun {
			if err := p.hold(ctx, view); err != nil {
				return nil, err
			}
		}
		live, err := p.store.Live(ctx)
		if err != nil {
			return nil, err
		}
		d, err := p.read(ctx, view)
		if err != nil {
			return nil, err
		}
		note := map[string]string{}
		for _, n := range byView[view] {
			ref := registry.Ref{View: view, Generation: n}
			points, err := p.store.Resumes(ctx, view, n)
			if err != nil {
				return nil, err
			}
			if declared && (n == live[view] || n == d.pin || n == head.Generation(view) || pinned[ref]) {
				// It was needed again before it was gone, or was filled again.
				if !d.dropping[n].IsZero() {
					note[of(keptDropping, n)] = keptNone
				}
				if !d.dropped[n].IsZero() && len(points) > 0 {
					note[of(keptDropped, n)] = keptNone
				}
				continue
			}
			if !d.dropped[n].IsZero() && len(points) == 0 {
				continue
			}
			s := surplus{ref, d.ended[n], d.dropping[n]}
			if s.ended.IsZero() {
				s.ended = p.now()
				note[of(keptEnded, n)] = p.instant()
			}
			found = append(found, s)
		}
		if len(note) > 0 && !dryRun {
			if err := p.keep(ctx, view, note); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(found, func(a, b surplus) int { return cmp.Compare(a.ended.UnixMicro(), b.ended.UnixMicro()) })
	return found, nil
}

// doom notes that a generation is to be dropped; false if it turns out to be needed.
func (p *pointers) doom(ctx context.Context, ref registry.Ref, declared bool) (bool, error) {
	if err := p.keep(ctx, ref.View, map[string]string{of(keptDropping, ref.Generation): p.instant()}); err != nil {
		return false, err
	}
	// Whoever chooses a generation pins it first and then looks for this note.
	d, err := p.read(ctx, ref.View)
	if err != nil {
		return false, err
	}
	live, err := p.store.Live(ctx)
	if err != nil {
		return false, err
	}
	if declared && (d.pin == ref.Generation || live[ref.View] == ref.Generation) {
		return false, p.keep(ctx, ref.View, map[string]string{of(keptDropping, ref.Generation): keptNone})
	}
	return true, nil
}

// drop removes what a generation has in Kafka and online. One that is cut short is finished by the next.
func (a *App) drop(ctx context.Context, p *pointers, ref registry.Ref) error {
	points, err := p.store.Resumes(ctx, ref.View, ref.Generation)
	if err != nil {
		return err
	}
	topics := map[string]bool{}
	for _, point := range points {
		if topic, _, ok := strings.Cut(point.Input, "/"); ok && strings.HasSuffix(topic, fmt.Sprintf(".%s.%d", ref.View, ref.Generation)) {
			topics[topic] = true
		}
	}
	for topic := range topics {
		c, err := a.kafkaCluster()
		if err != nil {
			return fmt.Errorf("drop %s: %w", ref, err)
		}
		if err := c.DropRepartitioned(ctx, topic, materialize.CopiersOf(topic)); err != nil {
			return fmt.Errorf("drop %s: %w", ref, err)
		}
	}
	return p.drop(ctx, ref)
}

// drop removes what a generation has online, in the store's bounded steps.
func (p *pointers) drop(ctx context.Context, ref registry.Ref) error {
	if err := p.store.Drop(ctx, ref.View, ref.Generation); err != nil {
		return fmt.Errorf("drop %s: %w", ref, err)
	}
	return p.keep(ctx, ref.View, map[string]string{of(keptDropped, ref.Generation): p.instant(), of(keptDropping, ref.Generation): keptNone})
}

// tend looks after the generations from time to time until ctx ends: those that nothing has
// needed for as long as the environment keeps them are dropped.
func (a *App) tend(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	failing := false
	for {
		err := a.tendOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			a.log.Warn("cannot look for generations to drop; trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) tendOnce(ctx context.Context) error {
	head, err := a.Head(ctx)
	if err != nil {
		return err
	}
	p, err := a.pointers(ctx)
	if err != nil {
		return err
	}
	if err := a.proposeReady(ctx, head, p); err != nil {
		return err
	}
	found, err := a.surplus(ctx, head, p, false)
	if err != nil {
		return err
	}
	keep, now := a.env.Generations.Keep, p.now()
	for _, s := range found {
		declared := head.Project.View(s.View) != nil
		switch {
		case keep == feature.Lifetime || now.Before(s.ended.Add(keepTime(keep))):
		case s.dropping.IsZero():
			if _, err := p.doom(ctx, s.Ref, declared); err != nil {
				return err
			}
		case now.Sub(s.dropping) >= tendGrace:
			if err := a.drop(ctx, p, s.Ref); err != nil {
				return err
			}
			a.log.Info("dropped a generation", "view", s.View, "generation", s.Generation, "kept_since", s.ended)
			return nil
		}
	}
	return nil
}

// proposeReady makes the generations of a revision live that have caught up without anybody filling
// them: a revision that goes back to an earlier meaning finds its generation kept up to date.
func (a *App) proposeReady(ctx context.Context, head *registry.Revision, p *pointers) error {
	live, err := p.store.Live(ctx)
	if err != nil {
		return err
	}
	list, err := views(head, nil)
	if err != nil {
		return err
	}
	unknown := func(*registry.Source) map[int32]int64 { return nil } // the log's offsets will do
	for _, v := range list {
		if live[v.View.Name] == 0 || live[v.View.Name] == v.Number {
			continue
		}
		all, err := a.generationsOf(ctx, head, v, unknown, false)
		if err != nil {
			return err
		}
		for _, g := range all {
			if g.Current && g.State == GenerationReady {
				if err := p.propose(ctx, g.View, g.Generation); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Collected says what OnlineGC did, or would do.
type Collected struct {
	DryRun      bool                  `json:"dry_run,omitempty"`
	Generations []CollectedGeneration `json:"generations"`
}

// CollectedGeneration is a generation that OnlineGC dropped.
type CollectedGeneration struct {
	View       string    `json:"view"`
	Generation int       `json:"generation"`
	Records    int64     `json:"records"`
	Bytes      int64     `json:"bytes"`
	Ended      time.Time `json:"ended"` // when it stopped being live, or of use
}

// OnlineGC drops from the online store what no generation needs that is live, or of the newest
// revision, or pinned, or named by a service: also what is still kept for a rollback.
// dropping, if set, hears of each generation before it is dropped.
func (a *App) OnlineGC(ctx context.Context, dryRun bool, dropping func(CollectedGeneration)) (*Collected, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	p, err := a.pointers(ctx)
	if err != nil {
		return nil, err
	}
	found, err := a.surplus(ctx, head, p, dryRun)
	if err != nil {
		return nil, err
	}
	done := &Collected{DryRun: dryRun, Generations: []CollectedGeneration{}}
	if dryRun {
		for _, s := range found {
			c, err := p.collected(ctx, s)
			if err != nil {
				return nil, err
			}
			if c.Records > 0 {
				done.Generations = append(done.Generations, c)
			}
		}
		return done, nil
	}
	var doomed []surplus
	fed := false // by streams, which stop when they see the note
	for _, s := range found {
		points, err := p.store.Resumes(ctx, s.View, s.Generation)
		if err != nil {
			return nil, err
		}
		fed = fed || len(points) > 0 && (s.dropping.IsZero() || p.now().Sub(s.dropping) < tendGrace)
		ok, err := p.doom(ctx, s.Ref, head.Project.View(s.View) != nil)
		if err != nil {
			return nil, err
		}
		if ok {
			doomed = append(doomed, s)
		}
	}
	if fed {
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-time.After(tendGrace):
		}
	}
	for _, s := range doomed {
		c, err := p.collected(ctx, s)
		if err != nil {
			return done, err
		}
		if dropping != nil && c.Records > 0 {
			dropping(c)
		}
		if err := a.drop(ctx, p, s.Ref); err != nil {
			return done, err
		}
		if c.Records > 0 {
			done.Generations = append(done.Generations, c)
		}
	}
	return done, nil
}

func (p *pointers) collected(ctx context.Context, s surplus) (CollectedGeneration, error) {
	records, bytes, err := p.store.Usage(ctx, s.View, s.Generation)
	return CollectedGeneration{s.View, s.Generation, records, bytes, s.ended.UTC()}, err
}

// fedKey names the generations that new rows go to, so that a stream sees when they change.
func (a *App) fedKey(ctx context.Context, head *registry.Revision) (string, error) {
	refs, err := a.fed(ctx, head)
	var texts []string
	for _, r := range refs {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, " "), err
}
