package pit

import (
	"errors"
	"io"
	"math"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry/feature"
)

// EventCursor reads a run of a windowed view's events. It is used by one goroutine.
type EventCursor interface {
	Cursor
	// Load reads what the sweep needs of the block of the last Next: its
	// inputs and, where it is ordered, whole versions. It is called at most once a block,
	// for blocks with an event that counts, and valid as long as the block.
	Load() (window.Rows, error)
}

// Windows walks a spine beside the runs of one bucket, and computes at each of its rows the
// features of windows over the events of its key up to its instant, ingested at
// knownAt at the latest. Keys, and so runs, are taken one after the other; of each, the
// runs' events are merged in order into the sweep, once, and the instants of
// the spine are met on the way.
//
// emit is called for the rows of the spine in order, but for those whose keys have no event in
// any run: these have the values of empty windows. found is false where the longest
// window holds none. The values are valid during the call.
func Windows(spine Spine, runs []EventCursor, knownAt int64, sweep *window.Sweep, emit func(s int, values []feature.Value, found bool) error) error {
	w := &windows{spine: spine, knownAt: knownAt, sweep: sweep, ordered: sweep.Ordered()}
	for _, r := range runs {
		w.runs = append(w.runs, &eventRun{cursor: r})
	}
	var values []feature.Value
	for s, n := 0, spine.Keys.Len(); s < n; {
		end := s + 1
		for end < n && spine.Keys.Compare(s, spine.Keys, end) == 0 {
			end++
		}
		if err := w.start(s); err != nil {
			return err
		}
		if len(w.here) == 0 {
			s = end
			continue
		}
		sweep.Reset()
		for ; s < end; s++ {
			err := w.advance(s)
			if err != nil {
				return err
			}
			var found bool
			values, found = sweep.Values(spine.Times[s], values[:0])
			if err := emit(s, values, found); err != nil {
				return err
			}
		}
	}
	return nil
}

type windows struct {
	spine   Spine
	knownAt int64
	sweep   *window.Sweep
	ordered bool
	runs    []*eventRun
	here    []*eventRun // those at a row of the key
}

// eventRun is a run and the next row of its block.
type eventRun struct {
	cursor EventCursor
	block  *Block // nil before the first, and at the end
	end    bool
	loaded bool
	rows   window.Rows
	row    int
}

// next reads the next block; keys before row s of the spine may be left out.
func (r *eventRun) next(spine Spine, s int) (err error) {
	r.row, r.loaded = 0, false
	r.block, err = r.cursor.Next(spine.Keys, s)
	if errors.Is(err, io.EOF) {
		r.block, r.end, err = nil, true, nil
	}
	return err
}

// load reads what the sweep needs of the block.
func (r *eventRun) load() (err error) {
	if !r.loaded {
		r.rows, err = r.cursor.Load()
		r.rows.Times, r.loaded = r.block.Times, true
	}
	return err
}

// seek moves to the first row that is past (key of s, t), or, with at, not before it, and
// reports whether that has the key.
func (r *eventRun) seek(spine Spine, s int, t int64, at bool) (bool, error) {
	for !r.end {
		if r.block != nil {
			if r.row = r.block.search(r.row, spine.Keys, s, t, at); r.row < len(r.block.Times) {
				return r.block.Keys.Compare(r.row, spine.Keys, s) == 0, nil
			}
		}
		if err := r.next(spine, s); err != nil {
			return false, err
		}
	}
	return false, nil
}

// start finds the runs that have events of row s's key.
func (w *windows) start(s int) error {
	w.here = w.here[:0]
	for _, r := range w.runs {
		ok, err := r.seek(w.spine, s, math.MinInt64, true)
		if err != nil {
			return err
		}
		if ok {
			w.here = append(w.here, r)
		}
	}
	return nil
}

// leave forgets run i of those with the key.
func (w *windows) leave(i int) {
	last := len(w.here) - 1
	w.here[i] = w.here[last]
	w.here = w.here[:last]
}

// advance brings the sweep to the instant of row s.
func (w *windows) advance(s int) error {
	t := w.spine.Times[s]
	before := w.sweep.Before(t)
	for i := 0; i < len(w.here); {
		r := w.here[i]
		if r.block.Times[r.row] <= before { // of no bearing on this row or a later one
			ok, err := r.seek(w.spine, s, min(before, t), false)
			if err != nil {
				return err
			}
			if !ok {
				w.leave(i)
				continue
			}
		}
		i++
	}
	for {
		first, err := w.first()
		if err != nil {
			return err
		}
		if first < 0 || w.here[first].block.Times[w.here[first].row] > t {
			return nil
		}
		r := w.here[first]
		end := r.row + 1
		if len(w.here) == 1 {
			end = r.block.search(end, w.spine.Keys, s, t, false)
		}
		if err := w.add(r, end); err != nil {
			return err
		}
		if r.row = end; end < len(r.block.Times) {
			if r.block.Keys.Compare(end, w.spine.Keys, s) != 0 {
				w.leave(first)
			}
			continue
		}
		ok, err := r.seek(w.spine, s, math.MinInt64, true)
		if err != nil {
			return err
		}
		if !ok {
			w.leave(first)
		}
	}
}

// first is the run with the earliest event; -1 if there is none.
func (w *windows) first() (int, error) {
	first := -1
	for i, r := range w.here {
		if first >= 0 {
			f := w.here[first]
			a, b := r.block.Times[r.row], f.block.Times[f.row]
			if a > b {
				continue
			}
			if a == b {
				if !w.ordered {
					continue
				}
				if err := errors.Join(r.load(), f.load()); err != nil {
					return 0, err
				}
				if r.rows.Version(r.row).Compare(f.rows.Version(f.row)) > 0 {
					continue
				}
			}
		}
		first = i
	}
	return first, nil
}

// add adds the rows up to end, but for those that are not known yet.
func (w *windows) add(r *eventRun, end int) error {
	if w.knownAt == NoKnownAt {
		if err := r.load(); err != nil {
			return err
		}
		w.sweep.Add(r.rows, r.row, end)
		return nil
	}
	for from := r.row; from < end; {
		if r.block.Ingested[from] > w.knownAt {
			from++
			continue
		}
		to := from + 1
		for to < end && r.block.Ingested[to] <= w.knownAt {
			to++
		}
		if err := r.load(); err != nil {
			return err
		}
		w.sweep.Add(r.rows, from, to)
		from = to
	}
	return nil
}
