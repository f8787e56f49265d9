package window

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/forebay/forebay/registry/feature"
)

// Reader computes chosen features straight from encoded states, as Decode and
// Values would: no tile is made, the statistics that the features do not need are
// skipped, and windows that nobody asks for cost nothing but their tiles' lengths.
// It is immutable and safe for concurrent use.
type Reader struct {
	plan    *Plan
	outputs []output // as chosen; window is an index into windows
	windows []Window
	needs   []need // per group of the plan
}

// need is what is read of a group.
type need struct {
	group
	any     bool  // anything at all
	numbers group // sums, minimum and maximum alone
}

// Reader compiles the reading of chosen outputs, by their place in Outputs.
func (p *Plan) Reader(outputs []int) *Reader {
	r := &Reader{plan: p, needs: make([]need, len(p.groups))}
	for i := range p.groups {
		g := &p.groups[i]
		r.needs[i].group = group{input: g.input, where: g.where, by: g.by, typ: g.typ, byType: g.byType}
	}
	for _, i := range outputs {
		o := p.outputs[i]
		w := p.windows[o.window]
		if o.window = slices.Index(r.windows, w); o.window < 0 {
			o.window = len(r.windows)
			r.windows = append(r.windows, w)
		}
		r.outputs = append(r.outputs, o)
		r.needs[o.group].add(o, &p.groups[o.group])
	}
	for i := range r.needs {
		n := &r.needs[i]
		n.numbers = group{input: n.input, typ: n.typ, sum: n.sum, square: n.square, min: n.min, max: n.max}
	}
	return r
}

// add adds the statistics of an output to those that are read. Where one is kept
// up to a limit, the limit is that of the state.
func (n *need) add(o output, g *group) {
	n.any = true
	switch o.fn {
	case Sum, Mean:
		n.sum = true
	case Variance, Stddev, VariancePop, StddevPop:
		n.sum, n.square = true, true
	case Min:
		n.min = true
	case Max:
		n.max = true
	case First, FirstN:
		n.firsts = g.firsts
	case Last, LastN:
		n.lasts = g.lasts
	case DistinctCount:
		n.distinct = g.distinct
	case ApproxDistinctCount:
		n.hll = true
	case ApproxPercentile:
		n.quantiles = true
	case TopK:
		n.top = g.top
	case CountBy, SumBy:
		n.keys = g.keys
	}
}

// Merger is memory that a Reader uses; keep one per goroutine. The zero Merger is ready for use.
type Merger struct {
	reader *Reader
	reach  []reach // per group
	bands  []acc   // per window, from the nearest tail on, and group: what it holds and the one before does not
	tails  []tail
}

// reach is the farthest band, plus one, in which anything of a group is read, and in which
// its lists are.
type reach struct{ any, lists int }

func (m *Merger) prepare(r *Reader) {
	if m.reader != r {
		*m = Merger{reader: r, reach: make([]reach, len(r.needs)), bands: make([]acc, len(r.windows)*len(r.needs)), tails: make([]tail, len(r.windows))}
		return
	}
	for i := range m.bands {
		m.bands[i].reset()
	}
}

// Values computes the chosen features of an encoded state at an instant, which is
// raised to its newest event. An empty src is that of an entity that was never seen.
// It appends the values to dst and reports the newest event time (of no meaning where
// there was no event), and whether the longest window of the plan holds any: where it does not,
// the entity is NOT_FOUND and the values are those of empty windows. The values are
// valid until src changes or m is used again. The error is ErrCorrupt, and dst then unchanged.
func (r *Reader) Values(src []byte, t int64, m *Merger, dst []feature.Value) (values []feature.Value, newest int64, found bool, err error) {
	m.prepare(r)
	d := decoder{src: src}
	newest = minInstant
	seen := false
	if len(src) > 0 {
		if v := d.byte(); v != stateVersion {
			return dst, 0, false, fmt.Errorf("%w: format version %d, want %d", ErrCorrupt, v, stateVersion)
		}
		if len(d.src) > 0 {
			seen, newest = true, d.varint()
			t = max(t, newest)
		}
	}
	for i, w := range r.windows {
		m.tails[i] = tail{at: w.tail(t), window: i}
	}
	slices.SortFunc(m.tails, func(a, b tail) int {
		switch {
		case a.at > b.at:
			return -1
		case a.at < b.at:
			return 1
		}
		return a.window - b.window
	})
	if seen {
		r.reaches(m)
		found = r.merge(&d, t, m)
		if d.err == nil && len(d.src) > 0 {
			d.fail("bytes left over")
		}
		if d.err != nil {
			return dst, 0, false, d.err
		}
	}
	base, groups := len(dst), len(r.needs)
	dst = slices.Grow(dst, len(r.outputs))[:base+len(r.outputs)]
	for band, tail := range m.tails {
		accs := m.bands[band*groups : (band+1)*groups]
		if band > 0 { // a window holds what the nearer one holds
			for g := range r.needs {
				accs[g].merge(&r.needs[g].group, &m.bands[(band-1)*groups+g])
			}
		}
		for i := range r.outputs {
			if o := &r.outputs[i]; o.window == tail.window {
				dst[base+i] = accs[o.group].value(o, &r.plan.groups[o.group])
			}
		}
	}
	return dst, newest, found, nil
}

// reaches finds how far back each group is read.
func (r *Reader) reaches(m *Merger) {
	clear(m.reach)
	for band, tail := range m.tails {
		for i := range r.outputs {
			o := &r.outputs[i]
			if o.window != tail.window {
				continue
			}
			m.reach[o.group].any = band + 1
			switch o.fn {
			case First, FirstN, Last, LastN:
				m.reach[o.group].lists = band + 1
			}
		}
	}
}

// merge reads the levels, and merges each tile into the band of the nearest window
// that holds it.
func (r *Reader) merge(d *decoder, t int64, m *Merger) (found bool) {
	longest := int64(math.MaxInt64)
	for _, w := range r.plan.windows {
		longest = min(longest, w.tail(t))
	}
	groups := r.plan.groups
	for _, l := range r.plan.levels {
		n := d.count(len(groups))
		if l.grain == 0 && n > 1 {
			d.fail("an endless tile more than once")
		}
		index := int64(0)
		for j := 0; j < n && d.err == nil; j++ {
			start := int64(minInstant)
			if l.grain > 0 {
				index = d.tileIndex(index, j == 0, l.grain)
				start = index * l.grain
			}
			found = found || start >= longest
			band := 0
			for band < len(m.tails) && start < m.tails[band].at {
				band++
			}
			var accs []acc
			if band < len(m.tails) {
				accs = m.bands[band*len(groups):]
			}
			for k := range groups {
				if band >= m.reach[k].any {
					d.skipAcc(&groups[k])
				} else {
					d.mergeAcc(&groups[k], &r.needs[k], &accs[k], band < m.reach[k].lists)
				}
			}
		}
	}
	return found
}

// tileIndex reads where a tile is, after the one at last.
func (d *decoder) tileIndex(last int64, first bool, grain int64) int64 {
	if first {
		last = d.varint()
	} else {
		step := d.uvarint()
		if step == 0 || step > math.MaxInt64 {
			d.fail("tiles out of order")
			return 0
		}
		last += int64(step)
	}
	if last > math.MaxInt64/grain || last < minInstant/grain {
		d.fail("a tile out of range")
		return 0
	}
	return last
}

// skipAcc reads past what appendAcc wrote for g.
func (d *decoder) skipAcc(g *group) { d.mergeAcc(g, &nothing, nil, false) }

var nothing need

// mergeAcc reads what appendAcc wrote for g, and merges into a what n names of it, its
// lists only where they are asked for.
func (d *decoder) mergeAcc(g *group, n *need, a *acc, lists bool) {
	head := d.uvarint()
	count := int64(head >> 1)
	if count == 0 {
		return
	}
	inf := head&1 != 0
	var posInf, negInf int64
	if inf {
		posInf, negInf = d.nat(), d.nat()
	}
	if count == 1 && g.numeric() && !inf {
		if v := d.value(g.typ.Kind); n.any && d.err == nil {
			a.add(&n.numbers, feature.Version{}, v, feature.Value{})
		}
	} else {
		if n.any {
			a.n += count
			a.posInf += posInf
			a.negInf += negInf
		}
		d.mergeNumbers(g, n, a)
	}
	d.mergeItems(g, count, g.firsts, lists && n.firsts > 0, func(it item) { a.firsts = keepFirst(a.firsts, it, n.firsts) })
	d.mergeItems(g, count, g.lasts, lists && n.lasts > 0, func(it item) { a.lasts = keepLast(a.lasts, it, n.lasts) })
	if g.distinct > 0 {
		if s := d.set(); n.distinct > 0 && d.err == nil {
			a.distinct = a.distinct.merge(s, n.distinct)
		}
	}
	if g.hll || g.quantiles {
		if n.hll || n.quantiles {
			if s := d.sketches(g); d.err == nil {
				a.sketch = a.sketch.merge(&n.group, s)
			}
		} else {
			d.skipSketches(g)
		}
	}
	if g.top > 0 {
		if f := d.frequent(); n.top > 0 && d.err == nil {
			a.top = a.top.merge(f, n.top)
		}
	}
	if g.keys > 0 {
		if k := d.keyed(); n.keys > 0 && d.err == nil {
			a.keys = a.keys.merge(k, n.keys)
		}
	}
}

func (d *decoder) mergeNumbers(g *group, n *need, a *acc) {
	if g.sum {
		if n.sum {
			d.addExact(&a.sum)
		} else {
			d.addExact(nil)
		}
	}
	if g.square {
		if n.square {
			d.addExact(&a.square)
		} else {
			d.addExact(nil)
		}
	}
	if g.min {
		if v := d.peek(g.typ.Kind); n.min && d.err == nil && (a.min.IsNull() || order(v, a.min) < 0) {
			a.min = v
		}
	}
	if g.max {
		if v := d.peek(g.typ.Kind); n.max && d.err == nil && (a.max.IsNull() || order(v, a.max) > 0) {
			a.max = v
		}
	}
}

// addExact reads a sum and adds it to e, where that is not nil.
func (d *decoder) addExact(e *Exact) {
	size := d.uvarint()
	if size&1 == 0 {
		i, ok := smallOf(size)
		if !ok {
			d.fail("a sum out of range")
		} else if e != nil && i != 0 {
			e.AddInt(i)
		}
		return
	}
	size >>= 1
	exp := d.varint()
	if size == 0 || size > maxExactBytes || exp < -5000 || exp > 5000 || size > uint64(len(d.src)) {
		d.fail("a sum out of range")
		return
	}
	mantissa := d.src[:size]
	d.src = d.src[size:]
	if e == nil {
		return
	}
	if size > 16 {
		// Rare: values of very different magnitudes.
		more, _, err := DecodeExact(append(binary.AppendVarint(binary.AppendUvarint(nil, size<<1|1), exp), mantissa...))
		if err != nil {
			d.fail("a sum: " + err.Error())
			return
		}
		e.Add(&more)
		return
	}
	lo, hi := uint64(0), uint64(0)
	if mantissa[0]>>7 != 0 {
		lo, hi = math.MaxUint64, math.MaxUint64
	}
	for _, b := range mantissa {
		hi = hi<<8 | lo>>56
		lo = lo<<8 | uint64(b)
	}
	q, s := floorShift(int(exp))
	// Three words of two's complement; for s = 0 Go's shifts by 64 give 0 and the sign.
	e.add(q, lo<<s, hi<<s|lo>>(64-s), uint64(int64(hi)>>(64-s)))
}

// peek is value, but a text refers to src.
func (d *decoder) peek(k feature.Kind) feature.Value {
	if k != feature.String && k != feature.Bytes {
		return d.value(k)
	}
	n := d.count(1)
	b := d.src[:n:n]
	d.src = d.src[n:]
	if k == feature.Bytes {
		return feature.OfBytes(b)
	}
	return feature.OfString(unsafe.String(unsafe.SliceData(b), len(b)))
}

// mergeItems reads the items of first or last, of which a state keeps kept, and hands
// them on where they are wanted.
func (d *decoder) mergeItems(g *group, n int64, kept int, wanted bool, keep func(item)) {
	if !wanted {
		d.skipItems(g, min(n, int64(kept)))
		return
	}
	for i := int64(0); i < min(n, int64(kept)) && d.err == nil; i++ {
		var it item
		it.version.EventTime = d.varint()
		it.version.IngestedAt = it.version.EventTime + d.varint()
		it.version.Major, it.version.Minor = d.varint(), d.varint()
		if it.value = d.peek(g.typ.Kind); d.err == nil {
			keep(it)
		}
	}
}

func (d *decoder) skipItems(g *group, n int64) {
	for i := int64(0); i < n && d.err == nil; i++ {
		for range 4 {
			d.uvarint() // of the version
		}
		d.peek(g.typ.Kind)
	}
}

// skipSketches reads past HLL and KLL sketches.
func (d *decoder) skipSketches(g *group) {
	for _, has := range []bool{g.hll, g.quantiles} {
		if !has {
			continue
		}
		n := d.count(1)
		if n == 0 {
			continue
		}
		if len(d.src) < 4+n {
			d.fail("a sketch cut off")
			return
		}
		d.src = d.src[4+n:]
	}
}
