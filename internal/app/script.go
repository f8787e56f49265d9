package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebay/forebay/internal/pitscript"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/registry"
)

// TestOptions says which scripts to run.
type TestOptions struct {
	// Files are scripts, and folders of them; none are those of tests/ in the repository's root.
	Files []string
}

// TestedScript says what became of one script.
type TestedScript struct {
	File     string             `json:"file"`
	Checked  int                `json:"checked"` // expectations
	Mistakes pitscript.Mistakes `json:"mistakes,omitempty"`
	Failures []ScriptFailure    `json:"failures,omitempty"`
	// Errors are what kept engines from running the script to its end.
	Errors  []string `json:"errors,omitempty"`
	Seconds float64  `json:"seconds"`
}

// OK reports whether everything was as the script expects.
func (s *TestedScript) OK() bool {
	return len(s.Mistakes) == 0 && len(s.Failures) == 0 && len(s.Errors) == 0
}

// ScriptFailure is an expectation that was not met on some engines.
type ScriptFailure struct {
	pitscript.Failure
	Engines []string `json:"engines"`
}

// The engines of `forebay test`.
const (
	scriptOffline = "offline"
	scriptOnline  = "online"
)

const (
	testsFolder = "tests"
	scriptExt   = ".pit"
)

// codeNoTests: there is no script to run.
const codeNoTests = "no_tests"

// Test runs scripts against the YAML as it is now: each on stores of its own that are thrown away, through the
// same pipelines as everything else, once with lookups online and once with point-in-time joins. Nothing of the
// environment is touched. The scripts come back in the order of their names.
func (a *App) Test(ctx context.Context, o TestOptions) (done []TestedScript, err error) {
	project, err := a.Definitions(ctx)
	if err != nil {
		return nil, err
	}
	paths, err := a.scripts(o.Files)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "forebay-test-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &scriptTests{project: project, dir: dir, done: make([]TestedScript, len(paths))}
	if slices.ContainsFunc(project.Sources, func(s registry.Source) bool { return s.Kafka != nil }) {
		broker, err := kafka.Embedded(filepath.Join(dir, "kafka"), embeddedListen, nil)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, broker.Close()) }()
		t.brokers = []string{broker.Addr()}
	} else {
		t.brokers = []string{"127.0.0.1:1"} // which nothing connects to
	}
	return t.run(ctx, paths)
}

// scripts are the paths of the scripts to run, sorted.
func (a *App) scripts(given []string) ([]string, error) {
	var paths []string
	folder := func(dir string) error {
		found, err := filepath.Glob(filepath.Join(dir, "*"+scriptExt))
		if err == nil && len(found) == 0 {
			err = &Error{Code: codeNoTests, Err: fmt.Errorf("there are no scripts (*%s) in %s", scriptExt, dir), Hint: "docs/testing.md shows how to write one."}
		}
		paths = append(paths, found...)
		return err
	}
	if len(given) == 0 {
		return paths, folder(filepath.Join(a.shown(), testsFolder))
	}
	for _, path := range given {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case !info.IsDir():
			paths = append(paths, path)
			continue
		}
		if err := folder(path); err != nil {
			return nil, err
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// scriptTests runs scripts on engines, as many at a time as there are processors.
type scriptTests struct {
	project *registry.Project
	dir     string
	brokers []string
	done    []TestedScript
}

// scriptRun is one run of a program on one engine.
type scriptRun struct {
	program *pitscript.Program
	script  int // index of done
	engine  string
	result  *pitscript.Result
	took    time.Duration
	err     error
}

func (t *scriptTests) run(ctx context.Context, paths []string) ([]TestedScript, error) {
	var runs []*scriptRun
	for i, path := range paths {
		t.done[i].File = path
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		program, err := pitscript.Compile(path, text, t.project)
		if err != nil {
			if !errors.As(err, &t.done[i].Mistakes) {
				return nil, err
			}
			continue
		}
		for _, engine := range []string{scriptOffline, scriptOnline} {
			runs = append(runs, &scriptRun{program: program, script: i, engine: engine})
		}
	}
	next := make(chan *scriptRun)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(runs)) {
		workers.Go(func() {
			for r := range next {
				start := time.Now()
				r.result, r.err = t.one(ctx, r)
				r.took = time.Since(start)
			}
		})
	}
	for _, r := range runs {
		next <- r
	}
	close(next)
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, r := range runs {
		t.done[r.script].add(r)
	}
	return t.done, nil
}

// one runs a program on an engine of its own.
func (t *scriptTests) one(ctx context.Context, r *scriptRun) (result *pitscript.Result, err error) {
	name := fmt.Sprintf("%s-%d", r.engine, r.script)
	c := scriptConfig{Project: r.program.Needed(t.project), Name: name, Dir: filepath.Join(t.dir, name), Brokers: t.brokers}
	if r.engine == scriptOnline {
		if c.Online, err = scriptPebble(t.project.Name, filepath.Join(c.Dir, "online")); err != nil {
			return nil, err
		}
	}
	return runScript(ctx, r.program, c)
}

// runScript runs a program on a new engine.
func runScript(ctx context.Context, p *pitscript.Program, c scriptConfig) (result *pitscript.Result, err error) {
	e, err := newScriptEngine(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return p.Run(ctx, e)
}

// add adds what one engine made of the script.
func (s *TestedScript) add(r *scriptRun) {
	s.Seconds += r.took.Seconds()
	if r.err != nil {
		s.Errors = append(s.Errors, fmt.Sprintf("%s: %s", r.engine, strings.TrimSpace(r.err.Error())))
	}
	if r.result == nil {
		return
	}
	s.Checked = max(s.Checked, r.result.Checked)
	for _, f := range r.result.Failures {
		i := slices.IndexFunc(s.Failures, func(had ScriptFailure) bool { return had.Failure == f })
		if i < 0 {
			s.Failures = append(s.Failures, ScriptFailure{Failure: f})
			i = len(s.Failures) - 1
		}
		s.Failures[i].Engines = append(s.Failures[i].Engines, r.engine)
	}
	slices.SortStableFunc(s.Failures, func(a, b ScriptFailure) int { return a.Position.Compare(b.Position) })
}
