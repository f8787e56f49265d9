package parquet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Scan implements offline.Store.
func (s *Store) Scan(ctx context.Context, v registry.ViewGeneration, o offline.ScanOptions) iter.Seq2[*feature.Batch, error] {
	d, err := s.loadDerived(ctx, v)
	return func(yield func(*feature.Batch, error) bool) {
		if err == nil && d != nil {
			err = s.scan(ctx, d, o, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("scanning view %s: %w", v, err))
		}
	}
}

// errStopped: the one who iterates has seen enough.
var errStopped = errors.New("stopped")

func (s *Store) scan(ctx context.Context, d *derived, o offline.ScanOptions, yield func(*feature.Batch, error) bool) error {
	files, err := s.added(d.tableState, o.Since)
	if err != nil {
		return err
	}
	byBucket := make([][]dataFile, d.buckets)
	for _, f := range files {
		if f.bucket < 0 || f.bucket >= d.buckets {
			return fmt.Errorf("table %s: data file %s has bucket %d of %d", d.name, f.FilePath(), f.bucket, d.buckets)
		}
		byBucket[f.bucket] = append(byBucket[f.bucket], f)
	}
	all := make([]int, len(d.l.features()))
	for i := range all {
		all[i] = i
	}
	for _, fs := range byBucket {
		var open []*sortedFile
		for _, f := range fs {
			sf, err := s.openSorted(ctx, d.l, all, f.FilePath(), f.FileSizeBytes(), f.Count(), false)
			if err != nil {
				for _, sf := range open {
					err = errors.Join(err, sf.Close())
				}
				return err
			}
			open = append(open, sf)
		}
		err := merge(ctx, d.l, open, mergeFilter{from: o.From, to: o.To, newest: o.NewestOnly}, func(b *feature.Batch) error {
			if !yield(b, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// added lists the files whose rows were added after a snapshot: all for "".
// Compaction, which writes rows again, adds none. Where the snapshot is no
// longer known, or another engine has written since, it lists all there are.
func (s *Store) added(t *tableState, since string) ([]dataFile, error) {
	var later []*table.Snapshot
	for sn := t.head; since != "" && sn != nil; {
		if strconv.FormatInt(sn.SnapshotID, 10) == since {
			var files []dataFile
			for _, sn := range later {
				fs, err := s.files(t, sn, sn.SequenceNumber-1) // what it added has its number
				if err != nil {
					return nil, err
				}
				files = append(files, fs...)
			}
			return files, nil
		}
		if sn.Summary == nil || sn.Summary.Properties[keyFormat] == "" || sn.ParentSnapshotID == nil {
			break
		}
		if sn.Summary.Properties[keyCompaction] == "" {
			later = append(later, sn)
		}
		sn = t.SnapshotByID(*sn.ParentSnapshotID)
	}
	return s.files(t, t.head, -1)
}
