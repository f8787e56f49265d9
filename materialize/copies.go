package materialize

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// copying copies the source's topic to the internal one, for as long as a session that reads that lasts;
// stop waits for its end. Every member of the stream copies a share of the source's partitions.
func (s *session) copying(ctx context.Context) (stop func()) {
	if s.copies == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		wait := s.cfg.Retry.Min
		set(&wait, 100*time.Millisecond)
		longest := s.cfg.Retry.Max
		set(&longest, 10*time.Second)
		for pause := wait; ; pause = min(2*pause, longest) {
			started := time.Now()
			r := *s.copies
			r.Keys = newCopyKeys(&s.views[0], s).of
			err := s.cfg.Repartitioner.Repartition(ctx, &r)
			switch {
			case err == nil || ctx.Err() != nil:
				return
			case !errors.Is(err, ErrAgain) && !errors.Is(err, ErrUnavailable):
				s.fail(err)
				return
			}
			if time.Since(started) > longest {
				pause = wait
			}
			s.log.Info("copying to the internal topic starts again", "reason", err)
			s.stats.retries.Add(1)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// copyKeys says under which keys the rows of a source's topic are copied for a view.
type copyKeys struct {
	view  *compiledView
	out   *feature.Batch
	keys  *keyColumns
	stats *sourceStats

	all    [][]byte
	memory []byte // never nil: nor is the key of a view without entities, which is empty
	ends   []int
}

func newCopyKeys(v *compiledView, s *session) *copyKeys {
	return &copyKeys{view: v, out: feature.NewBatch(v.program.Fields(), 0), keys: newKeyColumns(v, s.src), stats: &s.stats, memory: []byte{}}
}

// of is Repartition.Keys.
func (k *copyKeys) of(rows *feature.Batch) (keys [][]byte, refused []Bad) {
	k.out.Reset()
	stats := k.view.program.Apply(rows, k.out)
	if stats.NullKeys > 0 {
		refused = k.keys.refused(rows, func(i int) (int32, int64, bool) {
			return int32(rows.Versions[i].Major), rows.Versions[i].Minor, true //nolint:gosec // a partition
		})
	}
	k.stats.countRefused(refused)
	// What is copied is selected, and counted where it is applied.
	k.stats.countView(k.view.ViewGeneration, expr.Stats{Filtered: stats.Filtered, NullKeys: stats.NullKeys}, 0, 0)
	k.all, k.memory, k.ends = k.all[:0], k.memory[:0], k.ends[:0]
	columns := k.out.Columns[:len(k.keys.columns)]
	for i := range k.out.Rows {
		k.memory, _ = feature.AppendKeyRow(k.memory, columns, i) // whole: Apply leaves the others out
		k.ends = append(k.ends, len(k.memory))
	}
	from, in := 0, 0
	for i, end := range k.ends {
		// The row that this one was made of: no two have one version.
		for ; rows.Versions[in] != k.out.Versions[i]; in++ {
			k.all = append(k.all, nil)
		}
		k.all = append(k.all, k.memory[from:end:end])
		from, in = end, in+1
	}
	for ; in < rows.Rows; in++ {
		k.all = append(k.all, nil)
	}
	return k.all, refused
}

// dropCopies has the internal topic of a view removed, and the view filled from the log, before it goes on.
func (v *compiledView) dropCopies(why string) {
	v.dropTopic = true
	v.fill(why)
}
