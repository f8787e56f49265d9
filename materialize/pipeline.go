package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
)

// pipeline streams one source, in one session after another.
type pipeline struct {
	cfg    *StreamConfig
	src    *registry.Source
	group  string
	memory int64
	views  []compiledView
	log    *slog.Logger
	stats  sourceStats
}

type compiledView struct {
	registry.ViewGeneration
	program *expr.View
	// lacksHistory: Kafka has deleted records that the view lacks, and the log has.
	lacksHistory bool
}

func (p *pipeline) addView(v registry.ViewGeneration) error {
	if v.View.Windowed() {
		return fmt.Errorf("view %s: aggregations over windows cannot be streamed by this version", v)
	}
	program, err := expr.CompileView(v.Project, v.View)
	if err != nil {
		return fmt.Errorf("view %s: %w", v, err)
	}
	p.views = append(p.views, compiledView{ViewGeneration: v, program: program})
	p.stats.addView(v)
	return nil
}

func (p *pipeline) run(ctx context.Context) error {
	pause := p.cfg.Retry.Min
	set(&pause, 100*time.Millisecond)
	first := true
	for {
		s := newSession(p, first)
		err := s.run(ctx)
		switch {
		case err == nil:
			p.stats.setState(StateStopped, nil)
			return nil
		case errors.Is(err, ErrAgain) && ctx.Err() != nil:
			// It was asked to end, and the next start goes on from what the stores hold.
			p.log.Warn("the stream ends before everything it read was completed; the next start reads that again", "reason", err)
			p.stats.setState(StateStopped, nil)
			return nil
		case errors.Is(err, ErrAgain):
			p.log.Warn("the stream starts again from what the stores hold", "reason", err)
			p.stats.restarts.Add(1)
		default:
			p.stats.setState(StateFailed, err)
			return err
		}
		if s.assigned() {
			first = false
		}
		select {
		case <-ctx.Done():
			return nil // nothing is held that the next start would miss
		case <-time.After(pause):
		}
	}
}
