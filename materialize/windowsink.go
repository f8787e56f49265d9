package materialize

import (
	"container/list"
	"fmt"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry/feature"
)

// windowSink applies the rows of a topic to the windows of one view generation. It is the only
// writer of the entities whose events are in its partitions. It keeps the states that it has used last in
// memory, and writes each whole, with the offset it has applied.
type windowSink struct {
	progress
	plan   *window.Plan
	budget int64 // bytes of states in memory

	hot   map[string]*entity
	order *list.List // of *entity, the one used last in front
	used  int64      // bytes
	// Chunks are numbered: the one being applied, and the last whose writes a checkpoint has shown to
	// be kept. Until then a state stays in memory: the store's may turn out to be an older one.
	chunk, kept uint64

	// Of the chunk being applied, kept for their memory.
	touched []*entity
	events  []event
	shares  []windowShare
	key     []byte
}

var _ sink = (*windowSink)(nil)

// entity is the state of one entity in memory.
type entity struct {
	key       string
	state     *window.State // nil until it is read
	partition int32
	offset    int64  // the next that is not applied
	chunk     uint64 // the last that had an event of it
	size      int64
	place     *list.Element

	first, last int32 // of its events in the chunk
}

// event is a row of the chunk that an entity has not applied.
type event struct {
	row    int32 // of out
	next   int32 // the next event of the entity; 0 for none: no event comes after itself
	offset int64
}

func newWindowSink(s *session, v *compiledView, budget int64) *windowSink {
	return &windowSink{progress: newProgress(s, v), plan: v.plan, budget: budget, hot: map[string]*entity{}, order: list.New()}
}

// add brings a chunk's rows into the states of their entities, and writes those.
func (k *windowSink) add(c *Chunk) ([]Bad, error) {
	if k.held(c) {
		return nil, nil
	}
	k.chunk++
	k.out.Reset()
	stats := k.program.Apply(c.Rows, k.out)
	var bad []Bad
	if stats.NullKeys > 0 {
		bad = k.nullKeys(c)
	}
	if err := k.group(c); err != nil {
		return nil, err
	}
	if err := k.update(stats); err != nil {
		return nil, err
	}
	k.evict()
	return bad, nil
}

// group finds the entities of the rows in out, which are the chunk's that the view takes, in their order.
func (k *windowSink) group(c *Chunk) error {
	k.touched, k.events = k.touched[:0], k.events[:0]
	cols := k.out.Columns[:len(k.keys.columns)]
	in := -1
	for i := range k.out.Rows {
		// The row that this one was made of: no two have one version.
		for in++; c.Rows.Versions[in] != k.out.Versions[i]; in++ {
		}
		p, offset := c.position(in)
		next, ours := k.next[p]
		if !ours {
			return fmt.Errorf("%w: records of partition %d came, which is not assigned", ErrAgain, p)
		}
		if offset < next {
			continue
		}
		if version := k.out.Versions[i]; k.s.copies != nil && version.Minor < k.s.base[int32(version.Major)] {
			continue // the states were built with it
		}
		var whole bool
		if k.key, whole = feature.AppendKeyRow(k.key[:0], cols, i); !whole {
			continue // never: Apply leaves them out
		}
		e := k.hot[string(k.key)]
		if e == nil {
			e = &entity{key: string(k.key), partition: p}
			e.place = k.order.PushFront(e)
			k.hot[e.key] = e
		}
		if e.partition != p {
			k.fill("its entities have moved to other partitions")
			return fmt.Errorf("%w: events of one entity of %s are in partitions %d and %d: it has moved, and the windows have to be built anew", ErrAgain, k.ViewGeneration, e.partition, p)
		}
		n := int32(len(k.events)) //nolint:gosec // as many as a poll's rows
		if e.chunk != k.chunk {
			e.chunk = k.chunk
			k.order.MoveToFront(e.place)
			k.touched = append(k.touched, e)
			e.first = n
		} else {
			k.events[e.last].next = n
		}
		e.last = n
		k.events = append(k.events, event{row: int32(i), offset: offset})
	}
	return nil
}

// entityBytes is about what an entity takes in memory beside its key and its state.
const entityBytes = 240

// evict forgets the states that were used least recently, down to the budget.
func (k *windowSink) evict() {
	for k.used > k.budget {
		last := k.order.Back().Value.(*entity)
		if last.chunk > k.kept {
			return
		}
		k.remove(last)
	}
}

func (k *windowSink) remove(e *entity) {
	k.order.Remove(e.place)
	delete(k.hot, e.key)
	k.used -= e.size
}

// full implements sink.
func (k *windowSink) full() bool { return k.used > k.budget && k.chunk > k.kept }

// checkpoint implements sink.
func (k *windowSink) checkpoint(topicID string) error {
	if err := k.progress.checkpoint(topicID); err != nil {
		return err
	}
	k.kept = k.chunk
	k.evict()
	return nil
}

// forget implements sink: the partition's next owner writes what is in memory here.
func (k *windowSink) forget(p int32) {
	k.progress.forget(p)
	for _, e := range k.hot {
		if e.partition == p {
			k.remove(e)
		}
	}
}
