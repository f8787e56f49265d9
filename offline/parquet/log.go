package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// maxFileBytes is where an append or a refresh starts another data file.
const maxFileBytes = 512 << 20

// Log implements offline.Store.
func (s *Store) Log(ctx context.Context, src *registry.Source) (offline.LogState, error) {
	t, err := s.load(ctx, s.logIdent(src))
	if err != nil || t == nil || t.head == nil {
		return offline.LogState{}, err
	}
	next, err := t.nextOffsets()
	if err != nil {
		return offline.LogState{}, err
	}
	return offline.LogState{
		Rows:     t.total("total-records"),
		Bytes:    t.total("total-files-size"),
		Files:    int(t.number(keyFiles)),
		Snapshot: t.snapshot(),
		Offsets:  next,
		Newest:   t.number(keyNewest),
	}, nil
}

// Ingested implements offline.Store. The hashes are table properties: they are
// read with the table's metadata, and outlive the snapshots that added the files.
func (s *Store) Ingested(ctx context.Context, src *registry.Source, hash string) (bool, error) {
	t, err := s.load(ctx, s.logIdent(src))
	if err != nil || t == nil || hash == "" {
		return false, err
	}
	return t.Properties()[keyIngested+hash] != "", nil
}

func (t *tableState) nextOffsets() (map[int32]int64, error) {
	next := map[int32]int64{}
	if v := t.summary[keyNextOffsets]; v != "" {
		if err := json.Unmarshal([]byte(v), &next); err != nil {
			return nil, fmt.Errorf("table %s: %s of snapshot %s: %w", t.name, keyNextOffsets, t.snapshot(), err)
		}
	}
	return next, nil
}

// appender writes the rows of one append to data files that no snapshot names until Commit.
type appender struct {
	s       *Store
	src     *registry.Source
	ident   table.Identifier
	table   *tableState
	file    *offline.FileOrigin
	instant int64
	columns []column
	w       *fileWriter
	done    []iceberg.DataFile
	paths   []string
	rows    int64
	newest  int64
	meta    *feature.Batch // our columns, for the batch being written
	ended   bool
}

var _ offline.Appender = (*appender)(nil)

// Append implements offline.Store.
func (s *Store) Append(ctx context.Context, src *registry.Source, file *offline.FileOrigin) (offline.Appender, error) {
	cs := logColumns(src)
	t, err := s.ensureLog(ctx, src, cs)
	if err != nil {
		return nil, fmt.Errorf("log of source %s: %w", src.Name, err)
	}
	meta := feature.NewBatch(nil, 0)
	for _, c := range cs[len(src.Columns):] {
		meta.Columns = append(meta.Columns, feature.NewColumn(c.Name, c.Type, 0))
	}
	return &appender{s: s, src: src, ident: s.logIdent(src), table: t, file: file, columns: cs, meta: meta,
		instant: s.nextInstant(src, t), newest: math.MinInt64}, nil
}

// ensureLog makes the log's table, or adds columns that the source has gained, and binds cs to it.
func (s *Store) ensureLog(ctx context.Context, src *registry.Source, cs []column) (*tableState, error) {
	ident := s.logIdent(src)
	t, err := s.load(ctx, ident)
	if err != nil {
		return nil, err
	}
	if t == nil {
		if t, err = s.create(ctx, ident, cs, nil, nil); err != nil {
			return nil, err
		}
	}
	missing, err := bind(t.name, t.Schema(), cs)
	if err != nil || len(missing) == 0 {
		return t, err
	}
	if err := s.evolve(ctx, ident, missing); err != nil {
		return nil, err
	}
	if t, err = s.load(ctx, ident); err != nil {
		return nil, err
	}
	if missing, err = bind(t.name, t.Schema(), cs); err == nil && len(missing) > 0 {
		err = fmt.Errorf("table %s: column %q could not be added", t.name, missing[0].Name)
	}
	return t, err
}

// nextInstant is the instant of a new append: the clock's, or just past the last one.
func (s *Store) nextInstant(src *registry.Source, t *tableState) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := max(s.now().UnixMicro(), t.number(keyIngestedAt)+1, s.instants[src.Name]+1)
	s.instants[src.Name] = at
	return at
}

func (a *appender) IngestedAt() int64 { return a.instant }

// Write implements offline.Appender.
func (a *appender) Write(ctx context.Context, rows *feature.Batch) error {
	if err := a.check(ctx, rows); err != nil {
		return fmt.Errorf("log of source %s: %w", a.src.Name, err)
	}
	if rows.Rows == 0 {
		return nil
	}
	a.meta.Reset()
	for i := range rows.Versions {
		v := &rows.Versions[i]
		a.newest = max(a.newest, v.EventTime)
		m := a.meta.Columns // in the order of logColumns
		m[0].AppendBits(uint64(v.IngestedAt))
		if a.file != nil {
			m[1].AppendNull()
			m[2].AppendNull()
			m[3].Append(feature.OfString(a.file.Name))
			m[4].AppendBits(uint64(v.Major))
			m[5].AppendBits(uint64(v.Minor))
		} else {
			m[1].AppendBits(uint64(v.Major))
			m[2].AppendBits(uint64(v.Minor))
			m[3].AppendNull()
			m[4].AppendNull()
			m[5].AppendNull()
		}
	}
	if a.w == nil {
		name := fmt.Sprintf("%016x-%s.parquet", uint64(a.instant), uuid.NewString())
		w, err := newFileWriter(a.s.fs, filepath.Join(a.table.Location(), "data", name), a.src.Name, a.columns, false)
		if err != nil {
			return fmt.Errorf("log of source %s: %w", a.src.Name, err)
		}
		w.workers = a.s.workers
		a.w = w
	}
	cols := append(append(make([]*feature.Column, 0, len(a.columns)), rows.Columns...), a.meta.Columns...)
	if err := a.w.write(cols, rows.Rows); err != nil {
		return fmt.Errorf("log of source %s: %w", a.src.Name, err)
	}
	a.rows += int64(rows.Rows)
	if a.w.size() >= maxFileBytes {
		return a.endFile()
	}
	return nil
}

// check refuses rows that could not be read back as they are.
func (a *appender) check(ctx context.Context, rows *feature.Batch) error {
	if a.ended {
		return errors.New("write after the end of the append")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(rows.Versions) != rows.Rows || len(rows.Columns) != len(a.src.Columns) {
		return fmt.Errorf("a batch of %d rows with %d versions and %d columns; the source has %d columns",
			rows.Rows, len(rows.Versions), len(rows.Columns), len(a.src.Columns))
	}
	for i, c := range rows.Columns {
		if c != nil && (c.Type != a.src.Columns[i].Type || c.Len != rows.Rows) {
			return fmt.Errorf("column %d is %d rows of %s; want %d of %s %q", i+1, c.Len, c.Type, rows.Rows, a.src.Columns[i].Type, a.src.Columns[i].Name)
		}
	}
	at := rows.Columns[a.src.Column(a.src.Timestamp)]
	if at == nil {
		return fmt.Errorf("no column %q: every row needs its event time", a.src.Timestamp)
	}
	for i, v := range rows.Versions {
		switch {
		case at.IsNull(i) || int64(at.Nums[i]) != v.EventTime:
			return fmt.Errorf("row %d: column %q is %s, the row's event time %s", i, a.src.Timestamp, at.Value(i), feature.FormatTimestamp(v.EventTime))
		case a.file != nil && v.Minor != a.instant:
			return fmt.Errorf("row %d: sequence (%d, %d) is not of this append, whose instant is %d", i, v.Major, v.Minor, a.instant)
		case a.file == nil && (v.Major < 0 || v.Major > math.MaxInt32):
			return fmt.Errorf("row %d: there is no Kafka partition %d", i, v.Major)
		}
	}
	return nil
}

func (a *appender) endFile() error {
	if a.w == nil {
		return nil
	}
	df, err := a.w.finish(a.table.Spec(), -1)
	if err != nil {
		return fmt.Errorf("log of source %s: %w", a.src.Name, err)
	}
	a.w = nil
	a.done = append(a.done, df)
	a.paths = append(a.paths, df.FilePath())
	return nil
}

// Commit implements offline.Appender.
func (a *appender) Commit(ctx context.Context, o offline.Origin) error {
	if a.ended {
		return fmt.Errorf("log of source %s: the append has ended already", a.src.Name)
	}
	err := a.commit(ctx, o)
	if err != nil {
		err = fmt.Errorf("log of source %s: %w", a.src.Name, err)
	}
	return err
}

func (a *appender) commit(ctx context.Context, o offline.Origin) error {
	if (o.File != nil) != (a.file != nil) || (o.File != nil) == (o.Offsets != nil) {
		return errors.New("the origin is not of the kind that the append was started with: either a file or offsets")
	}
	if err := a.endFile(); err != nil {
		return err
	}
	_, err := a.s.commit(ctx, a.ident, func(t *tableState, tx *table.Transaction, props iceberg.Properties) error {
		if err := a.summary(t, o, props); err != nil {
			return err
		}
		if o.File != nil && o.File.Hash != "" {
			if err := tx.SetProperties(iceberg.Properties{keyIngested + o.File.Hash: strconv.FormatInt(a.instant, 10)}); err != nil {
				return err
			}
		}
		return addFiles(ctx, tx, a.done, props)
	})
	if err == nil || errors.Is(err, errUnsure) {
		a.ended = true // Abort must leave the files alone
	}
	return err
}

// summary checks that the append follows the log's state and fills in the next one.
func (a *appender) summary(t *tableState, o offline.Origin, props iceberg.Properties) error {
	next, err := t.nextOffsets()
	if err != nil {
		return err
	}
	files, last, topic := t.number(keyFiles), t.number(keyIngestedAt), t.summary[keyTopic]
	if o.File != nil {
		if h := o.File.Hash; h != "" && t.Properties()[keyIngested+h] != "" {
			return fmt.Errorf("%w: a file with the content of %s (SHA-256 %s) is in the log already", offline.ErrConflict, o.File.Name, h)
		}
		for _, sn := range t.Metadata().Snapshots() {
			if sn.Summary != nil && sn.Summary.Properties[keyFileInstant] == strconv.FormatInt(a.instant, 10) {
				return fmt.Errorf("%w: another process appended in the same microsecond; append %s again", offline.ErrConflict, o.File.Name)
			}
		}
		chain, timed := t.summary[keyChain], t.summary[keyChainTimed]
		if chain != "" || files == 0 { // a log from before chains were kept stays without
			props[keyChain], props[keyChainTimed] = offline.ChainFile(chain, timed, a.src, *o.File, a.rows, a.instant)
		}
		files++
		last = max(last, a.instant)
		props[keyFileName], props[keyFileHash], props[keyFileInstant] = o.File.Name, o.File.Hash, strconv.FormatInt(a.instant, 10)
	} else {
		if topic != "" && o.Topic != topic {
			return fmt.Errorf("the log holds offsets of topic %s; rows of topic %s belong in the log of another source", topic, o.Topic)
		}
		topic = o.Topic
		ranges := make(map[int32][2]int64, len(o.Offsets))
		for p, r := range o.Offsets {
			if n, ok := next[p]; ok && r.From != n {
				return fmt.Errorf("%w: topic %s, partition %d: offsets [%d, %d) do not follow the log, which ends before %d", offline.ErrConflict, o.Topic, p, r.From, r.To, n)
			}
			if r.To < r.From {
				return fmt.Errorf("topic %s, partition %d: offsets [%d, %d)", o.Topic, p, r.From, r.To)
			}
			next[p], ranges[p] = r.To, [2]int64{r.From, r.To}
		}
		b, err := json.Marshal(ranges)
		if err != nil {
			return err
		}
		props[keyOffsets] = string(b)
	}
	if o.File == nil && t.summary[keyChain] != "" {
		props[keyChain], props[keyChainTimed] = t.summary[keyChain], t.summary[keyChainTimed]
	}
	newest := t.summary[keyNewest]
	if a.rows > 0 && (newest == "" || a.newest > t.number(keyNewest)) {
		newest = strconv.FormatInt(a.newest, 10)
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	props[keyNextOffsets] = string(b)
	if topic != "" {
		props[keyTopic] = topic
	}
	props[keyFiles], props[keyIngestedAt], props[keyNewest] = strconv.FormatInt(files, 10), strconv.FormatInt(last, 10), newest
	return nil
}

// Abort implements offline.Appender.
func (a *appender) Abort() error {
	if a.ended {
		return nil
	}
	a.ended = true
	var errs []error
	if a.w != nil {
		errs = append(errs, a.w.abort())
	}
	for _, p := range a.paths {
		errs = append(errs, a.s.fs.Remove(p))
	}
	return errors.Join(errs...)
}
