package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// pipeline streams one topic, in one session after another: that of a source to its log and its views, or
// an internal one to the one view that it is copied for.
type pipeline struct {
	cfg    *StreamConfig
	src    *registry.Source
	topic  string // that is read
	group  string
	memory int64 // of the rows that wait for the log
	states int64 // bytes in memory of the states of one windowed view
	views  []compiledView
	// copies is the internal topic that is read; nil where it is the source's own.
	copies *Repartition
	log    *slog.Logger
	stats  sourceStats

	lasting  context.Context // of what outlasts sessions
	fillings sync.WaitGroup
}

type compiledView struct {
	registry.ViewGeneration
	program *expr.View
	plan    *window.Plan // nil for a view of newest rows
	epoch   int64        // of the states that are written; 0 for newest rows
	live    bool         // it is, or this session has proposed it
	// lacksHistory: the view cannot go on from what it has, and is to be filled from the log; why
	// says so.
	lacksHistory bool
	why          string
	// seen is the greatest epoch that a record had. Where it is beyond what the resume points say, the
	// states have to be built anew.
	seen    int64
	filling *filling // nil where the view is not being filled
	// dropTopic: the internal topic is of no more use, and is to be removed first.
	dropTopic bool
}

// compile compiles a view.
func compile(v registry.ViewGeneration) (compiledView, error) {
	c := compiledView{ViewGeneration: v}
	var err error
	if c.program, err = expr.CompileView(v.Project, v.View); err != nil {
		return c, fmt.Errorf("view %s: %w", v, err)
	}
	if v.View.Windowed() {
		if c.plan, err = window.ForView(v.View); err != nil {
			return c, fmt.Errorf("view %s: %w", v, err)
		}
	}
	return c, nil
}

// fill has the view filled from the log before it goes on.
func (v *compiledView) fill(why string) {
	v.lacksHistory, v.why = true, why
}

// keyed reports whether all events of an entity of a view are in one partition of its source's topic:
// whether the columns that the topic is keyed by are all among its join keys.
func keyed(v registry.ViewGeneration) bool {
	keys := v.JoinKeys()
	columns := v.Source().Kafka.Key
	for _, c := range columns {
		if !slices.ContainsFunc(keys, func(k feature.Field) bool { return k.Name == c }) {
			return false
		}
	}
	return len(columns) > 0
}

// InternalTopic is the topic that a windowed view generation is fed through where its source's is not keyed by
// its entity; group is the source's consumer group.
func InternalTopic(group string, v registry.ViewGeneration) string {
	return group + "." + v.View.Name + "." + strconv.Itoa(v.Number)
}

// CopiersOf is the consumer group of those who copy to an internal topic.
func CopiersOf(topic string) string { return topic + ".repartition" }

func (p *pipeline) addView(v registry.ViewGeneration) error {
	c, err := compile(v)
	if err != nil {
		return err
	}
	p.views = append(p.views, c)
	p.stats.addView(v)
	return nil
}

// copied makes the pipeline of a view that is fed through an internal topic.
func (p *pipeline) copied(v registry.ViewGeneration) (*pipeline, error) {
	topic := InternalTopic(p.group, v)
	q := &pipeline{cfg: p.cfg, src: p.src, topic: topic, group: topic, log: p.cfg.Logger.With("source", p.src.Name, "topic", topic),
		copies: &Repartition{Source: p.src, Topic: topic, Group: CopiersOf(topic)}}
	q.stats.init(p.src, p.cfg.Served)
	return q, q.addView(v)
}

func (p *pipeline) run(ctx context.Context) error {
	var cancel context.CancelFunc
	p.lasting, cancel = context.WithCancel(ctx)
	defer p.fillings.Wait()
	defer cancel()
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
		case errors.Is(err, errFilled):
			first = false
			continue
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
