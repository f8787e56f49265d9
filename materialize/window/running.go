package window

import (
	"math"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// running is what a Sweep keeps of one group of inputs. Every event lies in a hop of the
// plan's finest grain, (start, start+grain]; a window's tail is the edge of one, so it
// holds exactly the events whose start is not before its tail.
type running struct {
	group
	index int // of the plan's group
	asks  []ask
	acc   acc // of the window that was taken last

	total   point
	sum     Exact
	square  Exact
	points  []point   // what the totals were at the end of each hop with events, but for the last
	sums    snapshots // of sum and square, by point
	squares snapshots

	lows, highs   []peak
	firsts, lasts []held
	ranks         ranks
	values, keyed tally // by the value, and by the secondary key
	roomy, limit  int   // of any of the lists: past limit, what no window can ask for is dropped
}

// ask names a window of the plan and the outputs of the group that are of it.
type ask struct {
	window  int
	outputs []int
}

// point is a total of all events up to the end of a hop.
type point struct {
	start             int64 // of the hop of the newest of them
	n, posInf, negInf int64
}

// peak is a value that no later one beats, and the hop it is in.
type peak struct {
	start int64
	v     feature.Value
}

// held is a value with its version, and the hop it is in.
type held struct {
	start int64
	item
}

// roomy is how long a list may be before it is looked at for what can be dropped.
const roomy = 256

// spare is how many items more than are kept there may be, so that not each moves the others.
const spare = 64

func (r *running) reset() {
	r.total = point{}
	r.sum.Reset()
	r.square.Reset()
	r.points = r.points[:0]
	r.sums.words, r.squares.words = r.sums.words[:0], r.squares.words[:0]
	r.lows, r.highs = r.lows[:0], r.highs[:0]
	r.firsts, r.lasts = r.firsts[:0], r.lasts[:0]
	r.ranks.reset()
	r.values.reset()
	r.keyed.reset()
	r.limit = r.roomy
}

// add adds rows [from, to).
func (r *running) add(p *Plan, rows Rows, from, to int) {
	finest := &p.levels[0]
	var where, in, by *feature.Column
	if r.where >= 0 {
		where = rows.Columns[r.where]
	}
	if r.input >= 0 {
		in = rows.Columns[r.input]
	}
	if r.by >= 0 {
		by = rows.Columns[r.by]
	}
	start, end := r.total.start, int64(math.MinInt64) // of the hop; an end that every event is past
	for i := from; i < to; i++ {
		if where != nil && (where.Nums[i] == 0 || where.IsNull(i)) {
			continue
		}
		if by != nil && by.IsNull(i) {
			continue
		}
		v := feature.OfBool(true)
		if in != nil {
			if len(in.Nulls) > 0 && in.IsNull(i) {
				continue
			}
			if in.Type.Kind == feature.Float64 {
				v = ofFloatBits(in.Nums[i])
				if f := v.Float64(); f != f {
					continue
				}
			} else {
				v = in.Value(i)
			}
		}
		if t := rows.Times[i]; t > end {
			start = finest.start(t)
			if end = start + finest.grain; finest.grain == 0 {
				end = math.MaxInt64
			}
			if r.total.n > 0 && start != r.total.start {
				r.snapshot()
			}
			r.total.start = start
		}
		r.put(rows, i, start, v)
		if max(len(r.points), len(r.lows), len(r.highs), len(r.firsts)) > r.limit {
			r.drop(p, rows.Times[i])
			r.limit = max(r.roomy, 2*max(len(r.points), len(r.lows), len(r.highs), len(r.firsts)))
		}
	}
}

// snapshot keeps the totals as they are: a hop is over.
func (r *running) snapshot() {
	n := len(r.points)
	r.points = append(r.points, r.total)
	if r.group.sum {
		r.sums.append(n, &r.sum)
	}
	if r.group.square {
		r.squares.append(n, &r.square)
	}
}

// put adds one value, as acc.add does.
func (r *running) put(rows Rows, i int, start int64, v feature.Value) {
	r.total.n++
	switch v.Kind() {
	case feature.Int64:
		if r.group.sum {
			r.sum.AddInt(v.Int64())
		}
		if r.group.square {
			r.square.AddSquareInt(v.Int64())
		}
	case feature.Float64:
		f := v.Float64()
		switch {
		case f > maxFinite:
			r.total.posInf++
		case f < -maxFinite:
			r.total.negInf++
		default:
			if r.group.sum {
				r.sum.AddFloat(f)
			}
			if r.group.square {
				r.square.AddSquareFloat(f)
			}
		}
	}
	if r.min {
		r.lows = beat(r.lows, start, v, -1)
	}
	if r.max {
		r.highs = beat(r.highs, start, v, 1)
	}
	if r.group.firsts > 0 {
		r.firsts = insertHeld(r.firsts, held{start, item{rows.Version(i), v.Clone()}})
	}
	if r.group.lasts > 0 {
		r.lasts = insertHeld(r.lasts, held{start, item{rows.Version(i), v.Clone()}})
		if over := len(r.lasts) - r.group.lasts; over > spare {
			r.lasts = slices.Delete(r.lasts, 0, over)
		}
	}
	if r.quantiles {
		r.ranks.add(start, v)
	}
	if r.distinct > 0 || r.top > 0 {
		r.values.add(start, v, feature.Value{})
	}
	if r.group.keys > 0 {
		r.keyed.add(start, rows.Columns[r.by].Value(i), v)
	}
}

// beat takes a value into a list of peaks: those it beats, or equals, go. sign is 1 for
// the greatest, -1 for the least.
func beat(list []peak, start int64, v feature.Value, sign int) []peak {
	n := len(list)
	for n > 0 && order(v, list[n-1].v)*sign >= 0 {
		n--
	}
	if n > 0 && list[n-1].start == start {
		return list[:n] // a better one leaves every window together with it
	}
	return append(list[:n], peak{start, v.Clone()})
}

// insertHeld puts an item where its version belongs: at the end, or next to it.
func insertHeld(list []held, h held) []held {
	i := len(list)
	for i > 0 && h.version.Compare(list[i-1].version) < 0 {
		i--
	}
	return slices.Insert(list, i, h)
}

// take is the state of the window with a tail, until the next call.
func (r *running) take(tail int64) *acc {
	a := &r.acc
	if a.n = 0; r.total.n == 0 || r.total.start < tail {
		return a
	}
	a.n, a.posInf, a.negInf = r.total.n, r.total.posInf, r.total.negInf
	last := -1 // the last point that the window leaves out
	if len(r.points) > 0 && r.points[0].start < tail {
		last = firstFrom(r.points, tail, func(p *point) int64 { return p.start }) - 1
		p := &r.points[last]
		a.n -= p.n
		a.posInf -= p.posInf
		a.negInf -= p.negInf
	}
	if r.group.sum {
		r.sums.since(&a.sum, &r.sum, last)
	}
	if r.group.square {
		r.squares.since(&a.square, &r.square, last)
	}
	if r.min {
		a.min = r.lows[firstFrom(r.lows, tail, func(p *peak) int64 { return p.start })].v
	}
	if r.max {
		a.max = r.highs[firstFrom(r.highs, tail, func(p *peak) int64 { return p.start })].v
	}
	if n := r.group.firsts; n > 0 {
		from := firstFrom(r.firsts, tail, func(h *held) int64 { return h.start })
		a.firsts = a.firsts[:0]
		for _, h := range r.firsts[from:min(from+n, len(r.firsts))] {
			a.firsts = append(a.firsts, h.item)
		}
	}
	if n := r.group.lasts; n > 0 {
		from := firstFrom(r.lasts, tail, func(h *held) int64 { return h.start })
		a.lasts = a.lasts[:0]
		for _, h := range r.lasts[max(from, len(r.lasts)-n):] {
			a.lasts = append(a.lasts, h.item)
		}
	}
	return a
}

// firstFrom is the first entry of a list whose hop is not before a tail. It looks from the end, in steps
// that double: most windows are short beside what is kept.
func firstFrom[T any](list []T, tail int64, start func(*T) int64) int {
	hi, step := len(list), 1
	lo := hi
	for lo > 0 && start(&list[lo-1]) >= tail {
		hi = lo - 1
		lo = max(0, hi-step)
		step *= 2
	}
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if start(&list[mid]) >= tail {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// value is an output of a window with a tail, whose state is a.
func (r *running) value(o *output, g *group, tail int64, a *acc) feature.Value {
	switch o.fn {
	case ApproxPercentile:
		return r.ranks.percentile(o.window, tail, o.n)
	case DistinctCount, TopK:
		return r.values.at(o.window, tail).valueOf(o, g)
	case CountBy, SumBy:
		return r.keyed.at(o.window, tail).valueOf(o, g)
	}
	return a.value(o, g)
}

// drop forgets what no window can ask for at t or later.
func (r *running) drop(p *Plan, t int64) {
	tails := make([]int64, len(p.windows))
	for i, w := range p.windows {
		tails[i] = w.tail(t)
	}
	// asked reports whether a window's tail, now or later, can lie in (after, through]:
	// it is always a multiple of its hop.
	asked := func(after, through int64) bool {
		for i, w := range p.windows {
			if w.Length == feature.Lifetime {
				if after < tails[i] && tails[i] <= through {
					return true
				}
				continue
			}
			next := tails[i]
			if after >= next {
				next = (feature.FloorDiv(after, int64(w.Hop)) + 1) * int64(w.Hop)
			}
			if next <= through {
				return true
			}
		}
		return false
	}
	n := 0
	for i, pt := range r.points {
		next := r.total.start
		if i+1 < len(r.points) {
			next = r.points[i+1].start
		}
		if asked(pt.start, next) { // the last point before a tail
			r.points[n] = pt
			r.sums.move(n, i)
			r.squares.move(n, i)
			n++
		}
	}
	r.points = r.points[:n]
	r.sums.cut(n)
	r.squares.cut(n)
	r.lows, r.highs = dropPeaks(r.lows, asked), dropPeaks(r.highs, asked)
	if len(r.firsts) == 0 {
		return
	}
	kept := make([]held, 0, len(r.firsts)/2)
	for i, h := range r.firsts {
		after := int64(math.MinInt64)
		if k := i - r.group.firsts; k >= 0 {
			after = r.firsts[k].start
		}
		if asked(after, h.start) { // among the first after a tail
			kept = append(kept, h)
		}
	}
	r.firsts = kept
}

// dropPeaks keeps the peaks that are the first at or after a tail.
func dropPeaks(list []peak, asked func(after, through int64) bool) []peak {
	n, before := 0, int64(math.MinInt64)
	for _, p := range list {
		if asked(before, p.start) {
			list[n] = p
			n++
		}
		before = p.start
	}
	return list[:n]
}

// snapshots are sums as they were at some points, one after the other in one piece of
// memory: each has stride words from low on (see Exact).
type snapshots struct {
	words       []uint64
	stride, low int
}

// append adds e as the snapshot after n others.
func (s *snapshots) append(n int, e *Exact) {
	if e.words == nil {
		e.low, e.words = 0, make([]uint64, 1)
	}
	if s.stride != len(e.words) || s.low != e.low {
		s.widen(n, e)
	}
	s.words = append(s.words, e.words...)
}

// widen gives n snapshots the words of e, which reaches at least as far.
func (s *snapshots) widen(n int, e *Exact) {
	old := *s
	s.stride, s.low = len(e.words), e.low
	s.words = make([]uint64, n*s.stride, max(2*n, 16)*s.stride)
	for i := range n {
		from, to := old.words[i*old.stride:(i+1)*old.stride], s.words[i*s.stride:(i+1)*s.stride]
		sign := uint64(int64(from[old.stride-1]) >> 63)
		shift := old.low - s.low
		copy(to[shift:], from)
		for k := shift + old.stride; k < s.stride; k++ {
			to[k] = sign
		}
	}
}

// since makes e the total less snapshot i; -1 for none.
func (s *snapshots) since(e *Exact, total *Exact, i int) {
	e.low, e.words = total.low, append(e.words[:0], total.words...)
	if i < 0 {
		return
	}
	e.Sub(&Exact{low: s.low, words: s.words[i*s.stride : (i+1)*s.stride]})
}

func (s *snapshots) move(to, from int) {
	copy(s.words[to*s.stride:(to+1)*s.stride], s.words[from*s.stride:(from+1)*s.stride])
}

func (s *snapshots) cut(n int) { s.words = s.words[:n*s.stride] }
