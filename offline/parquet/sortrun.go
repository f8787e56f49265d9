package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// sorter brings rows of any order into sorted files, one per bucket, in bounded
// memory: what fits is sorted and written as a run, and the runs are merged
// bucket by bucket. A single run is the result as it is.
type sorter struct {
	s       *Store
	l       *layout
	spec    iceberg.PartitionSpec
	name    string // of the table, for its files
	dir     string // where the result goes
	tmp     string // where runs go that are merged later
	buckets int
	runs    [][]iceberg.DataFile
	made    []string // every file made, for abort
	inTmp   bool
}

func (s *Store) newSorter(t *tableState, l *layout, buckets int) *sorter {
	return &sorter{s: s, l: l, spec: t.Spec(), name: t.name, dir: filepath.Join(t.Location(), "data"),
		tmp: filepath.Join(s.root, "tmp", uuid.NewString()), buckets: buckets}
}

// sortEntry is a row to be sorted.
type sortEntry struct {
	prefix uint64
	row    uint32
}

// add sorts rows and writes them as a run. last says that no more come.
func (o *sorter) add(ctx context.Context, rows *feature.Batch, last bool) error {
	if rows.Rows == 0 {
		return nil
	}
	keys := pit.NewKeys(o.l.types)
	for i := range rows.Rows {
		keys.AppendRow(rows.Columns[:o.l.keys], i) // none is null: see expr.View.Apply
	}
	entries, ends := byBucket(keys, o.buckets)
	dir := o.tmp
	if last && len(o.runs) == 0 {
		dir = o.dir
	} else {
		o.inTmp = true
	}
	files := make([]iceberg.DataFile, o.buckets)
	err := parallel(ctx, o.s.workers, o.buckets, func(ctx context.Context, b int) error {
		part := entries[ends[b]:ends[b+1]]
		if len(part) == 0 {
			return nil
		}
		slices.SortFunc(part, func(x, y sortEntry) int {
			if x.prefix != y.prefix {
				return cmp.Compare(x.prefix, y.prefix)
			}
			if keys.Offsets != nil {
				if c := keys.Compare(int(x.row), keys, int(y.row)); c != 0 {
					return c
				}
			}
			return rows.Versions[x.row].Compare(rows.Versions[y.row])
		})
		w, err := o.create(dir, b)
		if err != nil {
			return err
		}
		if err := o.writeSorted(ctx, w, rows, part, b); err != nil {
			return errors.Join(err, w.abort())
		}
		files[b], err = w.finish(o.spec, b)
		return err
	})
	o.note(files)
	o.runs = append(o.runs, files)
	return err
}

func (o *sorter) note(files []iceberg.DataFile) {
	for _, f := range files {
		if f != nil {
			o.made = append(o.made, f.FilePath())
		}
	}
}

// byBucket distributes rows over buckets: those of bucket b are
// entries[ends[b]:ends[b+1]], in the order they came in.
func byBucket(keys *pit.Keys, buckets int) (entries []sortEntry, ends []int) {
	n := keys.Len()
	of := make([]uint32, n)
	ends = make([]int, buckets+2)
	for i := range n {
		of[i] = uint32(bucketOf(keys, i, buckets))
		ends[of[i]+2]++
	}
	for b := 2; b < len(ends); b++ {
		ends[b] += ends[b-1]
	}
	entries = make([]sortEntry, n)
	for i := range n {
		at := &ends[of[i]+1]
		entries[*at] = sortEntry{keys.Prefix(i), uint32(i)}
		*at++
	}
	return entries, ends[:buckets+1]
}

func bucketOf(keys *pit.Keys, i, buckets int) int {
	return int(keys.Hash(i) % uint64(buckets))
}

func (o *sorter) create(dir string, bucket int) (*fileWriter, error) {
	return newFileWriter(o.s.fs, filepath.Join(dir, fmt.Sprintf("%04d-%s.parquet", bucket, uuid.NewString())), filepath.Base(o.name), o.l.columns)
}

func (o *sorter) writeSorted(ctx context.Context, w *fileWriter, rows *feature.Batch, part []sortEntry, bucket int) error {
	enc, out := newEncoder(o.l), feature.NewBatch(o.l.fields, blockRows)
	order := make([]uint32, 0, blockRows)
	for len(part) > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n := min(len(part), blockRows)
		order = order[:0]
		out.Reset()
		for _, e := range part[:n] {
			order = append(order, e.row)
			out.Versions = append(out.Versions, rows.Versions[e.row])
		}
		for j, c := range rows.Columns {
			gather(out.Columns[j], c, order)
		}
		out.Rows = n
		if err := w.write(enc.encode(out, bucket), 0, n); err != nil {
			return err
		}
		part = part[n:]
	}
	return nil
}

// finish merges the runs and returns the files of the result.
func (o *sorter) finish(ctx context.Context) ([]iceberg.DataFile, error) {
	var result []iceberg.DataFile
	if len(o.runs) == 0 {
		return nil, nil
	}
	if !o.inTmp {
		for _, f := range o.runs[0] {
			if f != nil {
				result = append(result, f)
			}
		}
		return result, nil
	}
	files := make([]iceberg.DataFile, o.buckets)
	err := parallel(ctx, o.s.workers, o.buckets, func(ctx context.Context, b int) (err error) {
		var parts []iceberg.DataFile
		for _, run := range o.runs {
			if run[b] != nil {
				parts = append(parts, run[b])
			}
		}
		files[b], err = o.mergeInto(ctx, parts, b)
		return err
	})
	o.note(files)
	for _, f := range files {
		if f != nil {
			result = append(result, f)
		}
	}
	return result, errors.Join(err, o.dropRuns())
}

// mergeInto merges sorted files of one bucket into a new one; nil of none.
func (o *sorter) mergeInto(ctx context.Context, parts []iceberg.DataFile, bucket int) (iceberg.DataFile, error) {
	if len(parts) == 0 {
		return nil, nil
	}
	all := make([]int, len(o.l.features()))
	for i := range all {
		all[i] = i
	}
	var open []*sortedFile
	for _, p := range parts {
		f, err := o.s.openSorted(ctx, o.l, all, p.FilePath(), p.FileSizeBytes(), p.Count(), false)
		if err != nil {
			for _, f := range open {
				err = errors.Join(err, f.Close())
			}
			return nil, err
		}
		open = append(open, f)
	}
	w, err := o.create(o.dir, bucket)
	if err != nil {
		for _, f := range open {
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
	enc := newEncoder(o.l)
	err = merge(ctx, o.l, open, mergeFilter{}, func(b *feature.Batch) error {
		return w.write(enc.encode(b, bucket), 0, b.Rows)
	})
	if err != nil {
		return nil, errors.Join(err, w.abort())
	}
	return w.finish(o.spec, bucket)
}

func (o *sorter) dropRuns() error {
	if !o.inTmp {
		return nil
	}
	o.inTmp = false
	if err := o.s.fs.RemoveAll(o.tmp); err != nil {
		return fmt.Errorf("removing sort runs: %w", err)
	}
	return nil
}

// abort removes all files made, of which no snapshot knows.
func (o *sorter) abort() error {
	var errs []error
	for _, p := range o.made {
		if filepath.Dir(p) == o.dir {
			errs = append(errs, o.s.fs.Remove(p))
		}
	}
	o.made = nil
	return errors.Join(append(errs, o.dropRuns())...)
}
