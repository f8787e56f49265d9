package materialize

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// filling is the filling of one view from the offline store. It may outlast sessions.
type filling struct {
	// after are offsets that the log is to hold first; nil for any.
	after map[int32]int64

	done chan struct{}
	err  error // once it is done
}

func (f *filling) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// startFilling fills a view from the offline store, unless another process is about to: then it waits for that.
func (s *session) startFilling(ctx context.Context, v *compiledView, resumes map[string]string) error {
	f := &filling{done: make(chan struct{})}
	if s.copies == nil && v.plan != nil && s.moved(resumes) {
		// Of an entity that has moved, all that is in its old partition comes before what is in the new one.
		if err := s.retryAtStart(ctx, "Kafka", func(ctx context.Context) (err error) {
			f.after, err = s.cfg.Inputs.Ends(ctx, s.topic)
			return err
		}); err != nil {
			return err
		}
	}
	v.filling = f
	batch := Batch{Tables: s.cfg.Tables, Online: s.cfg.Online, Log: s.cfg.Log, Retry: s.cfg.Retry, Progress: s.stats.filled}
	if s.first {
		batch.Retry.Limit = s.cfg.StartTimeout
	}
	req := BatchRequest{View: v.ViewGeneration, Overwrite: v.plan != nil, Beside: true, Beyond: v.seen, Partitions: s.partitions}
	p := s.pipeline
	p.fillings.Go(func() {
		defer close(f.done)
		if waited, err := p.awaitBuild(p.lasting, &batch, req, resumes); waited || err != nil {
			f.err = err
			return
		}
		if f.err = p.awaitLog(p.lasting, &batch, req, f.after); f.err != nil {
			return
		}
		result, err := batch.Run(p.lasting, req)
		if errors.Is(err, ErrSuperseded) {
			p.log.Info("another process fills the view", "view", req.View.String())
			return
		}
		if f.err = err; err == nil {
			p.stats.filled(BatchProgress{View: req.View, Done: result.Rows, Total: result.Rows})
			p.log.Info("filled a view from the offline store", "view", req.View.String(), "rows", result.Rows, "applied", result.Applied, "live", result.WentLive, "took", result.Elapsed)
		}
	})
	return nil
}

// awaitLog waits until the log holds everything below some offsets; the stream brings it there.
func (p *pipeline) awaitLog(ctx context.Context, b *Batch, req BatchRequest, offsets map[int32]int64) error {
	r := batchRun{Batch: b, req: req}
	tick := time.NewTicker(buildBeat / 10)
	defer tick.Stop()
	for {
		var held map[int32]int64
		if err := r.retry(ctx, func(ctx context.Context) (err error) {
			held, err = p.cfg.Log.Offsets(ctx, p.src)
			return err
		}); err != nil {
			return fmt.Errorf("read the log's offsets: %w", err)
		}
		there := true
		for partition, end := range offsets {
			there = there && held[partition] >= end
		}
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// endFilling takes up what became of a filling that has ended.
func (v *compiledView) endFilling(first bool) error {
	err := v.filling.err
	v.filling = nil
	switch {
	case errors.Is(err, ErrUnavailable) && !first:
		return fmt.Errorf("%w: %w", ErrAgain, err)
	case err != nil:
		return err
	}
	v.lacksHistory, v.why = false, ""
	return nil
}

// buildSilent is after how long without a sign of life a build is taken for dead.
const buildSilent = 4 * buildBeat

// awaitBuild waits while another process builds the windows of a view anew; false if none does.
func (p *pipeline) awaitBuild(ctx context.Context, b *Batch, req BatchRequest, resumes map[string]string) (waited bool, err error) {
	said := resumes[resumeBuilding]
	if said == "" || said == resumeNone {
		return false, nil
	}
	r := batchRun{Batch: b, req: req}
	p.log.Info("waiting for another process that fills the view", "view", req.View.String())
	tick := time.NewTicker(buildBeat / 4)
	defer tick.Stop()
	for heard := time.Now(); time.Since(heard) < buildSilent; {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
		if resumes, err = r.resumes(ctx); err != nil {
			return false, err
		}
		switch now := resumes[resumeBuilding]; now {
		case said:
		case "", resumeNone:
			return true, nil
		default:
			said, heard = now, time.Now()
		}
	}
	p.log.Warn("the process that filled the view has ended before it was through", "view", req.View.String())
	return false, nil
}
