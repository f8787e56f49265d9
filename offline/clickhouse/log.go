package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// An insert of a log is sent when it holds so many rows or bytes.
const (
	insertRows  = 1 << 18
	insertBytes = 32 << 20
)

// Log implements offline.Store.
func (s *Store) Log(ctx context.Context, src *registry.Source) (offline.LogState, error) {
	a, err := s.head(ctx, src)
	if err != nil || a == nil {
		return offline.LogState{}, err
	}
	return offline.LogState{Rows: int64(a.totalRows), Bytes: int64(a.totalBytes), Files: int(a.files), Snapshot: snapshot(a.log, a.number), Offsets: a.next, Newest: a.newest}, nil
}

// Ingested implements offline.Store.
func (s *Store) Ingested(ctx context.Context, src *registry.Source, hash string) (bool, error) {
	if err := s.open(); err != nil || hash == "" {
		return false, err
	}
	var n uint64
	_, err := s.client.one(ctx, "SELECT count() FROM "+s.appendsTable()+" WHERE source = "+text(src.Name)+" AND is_file AND file_hash = "+text(hash), &n)
	return n > 0, err
}

// logColumns are the columns of a source's log: the source's, then ours.
func logColumns(src *registry.Source) []tableColumn {
	var cs []tableColumn
	for _, f := range src.Fields() {
		cs = append(cs, columnOf(f, false))
	}
	return append(cs,
		tableColumn{colIngestedAt, "Int64", micros},
		tableColumn{colMajor, "Int64", "Kafka partition, or row of the file"},
		tableColumn{colMinor, "Int64", "Kafka offset, or instant of the append"},
		tableColumn{colFile, "LowCardinality(String)", "empty for rows from Kafka"},
		tableColumn{colAppend, "UUID", "its row in appends makes this one visible"})
}

const logEngine = "MergeTree ORDER BY `" + colAppend + "`"

// appender sends the rows of one append, which nobody sees until Commit.
type appender struct {
	s       *Store
	src     *registry.Source
	file    *offline.FileOrigin
	id      uuid.UUID
	instant int64
	columns []tableColumn
	pending *feature.Batch // not sent yet
	size    int64          // of it
	rows    uint64
	bytes   uint64
	newest  int64
	sent    bool // some rows are there
	ended   bool
}

var _ offline.Appender = (*appender)(nil)

// Append implements offline.Store.
func (s *Store) Append(ctx context.Context, src *registry.Source, file *offline.FileOrigin) (offline.Appender, error) {
	a, err := s.append(ctx, src, file)
	if err != nil {
		return nil, fmt.Errorf("log of source %s: %w", src.Name, err)
	}
	return a, nil
}

func (s *Store) append(ctx context.Context, src *registry.Source, file *offline.FileOrigin) (*appender, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	cs := logColumns(src)
	if err := checkNames(s.logTable(src), cs); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, "create")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.createAppends(ctx); err != nil {
		return nil, err
	}
	if err := s.client.create(ctx, s.project+"/logs/"+src.Name, cs, logEngine, true); err != nil {
		return nil, err
	}
	head, err := s.head(ctx, src)
	if err != nil {
		return nil, err
	}
	last := int64(0)
	if head != nil {
		last = head.lastInstant
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := max(s.now().UnixMicro(), last+1, s.instants[src.Name]+1)
	s.instants[src.Name] = at
	return &appender{s: s, src: src, file: file, id: uuid.New(), instant: at, columns: cs, pending: feature.NewBatch(src.Fields(), 0), newest: math.MinInt64}, nil
}

// checkNames refuses a table in which two columns have one name.
func checkNames(table string, cs []tableColumn) error {
	for i, c := range cs {
		if slices.ContainsFunc(cs[:i], func(o tableColumn) bool { return o.name == c.name }) {
			return fmt.Errorf("table %s: two columns called %q; rename yours, since the table needs its own", table, c.name)
		}
	}
	return nil
}

func (a *appender) IngestedAt() int64 { return a.instant }

// Write implements offline.Appender.
func (a *appender) Write(ctx context.Context, rows *feature.Batch) error {
	if err := a.write(ctx, rows); err != nil {
		return fmt.Errorf("log of source %s: %w", a.src.Name, err)
	}
	return nil
}

func (a *appender) write(ctx context.Context, rows *feature.Batch) error {
	if err := a.check(ctx, rows); err != nil {
		return err
	}
	for i := range rows.Rows {
		for j, c := range rows.Columns {
			if c == nil {
				a.pending.Columns[j].AppendNull()
			} else {
				a.pending.Columns[j].AppendRow(c, i)
			}
		}
		a.newest = max(a.newest, rows.Versions[i].EventTime)
	}
	a.pending.Versions = append(a.pending.Versions, rows.Versions...)
	for _, c := range a.pending.Columns {
		a.size += sizeOf(c, a.pending.Rows, a.pending.Rows+rows.Rows)
	}
	a.size += 24 * int64(rows.Rows)
	a.pending.Rows += rows.Rows
	if a.pending.Rows >= insertRows || a.size >= insertBytes {
		return a.send(ctx)
	}
	return nil
}

// check refuses rows that could not be read back as they are.
func (a *appender) check(ctx context.Context, rows *feature.Batch) error {
	if a.ended {
		return errors.New("write after the end of the append")
	}
	if ctx.Err() != nil {
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

// send inserts what is pending.
func (a *appender) send(ctx context.Context) error {
	p := a.pending
	if p.Rows == 0 {
		return nil
	}
	name := ""
	if a.file != nil {
		name = a.file.Name
	}
	a.sent = true // even if it fails: some may have arrived
	err := a.s.client.insert(ctx, a.s.logTable(a.src), a.columns, "", func(b driver.Batch) error {
		for i, c := range p.Columns {
			if err := put(b.Column(i), c, 0, p.Rows); err != nil {
				return fmt.Errorf("column %q: %w", c.Name, err)
			}
		}
		n := len(p.Columns)
		files, ids := make([]string, p.Rows), make([]uuid.UUID, p.Rows)
		for i := range files {
			files[i], ids[i] = name, a.id
		}
		ing, major, minor := splitVersions(p.Versions)
		return errors.Join(b.Column(n).Append(ing), b.Column(n+1).Append(major), b.Column(n+2).Append(minor), b.Column(n+3).Append(files), b.Column(n+4).Append(ids))
	})
	if err != nil {
		return err
	}
	a.rows += uint64(p.Rows)
	a.bytes += uint64(a.size)
	p.Reset()
	a.size = 0
	return nil
}

// splitVersions are the columns of versions, the event time left out.
func splitVersions(vs []feature.Version) (ingested, major, minor []int64) {
	for _, v := range vs {
		ingested, major, minor = append(ingested, v.IngestedAt), append(major, v.Major), append(minor, v.Minor)
	}
	return ingested, major, minor
}

// Commit implements offline.Appender.
func (a *appender) Commit(ctx context.Context, o offline.Origin) error {
	if a.ended {
		return fmt.Errorf("log of source %s: the append has ended already", a.src.Name)
	}
	if err := a.commit(ctx, o); err != nil {
		return fmt.Errorf("log of source %s: %w", a.src.Name, err)
	}
	return nil
}

func (a *appender) commit(ctx context.Context, o offline.Origin) error {
	if (o.File != nil) != (a.file != nil) || (o.File != nil) == (o.Offsets != nil) {
		return errors.New("the origin is not of the kind that the append was started with: either a file or offsets")
	}
	if err := a.send(ctx); err != nil {
		return err
	}
	// What arrived is what was sent: nothing lost, nothing twice.
	if a.rows > 0 {
		var n uint64
		if _, err := a.s.client.one(ctx, "SELECT count() FROM "+a.s.logTable(a.src)+" WHERE "+ident(colAppend)+" = "+text(a.id.String()), &n); err != nil {
			return err
		}
		if n != a.rows {
			return fmt.Errorf("%s: table %s holds %d rows of append %s; %d were sent", a.s.client.addr, a.s.logTable(a.src), n, a.id, a.rows)
		}
	}
	for {
		head, err := a.s.head(ctx, a.src)
		if err != nil {
			return err
		}
		row := &appended{source: a.src.Name, append: a.id, rows: a.rows, bytes: a.bytes, file: a.file != nil, at: a.instant}
		if err := row.follow(head, a.src, o, a.newest); err != nil {
			return err
		}
		if o.File != nil {
			if err := a.checkFile(ctx, o.File); err != nil {
				return err
			}
		}
		if err := a.s.claim(ctx, row); err != nil {
			// It may be in, or come in yet: then the rows are needed.
			a.ended = true
			look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if w, e := a.s.winner(look, a.src, row.number); e == nil && w != nil && w.append == a.id {
				return nil
			}
			return fmt.Errorf("whether the append took effect is not known: %w", err)
		}
		w, err := a.s.winner(ctx, a.src, row.number)
		if err != nil {
			a.ended = true
			return fmt.Errorf("whether the append took effect is not known: %w", err)
		}
		if w != nil && w.append == a.id {
			a.ended = true
			return nil
		}
		// Somebody else has the number: look again, there is one winner each time.
	}
}

// checkFile refuses a file that is in the log already, and an instant that another file has.
func (a *appender) checkFile(ctx context.Context, f *offline.FileOrigin) error {
	if ok, err := a.s.Ingested(ctx, a.src, f.Hash); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("%w: a file with the content of %s (SHA-256 %s) is in the log already", offline.ErrConflict, f.Name, f.Hash)
	}
	var n uint64
	if _, err := a.s.client.one(ctx, fmt.Sprintf("SELECT count() FROM %s WHERE source = %s AND is_file AND appended_at = %d", a.s.appendsTable(), text(a.src.Name), a.instant), &n); err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%w: another process appended in the same microsecond; append %s again", offline.ErrConflict, f.Name)
	}
	return nil
}

// Abort implements offline.Appender.
func (a *appender) Abort() error {
	if a.ended {
		return nil
	}
	a.ended = true
	if !a.sent {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := a.s.client.exec(ctx, "DELETE FROM "+a.s.logTable(a.src)+" WHERE "+ident(colAppend)+" = "+text(a.id.String())); err != nil {
		return fmt.Errorf("log of source %s: dropping append %s, which nobody sees: %w", a.src.Name, a.id, err)
	}
	return nil
}
