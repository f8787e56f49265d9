package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/plan"
)

// GenerationState says what a generation of a view is.
type GenerationState string

// The states of a generation.
const (
	GenerationLive    GenerationState = "live"    // lookups read it
	GenerationFilling GenerationState = "filling" // the newest revision declares it, and it is behind the log
	GenerationReady   GenerationState = "ready"   // filled, and not live
	GenerationOld     GenerationState = "old"     // kept for a rollback, until it is dropped
	GenerationDropped GenerationState = "dropped"
	GenerationEmpty   GenerationState = "empty" // it was never filled
)

// Generation is a generation of a view, and how far its records online are.
type Generation struct {
	View       string          `json:"view"`
	Generation int             `json:"generation"`
	State      GenerationState `json:"state"`
	Current    bool            `json:"current"`          // of the newest revision
	Pinned     bool            `json:"pinned,omitempty"` // somebody chose it; the stream makes no other one live
	Revision   int             `json:"revision"`         // number of the newest revision that declares it
	Records    int64           `json:"records"`          // online
	Bytes      int64           `json:"bytes"`
	// Applied and ToReach are offsets of the source's topic, all partitions together, where it has one.
	Applied *int64 `json:"applied,omitempty"`
	ToReach *int64 `json:"to_reach,omitempty"`
	// Ended is when it stopped being live.
	Ended *time.Time `json:"ended,omitempty"`
	// Drops is when it is dropped, or was.
	Drops *time.Time `json:"drops,omitempty"`

	filled bool // something was applied to it
}

// Codes of failures that have to do with generations.
const (
	codeUnknownGeneration = "unknown_generation"
	codeDropped           = "generation_dropped"
	codeNotFilled         = "generation_not_filled"
	codeNoOther           = "no_other_generation"
)

// errDropped: the generation has no records any more.
var errDropped = errors.New("the generation was dropped")

func (a *App) pointers(ctx context.Context) (*pointers, error) {
	on, err := a.onlineStore(ctx)
	if err != nil {
		return nil, err
	}
	return &pointers{store: on, manual: a.env.Generations.Manual, now: a.wall}, nil
}

// knownGenerations are the generations that the registry ever had, by view in the order of
// their numbers, with the number of the newest revision that declares each.
func (a *App) knownGenerations(ctx context.Context, head *registry.Revision) (map[string][]int, map[registry.Ref]int, error) {
	a.knownMu.Lock()
	defer a.knownMu.Unlock()
	if k := a.known; k != nil && k.head == head.ID {
		return k.byView, k.revisions, nil
	}
	all, err := a.repo.History(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	k := &known{head: head.ID, byView: map[string][]int{}, revisions: map[registry.Ref]int{}}
	for _, r := range all { // newest first
		for _, g := range r.Generations {
			if ref := (registry.Ref{View: g.View, Generation: g.Number}); k.revisions[ref] == 0 {
				k.revisions[ref] = r.Number
			}
		}
	}
	for _, g := range plan.Known(all) {
		if !slices.Contains(k.byView[g.View], g.Number) {
			k.byView[g.View] = append(k.byView[g.View], g.Number)
		}
	}
	for _, numbers := range k.byView {
		slices.Sort(numbers)
	}
	a.known = k
	return k.byView, k.revisions, nil
}

// known are the generations of a registry, as of one revision.
type known struct {
	head      string
	byView    map[string][]int
	revisions map[registry.Ref]int
}

// pinnedByServices are the generations that services of a revision name.
func pinnedByServices(head *registry.Revision) map[registry.Ref]bool {
	pinned := map[registry.Ref]bool{}
	for _, s := range head.Project.Services {
		for _, f := range s.Features {
			if f.Ref.Generation > 0 {
				pinned[registry.Ref{View: f.Ref.View, Generation: f.Ref.Generation}] = true
			}
		}
	}
	return pinned
}

// fed are the generations that new rows go to: those of the revision, and every other one that has
// records and is not to be dropped, so that a rollback finds it up to date.
func (a *App) fed(ctx context.Context, head *registry.Revision) ([]registry.Ref, error) {
	p, err := a.pointers(ctx)
	if err != nil {
		return nil, err
	}
	byView, _, err := a.knownGenerations(ctx, head)
	if err != nil {
		return nil, err
	}
	live, err := p.store.Live(ctx)
	if err != nil {
		return nil, err
	}
	pinned := pinnedByServices(head)
	var current, others []registry.Ref
	for _, v := range head.Project.Views {
		own := head.Generation(v.Name)
		current = append(current, registry.Ref{View: v.Name, Generation: own})
		if len(byView[v.Name]) < 2 {
			continue
		}
		d, err := p.read(ctx, v.Name)
		if err != nil {
			return nil, err
		}
		for _, n := range byView[v.Name] {
			ref := registry.Ref{View: v.Name, Generation: n}
			switch {
			case n == own:
				continue
			case live[v.Name] == n, pinned[ref]:
				others = append(others, ref)
			case !d.gone(n):
				points, err := p.store.Resumes(ctx, v.Name, n)
				if err != nil {
					return nil, err
				}
				if len(points) > 0 {
					others = append(others, ref)
				}
			}
		}
	}
	return append(current, others...), nil
}

// currentAndLive are the generations that new rows go to (see fed), of which those of earlier
// revisions are computed from the source as it is now; where it lacks a column that they need they are left out.
func (a *App) currentAndLive(ctx context.Context, head *registry.Revision) ([]registry.ViewGeneration, error) {
	refs, err := a.fed(ctx, head)
	if err != nil {
		return nil, err
	}
	gens := newGenerations(a.repo, head, nil)
	var list []registry.ViewGeneration
	for _, ref := range refs {
		v, err := gens.find(ctx, ref.View, ref.Generation)
		if err != nil {
			return nil, err
		}
		if ref.Generation != head.Generation(ref.View) {
			now, ok := from(v, head)
			if !ok {
				continue
			}
			v = now
		}
		list = append(list, v)
	}
	return list, nil
}

// from is a generation computed from its source as a revision declares it; false if that
// has not the columns it had.
func from(v registry.ViewGeneration, head *registry.Revision) (registry.ViewGeneration, bool) {
	was, now := v.Source(), head.Project.Source(v.View.Source)
	if was == nil || now == nil || was.Timestamp != now.Timestamp {
		return v, false
	}
	for _, c := range was.Columns {
		if i := now.Column(c.Name); i < 0 || now.Columns[i].Field != c.Field {
			return v, false
		}
	}
	project := *v.Project
	project.Sources = slices.Clone(project.Sources)
	*project.Source(v.View.Source) = *now
	v.Project = &project
	return v, true
}

// Generations lists the generations of a view of the newest revision, or of all of them, the
// newest of each view first.
func (a *App) Generations(ctx context.Context, view string) ([]Generation, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	if view != "" {
		names = []string{view}
	}
	list, err := views(head, names)
	if err != nil {
		return nil, err
	}
	var all []Generation
	ends := a.topicEnds(ctx)
	for _, v := range list {
		of, err := a.generationsOf(ctx, head, v, ends, true)
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// Filling lists the generations of the newest revision that are filled beside a live one, or wait to
// go live. It opens no store where no view ever had two generations.
func (a *App) Filling(ctx context.Context) ([]Generation, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	byView, _, err := a.knownGenerations(ctx, head)
	if err != nil {
		return nil, err
	}
	list, err := views(head, nil)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(v registry.ViewGeneration) bool { return len(byView[v.View.Name]) < 2 })
	var filling []Generation
	ends := a.topicEnds(ctx)
	for _, v := range list {
		all, err := a.generationsOf(ctx, head, v, ends, false)
		if err != nil {
			return nil, err
		}
		for _, g := range all {
			if g.Current && (g.State == GenerationFilling || g.State == GenerationReady || g.State == GenerationDropped) {
				filling = append(filling, g)
			}
		}
	}
	return filling, nil
}

// generationsOf lists the generations of one view, the newest first.
func (a *App) generationsOf(ctx context.Context, head *registry.Revision, v registry.ViewGeneration, ends topicEnds, usage bool) ([]Generation, error) {
	p, err := a.pointers(ctx)
	if err != nil {
		return nil, err
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	byView, revisions, err := a.knownGenerations(ctx, head)
	if err != nil {
		return nil, err
	}
	live, err := p.store.Live(ctx)
	if err != nil {
		return nil, err
	}
	d, err := p.read(ctx, v.View.Name)
	if err != nil {
		return nil, err
	}
	gens, pinned := newGenerations(a.repo, head, nil), pinnedByServices(head)
	var list []Generation
	for _, n := range slices.Backward(byView[v.View.Name]) {
		at, err := gens.find(ctx, v.View.Name, n)
		if err != nil {
			return nil, err
		}
		ref := registry.Ref{View: v.View.Name, Generation: n}
		g := Generation{View: v.View.Name, Generation: n, Current: n == v.Number, Pinned: d.pin == n, Revision: revisions[ref]}
		points, err := (&onlineSink{store: p.store}).Resumes(ctx, at)
		if err != nil {
			return nil, err
		}
		log, err := a.logOf(ctx, off, at.Source())
		if err != nil {
			return nil, err
		}
		table, err := off.Table(ctx, at)
		if err != nil {
			return nil, err
		}
		g.filled = len(points) > 0
		ready := viewState(at, points, table, log) == UpToDate || log.Rows == 0 && g.filled
		if src := at.Source(); src.Kafka != nil && (g.filled || g.Current) {
			if applied, reach := progress(src, points, log, ends(src)); reach > 0 {
				g.Applied, g.ToReach = &applied, &reach
			}
		}
		switch {
		case live[v.View.Name] == n:
			g.State = GenerationLive
		case d.gone(n) && (!g.Current || !g.filled):
			g.State = GenerationDropped
			t := d.dropped[n]
			if t.IsZero() {
				t = d.dropping[n]
			}
			g.Drops, g.Applied, g.ToReach = &t, nil, nil
		case (g.Current || pinned[ref]) && ready:
			g.State = GenerationReady
		case g.Current || pinned[ref]:
			g.State = GenerationFilling
		case !g.filled:
			g.State = GenerationEmpty
		default:
			g.State = GenerationOld
		}
		if t := d.ended[n]; !t.IsZero() && g.State != GenerationLive {
			g.Ended = &t
			if keep := a.env.Generations.Keep; g.State == GenerationOld && keep != feature.Lifetime {
				drops := t.Add(keepTime(keep))
				g.Drops = &drops
			}
		}
		if usage && g.State != GenerationEmpty && g.State != GenerationDropped {
			if g.Records, g.Bytes, err = p.store.Usage(ctx, v.View.Name, n); err != nil {
				return nil, err
			}
		}
		list = append(list, g)
	}
	return list, nil
}

// topicEnds asks for the ends of each topic once; nil where they are not known.
type topicEnds func(*registry.Source) map[int32]int64

func (a *App) topicEnds(ctx context.Context) topicEnds {
	seen := map[string]map[int32]int64{}
	return func(src *registry.Source) map[int32]int64 {
		ends, ok := seen[src.Name]
		if !ok {
			ends = a.ends(ctx, src)
			seen[src.Name] = ends
		}
		return ends
	}
}

// progress is how many offsets of a source's topic a generation has applied, and how many there
// are: in the log, or in the topic where that is known to have more.
func progress(src *registry.Source, points map[string]string, log offline.LogState, ends map[int32]int64) (applied, reach int64) {
	to := maps.Clone(log.Offsets)
	if to == nil {
		to = map[int32]int64{}
	}
	for p, end := range ends {
		to[p] = max(to[p], end)
	}
	for p, end := range to {
		at, _ := strconv.ParseInt(points[src.Kafka.Topic+"/"+strconv.Itoa(int(p))], 10, 64) // missing: nothing is applied
		applied += min(at, end)
		reach += end
	}
	return applied, reach
}

func keepTime(d feature.Duration) time.Duration { return time.Duration(d) * time.Microsecond }

func (a *App) logOf(ctx context.Context, off offline.Store, src *registry.Source) (offline.LogState, error) {
	if src == nil {
		return offline.LogState{}, nil
	}
	return off.Log(ctx, src)
}

// GenerationMove says what Promote or RollbackGeneration did.
type GenerationMove struct {
	View    string `json:"view"`
	From    int    `json:"from,omitempty"` // live before; 0 for none
	To      int    `json:"to"`
	Pinned  bool   `json:"pinned"`  // the stream makes no other generation live until somebody promotes one
	Changed bool   `json:"changed"` // it was not live before
	DryRun  bool   `json:"dry_run,omitempty"`
}

// PromoteOptions says which generation goes live.
type PromoteOptions struct {
	View       string
	Generation int  // 0: that of the newest revision
	Force      bool // even where it is behind the log
	DryRun     bool
}

// Promote makes a generation live. That of the newest revision ends a pin; an earlier one is pinned.
func (a *App) Promote(ctx context.Context, o PromoteOptions) (*GenerationMove, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	list, err := views(head, []string{o.View})
	if err != nil {
		return nil, err
	}
	all, err := a.generationsOf(ctx, head, list[0], a.topicEnds(ctx), false)
	if err != nil {
		return nil, err
	}
	to := o.Generation
	if to == 0 {
		to = list[0].Number
	}
	i := slices.IndexFunc(all, func(g Generation) bool { return g.Generation == to })
	if i < 0 {
		return nil, &Error{Code: codeUnknownGeneration, Err: fmt.Errorf("view %s has no generation %d", o.View, to), Hint: fmt.Sprintf("There is: %s.", numbers(all))}
	}
	g := all[i]
	switch {
	case g.State == GenerationDropped:
		return nil, dropped(g)
	case !g.filled && g.State != GenerationLive:
		return nil, &Error{Code: codeNotFilled, Err: fmt.Errorf("%s@%d has no records yet", o.View, to), Hint: fillHint(g)}
	case g.State == GenerationFilling && !o.Force:
		return nil, &Error{
			Code: codeNotFilled,
			Err:  fmt.Errorf("%s@%d is behind the log%s", o.View, to, howFar(g)),
			Hint: fillHint(g) + " --force promotes it as it is.",
		}
	}
	return a.moveLive(ctx, all, o.View, to, to != list[0].Number, o.DryRun)
}

// howFar says how far a generation is, where its source has a topic.
func howFar(g Generation) string {
	if g.Applied == nil {
		return ""
	}
	return fmt.Sprintf(": %d of %d offsets are applied", *g.Applied, *g.ToReach)
}

func fillHint(g Generation) string {
	if !g.Current {
		return fmt.Sprintf("Revision %d declares it: `forebay registry rollback %d`, and `forebay stream` or `forebay materialize` fills it.", g.Revision, g.Revision)
	}
	return fmt.Sprintf("`forebay stream` or `forebay materialize %s` fills it.", g.View)
}

func dropped(g Generation) *Error {
	e := &Error{Code: codeDropped, Err: fmt.Errorf("%s@%d was dropped: its records are gone from the online store", g.View, g.Generation), Hint: fillHint(g)}
	if g.Drops != nil {
		e.Err = fmt.Errorf("%s@%d was dropped at %s: its records are gone from the online store", g.View, g.Generation, g.Drops.Format(time.RFC3339))
	}
	return e
}

func numbers(all []Generation) string {
	var texts []string
	for _, g := range slices.Backward(all) {
		texts = append(texts, fmt.Sprintf("%d (%s)", g.Generation, g.State))
	}
	return strings.Join(texts, ", ")
}

// RollbackGeneration makes the generation live again that was live before the one that is, and
// pins it: the stream does not undo it. A second call undoes the first.
func (a *App) RollbackGeneration(ctx context.Context, view string, dryRun bool) (*GenerationMove, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	list, err := views(head, []string{view})
	if err != nil {
		return nil, err
	}
	all, err := a.generationsOf(ctx, head, list[0], a.topicEnds(ctx), false)
	if err != nil {
		return nil, err
	}
	var target, gone *Generation
	for i := range all {
		g := &all[i]
		switch {
		case g.State == GenerationLive || g.State == GenerationEmpty || g.Ended == nil:
		case g.State == GenerationDropped:
			if gone == nil || g.Ended.After(*gone.Ended) {
				gone = g
			}
		case target == nil || g.Ended.After(*target.Ended):
			target = g
		}
	}
	// An older one that is still there is not what was live before.
	if gone != nil && (target == nil || gone.Ended.After(*target.Ended)) {
		return nil, dropped(*gone)
	}
	if target == nil {
		return nil, &Error{
			Code: codeNoOther,
			Err:  fmt.Errorf("view %s has no generation that was live before: %s", view, numbers(all)),
			Hint: "`forebay generation promote " + view + " --generation N` makes any that is filled live.",
		}
	}
	return a.moveLive(ctx, all, view, target.Generation, target.Generation != list[0].Number, dryRun)
}

func (a *App) moveLive(ctx context.Context, all []Generation, view string, to int, pinned, dryRun bool) (*GenerationMove, error) {
	m := &GenerationMove{View: view, To: to, Pinned: pinned, DryRun: dryRun}
	for _, g := range all {
		if g.State == GenerationLive {
			m.From = g.Generation
		}
	}
	m.Changed = m.From != to
	if dryRun {
		return m, nil
	}
	p, err := a.pointers(ctx)
	if err != nil {
		return nil, err
	}
	err = p.choose(ctx, view, to, pinned)
	if errors.Is(err, errDropped) {
		i := slices.IndexFunc(all, func(g Generation) bool { return g.Generation == to })
		return nil, dropped(all[i])
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}
