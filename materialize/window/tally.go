package window

import (
	"math"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// tally counts and sums by a key for a Sweep: the secondary key, or the values themselves. Each window
// has its own keys, to which events are added, and from which whole hops are taken away. It is exact,
// and bounded by the hops of its longest window and the keys in each.
type tally struct {
	hops    []tallied      // by start; some are in no window any more
	dropped int            // how many were before the first of hops
	last    map[string]int // of a key the last of hops, counted with those dropped
	windows []tallyWindow
	bounded bool // some window is not endless, so that hops are kept
}

// tallied is what a hop holds of one key.
type tallied struct {
	start int64
	key   string
	acc   keyAcc
}

// tallyWindow is what a window holds.
type tallyWindow struct {
	window  int // of the plan
	endless bool
	head    int // the first of hops that it holds; of no meaning where it is endless
	keyed   keyed
}

func (t *tally) reset() {
	if len(t.windows) == 0 {
		return
	}
	clear(t.hops)
	t.hops, t.dropped = t.hops[:0], 0
	t.last = map[string]int{}
	for i := range t.windows {
		w := &t.windows[i]
		w.head, w.keyed = 0, keyed{keys: map[string]*keyAcc{}}
	}
}

// use makes a window of the plan one of those counted; an endless one lets no hop go.
func (t *tally) use(window int, endless bool) {
	if !slices.ContainsFunc(t.windows, func(w tallyWindow) bool { return w.window == window }) {
		t.windows = append(t.windows, tallyWindow{window: window, endless: endless})
		t.bounded = t.bounded || !endless
	}
}

// add puts an event into its hop and into every window.
func (t *tally) add(start int64, by, v feature.Value) {
	if t.bounded {
		key := cell(by)
		i, ok := t.last[key]
		if i -= t.dropped; !ok || i < 0 || t.hops[i].start != start {
			i = len(t.hops)
			t.hops = append(t.hops, tallied{start: start, key: key})
			t.last[key] = i + t.dropped
		}
		t.hops[i].acc.add(v)
	}
	for k := range t.windows {
		t.windows[k].keyed.add(by, v, math.MaxInt)
	}
}

// at is what a window with a tail holds.
func (t *tally) at(window int, tail int64) *keyed {
	w := &t.windows[slices.IndexFunc(t.windows, func(w tallyWindow) bool { return w.window == window })]
	if w.endless {
		return &w.keyed
	}
	for ; w.head < len(t.hops) && t.hops[w.head].start < tail; w.head++ {
		h := &t.hops[w.head]
		a := w.keyed.keys[h.key]
		if a.sub(&h.acc); a.n == 0 {
			delete(w.keyed.keys, h.key)
		}
	}
	passed := len(t.hops)
	for i := range t.windows {
		if w := &t.windows[i]; !w.endless {
			passed = min(passed, w.head)
		}
	}
	if passed > spare && passed > len(t.hops)/2 {
		for i := range t.hops[:passed] {
			if h := &t.hops[i]; t.last[h.key] == i+t.dropped {
				delete(t.last, h.key)
			}
		}
		t.hops = slices.Delete(t.hops, 0, passed)
		t.dropped += passed
		for i := range t.windows {
			t.windows[i].head -= passed
		}
	}
	return &w.keyed
}

// valueOf is an aggregate of a window whose keys are k, all of them.
func (k *keyed) valueOf(o *output, g *group) feature.Value {
	switch {
	case o.fn == DistinctCount:
		return feature.OfInt64(int64(min(o.n, len(k.keys))))
	case len(k.keys) == 0:
		return feature.Value{}
	case o.fn == TopK:
		all := make([]counted, 0, len(k.keys))
		for id, a := range k.keys {
			v, _ := uncell(g.typ.Kind, id)
			all = append(all, counted{v, a.n})
		}
		return mostCounted(all, g.typ.Kind, o.n)
	}
	return k.value(o.fn, g, o.n)
}
