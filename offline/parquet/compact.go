package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/registry"
)

// maxBucketFiles is how many sorted files a bucket may have before some are merged.
const maxBucketFiles = 8

// compact merges files of buckets that have gathered too many, and commits that.
// Losing against another change of the table is no error: the next refresh tries again.
func (s *Store) compact(ctx context.Context, v registry.ViewGeneration, t *tableState) (*tableState, error) {
	return s.merge(ctx, v, t, tier)
}

// merge merges those of each bucket's files that choose chooses, and commits that.
func (s *Store) merge(ctx context.Context, v registry.ViewGeneration, t *tableState, choose func([]dataFile) []iceberg.DataFile) (*tableState, error) {
	files, err := s.files(t, t.head, -1)
	if err != nil {
		return nil, err
	}
	byBucket := map[int][]dataFile{}
	for _, f := range files {
		byBucket[f.bucket] = append(byBucket[f.bucket], f)
	}
	type task struct {
		bucket int
		old    []iceberg.DataFile
	}
	var tasks []task
	for b, fs := range byBucket {
		if old := choose(fs); len(old) > 0 {
			tasks = append(tasks, task{b, old})
		}
	}
	if len(tasks) == 0 {
		return t, nil
	}
	d, err := s.loadDerived(ctx, v)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("table %s is gone", t.name)
	}
	out := s.newSorter(d.tableState, d.l, d.buckets)
	merged := make([]iceberg.DataFile, len(tasks))
	err = parallel(ctx, s.workers, len(tasks), func(ctx context.Context, i int) (err error) {
		merged[i], err = out.mergeInto(ctx, tasks[i].old, tasks[i].bucket)
		return err
	})
	out.note(merged)
	if err != nil {
		return nil, errors.Join(err, out.abort())
	}
	now, err := s.commit(ctx, s.viewIdent(v), func(t *tableState, tx *table.Transaction, props iceberg.Properties) error {
		live, err := s.files(t, t.head, -1)
		if err != nil {
			return err
		}
		paths := make(map[string]bool, len(live))
		for _, f := range live {
			paths[f.FilePath()] = true
		}
		carry(t, props)
		props[keyCompaction] = "true"
		rw := tx.NewRewrite(props)
		for i, tk := range tasks {
			for _, f := range tk.old {
				if !paths[f.FilePath()] {
					return errStale
				}
				rw.DeleteFile(f)
			}
			rw.AddDataFile(merged[i])
		}
		return rw.Commit(ctx)
	})
	switch {
	case errors.Is(err, errStale):
		s.log.Info("compaction lost against another", "table", t.name)
		return t, out.abort()
	case err != nil && !errors.Is(err, errUnsure):
		return nil, errors.Join(err, out.abort())
	}
	return now, err
}

// tier chooses the files of a bucket to merge: the smallest, and on to larger
// ones while each is at most twice as large as all before it. A row is thus
// written again a number of times that grows as the logarithm of the bucket.
func tier(fs []dataFile) []iceberg.DataFile {
	if len(fs) <= maxBucketFiles {
		return nil
	}
	fs = slices.Clone(fs)
	slices.SortFunc(fs, func(a, b dataFile) int { return cmp.Compare(a.Count(), b.Count()) })
	old := []iceberg.DataFile{fs[0].DataFile}
	sum := fs[0].Count()
	for _, f := range fs[1:] {
		if len(old) >= maxBucketFiles/2 && f.Count() > 2*sum {
			break
		}
		old = append(old, f.DataFile)
		sum += f.Count()
	}
	return old
}
