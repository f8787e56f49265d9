package materialize

import (
	"context"
	"fmt"

	"github.com/forebay/forebay/registry/feature"
)

// viewSink applies the rows of a source to one view generation of newest rows.
type viewSink struct {
	progress

	newest *feature.Batch
	index  map[string]int32 // from an entity key to its place in rows
	rows   []int32          // of out, one per entity key
	key    []byte
}

var _ sink = (*viewSink)(nil)

func newViewSink(s *session, v *compiledView) *viewSink {
	return &viewSink{progress: newProgress(s, v), index: map[string]int32{}, newest: feature.NewBatch(v.program.Fields(), 0)}
}

// add writes a chunk's rows, and returns those that the view refuses.
func (k *viewSink) add(c *Chunk) ([]Bad, error) {
	if k.held(c) {
		return nil, nil
	}
	k.out.Reset()
	stats := k.program.Apply(c.Rows, k.out)
	var bad []Bad
	if stats.NullKeys > 0 {
		bad = k.nullKeys(c)
	}
	rows := k.newestRows()
	var applied, stale int
	if rows.Rows > 0 {
		if err := k.s.retry("the online store", func(ctx context.Context) (err error) {
			applied, stale, err = k.s.cfg.Online.Write(ctx, k.ViewGeneration, rows, false)
			return err
		}); err != nil {
			return nil, fmt.Errorf("write view %s: %w", k.ViewGeneration, err)
		}
	}
	k.s.stats.countView(k.ViewGeneration, stats, applied, stale)
	return bad, nil
}

// newestRows are, of the rows in out, the newest of each entity key: fewer to write where keys repeat.
func (k *viewSink) newestRows() *feature.Batch {
	clear(k.index)
	k.rows = k.rows[:0]
	cols := k.out.Columns[:len(k.keys.columns)]
	for i := range k.out.Rows {
		key, ok := feature.AppendKeyRow(k.key[:0], cols, i)
		k.key = key
		if !ok {
			continue // never: Apply leaves them out
		}
		at, seen := k.index[string(key)]
		switch {
		case !seen:
			k.index[string(key)] = int32(len(k.rows))
			k.rows = append(k.rows, int32(i))
		case k.out.Versions[i].Compare(k.out.Versions[k.rows[at]]) > 0:
			k.rows[at] = int32(i)
		}
	}
	if len(k.rows) == k.out.Rows {
		return k.out
	}
	k.newest.Reset()
	for _, i := range k.rows {
		k.newest.AppendRow(k.out, int(i))
	}
	return k.newest
}
