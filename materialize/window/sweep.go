package window

import (
	"math"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// Sweep computes chosen features at rising instants, over the events of one entity in the
// order of their event times: at each instant what Values gives for the events added so
// far. It is for whoever has history at hand, sorted, and wants many instants of it: a
// training set. No event is looked at twice, and no window is summed up anew:
//
//   - counts and sums are kept from the entity's first event on, with what they were at
//     each hop; a window is the difference of two of them, without error, since
//     sums are exact (see [Exact]);
//   - minima and maxima are kept as the list of those events that no later one beats: the
//     least of a window is the first of them that lies in it;
//   - first and last values are lists in the order of versions;
//   - sets, the most frequent values and secondary keys are tallies (see tally), percentiles values in
//     order (see ranks), which every window takes its hops out of;
//   - sketches of distinct counts are merged from the tiles of a State, whose number is
//     that of the hops, not of the events.
//
// What no window can ask for any more is dropped, so that memory is bounded by the hops of the
// longest window, and by their different values; but percentiles keep every value in it. A Sweep is used by one goroutine.
type Sweep struct {
	plan    *Plan
	outputs []output
	runs    []running
	inputs  []int
	ordered bool

	any    bool
	newest int64

	// What is merged from tiles.
	tiled   *Plan // nil: nothing
	into    []int // by output of tiled, the output
	state   State
	scratch Scratch
	values  []feature.Value

	// The tails of the plan's windows at an instant, and the earliest of them.
	tailed     bool
	at, before int64
	tails      []int64
}

// Rows are events as columns: their event times and, where Ordered says so, the rest of
// their versions. Columns are the plan's input columns; those that Inputs does not name may be nil.
type Rows struct {
	Times                  []int64
	Ingested, Major, Minor []int64
	Columns                []*feature.Column
}

// Version is that of row i.
func (r Rows) Version(i int) feature.Version {
	v := feature.Version{EventTime: r.Times[i]}
	if r.Ingested != nil {
		v.IngestedAt, v.Major, v.Minor = r.Ingested[i], r.Major[i], r.Minor[i]
	}
	return v
}

// Sweep compiles the computation of chosen outputs, by their place in Outputs.
func (p *Plan) Sweep(outputs []int) *Sweep {
	s := &Sweep{plan: p, outputs: make([]output, len(outputs)), tails: make([]int64, len(p.windows))}
	needs := make([]need, len(p.groups))
	tiled := make([]need, len(p.groups))
	var slow []int
	for i, at := range outputs {
		o := p.outputs[at]
		s.outputs[i] = o
		if o.fn == ApproxDistinctCount {
			tiled[o.group].add(o, &p.groups[o.group])
			slow = append(slow, i)
		} else {
			needs[o.group].add(o, &p.groups[o.group])
		}
	}
	used := func(g *group) {
		for _, c := range []int{g.input, g.where, g.by} {
			if c >= 0 && !slices.Contains(s.inputs, c) {
				s.inputs = append(s.inputs, c)
			}
		}
	}
	for i := range p.groups {
		g := &p.groups[i]
		if needs[i].any {
			n := needs[i].group
			n.input, n.where, n.by, n.typ, n.byType = g.input, g.where, g.by, g.typ, g.byType
			r := running{group: n, index: i, roomy: roomy}
			for k, o := range s.outputs {
				if o.group != i || o.fn == ApproxDistinctCount {
					continue
				}
				at := slices.IndexFunc(r.asks, func(a ask) bool { return a.window == o.window })
				if at < 0 {
					at = len(r.asks)
					r.asks = append(r.asks, ask{window: o.window})
				}
				r.asks[at].outputs = append(r.asks[at].outputs, k)
				endless := p.windows[o.window].Length == feature.Lifetime
				switch o.fn {
				case ApproxPercentile:
					r.ranks.use(o.window, endless)
				case DistinctCount, TopK:
					r.values.use(o.window, endless)
				case CountBy, SumBy:
					r.keyed.use(o.window, endless)
				}
			}
			s.runs = append(s.runs, r)
			s.ordered = s.ordered || n.firsts > 0 || n.lasts > 0
			used(g)
		}
	}
	if len(slow) > 0 {
		// The tiles of the whole plan, so that a value does not hang on which others are asked for.
		s.tiled = &Plan{levels: p.levels, windows: p.windows}
		for i := range p.groups {
			g, n := &p.groups[i], tiled[i].group
			if !tiled[i].any {
				continue
			}
			n.input, n.where, n.by, n.typ, n.byType = g.input, g.where, g.by, g.typ, g.byType
			s.tiled.groups = append(s.tiled.groups, n)
			used(g)
			for _, k := range slow {
				if o := s.outputs[k]; o.group == i {
					o.group = len(s.tiled.groups) - 1
					s.tiled.outputs = append(s.tiled.outputs, o)
					s.into = append(s.into, k)
				}
			}
		}
		s.ordered = true // sketches depend on the order of equals
	}
	slices.Sort(s.inputs)
	s.Reset()
	return s
}

// Inputs are the plan's input columns that the features are computed from, in order.
func (s *Sweep) Inputs() []int { return s.inputs }

// Ordered reports whether events of one event time must come in the order of their
// versions, and with them. Else only the event times count.
func (s *Sweep) Ordered() bool { return s.ordered }

// Reset forgets the entity.
func (s *Sweep) Reset() {
	s.any = false
	for i := range s.runs {
		s.runs[i].reset()
	}
	if s.tiled != nil {
		s.state = State{}
	}
}

// Before is the instant up to which events change nothing at t or later: they need not be
// added. It is the tail of the plan's longest window.
func (s *Sweep) Before(t int64) int64 {
	if s.tailed && t == s.at {
		return s.before
	}
	s.tailed, s.at, s.before = true, t, math.MaxInt64
	for i, w := range s.plan.windows {
		s.tails[i] = minInstant
		if t >= minInstant+int64(w.Length) { // else the tail is before all instants, as that of a lifetime window
			s.tails[i] = w.tail(t)
		}
		s.before = min(s.before, s.tails[i])
	}
	return s.before
}

// Add adds rows [from, to), whose event times do not decrease, and are not before
// those of rows added earlier. What is needed of them is copied.
func (s *Sweep) Add(rows Rows, from, to int) {
	if from == to {
		return
	}
	s.any, s.newest = true, rows.Times[to-1]
	for i := range s.runs {
		s.runs[i].add(s.plan, rows, from, to)
	}
	if s.tiled != nil {
		for i := from; i < to; i++ {
			s.tiled.Add(&s.state, Row{Version: rows.Version(i), Columns: rows.Columns, Index: i})
		}
	}
}

// Values computes the features at an instant that is not before the newest event nor before that
// of the call before. It appends them to dst, in the order in which they were chosen, and
// reports whether the longest window of the plan holds any event: where it does not the entity is
// NOT_FOUND, and the values are those of empty windows. Values refer to no memory that is used again.
func (s *Sweep) Values(t int64, dst []feature.Value) (values []feature.Value, found bool) {
	base := len(dst)
	dst = slices.Grow(dst, len(s.outputs))[:base+len(s.outputs)]
	if found = s.any && s.newest > s.Before(t); !found {
		// Also for instants before all that a tail can be told of.
		for i := range s.outputs {
			o := &s.outputs[i]
			dst[base+i] = nothingSeen.value(o, &s.plan.groups[o.group])
		}
		return dst, false
	}
	for i := range s.runs {
		r := &s.runs[i]
		g := &s.plan.groups[r.index]
		for _, ask := range r.asks {
			a := r.take(s.tails[ask.window])
			for _, k := range ask.outputs {
				o := &s.outputs[k]
				dst[base+k] = r.value(o, g, s.tails[o.window], a)
			}
		}
	}
	if s.tiled != nil {
		s.values, _ = s.tiled.Values(&s.state, t, &s.scratch, s.values[:0])
		for i, v := range s.values {
			dst[base+s.into[i]] = v
		}
	}
	return dst, true
}

var nothingSeen acc
