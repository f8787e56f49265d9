package window

import (
	"math"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// ranks are the values of one group in order, for the percentiles of a Sweep: those of each
// window that asks for one. Percentiles of history are exact, and so within the
// error of the sketch that serves them online; the sketch itself drops values by lot, and the same
// training set would have other values each time it is built.
//
// It keeps the values of the longest of these windows, 24 bytes each.
type ranks struct {
	queue   []ranked // values by hop, of which some are in no window any more
	windows []rankedWindow
	bounded bool // some window is not endless, so that the queue is kept
}

type ranked struct {
	start int64
	key   uint64
}

// rankedWindow is what a window holds.
type rankedWindow struct {
	window  int // of the plan
	endless bool
	head    int // the first of the queue that it holds; of no meaning where it is endless
	n       int
	blocks  [][]uint64 // keys in order
}

// blockKeys is how many keys a block has at most; one that is full is cut in half.
const blockKeys = 512

// rankKey is a number whose unsigned order is that of the float64: -0 before 0.
func rankKey(v feature.Value) uint64 {
	b := math.Float64bits(number(v))
	if b>>63 != 0 {
		return ^b
	}
	return b | 1<<63
}

func ofRankKey(k uint64) float64 {
	if k>>63 != 0 {
		return math.Float64frombits(k &^ (1 << 63))
	}
	return math.Float64frombits(^k)
}

// use makes a window of the plan one of those ranked; an endless one lets no value go.
func (r *ranks) use(window int, endless bool) {
	if !slices.ContainsFunc(r.windows, func(w rankedWindow) bool { return w.window == window }) {
		r.windows = append(r.windows, rankedWindow{window: window, endless: endless})
		r.bounded = r.bounded || !endless
	}
}

func (r *ranks) reset() {
	r.queue = r.queue[:0]
	for i := range r.windows {
		w := &r.windows[i]
		*w = rankedWindow{window: w.window, endless: w.endless}
	}
}

func (r *ranks) add(start int64, v feature.Value) {
	key := rankKey(v)
	if r.bounded {
		r.queue = append(r.queue, ranked{start, key})
	}
	for i := range r.windows {
		r.windows[i].add(key)
	}
}

// percentile is the least value of a window with a tail that at least p percent are not above.
func (r *ranks) percentile(window int, tail int64, p int) feature.Value {
	w := &r.windows[slices.IndexFunc(r.windows, func(w rankedWindow) bool { return w.window == window })]
	if !w.endless {
		r.pass(w, tail)
	}
	if w.n == 0 {
		return feature.Value{}
	}
	return feature.OfFloat64(ofRankKey(w.at(max(1, (w.n*p+99)/100) - 1)))
}

// pass takes out of a window what its tail has passed, and forgets what all have.
func (r *ranks) pass(w *rankedWindow, tail int64) {
	for ; w.head < len(r.queue) && r.queue[w.head].start < tail; w.head++ {
		w.remove(r.queue[w.head].key)
	}
	passed := len(r.queue)
	for i := range r.windows {
		if w := &r.windows[i]; !w.endless {
			passed = min(passed, w.head)
		}
	}
	if passed > spare && passed > len(r.queue)/2 {
		r.queue = slices.Delete(r.queue, 0, passed)
		for i := range r.windows {
			r.windows[i].head -= passed
		}
	}
}

// block is the first block whose last key is not below key; the last one if there is none.
func (w *rankedWindow) block(key uint64) int {
	i, _ := slices.BinarySearchFunc(w.blocks, key, func(b []uint64, key uint64) int {
		if b[len(b)-1] < key {
			return -1
		}
		return 1
	})
	return min(i, len(w.blocks)-1)
}

func (w *rankedWindow) add(key uint64) {
	w.n++
	if len(w.blocks) == 0 {
		w.blocks = append(w.blocks, append(make([]uint64, 0, 8), key))
		return
	}
	b := w.block(key)
	at, _ := slices.BinarySearch(w.blocks[b], key)
	w.blocks[b] = slices.Insert(w.blocks[b], at, key)
	if keys := w.blocks[b]; len(keys) == blockKeys {
		w.blocks[b] = keys[: blockKeys/2 : blockKeys/2]
		w.blocks = slices.Insert(w.blocks, b+1, slices.Clone(keys[blockKeys/2:]))
	}
}

// remove takes away one of the keys, which is there.
func (w *rankedWindow) remove(key uint64) {
	w.n--
	b := w.block(key)
	at, _ := slices.BinarySearch(w.blocks[b], key)
	if w.blocks[b] = slices.Delete(w.blocks[b], at, at+1); len(w.blocks[b]) == 0 {
		w.blocks = slices.Delete(w.blocks, b, b+1)
	}
}

// at is the key of a rank, from 0.
func (w *rankedWindow) at(rank int) uint64 {
	for _, b := range w.blocks {
		if rank < len(b) {
			return b[rank]
		}
		rank -= len(b)
	}
	panic("window: a rank past the end")
}
