package materialize

import (
	"context"
	"fmt"
	"strconv"

	"github.com/forebay/forebay/registry/feature"
)

// viewSink applies the rows of a source to one view generation of newest rows.
// It holds nothing back: what add has returned for is in the online store.
type viewSink struct {
	*compiledView
	s *session

	next   map[int32]int64 // per partition, the next offset that is not applied
	stored map[int32]int64 // what the resume points say, or the first offset there is
	known  map[int32]int64 // what the resume points said last

	out, newest  *feature.Batch
	one, refused *feature.Batch   // a single row, and nothing
	index        map[string]int32 // from an entity key to its place in rows
	rows         []int32          // of out, one per entity key
	key          []byte
	keyColumns   []int // of the source
}

func newViewSink(s *session, v *compiledView) *viewSink {
	fields := v.program.Fields()
	k := &viewSink{compiledView: v, s: s, index: map[string]int32{},
		next: map[int32]int64{}, stored: map[int32]int64{}, known: map[int32]int64{},
		out: feature.NewBatch(fields, 0), newest: feature.NewBatch(fields, 0), refused: feature.NewBatch(fields, 0), one: feature.NewBatch(s.src.Fields(), 1)}
	for _, f := range v.JoinKeys() {
		k.keyColumns = append(k.keyColumns, s.src.Column(f.Name))
	}
	return k
}

func (k *viewSink) assign(p int32, next int64, known bool) {
	k.next[p], k.stored[p] = next, next
	if known {
		k.known[p] = next
	}
}

func (k *viewSink) forget(p int32) {
	delete(k.next, p)
	delete(k.stored, p)
	delete(k.known, p)
}

// add writes a chunk's rows, and returns those that the view refuses.
func (k *viewSink) add(c *Chunk) ([]Bad, error) {
	held := true
	for _, p := range c.Partitions {
		held = held && p.Next <= k.next[p.ID]
	}
	if held {
		return nil, nil
	}
	k.out.Reset()
	stats := k.program.Apply(c.Rows, k.out)
	var bad []Bad
	if stats.NullKeys > 0 {
		bad = k.nullKeys(c.Rows)
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

// advance notes that a chunk has been applied.
func (k *viewSink) advance(c *Chunk) {
	for _, p := range c.Partitions {
		k.next[p.ID] = max(k.next[p.ID], p.Next)
	}
}

// newestRows are, of the rows in out, the newest of each entity key: fewer to write where keys repeat.
func (k *viewSink) newestRows() *feature.Batch {
	clear(k.index)
	k.rows = k.rows[:0]
	cols := k.out.Columns[:len(k.keyColumns)]
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

// nullKeys are the rows that the view's filter selects and whose entity key is not
// whole, as dead letters. Apply counts them only; they are rare, so each row
// with a null is put to it by itself.
func (k *viewSink) nullKeys(rows *feature.Batch) []Bad {
	var bad []Bad
	for i, version := range rows.Versions {
		column := -1
		for _, c := range k.keyColumns {
			if rows.Columns[c].IsNull(i) {
				column = c
				break
			}
		}
		if column < 0 || version.Minor < k.next[int32(version.Major)] {
			continue
		}
		k.one.Reset()
		k.one.AppendRow(rows, i)
		k.refused.Reset()
		if k.program.Apply(k.one, k.refused).NullKeys == 0 {
			continue
		}
		bad = append(bad, Bad{Partition: int32(version.Major), Offset: version.Minor, Reason: ReasonNullKey, View: k.ViewGeneration.String(),
			Message: fmt.Sprintf("join key %s is null", k.s.src.Columns[column].Name)})
	}
	return bad
}

// checkpoint stores how far the view is. If the store holds less than was stored
// before, it has lost writes (a failover, a restart without its log), and
// the view goes back to what it holds.
func (k *viewSink) checkpoint(topicID string) error {
	topic := k.s.src.Kafka.Topic
	positions := map[string]string{}
	for p, next := range k.next {
		if next > k.stored[p] {
			positions[resumeName(topic, p)] = strconv.FormatInt(next, 10)
		}
	}
	if len(positions) == 0 && len(k.known) == 0 {
		return nil
	}
	if len(positions) > 0 && topicID != "" {
		positions[resumeTopicID(topic)] = topicID
	}
	var lost error
	err := k.s.retry("the online store", func(ctx context.Context) error {
		resumes, err := k.s.cfg.Online.Resumes(ctx, k.ViewGeneration)
		if err != nil {
			return err
		}
		stored, err := streamResumes(topic, resumes)
		if err != nil {
			return err
		}
		for p, at := range k.known {
			if stored[p] < at {
				lost = fmt.Errorf("%w: the online store has lost writes to view %s: it held %s/%d up to offset %d, and holds it up to %d", ErrAgain, k.ViewGeneration, topic, p, at, stored[p])
				return nil
			}
		}
		if len(positions) == 0 {
			return nil
		}
		return k.s.cfg.Online.SetResumes(ctx, k.ViewGeneration, positions)
	})
	switch {
	case err != nil:
		return fmt.Errorf("store the resume points of %s: %w", k.ViewGeneration, err)
	case lost != nil:
		return lost
	}
	for p, next := range k.next {
		if next > k.stored[p] {
			k.stored[p], k.known[p] = next, next
		}
	}
	return nil
}
