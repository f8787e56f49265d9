package parquet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// The number of buckets of a table, chosen when it is made.
const (
	minBuckets    = 4
	maxBuckets    = 256
	rowsPerBucket = 1 << 20 // of the log at that time
)

func bucketsFor(v registry.ViewGeneration, logRows int64) int {
	if len(v.JoinKeys()) == 0 {
		return 1
	}
	n := uint64(logRows/rowsPerBucket + 1)
	return min(max(1<<bits.Len64(n-1), minBuckets), maxBuckets)
}

// derived is a view's table and how its rows lie in it.
type derived struct {
	*tableState
	l       *layout
	buckets int
}

// loadDerived reads the newest version of a derived table; nil if there is none.
func (s *Store) loadDerived(ctx context.Context, v registry.ViewGeneration) (*derived, error) {
	t, err := s.load(ctx, s.viewIdent(v))
	if err != nil || t == nil {
		return nil, err
	}
	d := &derived{tableState: t, l: newLayout(v)}
	missing, err := bind(t.name, t.Schema(), d.l.columns)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("table %s has no column %q: it was made from another definition of %s", t.name, missing[0].Name, v)
	}
	if d.buckets, err = strconv.Atoi(t.Properties()[keyBuckets]); err != nil || d.buckets < 1 {
		return nil, fmt.Errorf("table %s: property %s is %q, not a number of buckets", t.name, keyBuckets, t.Properties()[keyBuckets])
	}
	return d, nil
}

// Table implements offline.Store.
func (s *Store) Table(ctx context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	d, err := s.loadDerived(ctx, v)
	if err != nil || d == nil || d.head == nil {
		return offline.TableState{}, err
	}
	return d.tableInfo(), nil
}

func (t *tableState) tableInfo() offline.TableState {
	return offline.TableState{
		Rows:        t.total("total-records"),
		Bytes:       t.total("total-files-size"),
		Snapshot:    t.snapshot(),
		LogSnapshot: t.summary[keyLogSnapshot],
		Newest:      t.number(keyNewest),
		BadRows:     t.number(keyBadRows),
		Invalid:     t.number(keyInvalid),
		Content:     t.summary[keyContent], ContentTimed: t.summary[keyTimed], Appended: t.number(keyIngestedAt),
	}
}

// errStale: the table has changed in a way that makes prepared files wrong.
var errStale = errors.New("the table was refreshed meanwhile")

// Refresh implements offline.Store.
func (s *Store) Refresh(ctx context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	unlock, err := s.lock(ctx, s.path(s.viewIdent(v))+" refresh")
	if err != nil {
		return offline.TableState{}, err
	}
	defer unlock()
	for {
		state, err := s.refresh(ctx, v)
		switch {
		case errors.Is(err, errStale):
			continue // another process was faster: what it left may be all there is to do
		case err != nil:
			return offline.TableState{}, fmt.Errorf("refreshing view %s: %w", v, err)
		}
		return state, nil
	}
}

func (s *Store) refresh(ctx context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	src := v.Source()
	log, err := s.load(ctx, s.logIdent(src))
	if err != nil {
		return offline.TableState{}, err
	}
	if log == nil || log.head == nil {
		return s.Table(ctx, v)
	}
	d, err := s.ensureDerived(ctx, v, log)
	if err != nil {
		return offline.TableState{}, err
	}
	if id := d.summary[keyLogTable]; id != "" && id != log.Metadata().TableUUID().String() {
		return offline.TableState{}, fmt.Errorf("table %s was derived from a log that is gone; remove its folder, and it is derived again", d.name)
	}
	done := int64(-1)
	if d.summary != nil {
		done = d.number(keyLogSequence)
	}
	if done >= log.head.SequenceNumber {
		return d.tableInfo(), nil
	}
	t, err := s.extend(ctx, v, d, log, done)
	if err != nil {
		return offline.TableState{}, err
	}
	if t, err = s.compact(ctx, v, t); err != nil {
		return offline.TableState{}, err
	}
	return t.tableInfo(), nil
}

func (s *Store) ensureDerived(ctx context.Context, v registry.ViewGeneration, log *tableState) (*derived, error) {
	d, err := s.loadDerived(ctx, v)
	if err != nil || d != nil {
		return d, err
	}
	l := newLayout(v)
	bucket := len(l.columns) // Iceberg numbers the columns in order
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{bucket}, FieldID: 1000, Name: colBucket, Transform: iceberg.IdentityTransform{}})
	props := iceberg.Properties{keyBuckets: strconv.Itoa(bucketsFor(v, log.total("total-records")))}
	if _, err := s.create(ctx, s.viewIdent(v), l.columns, &spec, props); err != nil {
		return nil, err
	}
	d, err = s.loadDerived(ctx, v)
	if err == nil && d == nil {
		err = fmt.Errorf("table %s went away", s.path(s.viewIdent(v)))
	}
	return d, err
}

// extend derives the rows of the log's files after a sequence number and commits them.
func (s *Store) extend(ctx context.Context, v registry.ViewGeneration, d *derived, log *tableState, done int64) (*tableState, error) {
	out := s.newSorter(d.tableState, d.l, d.buckets)
	sum, err := s.derive(ctx, v, log, done, out)
	var files []iceberg.DataFile
	if err == nil {
		files, err = out.finish(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, out.abort())
	}
	content, timed, err := log.content(v.Source())
	if err != nil {
		return nil, errors.Join(err, out.abort())
	}
	t, err := s.commit(ctx, s.viewIdent(v), func(t *tableState, tx *table.Transaction, props iceberg.Properties) error {
		if t.summary != nil && t.number(keyLogSequence) != done || t.summary == nil && done != -1 {
			return errStale
		}
		carry(t, props)
		props[keyLogSnapshot] = log.snapshot()
		props[keyLogSequence] = strconv.FormatInt(log.head.SequenceNumber, 10)
		props[keyLogTable] = log.Metadata().TableUUID().String()
		delete(props, keyContent)
		delete(props, keyTimed)
		if content != "" {
			props[keyContent], props[keyTimed] = content, timed
		}
		props[keyIngestedAt] = log.summary[keyIngestedAt]
		props[keyBadRows] = strconv.FormatInt(t.number(keyBadRows)+sum.badRows, 10)
		props[keyInvalid] = strconv.FormatInt(t.number(keyInvalid)+sum.invalid, 10)
		if newest := t.summary[keyNewest]; sum.rows > 0 && (newest == "" || sum.newest > t.number(keyNewest)) {
			props[keyNewest] = strconv.FormatInt(sum.newest, 10)
		}
		return addFiles(ctx, tx, files, props)
	})
	if err != nil && !errors.Is(err, errUnsure) {
		err = errors.Join(err, out.abort())
	}
	return t, err
}

// carry copies the cumulative keys of a derived table.
func carry(t *tableState, props iceberg.Properties) {
	for _, k := range []string{keyLogSnapshot, keyLogSequence, keyLogTable, keyBadRows, keyInvalid, keyNewest, keyContent, keyTimed, keyIngestedAt} {
		if v, ok := t.summary[k]; ok {
			props[k] = v
		}
	}
}

// derivation is what derive did.
type derivation struct {
	rows, badRows, invalid int64
	newest                 int64
}

// derive reads the log's files after a sequence number through the view into a sorter.
// While one part of the memory is sorted and written, the next is read.
func (s *Store) derive(ctx context.Context, v registry.ViewGeneration, log *tableState, done int64, out *sorter) (sum derivation, err error) {
	view, err := s.compile(v.Project, v.View)
	if err != nil {
		return sum, err
	}
	files, err := s.files(log, log.head, done)
	if err != nil {
		return sum, err
	}
	sum.newest = math.MinInt64
	pending := make(chan error, 1) // the outcome of the run being written
	pending <- nil
	defer func() {
		if e := <-pending; err == nil {
			err = e
		}
	}()
	rows := feature.NewBatch(out.l.fields, 0)
	parts, spare := out.newParts(), out.newParts()
	held := 0
	memory := min(s.memory/3, maxBatch) // of one of the two runs; the sort and the files take the rest
	size := int64(0)
	flush := func(last bool) error {
		err := <-pending
		if err != nil {
			pending <- nil
			return err
		}
		full := parts
		parts, spare = spare, parts
		held = 0
		go func() {
			err := out.add(ctx, full, last)
			for _, p := range full {
				p.Reset()
			}
			pending <- err
		}()
		return nil
	}
	for _, f := range files {
		err := s.readLog(ctx, v.Source(), log, f, view.Columns(), func(in *feature.Batch) error {
			rows.Reset()
			st := view.Apply(in, rows)
			sum.badRows += int64(st.NullKeys)
			sum.invalid += int64(st.Invalid)
			sum.rows += int64(rows.Rows)
			for _, ver := range rows.Versions {
				sum.newest = max(sum.newest, ver.EventTime)
			}
			for _, c := range rows.Columns {
				size += memoryOf(c, 0)
			}
			size += int64(rows.Rows) * 72 // versions, sort entries, keys
			out.distribute(rows, parts)
			held += rows.Rows
			if size < memory && held < math.MaxInt32 {
				return nil
			}
			size = 0
			return flush(false)
		})
		if err != nil {
			return sum, err
		}
	}
	return sum, flush(true)
}

var _ deriver = (*expr.View)(nil)
