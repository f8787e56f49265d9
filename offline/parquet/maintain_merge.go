package parquet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

const (
	// smallBytes is the size below which a data file is merged with others.
	smallBytes = 64 << 20
	// mergedBytes is where a merged file ends and another begins.
	mergedBytes = 256 << 20
	// mergeFiles bounds how many files are merged, and open, at once.
	mergeFiles = 64
)

// small chooses the small files of a bucket, two or more.
func small(fs []dataFile) []iceberg.DataFile {
	var chosen []iceberg.DataFile
	bytes := int64(0)
	for _, f := range fs {
		if f.FileSizeBytes() < smallBytes && len(chosen) < mergeFiles && bytes+f.FileSizeBytes() <= mergedBytes {
			chosen = append(chosen, f.DataFile)
			bytes += f.FileSizeBytes()
		}
	}
	if len(chosen) < 2 {
		return nil
	}
	return chosen
}

// mergeView merges the small files of each bucket of a derived table.
func (m *maintenance) mergeView(ctx context.Context, v registry.ViewGeneration, t *tableState, d *offline.Maintained) (*tableState, error) {
	files, err := m.s.files(t, t.head, -1)
	if err != nil {
		return nil, err
	}
	byBucket := map[int][]dataFile{}
	for _, f := range files {
		byBucket[f.bucket] = append(byBucket[f.bucket], f)
	}
	for _, fs := range byBucket {
		if chosen := small(fs); len(chosen) > 0 {
			d.Merged += len(chosen)
			d.Into++
		}
	}
	if d.Merged == 0 || m.r.DryRun {
		return t, nil
	}
	now, err := m.s.merge(ctx, v, t, small)
	if err == nil && now == t { // another change came first
		d.Merged, d.Into = 0, 0
	}
	return now, err
}

// mergeLog merges the small files of a log. A refresh reads the files that were added after
// the sequence number up to which its table was derived; so a merged file has the greatest
// number of those it is made of, and files are merged only if no derived table ends
// between them (bounds) and no refresh may be under way that ends between them: they are
// older than any refresh.
func (m *maintenance) mergeLog(ctx context.Context, src *registry.Source, t *tableState, bounds []int64, d *offline.Maintained) (*tableState, error) {
	columns, ok := logTableColumns(t, src)
	if !ok {
		return t, nil
	}
	files, err := m.s.files(t, t.head, -1)
	if err != nil {
		return nil, err
	}
	for _, group := range logGroups(files, bounds, m.settled(t)) {
		d.Merged += len(group)
		d.Into++
		if m.r.DryRun {
			continue
		}
		now, err := m.s.mergeLogFiles(ctx, t, columns, group)
		if errors.Is(err, errStale) {
			d.Merged -= len(group)
			d.Into--
			continue
		}
		if err != nil {
			return nil, err
		}
		t = now
	}
	return t, nil
}

// settled is the greatest sequence number of a log that every refresh under way has seen.
func (m *maintenance) settled(t *tableState) int64 {
	settled := int64(-1)
	for _, sn := range t.Metadata().Snapshots() {
		if sn.TimestampMs < m.before.UnixMilli() {
			settled = max(settled, sn.SequenceNumber)
		}
	}
	return settled
}

// logGroups are the files of a log that are merged, each group into one.
func logGroups(files []dataFile, bounds []int64, settled int64) [][]dataFile {
	bounds = slices.Clone(bounds)
	slices.Sort(bounds)
	var groups [][]dataFile
	var group []dataFile
	bytes, segment := int64(0), -1
	end := func() {
		if len(group) > 1 {
			groups = append(groups, group)
		}
		group, bytes = nil, 0
	}
	for _, f := range files { // by sequence number
		if f.sequence > settled {
			break
		}
		if f.FileSizeBytes() >= smallBytes {
			continue
		}
		// The number of bounds below it: the same for files between two of them.
		at, _ := slices.BinarySearch(bounds, f.sequence)
		if at != segment || bytes+f.FileSizeBytes() > mergedBytes {
			end()
		}
		segment = at
		group, bytes = append(group, f), bytes+f.FileSizeBytes()
	}
	end()
	return groups
}

// mergeLogFiles writes the rows of files of a log into one, and puts that in their place.
// errStale: another merge was faster.
func (s *Store) mergeLogFiles(ctx context.Context, t *tableState, columns []column, group []dataFile) (*tableState, error) {
	name := fmt.Sprintf("%016x-%s.parquet", uint64(s.now().UnixMicro()), uuid.NewString())
	merged, err := s.concatenate(ctx, t, columns, group, filepath.Join(t.Location(), "data", name))
	if err != nil {
		return nil, err
	}
	sequence := int64(0)
	for _, f := range group {
		sequence = max(sequence, f.sequence)
	}
	now, err := s.commit(ctx, t.Identifier(), func(t *tableState, tx *table.Transaction, props iceberg.Properties) error {
		live, err := s.files(t, t.head, -1)
		if err != nil {
			return err
		}
		there := make(map[string]bool, len(live))
		for _, f := range live {
			there[f.FilePath()] = true
		}
		carryLog(t, props)
		props[keyCompaction] = "true"
		rw := tx.NewRewrite(props).DataSequenceNumber(sequence)
		for _, f := range group {
			if !there[f.FilePath()] {
				return errStale
			}
			rw.DeleteFile(f.DataFile)
		}
		return rw.AddDataFile(merged).Commit(ctx)
	})
	if err != nil && !errors.Is(err, errUnsure) {
		err = errors.Join(err, s.fs.Remove(merged.FilePath()))
	}
	return now, err
}

// carryLog copies the cumulative keys of a log: all of ours but those of one append.
func carryLog(t *tableState, props iceberg.Properties) {
	for k, v := range t.summary {
		switch k {
		case keyFormat, keyCommit, keyCompaction, keyFileName, keyFileHash, keyFileInstant, keyOffsets:
		default:
			if strings.HasPrefix(k, "forebay.") {
				props[k] = v
			}
		}
	}
}

// concatenate writes the rows of data files into one.
func (s *Store) concatenate(ctx context.Context, t *tableState, columns []column, group []dataFile, path string) (iceberg.DataFile, error) {
	w, err := newFileWriter(s.fs, path, filepath.Base(t.name), columns, false)
	if err != nil {
		return nil, err
	}
	cols := make([]*feature.Column, len(columns))
	for i, c := range columns {
		cols[i] = feature.NewColumn(c.Name, c.Type, logBatch)
	}
	for _, f := range group {
		if err := s.copyRows(ctx, w, columns, cols, f); err != nil {
			return nil, errors.Join(err, w.abort())
		}
	}
	return w.finish(t.Spec(), -1)
}

// copyRows appends the rows of a data file to a writer.
func (s *Store) copyRows(ctx context.Context, w *fileWriter, columns []column, cols []*feature.Column, f dataFile) (err error) {
	r, err := openFile(s.fs, f.FilePath(), f.FileSizeBytes(), f.Count())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	read := make([]*columnReader, 0, len(columns))
	defer func() {
		for _, cr := range read {
			cr.close()
		}
	}()
	for _, c := range columns {
		cr, err := r.newColumnReader(c)
		if err != nil {
			return err
		}
		read = append(read, cr)
	}
	for start := int64(0); start < f.Count(); start += logBatch {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := int(min(logBatch, f.Count()-start))
		for i, cr := range read {
			if err := fill(cr, cols[i], start, n); err != nil {
				return err
			}
		}
		if err := w.write(cols, n); err != nil {
			return err
		}
	}
	return nil
}

// logTableColumns are all columns of a log's table, also those that its source declares no
// more; false if one is of a type that the table alone does not tell.
func logTableColumns(t *tableState, src *registry.Source) ([]column, bool) {
	declared := logColumns(src)
	kinds := []struct {
		is iceberg.Type
		as feature.Type
	}{
		{iceberg.PrimitiveTypes.Bool, feature.TypeBool}, {iceberg.PrimitiveTypes.Int64, feature.TypeInt64}, {iceberg.PrimitiveTypes.Float64, feature.TypeFloat64},
		{iceberg.PrimitiveTypes.String, feature.TypeString}, {iceberg.PrimitiveTypes.Binary, feature.TypeBytes}, {iceberg.PrimitiveTypes.TimestampTz, feature.TypeTimestamp},
	}
	var columns []column
	for _, f := range t.Schema().Fields() {
		c := column{Field: feature.Field{Name: f.Name}, required: f.Required}
		if i := slices.IndexFunc(declared, func(c column) bool { return c.Name == f.Name }); i >= 0 {
			c.Type, c.narrow = declared[i].Type, declared[i].narrow
		} else {
			typ, list := f.Type, false
			if l, ok := f.Type.(*iceberg.ListType); ok {
				typ, list = l.Element, true
			}
			i := slices.IndexFunc(kinds, func(k struct {
				is iceberg.Type
				as feature.Type
			}) bool {
				return typ.Equals(k.is)
			})
			if i < 0 {
				return nil, false // an embedding, whose length only its declaration says
			}
			if c.Type = kinds[i].as; list {
				c.Type = feature.Type{Kind: feature.List, Elem: kinds[i].as.Kind}
			}
		}
		columns = append(columns, c)
	}
	missing, err := bind(t.name, t.Schema(), columns)
	return columns, err == nil && len(missing) == 0
}
