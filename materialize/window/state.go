package window

import (
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// State is what one entity has seen: tiles of merged events. The zero State has
// seen nothing. It is used by one goroutine at a time.
type State struct {
	newest int64    // greatest event time, microseconds
	any    bool     // whether there was an event at all
	levels [][]tile // per level of the plan, by start
}

type tile struct {
	start int64 // it holds events in (start, start+grain]
	accs  []acc // one per group
}

// Newest is the greatest event time seen; false if there was no event.
func (s *State) Newest() (int64, bool) { return s.newest, s.any }

// Row is one event: its version, and row i of the plan's input columns.
type Row struct {
	Version feature.Version
	Columns []*feature.Column
	Index   int
}

// Outcome says what Add did with an event.
type Outcome struct {
	// Late: the event is older than every window at the newest event time, and
	// changes no value.
	Late bool
	// NaNs is the number of NaN inputs that were skipped.
	NaNs int
}

// Add puts one event into the state. Events come in any order.
func (p *Plan) Add(s *State, row Row) Outcome {
	t := row.Version.EventTime
	if s.levels == nil {
		s.levels = make([][]tile, len(p.levels))
	}
	if !s.any || t > s.newest {
		s.any, s.newest = true, t
		p.roll(s)
	}
	var out Outcome
	into := p.tileFor(s, t)
	if into == nil {
		out.Late = true
		return out
	}
	for i := range p.groups {
		g := &p.groups[i]
		if g.where >= 0 {
			w := row.Columns[g.where]
			if w.IsNull(row.Index) || w.Nums[row.Index] == 0 {
				continue
			}
		}
		v := feature.OfBool(true)
		if g.input >= 0 {
			if v = row.Columns[g.input].Value(row.Index); v.IsNull() {
				continue
			}
			if v.Kind() == feature.Float64 && v.Float64() != v.Float64() {
				out.NaNs++
				continue
			}
		}
		var by feature.Value
		if g.by >= 0 {
			if by = row.Columns[g.by].Value(row.Index); by.IsNull() {
				continue
			}
		}
		into.accs[i].add(g, row.Version, v, by)
	}
	return out
}

// tileFor finds or makes the tile of an event time; nil if every window has passed it.
func (p *Plan) tileFor(s *State, t int64) *tile {
	for i := range p.levels {
		l := &p.levels[i]
		if start := l.start(t); start >= l.limit(s.newest) {
			into, there := p.tileAt(s, i, start)
			if !there {
				into.accs = make([]acc, len(p.groups))
			}
			return into
		}
	}
	return nil
}

// tileAt is the tile of a level that starts at an instant. Where it was not there, it is put there without accs.
func (p *Plan) tileAt(s *State, level int, start int64) (t *tile, there bool) {
	tiles := s.levels[level]
	i := len(tiles)
	if i > 0 && tiles[i-1].start >= start { // mostly events come in order
		i, _ = slices.BinarySearchFunc(tiles, start, func(t tile, start int64) int {
			if t.start < start {
				return -1
			} else if t.start > start {
				return 1
			}
			return 0
		})
	}
	if there = i < len(tiles) && tiles[i].start == start; !there {
		tiles = slices.Insert(tiles, i, tile{start: start})
		s.levels[level] = tiles
	}
	return &tiles[i], there
}

// roll moves the tiles that the windows of their level have passed into the next
// level, and drops those that all windows have passed.
func (p *Plan) roll(s *State) {
	for i := range p.levels {
		limit := p.levels[i].limit(s.newest)
		tiles := s.levels[i]
		n := 0
		for n < len(tiles) && tiles[n].start < limit {
			n++
		}
		if n == 0 {
			continue
		}
		if i+1 < len(p.levels) {
			for j := range tiles[:n] {
				p.sink(s, i+1, &tiles[j])
			}
		}
		s.levels[i] = slices.Delete(tiles, 0, n)
	}
}

// sink merges a tile, which its level is about to drop, into the one around it in a coarser level. That level's
// own tiles are looked at after it, so it may be one that moves on at once.
func (p *Plan) sink(s *State, level int, t *tile) {
	l := &p.levels[level]
	// The tile is (start, …]: any instant in it finds the coarser one; the first is start+1.
	start := int64(minInstant)
	if l.grain > 0 {
		start = l.start(t.start + 1)
	}
	into, there := p.tileAt(s, level, start)
	if !there { // then all that is in it is in the tile
		into.accs = t.accs
		return
	}
	for i := range p.groups {
		into.accs[i].merge(&p.groups[i], &t.accs[i])
	}
}

// Values computes every feature at an instant that is not before the newest
// event: the server's clock, or a spine row's. It appends them to dst, in the
// order of Outputs, and reports whether the longest window holds any event: where it does
// not the entity is NOT_FOUND. The values are valid while the state is not changed.
func (p *Plan) Values(s *State, t int64, scratch *Scratch, dst []feature.Value) (values []feature.Value, found bool) {
	if s.any {
		t = max(t, s.newest)
	}
	base := len(dst)
	dst = slices.Grow(dst, len(p.outputs))[:base+len(p.outputs)]
	scratch.prepare(p)
	// From the nearest tail to the farthest: what one window holds is a part of what the next holds.
	for i, w := range p.windows {
		scratch.tails[i] = tail{at: w.tail(t), window: i}
	}
	slices.SortFunc(scratch.tails, func(a, b tail) int {
		if a.at != b.at {
			if a.at > b.at {
				return -1
			}
			return 1
		}
		return a.window - b.window
	})
	level, next := 0, -1
	if len(s.levels) > 0 {
		next = len(s.levels[0]) - 1
	}
	for _, tail := range scratch.tails {
		for level < len(s.levels) {
			if next < 0 {
				if level++; level < len(s.levels) {
					next = len(s.levels[level]) - 1
				}
				continue
			}
			tile := &s.levels[level][next]
			if tile.start < tail.at {
				break
			}
			found = true
			for g := range p.groups {
				scratch.accs[g].merge(&p.groups[g], &tile.accs[g])
			}
			next--
		}
		for i := range p.outputs {
			if o := &p.outputs[i]; o.window == tail.window {
				dst[base+i] = scratch.accs[o.group].value(o, &p.groups[o.group])
			}
		}
	}
	return dst, found
}

// Merged is how many tiles Values merges for an output at an instant: those in its window that hold events.
func (p *Plan) Merged(s *State, t int64, output int) (tiles int) {
	if s.any {
		t = max(t, s.newest)
	}
	tail := p.windows[p.outputs[output].window].tail(t)
	for _, level := range s.levels {
		for i := len(level) - 1; i >= 0 && level[i].start >= tail; i-- {
			tiles++
		}
	}
	return tiles
}

// Scratch is memory that Values uses; keep one per goroutine. The zero Scratch is ready for use.
type Scratch struct {
	plan  *Plan
	accs  []acc
	tails []tail
}

type tail struct {
	at     int64
	window int
}

func (s *Scratch) prepare(p *Plan) {
	if s.plan != p {
		*s = Scratch{plan: p, accs: make([]acc, len(p.groups)), tails: make([]tail, len(p.windows))}
		return
	}
	for i := range s.accs {
		s.accs[i].reset()
	}
}
