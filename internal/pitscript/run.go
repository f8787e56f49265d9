package pitscript

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Result is what an engine made of a script.
type Result struct {
	Checked  int // expectations
	Skipped  int // of the past, which the engine does not have
	Failures []Failure
}

// Failure is one expectation that was not met.
type Failure struct {
	Position
	What     string `json:"what"` // "airport_delays:count_1h of origin=SFO at 10:30"
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// String is the failure on one line.
func (f Failure) String() string {
	return fmt.Sprintf("%s: %s: expected %s, got %s", f.Position, f.What, f.Expected, f.Got)
}

// run is one run of a program on an engine.
type run struct {
	ctx      context.Context
	program  *Program
	engine   Engine
	result   *Result
	expected map[Refusal]int64 // refusals that the script has spoken of
}

// Run runs the script on an engine. The error is one of the engine itself: what the
// script expects and does not find is in the result.
func (p *Program) Run(ctx context.Context, e Engine) (*Result, error) {
	r := &run{ctx: ctx, program: p, engine: e, result: &Result{}, expected: map[Refusal]int64{}}
	e.SetClock(p.start)
	for _, s := range p.steps {
		if err := s.run(r); err != nil {
			return r.result, err
		}
	}
	return r.result, r.unexpectedRefusals()
}

// at adds to an error where in the script it happened.
func (r *run) at(w word, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", Position{r.program.File, w.line, w.column}, err)
}

func (r *run) fail(w word, what, expected, got string) {
	r.result.Failures = append(r.result.Failures, Failure{Position{r.program.File, w.line, w.column}, what, expected, got})
}

func (s *deliverStep) run(r *run) error {
	r.engine.SetClock(s.at)
	if err := r.engine.Deliver(r.ctx, s.events); err != nil {
		return fmt.Errorf("%s: events that arrived by %s: %w", r.program.File, r.program.calendar.show(s.at), err)
	}
	return nil
}

func (s *pushStep) run(r *run) error {
	r.engine.SetClock(s.clock)
	return r.attempt(s.statement, "push to "+s.source.Name, s.fails, r.engine.Push(r.ctx, s.source, s.rows))
}

func (s *mistakenStep) run(r *run) error {
	return r.attempt(s.statement, "expect", s.fails, errors.New(s.message))
}

// attempt judges an error by the text that the script expects of it, "" where it expects none.
func (r *run) attempt(w word, what, fails string, err error) error {
	if fails == "" {
		return r.at(w, err)
	}
	r.result.Checked++
	switch {
	case err == nil:
		r.fail(w, what, "an error with "+quote(fails), "no error")
	case r.ctx.Err() != nil:
		return r.at(w, err)
	case !strings.Contains(err.Error(), fails):
		r.fail(w, what, "an error with "+quote(fails), "the error "+quote(err.Error()))
	}
	return nil
}

func (s *expectStep) run(r *run) error {
	l := Lookup{Selection: s.selection, Rows: s.keys.Rows, At: s.at, KnownAt: s.knownAt}
	if s.asOf != nil {
		l.At = *s.asOf
	}
	for _, f := range s.selection.Keys {
		l.Keys = append(l.Keys, s.keys.Column(f.Name))
	}
	for _, f := range s.selection.Request {
		l.Request = append(l.Request, s.keys.Column(f.Name))
	}
	r.engine.SetClock(s.clock)
	answer, err := r.engine.Lookup(r.ctx, l)
	if errors.Is(err, ErrHistory) {
		r.result.Skipped += s.values()
		return nil
	}
	if err != nil || s.fails != "" {
		return r.attempt(s.statement, "expect", s.fails, err)
	}
	if answer.Instant != l.At {
		r.fail(s.statement, "the instant of the lookup", r.program.calendar.show(l.At), r.program.calendar.show(answer.Instant)+
			", as an event is newer than the clock (at … as_of … expects that)")
	}
	for i, row := range s.rows {
		for _, cell := range row.expected {
			if cell.Any {
				continue
			}
			r.result.Checked++
			out := s.selection.Outputs[cell.output]
			v, status := answer.Columns[cell.output].Value(i), answer.Statuses[cell.output][i]
			if cell.Matches(v, status, Rounded(s.selection, out)) {
				continue
			}
			name := registry.Ref{View: out.View, Feature: out.Feature}.String()
			if s.service != "" {
				name = s.service + " " + out.Name
			}
			if row.label != "" {
				name += " of " + row.label
			}
			name += " at " + r.program.calendar.show(l.At)
			if s.knownAt != nil {
				name += " as known at " + r.program.calendar.show(*s.knownAt)
			}
			r.fail(cell.word, name, show(cell.Value, cell.Status, cell.tolerance()), show(v, status, ""))
		}
	}
	return nil
}

// tolerance is the tolerance as it is written.
func (e *Expected) tolerance() string {
	switch {
	case e.Tolerance == 0:
		return ""
	case e.Relative:
		return fmt.Sprintf(" ~%v%%", e.Tolerance*100)
	}
	return fmt.Sprintf(" ~%v", e.Tolerance)
}

// show is a value with its status: text quoted, the status of a value that is there left out.
func show(v feature.Value, s feature.Status, tolerance string) string {
	text := string(v.AppendJSON(nil)) + tolerance
	if s == feature.Present && !v.IsNull() {
		return text
	}
	return text + " " + s.String()
}

func (s *refusedStep) run(r *run) error {
	r.engine.SetClock(s.clock)
	refused, err := r.engine.Refused(r.ctx)
	if err != nil {
		return r.at(s.statement, err)
	}
	r.result.Checked++
	r.expected[s.refusal] = max(r.expected[s.refusal], s.count)
	if got := refused[s.refusal]; got != s.count {
		r.fail(s.statement, fmt.Sprintf("rows of %s that are refused (%s)", s.refusal.Source, s.refusal.Reason), fmt.Sprint(s.count), fmt.Sprint(got))
		r.expected[s.refusal] = max(r.expected[s.refusal], got)
	}
	return nil
}

// unexpectedRefusals are failures at the end of a script that has not spoken of them.
func (r *run) unexpectedRefusals() error {
	refused, err := r.engine.Refused(r.ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.program.File, err)
	}
	for _, refusal := range slices.SortedFunc(maps.Keys(refused), func(a, b Refusal) int {
		return strings.Compare(a.Source+" "+a.Reason, b.Source+" "+b.Reason)
	}) {
		if n, said := refused[refusal], r.expected[refusal]; n > said {
			r.fail(word{line: 1, column: 1}, fmt.Sprintf("rows of %s that are refused (%s), by the end", refusal.Source, refusal.Reason),
				fmt.Sprintf("%d, by the script's `refused`", said), fmt.Sprint(n))
		}
	}
	return nil
}
