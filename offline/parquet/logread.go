package parquet

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// logBatch is how many rows of a log are read at once.
const logBatch = 2 * pageRows

// readLog hands the rows of a log's data file to each, as batches in the shape
// of the source, with their versions; of its columns, those wanted and the
// event time are there, the rest are nil.
func (s *Store) readLog(ctx context.Context, src *registry.Source, log *tableState, df dataFile, want []int, each func(*feature.Batch) error) (err error) {
	cs := logColumns(src)
	if _, err := bind(log.name, log.Schema(), cs); err != nil {
		return err
	}
	r, err := openFile(s.fs, df.FilePath(), df.FileSizeBytes(), df.Count())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	cols := make([]*feature.Column, len(cs))
	read := make([]*columnReader, len(cs))
	use := func(i int) error {
		if cols[i] != nil {
			return nil
		}
		cols[i] = feature.NewColumn(cs[i].Name, cs[i].Type, int(min(logBatch, df.Count())))
		read[i], err = r.newColumnReader(cs[i])
		return err
	}
	ours := len(src.Columns)
	at := src.Column(src.Timestamp)
	need := append([]int{at, ours, ours + 1, ours + 2, ours + 4, ours + 5}, want...)
	for _, i := range need {
		if err := use(i); err != nil {
			return err
		}
	}
	defer func() {
		for _, cr := range read {
			if cr != nil {
				cr.close()
			}
		}
	}()
	batch := &feature.Batch{Columns: cols[:ours]}
	for start := int64(0); start < df.Count(); start += logBatch {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n := int(min(logBatch, df.Count()-start))
		for i, cr := range read {
			if cr == nil {
				continue
			}
			if err := fill(cr, cols[i], start, n); err != nil {
				return err
			}
		}
		batch.Rows, batch.Versions = n, batch.Versions[:0]
		m := cols[ours:]
		for i := range n {
			v := feature.Version{EventTime: int64(cols[at].Nums[i]), IngestedAt: int64(m[0].Nums[i])}
			switch {
			case cols[at].IsNull(i):
				return fmt.Errorf("%w %s: row %d has no event time", ErrDamaged, df.FilePath(), start+int64(i))
			case !m[1].IsNull(i) && !m[2].IsNull(i):
				v.Major, v.Minor = int64(m[1].Nums[i]), int64(m[2].Nums[i])
			case !m[4].IsNull(i) && !m[5].IsNull(i):
				v.Major, v.Minor = int64(m[4].Nums[i]), int64(m[5].Nums[i])
			default:
				return fmt.Errorf("%w %s: row %d has neither a Kafka offset nor a place in a file: it was written by another program", ErrDamaged, df.FilePath(), start+int64(i))
			}
			batch.Versions = append(batch.Versions, v)
		}
		if err := each(batch); err != nil {
			return err
		}
	}
	return nil
}
