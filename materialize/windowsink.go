package materialize

import (
	"container/list"
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
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
	touched, missing []*entity
	events           []event
	records          []WindowRecord
	key, memory      []byte
}

var _ sink = (*windowSink)(nil)

// entity is the state of one entity in memory.
type entity struct {
	key       string
	state     *window.State
	partition int32
	offset    int64  // the next that is not applied
	changed   bool   // and not written yet
	chunk     uint64 // the last that had an event of it
	size      int64
	place     *list.Element
}

// event is a row of the chunk that an entity has not applied.
type event struct {
	entity *entity
	row    int32
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
	if err := k.load(); err != nil {
		return nil, err
	}
	late, nans := k.apply()
	if err := k.write(stats); err != nil {
		return nil, err
	}
	if late > 0 || nans > 0 {
		k.s.stats.countWindows(k.ViewGeneration, late, nans)
	}
	k.evict()
	return bad, nil
}

// group finds the entities of the rows in out, which are the chunk's that the view takes, in their order.
func (k *windowSink) group(c *Chunk) error {
	k.touched, k.events, k.missing = k.touched[:0], k.events[:0], k.missing[:0]
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
			k.missing = append(k.missing, e)
		}
		if e.partition != p {
			k.fill("its entities have moved to other partitions")
			return fmt.Errorf("%w: events of one entity of %s are in partitions %d and %d: it has moved, and the windows have to be built anew", ErrAgain, k.ViewGeneration, e.partition, p)
		}
		if e.chunk != k.chunk {
			e.chunk = k.chunk
			k.order.MoveToFront(e.place)
			k.touched = append(k.touched, e)
		}
		k.events = append(k.events, event{e, int32(i), offset})
	}
	return nil
}

// load reads the states that are not in memory.
func (k *windowSink) load() error {
	if len(k.missing) == 0 {
		return nil
	}
	keys, records := make([][]byte, len(k.missing)), make([]WindowRecord, len(k.missing))
	for i, e := range k.missing {
		keys[i] = []byte(e.key)
	}
	if err := k.s.retry("the online store", func(ctx context.Context) error {
		return k.s.cfg.Online.States(ctx, k.ViewGeneration, keys, records)
	}); err != nil {
		return fmt.Errorf("read view %s: %w", k.ViewGeneration, err)
	}
	// What another server has may be older than what was written: going on from it would leave a gap.
	if err := k.s.sameServer(k.compiledView); err != nil {
		return err
	}
	for i, e := range k.missing {
		switch r := records[i]; {
		case r.State == nil || r.Epoch < k.epoch:
			e.state = &window.State{}
		case r.Epoch > k.epoch:
			k.seen = max(k.seen, r.Epoch)
			return fmt.Errorf("%w: the windows of %s are being built anew: a record is of epoch %d, and not %d", ErrAgain, k.ViewGeneration, r.Epoch, k.epoch)
		default:
			state, err := k.plan.Decode(r.State)
			if err != nil {
				return fmt.Errorf("view %s: the state of entity key %x: %w; `forebay materialize %s --overwrite` builds all of them anew", k.ViewGeneration, e.key, err, k.View.Name)
			}
			e.state, e.offset = state, r.Offset
		}
	}
	return nil
}

// apply adds the events to the states.
func (k *windowSink) apply() (late, nans int64) {
	inputs := k.out.Columns[len(k.keys.columns):]
	for _, e := range k.events {
		if e.offset < e.entity.offset {
			continue // the record had it
		}
		outcome := k.plan.Add(e.entity.state, window.Row{Version: k.out.Versions[e.row], Columns: inputs, Index: int(e.row)})
		e.entity.offset, e.entity.changed = e.offset+1, true
		if outcome.Late {
			late++
		}
		nans += int64(outcome.NaNs)
	}
	return late, nans
}

// write writes the states that have changed.
func (k *windowSink) write(stats expr.Stats) error {
	k.records, k.memory = k.records[:0], k.memory[:0]
	for _, e := range k.touched {
		if !e.changed {
			continue
		}
		from := len(k.memory)
		k.memory = k.plan.Append(k.memory, e.state)
		state := k.memory[from:len(k.memory):len(k.memory)]
		k.records = append(k.records, WindowRecord{Key: []byte(e.key), Epoch: k.epoch, Offset: e.offset, State: state})
		e.changed = false
		k.used -= e.size
		e.size = entityBytes + 2*int64(len(e.key)) + k.plan.Memory(e.state, len(state))
		k.used += e.size
	}
	if len(k.records) == 0 {
		k.s.stats.countView(k.ViewGeneration, stats, 0, 0)
		return nil
	}
	var stale int
	err := k.s.retry("the online store", func(ctx context.Context) (err error) {
		_, stale, err = k.s.cfg.Online.WriteStates(ctx, k.ViewGeneration, k.records)
		return err
	})
	if err == nil && stale > 0 {
		var foreign error
		if err = k.s.retry("the online store", func(ctx context.Context) (err error) {
			var seen int64
			foreign, seen, err = othersStates(ctx, k.s.cfg.Online, k.ViewGeneration, k.records)
			k.seen = max(k.seen, seen)
			return err
		}); err == nil && foreign != nil {
			err = fmt.Errorf("%w: %w", ErrAgain, foreign)
		}
	}
	if err != nil {
		return fmt.Errorf("write view %s: %w", k.ViewGeneration, err)
	}
	k.s.stats.countView(k.ViewGeneration, stats, len(k.records), 0)
	return nil
}

// othersStates says which of the records that were written are now of another writer. Those that
// are as they were written do not count: an answer may have been lost, and two states of one epoch and offset are one.
// seen is the epoch of the other's.
func othersStates(ctx context.Context, online Online, v registry.ViewGeneration, written []WindowRecord) (foreign error, seen int64, err error) {
	keys, now := make([][]byte, len(written)), make([]WindowRecord, len(written))
	for i, r := range written {
		keys[i] = r.Key
	}
	if err := online.States(ctx, v, keys, now); err != nil {
		return nil, 0, err
	}
	for i, r := range now {
		if r.Epoch != written[i].Epoch || r.Offset != written[i].Offset {
			return fmt.Errorf("%w: the state of entity key %x of %s is of epoch %d, offset %d, and not of %d, %d", errOthers, r.Key, v, r.Epoch, r.Offset, written[i].Epoch, written[i].Offset), r.Epoch, nil
		}
	}
	return nil, 0, nil
}

// errOthers: somebody else writes the same windows.
var errOthers = errors.New("another process writes the same windows")

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
