// Package app is where everything meets: it opens what an environment of a
// repository names (registry, stores, Kafka), adapts the stores to the pipelines
// and the HTTP server, and does what the commands and the SDK ask for. It is the
// only package that wires implementations to interfaces.
//
// An [App] opens nothing before it is needed: validate needs no store, ingest no
// online store. What it opened it closes.
//
// The embedded online store and the in-process Kafka belong to one process at a
// time (Hold): serve, stream and dev hold them as long as they run, and let
// other commands work through them; the others hold them for a moment.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gocloud.dev/blob"

	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/internal/telemetry"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/history"
	"github.com/forebay/forebay/registry/spec"
)

// Options says what to open. The zero value is the repository in the current
// folder, in its default environment.
type Options struct {
	Dir         string // the root of the repository; "" is the current folder
	Environment string // "" is the default one
	// Command is what others are told who find the embedded stores held: "serve".
	Command string
	Log     *slog.Logger         // nil: none
	Metrics *prometheus.Registry // nil: one of its own
	// Clock is the clock of lookups; nil is time.Now.
	Clock func() time.Time
	// LookupEnv finds environment variables that forebay.yaml refers to; nil is os.LookupEnv.
	LookupEnv config.LookupEnv
}

// App is one environment of a repository. It is safe for concurrent use, except
// for Close and SetClock.
type App struct {
	dir     string // the folder that the user gave: the root, or one below it
	root    string // absolute
	project string
	env     *config.Environment
	command string
	log     *slog.Logger
	metrics *prometheus.Registry
	clock   func() time.Time // of lookups
	wall    func() time.Time // of everything else; time.Now outside tests
	// session is after how long Kafka takes a silent member of a group for dead; 0 for its own default. Tests shorten it.
	session time.Duration
	corrupt prometheus.Counter // online records that could not be read

	knownMu sync.Mutex
	known   *known // the generations there are; guarded by knownMu

	mu     sync.Mutex // guards what follows
	repo   registry.Repository
	bucket *blob.Bucket // of the registry, for the datasets' manifests
	off    offline.Store
	on     online.Store
	// Of on: who tells of changes, nil for nobody, and the cache of lookups.
	tracker online.Tracker
	cache   online.Store
	kafka   *kafka.Cluster
	broker  *kafka.EmbeddedBroker // nil where another process runs it
	holds   bool                  // as owner of the embedded stores
	owner   *Owner                // of the embedded online store, if it is worked through another process
	opened  []io.Closer           // in the order of opening
	closed  bool
}

// errClosed is the error of using an App after Close.
var errClosed = errors.New("closed")

// Open reads forebay.yaml and opens an environment of it.
func Open(_ context.Context, o Options) (*App, error) {
	if o.Dir == "" {
		o.Dir = "."
	}
	a := &App{dir: o.Dir, command: o.Command, log: o.Log, metrics: o.Metrics, clock: o.Clock, wall: time.Now}
	if a.command == "" {
		a.command = "process"
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.metrics == nil {
		a.metrics = telemetry.NewRegistry()
	}
	if a.clock == nil {
		a.clock = time.Now
	}
	a.corrupt = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "forebay_lookup_corrupt_records_total", Help: "Online records that could not be read; their values are INVALID.",
	})
	if err := a.metrics.Register(a.corrupt); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	lookup := o.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	if err := a.configure(o.Environment, lookup); err != nil {
		return nil, err
	}
	return a, nil
}

// configure reads forebay.yaml and chooses the environment.
func (a *App) configure(environment string, lookup config.LookupEnv) error {
	root, err := config.Find(a.dir)
	if err != nil {
		return &Error{Code: codeNoRepository, Err: err}
	}
	a.root = root
	settings, diagnostics := spec.LoadSettings(root)
	if len(diagnostics) > 0 {
		_, diagnostics = a.read() // every mistake in one run
		return &Error{Code: CodeInvalid, Err: diagnostics}
	}
	declared, err := config.Choose(settings.Environments, environment, lookup)
	if err != nil {
		return &Error{Code: codeUnknownEnvironment, Err: err}
	}
	a.project = settings.Project
	a.env, err = config.Load(declared, config.Options{Root: root, Project: settings.Project, Lookup: lookup})
	if err != nil {
		_, diagnostics := a.read()
		return &Error{Code: codeBadEnvironment, Err: diagnostics.And(config.Diagnostics(err))}
	}
	return nil
}

// Environment is the name of the environment that is open.
func (a *App) Environment() string { return a.env.Name }

// read reads the YAML, and finds what is wrong with it on any machine.
func (a *App) read() (*spec.Repository, spec.Diagnostics) {
	repo, diagnostics := spec.Load(a.root)
	return repo, diagnostics.And(config.Check(repo.Settings.Environments, a.root, a.project))
}

// Definitions reads the YAML. Its mistakes, all of them, are a spec.Diagnostics.
func (a *App) Definitions(context.Context) (*registry.Project, error) {
	repo, diagnostics := a.read()
	if err := diagnostics.Err(); err != nil {
		return nil, &Error{Code: CodeInvalid, Err: err}
	}
	return repo.Project, nil
}

// SetClock lets the clock of lookups stand at an instant, in microseconds; nil is
// the real clock. Call it before anything is looked up.
func (a *App) SetClock(instant *int64) {
	if instant == nil {
		return
	}
	at := time.UnixMicro(*instant)
	a.clock = func() time.Time { return at }
}

// Close closes what was opened, the last first. It may be called more than once.
func (a *App) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	var errs []error
	for i := len(a.opened) - 1; i >= 0; i-- {
		errs = append(errs, a.opened[i].Close())
	}
	a.opened = nil
	return errors.Join(errs...)
}

// closer makes an io.Closer of a function.
type closer func() error

func (c closer) Close() error { return c() }

// opening opens a part of the App once: where *part is set it is returned, else
// what open opens is, and is closed with the App.
func opening[T interface {
	comparable
	io.Closer
}](a *App, part *T, open func() (T, error)) (T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var none T
	if a.closed {
		return none, errClosed
	}
	if *part != none {
		return *part, nil
	}
	opened, err := open()
	if err != nil {
		return none, err
	}
	*part = opened
	a.opened = append(a.opened, opened)
	return opened, nil
}

func (a *App) repository(ctx context.Context) (registry.Repository, error) {
	return opening(a, &a.repo, func() (registry.Repository, error) {
		return history.Open(ctx, string(a.env.Registry))
	})
}
