package online

import (
	"context"
	"slices"
	"sync"
	"time"
)

// mergeKeys is the number of keys up to which a Get is merged with others: more of
// them are worth a round trip of their own.
const mergeKeys = 8

// mergePatience is how long Gets wait for a round trip that is under way before they make the next beside it,
// and mergeLanes how many there may be at a time. Where one is answered sooner, as by a store nearby, batches are as large as can be; where
// it takes longer, or never ends, only those in it wait for it.
const (
	mergePatience = 250 * time.Microsecond
	mergeLanes    = 4
)

// Merge makes Gets that meet share round trips: while one is under way, those that
// come wait for it, or for mergePatience, and then go together as one. Alone, a Get is not held
// up. Under load the store and this process save most of what a round trip costs
// them; one entity's lookup is 438 bytes, and the way there and back costs more
// than they do.
//
// All that share a round trip share its error. It is for a store that is one
// server: in a cluster a slow shard would hold up the others' keys. Everything but
// Get is the store's own.
func Merge(s Store) Store { return &merged{Store: s} }

type merged struct {
	Store

	mu      sync.Mutex
	running int        // round trips under way
	waiting *mergedGet // nil where nobody waits
}

var _ Store = (*merged)(nil)

// mergedGet is one round trip for several Gets.
type mergedGet struct {
	keys    []Key // in memory of its own: a caller may give up before the others
	records [][]byte
	err     error
	done    chan struct{} // closed when records and err are set
	until   time.Time     // the latest of the callers' deadlines
	open    bool          // one of them has none
}

// Get implements Store.
func (m *merged) Get(ctx context.Context, keys []Key, dst [][]byte) error {
	if len(keys) > mergeKeys || len(keys) == 0 {
		return m.Store.Get(ctx, keys, dst)
	}
	m.mu.Lock()
	if m.running == 0 {
		m.running++
		m.mu.Unlock()
		defer m.next()
		return m.Store.Get(ctx, keys, dst)
	}
	var patience <-chan time.Time
	if m.waiting == nil {
		m.waiting = &mergedGet{done: make(chan struct{})}
		timer := time.NewTimer(mergePatience)
		defer timer.Stop()
		patience = timer.C
	}
	b := m.waiting
	from := len(b.keys)
	b.add(ctx, keys)
	m.mu.Unlock()
	for {
		select {
		case <-b.done:
			if b.err != nil {
				return b.err
			}
			copy(dst, b.records[from:from+len(keys)])
			return nil
		case <-patience:
			m.beside(b)
		case <-ctx.Done():
			return Unavailable("online store", "get records", ctx.Err())
		}
	}
}

// beside starts a round trip that still waits beside those under way.
func (m *merged) beside(b *mergedGet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == b && m.running < mergeLanes {
		m.waiting = nil
		m.running++
		go m.runAll(b)
	}
}

// Server implements Server.
func (m *merged) Server(ctx context.Context) (string, error) { return ServerOf(ctx, m.Store) }

func (b *mergedGet) add(ctx context.Context, keys []Key) {
	for _, k := range keys {
		k.Entity = slices.Clone(k.Entity)
		b.keys = append(b.keys, k)
	}
	if until, ok := ctx.Deadline(); !ok {
		b.open = true
	} else if until.After(b.until) {
		b.until = until
	}
}

// next ends a round trip and starts the one that waits, if any.
func (m *merged) next() {
	if b := m.take(); b != nil {
		go m.runAll(b)
	}
}

// runAll makes a round trip and those that follow it: a goroutine for each would have to grow its stack again.
func (m *merged) runAll(b *mergedGet) {
	for ; b != nil; b = m.take() {
		m.run(b)
	}
}

// take ends a round trip and returns the one to make next, nil if nobody waits.
func (m *merged) take() *mergedGet {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.waiting
	m.waiting = nil
	if b == nil {
		m.running--
	}
	return b
}

// run is one merged round trip. It is nobody's request alone: it ends when the
// last of their deadlines passes, not when one of them goes away.
func (m *merged) run(b *mergedGet) {
	defer close(b.done)
	ctx := context.Background()
	if !b.open {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, b.until)
		defer cancel()
	}
	b.records = make([][]byte, len(b.keys))
	b.err = m.Store.Get(ctx, b.keys, b.records)
}
