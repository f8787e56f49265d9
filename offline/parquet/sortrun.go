package parquet

import (
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

// newParts makes an empty run: a batch of rows for each bucket.
func (o *sorter) newParts() []*feature.Batch {
	parts := make([]*feature.Batch, o.buckets)
	for b := range parts {
		parts[b] = feature.NewBatch(o.l.fields, 0)
	}
	return parts
}

// distribute appends rows to the batches of their buckets. Rows are few enough to lie in a cache, so that they are
// not looked for all over the memory when a bucket is sorted.
func (o *sorter) distribute(rows *feature.Batch, parts []*feature.Batch) {
	keys := pit.NewKeys(o.l.types)
	if o.l.keys > 0 && rows.Rows > 0 {
		keys.AppendRows(rows.Columns[:o.l.keys], 0, rows.Rows) // none is null: see expr.View.Apply
	}
	order := make([][]uint32, o.buckets)
	for i := range rows.Rows {
		b := 0
		if o.l.keys > 0 {
			b = bucketOf(keys, i, o.buckets)
		}
		order[b] = append(order[b], uint32(i))
	}
	for b, of := range order {
		part := parts[b]
		for j, c := range rows.Columns {
			gather(part.Columns[j], c, of)
		}
		for _, i := range of {
			part.Versions = append(part.Versions, rows.Versions[i])
		}
		part.Rows += len(of)
	}
}

// add sorts rows, bucket by bucket, and writes them as a run. last says that no more come.
func (o *sorter) add(ctx context.Context, parts []*feature.Batch, last bool) error {
	dir := o.tmp
	if last && len(o.runs) == 0 {
		dir = o.dir
	} else if slices.ContainsFunc(parts, func(p *feature.Batch) bool { return p.Rows > 0 }) {
		o.inTmp = true
	}
	files := make([]iceberg.DataFile, o.buckets)
	err := parallel(ctx, o.s.workers, o.buckets, func(ctx context.Context, b int) error {
		rows := parts[b]
		if rows.Rows == 0 {
			return nil
		}
		w, err := o.create(dir, b)
		if err != nil {
			return err
		}
		if err := o.writeSorted(ctx, w, rows, o.sort(rows), b); err != nil {
			return errors.Join(err, w.abort())
		}
		files[b], err = w.finish(o.spec, b)
		return err
	})
	o.note(files)
	o.runs = append(o.runs, files)
	return err
}

// sort is the order of rows by (entity key, version).
func (o *sorter) sort(rows *feature.Batch) []sortEntry {
	keys := pit.NewKeys(o.l.types)
	if o.l.keys > 0 {
		keys.AppendRows(rows.Columns[:o.l.keys], 0, rows.Rows)
	} else {
		for range rows.Rows {
			keys.AppendRow(nil, 0)
		}
	}
	part := make([]sortEntry, rows.Rows)
	for i := range part {
		part[i] = sortEntry{keys.Prefix(i), uint32(i)}
	}
	return sortEntries(part, func(x, y uint32) int {
		if keys.Offsets != nil {
			if c := keys.Compare(int(x), keys, int(y)); c != 0 {
				return c
			}
		}
		return rows.Versions[x].Compare(rows.Versions[y])
	})
}

func (o *sorter) note(files []iceberg.DataFile) {
	for _, f := range files {
		if f != nil {
			o.made = append(o.made, f.FilePath())
		}
	}
}

func (o *sorter) create(dir string, bucket int) (*fileWriter, error) {
	return newFileWriter(o.s.fs, filepath.Join(dir, fmt.Sprintf("%04d-%s.parquet", bucket, uuid.NewString())), filepath.Base(o.name), o.l.columns, dir == o.tmp)
}

func (o *sorter) writeSorted(ctx context.Context, w *fileWriter, rows *feature.Batch, part []sortEntry, bucket int) error {
	enc, out := newEncoder(o.l), feature.NewBatch(o.l.fields, min(blockRows, len(part)))
	order := make([]uint32, 0, min(blockRows, len(part)))
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
		if err := w.write(enc.encode(out, bucket), n); err != nil {
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
		return w.write(enc.encode(b, bucket), b.Rows)
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
