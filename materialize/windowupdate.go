package materialize

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
)

// shareEntities is how many entities a share of a chunk has: few enough that one share is written while others are
// computed, and enough to be worth a write of its own.
const shareEntities = 512

// windowShare is a share of a chunk's entities, which one goroutine brings up to date and writes. No two
// shares have an entity in common, and none depends on another: each record says by itself what it has applied.
type windowShare struct {
	k        *windowSink
	entities []*entity

	missing []*entity // kept for their memory, as are
	records []WindowRecord
	memory  []byte

	late, nans int64
	grown      int64 // bytes of states in memory
	seen       int64 // the greatest epoch of another's record
	err        error
}

// update adds the chunk's events to the states of their entities, reading those that are not in memory, and writes them, in shares. It returns when all are
// written, or after the first error.
func (k *windowSink) update(stats expr.Stats) error {
	n := (len(k.touched) + shareEntities - 1) / shareEntities
	for len(k.shares) < n {
		k.shares = append(k.shares, windowShare{k: k})
	}
	shares := k.shares[:n]
	for i := range shares {
		s := &shares[i]
		*s = windowShare{k: k, entities: k.touched[i*len(k.touched)/n : (i+1)*len(k.touched)/n], missing: s.missing, records: s.records[:0], memory: s.memory[:0]}
	}
	// One more than there are processors: while that waits for the store the others work.
	var next atomic.Int64
	var failed atomic.Bool
	work := func() {
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if shares[i].update(); shares[i].err != nil {
				failed.Store(true)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)+1) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()

	var late, nans int64
	written := 0
	errs := make([]error, n)
	for i := range shares {
		s := &shares[i]
		late, nans, written = late+s.late, nans+s.nans, written+len(s.records)
		k.used += s.grown
		k.seen = max(k.seen, s.seen)
		errs[i] = s.err
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	k.s.stats.countView(k.ViewGeneration, stats, written, 0)
	if late > 0 || nans > 0 {
		k.s.stats.countWindows(k.ViewGeneration, late, nans)
	}
	return nil
}

// update adds the events of the share's entities, and writes the states that have changed.
func (s *windowShare) update() {
	if s.err = s.load(); s.err != nil {
		return
	}
	for _, e := range s.entities {
		if s.apply(e) {
			s.encode(e)
		}
	}
	if len(s.records) > 0 {
		if err := s.write(); err != nil {
			s.err = fmt.Errorf("write view %s: %w", s.k.ViewGeneration, err)
		}
	}
}

// load reads the states that are not in memory.
func (s *windowShare) load() error {
	k := s.k
	s.missing = s.missing[:0]
	for _, e := range s.entities {
		if e.state == nil {
			s.missing = append(s.missing, e)
		}
	}
	if len(s.missing) == 0 {
		return nil
	}
	keys, records := make([][]byte, len(s.missing)), make([]WindowRecord, len(s.missing))
	for i, e := range s.missing {
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
	for i, e := range s.missing {
		switch r := records[i]; {
		case r.State == nil || r.Epoch < k.epoch:
			e.state = &window.State{}
		case r.Epoch > k.epoch:
			s.seen = max(s.seen, r.Epoch)
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

// apply adds the events that the state of an entity lacks; false if there are none.
func (s *windowShare) apply(e *entity) (changed bool) {
	k := s.k
	inputs := k.out.Columns[len(k.keys.columns):]
	for i := e.first; ; {
		event := &k.events[i]
		if event.offset >= e.offset { // else the record had it
			outcome := k.plan.Add(e.state, window.Row{Version: k.out.Versions[event.row], Columns: inputs, Index: int(event.row)})
			e.offset, changed = event.offset+1, true
			if outcome.Late {
				s.late++
			}
			s.nans += int64(outcome.NaNs)
		}
		if i = event.next; i == 0 {
			return changed
		}
	}
}

// encode adds the record of an entity to those to be written.
func (s *windowShare) encode(e *entity) {
	from := len(s.memory)
	s.memory = s.k.plan.Append(s.memory, e.state)
	state := s.memory[from:len(s.memory):len(s.memory)]
	s.records = append(s.records, WindowRecord{Key: []byte(e.key), Epoch: s.k.epoch, Offset: e.offset, State: state})
	size := entityBytes + 2*int64(len(e.key)) + s.k.plan.Memory(e.state, len(state))
	s.grown += size - e.size
	e.size = size
}

// write writes the records.
func (s *windowShare) write() error {
	k := s.k
	var stale int
	err := k.s.retry("the online store", func(ctx context.Context) (err error) {
		_, stale, err = k.s.cfg.Online.WriteStates(ctx, k.ViewGeneration, s.records)
		return err
	})
	if err != nil || stale == 0 {
		return err
	}
	var foreign error
	if err := k.s.retry("the online store", func(ctx context.Context) (err error) {
		foreign, s.seen, err = othersStates(ctx, k.s.cfg.Online, k.ViewGeneration, s.records)
		return err
	}); err != nil || foreign == nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAgain, foreign)
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
