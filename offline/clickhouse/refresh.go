package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// refreshed is a row of the refreshes table: what a derived table holds of which log.
type refreshed struct {
	view                      string
	log                       uuid.UUID
	number                    uint64 // of the last append that is in
	rows, bytes, bad, invalid uint64
	newest                    int64
	ties                      bool // two rows of one key have one event time
	content, timed            string
	appended                  int64
}

var refreshesColumns = []tableColumn{
	{"view", "String", "view@generation"}, {"log", "UUID", "the first append of the log it is derived from"},
	{"number", "UInt64", "of the last append that is in"}, {"format_version", "UInt16", ""},
	{"rows", "UInt64", "all told, as all that follow"}, {"bytes", "UInt64", "of values, before compression"},
	{"bad_rows", "UInt64", "left out for a null join key"}, {"invalid", "UInt64", "values that could not be computed"},
	{"newest", "Int64", "greatest event time, " + micros}, {"ties", "Bool", "whether two rows of one entity have one event time"},
	{"content", "String", "of the log (docs/format/offline-log.md)"}, {"content_timed", "String", "with instants"}, {"appended_at", "Int64", "last append from a file, " + micros},
}

const refreshesEngine = "ReplacingMergeTree ORDER BY (view, number)"

// refreshedAt is the newest refresh of a view, or the newest at or before a number; nil if there is none.
func (s *Store) refreshedAt(ctx context.Context, v registry.ViewGeneration, number *uint64) (*refreshed, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	var r refreshed
	var version uint16
	where := "view = " + text(v.String())
	if number != nil {
		where += fmt.Sprintf(" AND number <= %d", *number)
	}
	ok, err := s.client.one(ctx, "SELECT "+names(refreshesColumns)+" FROM "+s.refreshesTable()+" WHERE "+where+" ORDER BY number DESC LIMIT 1",
		&r.view, &r.log, &r.number, &version, &r.rows, &r.bytes, &r.bad, &r.invalid, &r.newest, &r.ties, &r.content, &r.timed, &r.appended)
	if err != nil || !ok {
		return nil, err
	}
	if version > formatVersion {
		return nil, fmt.Errorf("%s: table %s has format version %d, this Forebay knows %d: use a newer one", s.client.addr, s.refreshesTable(), version, formatVersion)
	}
	return &r, nil
}

func (r *refreshed) state() offline.TableState {
	at := snapshot(r.log, r.number)
	return offline.TableState{Rows: int64(r.rows), Bytes: int64(r.bytes), Snapshot: at, LogSnapshot: at, Newest: r.newest,
		Content: r.content, ContentTimed: r.timed, Appended: r.appended, BadRows: int64(r.bad), Invalid: int64(r.invalid)}
}

// Table implements offline.Store.
func (s *Store) Table(ctx context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	r, err := s.refreshedAt(ctx, v, nil)
	if err != nil || r == nil {
		return offline.TableState{}, err
	}
	return r.state(), nil
}

// viewColumns are the columns of a derived table: keys, version, what the view stores, ours.
func viewColumns(v registry.ViewGeneration) []tableColumn {
	var cs []tableColumn
	for _, f := range v.JoinKeys() {
		cs = append(cs, columnOf(f, true))
	}
	cs = append(cs, tableColumn{colEventTime, "Int64", micros}, tableColumn{colIngestedAt, "Int64", micros}, tableColumn{colMajor, "Int64", ""}, tableColumn{colMinor, "Int64", ""})
	for _, f := range v.View.Stored() {
		cs = append(cs, columnOf(f.Field, false))
	}
	return append(cs,
		tableColumn{colInvalid, "String", "bitmap of the features that could not be computed"},
		tableColumn{colLog, "UInt64", "number of the append the row comes from"})
}

// orderBy are the columns of a derived table's order.
func orderBy(v registry.ViewGeneration) []string {
	var cs []string
	for _, f := range v.JoinKeys() {
		cs = append(cs, ident(f.Name))
	}
	return append(cs, ident(colEventTime), ident(colIngestedAt), ident(colMajor), ident(colMinor))
}

// Refresh implements offline.Store. Whoever refreshes from one state of the log writes the same
// rows, so that two at once, or one after another that was cut off, do no harm.
func (s *Store) Refresh(ctx context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	st, err := s.refresh(ctx, v)
	if err != nil {
		return offline.TableState{}, fmt.Errorf("refreshing view %s: %w", v, err)
	}
	return st, nil
}

func (s *Store) refresh(ctx context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	unlock, err := s.lock(ctx, "refresh "+v.String())
	if err != nil {
		return offline.TableState{}, err
	}
	defer unlock()
	head, err := s.head(ctx, v.Source())
	if err != nil {
		return offline.TableState{}, err
	}
	r, err := s.refreshedAt(ctx, v, nil)
	if err != nil {
		return offline.TableState{}, err
	}
	switch {
	case head == nil && r == nil:
		return offline.TableState{}, nil
	case head == nil || r != nil && r.log != head.log:
		return offline.TableState{}, fmt.Errorf("table %s was derived from a log that is gone; drop it, and its rows in %s, and it is derived again", s.viewTable(v), s.refreshesTable())
	case r != nil && r.number >= head.number:
		return r.state(), nil
	}
	cs := viewColumns(v)
	if err := checkNames(s.viewTable(v), cs); err != nil {
		return offline.TableState{}, err
	}
	if err := s.client.create(ctx, s.project+"/refreshes", refreshesColumns, refreshesEngine, false); err != nil {
		return offline.TableState{}, err
	}
	if err := s.client.create(ctx, s.project+"/views/"+v.String(), cs, "ReplacingMergeTree ORDER BY ("+strings.Join(orderBy(v), ", ")+")", false); err != nil {
		return offline.TableState{}, err
	}
	// The view may read a column that the source has gained since its last append.
	if err := s.client.create(ctx, s.project+"/logs/"+v.Source().Name, logColumns(v.Source()), logEngine, true); err != nil {
		return offline.TableState{}, err
	}
	if r == nil {
		r = &refreshed{view: v.String(), log: head.log}
	}
	d := &derivation{s: s, v: v, columns: cs, from: r.number, to: head.number, sum: *r}
	if err := d.run(ctx); err != nil {
		return offline.TableState{}, err
	}
	sum := d.sum
	sum.number, sum.appended = head.number, head.lastInstant
	sum.content, sum.timed = head.content()
	if !sum.ties && sum.rows > r.rows {
		if sum.ties, err = s.tied(ctx, v, r.number); err != nil {
			return offline.TableState{}, err
		}
	}
	err = s.client.insert(ctx, s.refreshesTable(), refreshesColumns, "", func(b driver.Batch) error {
		return b.Append(sum.view, sum.log, sum.number, uint16(formatVersion), sum.rows, sum.bytes, sum.bad, sum.invalid, sum.newest, sum.ties, sum.content, sum.timed, sum.appended)
	})
	return sum.state(), err
}

// tied looks for two rows of one key with one event time, one of them later than an append. Where
// there is none, the join needs no more than the event time to tell rows apart.
func (s *Store) tied(ctx context.Context, v registry.ViewGeneration, after uint64) (bool, error) {
	order := orderBy(v)
	group := strings.Join(order[:len(order)-3], ", ")
	where := ""
	if after > 0 {
		where = fmt.Sprintf(" WHERE (%s) IN (SELECT %s FROM %s WHERE %s > %d)", group, group, s.viewTable(v), ident(colLog), after)
	}
	var one uint8
	return s.client.one(ctx, fmt.Sprintf("SELECT 1 FROM %s%s GROUP BY %s HAVING uniqUpTo(1)(%s) > 1 LIMIT 1 SETTINGS optimize_aggregation_in_order = 1",
		s.viewTable(v), where, group, strings.Join(order[len(order)-3:], ", ")), &one)
}

// derivation brings a derived table from one append of its log to another.
type derivation struct {
	s        *Store
	v        registry.ViewGeneration
	columns  []tableColumn
	from, to uint64
	sum      refreshed

	view *expr.View
	in   *feature.Batch
	out  *feature.Batch
	logs []uint64 // number of the append, by row of out
	size int64
}

// appendsAtOnce bounds the length of a query.
const appendsAtOnce = 500

func (d *derivation) run(ctx context.Context) (err error) {
	if d.view, err = expr.CompileView(d.v.Project, d.v.View); err != nil {
		return err
	}
	d.out = feature.NewBatch(d.view.Fields(), 0)
	numbers, rows := map[uuid.UUID]uint64{}, uint64(0)
	read := func() error {
		if len(numbers) == 0 {
			return nil
		}
		err := d.read(ctx, numbers, rows)
		numbers, rows = map[uuid.UUID]uint64{}, 0
		return err
	}
	type one struct {
		number, rows uint64
		id           uuid.UUID
	}
	var all []one
	var a one
	err = d.s.client.each(ctx, fmt.Sprintf("SELECT number, append, rows FROM %s WHERE source = %s AND number > %d AND number <= %d ORDER BY number, committed_at, append LIMIT 1 BY number",
		d.s.appendsTable(), text(d.v.Source().Name), d.from, d.to), []any{&a.number, &a.id, &a.rows}, func() error { all = append(all, a); return nil })
	if err != nil {
		return err
	}
	if uint64(len(all)) != d.to-d.from {
		return fmt.Errorf("%w: %s: table %s has %d of the appends %d to %d of source %s", offline.ErrUnavailable, d.s.client.addr, d.s.appendsTable(), len(all), d.from+1, d.to, d.v.Source().Name)
	}
	for _, a := range all {
		if a.rows == 0 {
			continue
		}
		numbers[a.id] = a.number
		if rows += a.rows; len(numbers) == appendsAtOnce {
			if err := read(); err != nil {
				return err
			}
		}
	}
	if err := read(); err != nil {
		return err
	}
	return d.send(ctx)
}

// read derives the rows of some appends, of which there must be so many.
func (d *derivation) read(ctx context.Context, numbers map[uuid.UUID]uint64, rows uint64) error {
	src := d.v.Source()
	wanted := slices.Clone(d.view.Columns())
	at := src.Column(src.Timestamp)
	if !slices.Contains(wanted, at) {
		wanted = append(wanted, at)
	}
	var fields []feature.Field
	d.in = &feature.Batch{Columns: make([]*feature.Column, len(src.Columns))}
	for _, i := range wanted {
		fields = append(fields, src.Columns[i].Field)
		d.in.Columns[i] = feature.NewColumn(src.Columns[i].Name, src.Columns[i].Type, 0)
	}
	ids := make([]string, 0, len(numbers))
	for id := range numbers {
		ids = append(ids, text(id.String()))
	}
	slices.Sort(ids)
	r := newRowReader(fields)
	var v feature.Version
	var id, last uuid.UUID
	query := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s IN (%s)", names([]tableColumn{{name: colAppend}, {name: colIngestedAt}, {name: colMajor}, {name: colMinor}}),
		strings.Join(r.columns(""), ", "), d.s.logTable(src), ident(colAppend), strings.Join(ids, ", "))
	read := uint64(0)
	err := d.s.client.each(ctx, query, append([]any{&id, &v.IngestedAt, &v.Major, &v.Minor}, r.dests()...), func() error {
		if (id != last || d.in.Rows == 4096) && d.in.Rows > 0 {
			if err := d.apply(ctx, numbers[last]); err != nil {
				return err
			}
		}
		last = id
		for k, i := range wanted {
			r.appendTo(d.in.Columns[i], k, false)
		}
		v.EventTime = int64(d.in.Columns[at].Nums[d.in.Rows])
		d.in.Versions = append(d.in.Versions, v)
		d.in.Rows++
		read++
		return nil
	})
	if err != nil {
		return err
	}
	if read != rows {
		return fmt.Errorf("%w: %s: table %s gave %d rows of %d appends that brought %d", offline.ErrUnavailable, d.s.client.addr, d.s.logTable(src), read, len(numbers), rows)
	}
	if d.in.Rows > 0 {
		return d.apply(ctx, numbers[last])
	}
	return nil
}

// apply derives the rows of in, which are all of one append.
func (d *derivation) apply(ctx context.Context, number uint64) error {
	before := d.out.Rows
	st := d.view.Apply(d.in, d.out)
	d.sum.bad += uint64(st.NullKeys)
	d.sum.invalid += uint64(st.Invalid)
	for i := before; i < d.out.Rows; i++ {
		d.logs = append(d.logs, number)
		if t := d.out.Versions[i].EventTime; d.sum.rows == 0 && i == 0 || t > d.sum.newest {
			d.sum.newest = t
		}
	}
	for _, c := range d.out.Columns {
		d.size += sizeOf(c, before, d.out.Rows)
	}
	d.size += 48 * int64(d.out.Rows-before)
	for _, c := range d.in.Columns {
		if c != nil {
			c.Reset()
		}
	}
	d.in.Versions, d.in.Rows = d.in.Versions[:0], 0
	// Beside the batch there is its copy in the driver, encoded and compressed.
	if d.size < d.s.memory/6 && d.out.Rows < 1<<20 {
		return nil
	}
	return d.send(ctx)
}

// send inserts what was derived.
func (d *derivation) send(ctx context.Context) error {
	o := d.out
	if o.Rows == 0 {
		return nil
	}
	keys := len(d.v.JoinKeys())
	err := d.s.client.insert(ctx, d.s.viewTable(d.v), d.columns, "", func(b driver.Batch) error {
		for i, c := range o.Columns {
			to := i
			if i >= keys {
				to += 4
			}
			if err := put(b.Column(to), c, 0, o.Rows); err != nil {
				return fmt.Errorf("column %q: %w", c.Name, err)
			}
		}
		at, bad := make([]int64, o.Rows), make([]string, o.Rows)
		for i := range at {
			at[i], bad[i] = o.Versions[i].EventTime, invalidBitmap(o.Columns[keys:], i)
		}
		ing, major, minor := splitVersions(o.Versions)
		end := len(o.Columns) + 4
		return errors.Join(b.Column(keys).Append(at), b.Column(keys+1).Append(ing), b.Column(keys+2).Append(major), b.Column(keys+3).Append(minor),
			b.Column(end).Append(bad), b.Column(end+1).Append(d.logs))
	})
	if err != nil {
		return err
	}
	d.sum.rows += uint64(o.Rows)
	d.sum.bytes += uint64(d.size)
	o.Reset()
	d.logs, d.size = d.logs[:0], 0
	return nil
}
