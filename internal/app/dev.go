package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/plan"
)

// DevOptions says how dev runs.
type DevOptions struct {
	Listen string // host:port; port 0 picks a free one
	// Ready, if set, is called once requests are answered; broker is Kafka's address, ""
	// where there is none to stream from.
	Ready func(url, broker string)
	// Applied, if set, hears what became of the YAML, at the start and whenever it
	// changes: the plan that was applied (or was empty), or why it was not.
	Applied func(p *plan.Plan, err error)
}

// watchEvery is how often dev looks whether a file has changed.
const watchEvery = 300 * time.Millisecond

// Dev runs everything in one process until ctx ends: Kafka (in process, where
// the environment says so), the stream, the server, and an apply whenever a file
// changes. Mistakes in the YAML end it only before the first revision.
func (a *App) Dev(ctx context.Context, o DevOptions) error {
	if err := a.Hold(ctx); err != nil {
		return err
	}
	d := &dev{app: a, o: o}
	d.seen = d.files()
	if err := d.apply(ctx); err != nil {
		if _, headErr := a.Head(ctx); headErr != nil {
			return err
		}
		d.tell(nil, err)
	}
	e, err := a.newEngine(ctx)
	if err != nil {
		return err
	}
	broker := ""
	if a.env.Stream != nil {
		if _, err := a.kafkaCluster(); err != nil {
			return err
		}
		if broker = strings.Join(a.env.Stream.Brokers, ","); a.env.Stream.Embedded {
			if broker, err = a.embeddedAddress(); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streaming := make(chan error, 1)
	go func() { streaming <- d.stream(ctx) }()
	err = a.serve(ctx, e, ServeOptions{Listen: o.Listen, Ready: func(url string) {
		if o.Ready != nil {
			o.Ready(url, broker)
		}
	}})
	cancel()
	return errors.Join(err, <-streaming)
}

// dev is a running Dev.
type dev struct {
	app  *App
	o    DevOptions
	seen string // what the files were when they were last applied
}

func (d *dev) tell(p *plan.Plan, err error) {
	if d.o.Applied != nil {
		d.o.Applied(p, err)
	}
}

// apply applies the YAML if it differs from the newest revision. Findings do not
// stop it: this is where one tries things out.
func (d *dev) apply(ctx context.Context) error {
	p, err := d.app.Plan(ctx)
	if err != nil {
		return err
	}
	if !p.Empty() {
		if _, err := d.app.Apply(ctx, p); err != nil {
			return err
		}
	}
	d.tell(p, nil)
	return nil
}

// files describes the YAML files: names, sizes and times of change.
func (d *dev) files() string {
	var b strings.Builder
	err := filepath.WalkDir(d.app.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is just being written or removed: the next look sees it
		}
		name := e.Name()
		if path != d.app.root && strings.HasPrefix(name, ".") && e.IsDir() {
			return fs.SkipDir
		}
		if ext := filepath.Ext(name); e.IsDir() || ext != ".yaml" && ext != ".yml" {
			return nil
		}
		if info, err := e.Info(); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	if err != nil {
		return d.seen
	}
	return b.String()
}

// stream watches the files, and streams what the newest revision declares: one
// stream after another, as the revision changes.
func (d *dev) stream(ctx context.Context) error {
	var running *running
	defer func() { _ = running.end() }()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		head, err := d.app.Head(ctx)
		if err != nil && ctx.Err() == nil {
			d.app.log.Warn("cannot read the registry", "error", err)
		}
		if err == nil {
			// An online store that does not answer now is asked again at the next look.
			fed, err := d.app.fedKey(ctx, head)
			if err != nil && running != nil {
				fed = running.fed
			}
			if running == nil || running.revision != head.ID || running.fed != fed {
				_ = running.end() // it has said itself what was wrong
				running = d.start(ctx, head)
				running.fed = fed
			}
		}
		select {
		case <-ctx.Done():
			return running.end()
		case <-tick.C:
		}
		if now := d.files(); now != d.seen {
			d.seen = now
			if err := d.apply(ctx); err != nil && ctx.Err() == nil {
				d.tell(nil, err)
			}
		}
	}
}

// running is the stream of one revision.
type running struct {
	revision string
	fed      string // the generations it writes to
	cancel   context.CancelFunc
	done     chan error
}

// start streams a revision's sources, where it has any with a topic, after bringing
// generations that are not live yet up to date from the log.
func (d *dev) start(ctx context.Context, head *registry.Revision) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{revision: head.ID, cancel: cancel, done: make(chan error, 1)}
	go func() {
		err := d.streamRevision(ctx, head)
		if err != nil && ctx.Err() == nil {
			d.app.log.Error("the stream has ended; it starts again with the next revision", "error", err)
		}
		r.done <- err
	}()
	return r
}

// streamRevision fills what is not live yet, and then streams until ctx ends.
func (d *dev) streamRevision(ctx context.Context, head *registry.Revision) error {
	if err := d.fill(ctx, head); err != nil {
		return err
	}
	if d.app.env.Stream == nil || len(streamed(head, nil, true)) == 0 {
		return nil
	}
	s, err := d.app.newStream(ctx, head, StreamOptions{})
	if err != nil {
		return err
	}
	return d.app.runStream(ctx, s)
}

// fill materializes the views whose current generation is not live.
func (d *dev) fill(ctx context.Context, head *registry.Revision) error {
	on, err := d.app.onlineStore(ctx)
	if err != nil {
		return err
	}
	live, err := on.Live(ctx)
	if err != nil {
		return err
	}
	off, err := d.app.offlineStore(ctx)
	if err != nil {
		return err
	}
	list, err := views(head, nil)
	if err != nil {
		return err
	}
	streams := d.app.env.Stream != nil
	list = slices.DeleteFunc(list, func(v registry.ViewGeneration) bool {
		// The stream builds the windows that it feeds.
		return live[v.View.Name] == v.Number || v.View.Windowed() && streams && v.Source().Kafka != nil
	})
	for _, v := range list {
		b := &materialize.Batch{Tables: tables{off}, Online: d.app.sink(on, head), Log: logSink{off}}
		if _, err := b.Run(ctx, materialize.BatchRequest{View: v}); err != nil {
			return err
		}
	}
	return nil
}

// end ends a stream, which completes what it has read. A nil running has ended.
func (r *running) end() error {
	if r == nil || r.cancel == nil {
		return nil
	}
	r.cancel()
	r.cancel = nil
	if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
