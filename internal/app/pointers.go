package app

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/online"
)

// pointers moves the live pointers of the views in an online store. It is safe for
// concurrent use, by several processes too.
//
// What is decided about a view's generations is kept beside the pointers, as resume
// points of its generation 0, which has no records (docs/format/generations.md):
//
//	pin          the generation that somebody chose; the pipelines make no other one live
//	ended/N      when N stopped being live, or was first seen to be of no use
//	dropping/N   since when N is to be dropped: nobody may write to it any more
//	dropped/N    when N was dropped
//
// Instants are microseconds since the Unix epoch in decimal; "-" stands for none.
type pointers struct {
	store online.Store
	// manual: a generation that is filled waits for somebody to choose it, where another is live.
	manual bool
	now    func() time.Time
}

// decisions is what is kept about the generations of one view.
type decisions struct {
	pin                      int // 0: nobody chose
	ended, dropping, dropped map[int]time.Time
}

const (
	keptPin      = "pin"
	keptEnded    = "ended"
	keptDropping = "dropping"
	keptDropped  = "dropped"
	keptNone     = "-"
)

// gone reports whether a generation was dropped, or is being dropped.
func (d decisions) gone(n int) bool { return !d.dropping[n].IsZero() || !d.dropped[n].IsZero() }

// read is what is decided about a view.
func (p *pointers) read(ctx context.Context, view string) (decisions, error) {
	d := decisions{ended: map[int]time.Time{}, dropping: map[int]time.Time{}, dropped: map[int]time.Time{}}
	points, err := p.store.Resumes(ctx, view, 0)
	if err != nil {
		return d, err
	}
	for _, point := range points {
		if point.Position == keptNone {
			continue
		}
		value, err := strconv.ParseInt(point.Position, 10, 64)
		what, which, _ := strings.Cut(point.Input, "/")
		n := 0
		if err == nil && which != "" {
			n, err = strconv.Atoi(which)
		}
		if err != nil {
			return d, fmt.Errorf("view %s: what is kept about its generations is damaged: %s is %q; `forebay generation promote %s` writes it again", view, point.Input, point.Position, view)
		}
		at := time.UnixMicro(value).UTC()
		switch what {
		case keptPin:
			d.pin = int(value)
		case keptEnded:
			d.ended[n] = at
		case keptDropping:
			d.dropping[n] = at
		case keptDropped:
			d.dropped[n] = at
		}
	}
	return d, nil
}

// of names what is kept about one generation.
func of(what string, generation int) string { return what + "/" + strconv.Itoa(generation) }

func (p *pointers) keep(ctx context.Context, view string, values map[string]string) error {
	points := make([]online.Resume, 0, len(values))
	for name, value := range values {
		points = append(points, online.Resume{View: view, Input: name, Position: value})
	}
	return p.store.SetResumes(ctx, points)
}

func (p *pointers) instant() string { return strconv.FormatInt(p.now().UnixMicro(), 10) }

// move makes a generation live, and notes when the one before stopped being so.
func (p *pointers) move(ctx context.Context, view string, from, to int) error {
	values := map[string]string{of(keptEnded, to): keptNone, of(keptDropping, to): keptNone, of(keptDropped, to): keptNone}
	if from != 0 && from != to {
		values[of(keptEnded, from)] = p.instant()
	}
	if err := p.keep(ctx, view, values); err != nil {
		return err
	}
	return p.store.SetLive(ctx, view, to)
}

// propose makes a generation that is filled live, unless somebody has chosen
// another one, or promotes by hand and one is live.
func (p *pointers) propose(ctx context.Context, view string, generation int) error {
	live, err := p.store.Live(ctx)
	if err != nil || live[view] == generation {
		return err
	}
	d, err := p.read(ctx, view)
	if err != nil {
		return err
	}
	if d.pin != 0 && d.pin != generation || d.pin == 0 && p.manual && live[view] != 0 {
		return nil
	}
	if err := p.move(ctx, view, live[view], generation); err != nil {
		return err
	}
	return p.hold(ctx, view)
}

// hold moves the pointer of a view to the generation that is pinned, if it is on another: a
// pin is written before the pointer, so whoever moves the pointer for another reason
// looks for one afterwards.
func (p *pointers) hold(ctx context.Context, view string) error {
	d, err := p.read(ctx, view)
	if err != nil || d.pin == 0 {
		return err
	}
	live, err := p.store.Live(ctx)
	if err != nil || live[view] == d.pin || d.gone(d.pin) {
		return err
	}
	return p.move(ctx, view, live[view], d.pin)
}

// choose makes a generation live because somebody wants it so. pinned holds it against
// the pipelines until somebody chooses again.
func (p *pointers) choose(ctx context.Context, view string, generation int, pinned bool) error {
	before, err := p.read(ctx, view)
	if err != nil {
		return err
	}
	pin := map[string]string{keptPin: strconv.Itoa(generation)}
	if err := p.keep(ctx, view, pin); err != nil {
		return err
	}
	// Whoever drops a generation says so first and then looks for a pin; one of the two sees the other.
	now, err := p.read(ctx, view)
	if err != nil {
		return err
	}
	if now.gone(generation) {
		pin[keptPin] = keptNone
		if before.pin != 0 {
			pin[keptPin] = strconv.Itoa(before.pin)
		}
		if err := p.keep(ctx, view, pin); err != nil {
			return err
		}
		return errDropped
	}
	live, err := p.store.Live(ctx)
	if err != nil {
		return err
	}
	if err := p.move(ctx, view, live[view], generation); err != nil {
		return err
	}
	if pinned {
		return nil
	}
	pin[keptPin] = keptNone
	return p.keep(ctx, view, pin)
}
