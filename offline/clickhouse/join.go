package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// rowOverhead is what a row of the spine costs for each role besides its
// columns and features: the columns sent, version, status.
const rowOverhead = 160

// emitRows is how many rows of the spine are handed out at once.
const emitRows = 16384

// sparse is how many times the rows of a chunk a table must have for its keys to be looked up
// among those of the chunk before the join.
const sparse = 16

// Join implements offline.Store. The spine is taken in chunks of what fits into three quarters of the
// budget; of each, the keys and instants go into a table in memory, which the server
// joins with one derived table after the other.
func (s *Store) Join(ctx context.Context, r offline.JoinRequest) iter.Seq2[*offline.Joined, error] {
	return func(yield func(*offline.Joined, error) bool) {
		err := s.join(ctx, r, yield)
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("point-in-time join: %w", err))
		}
	}
}

// joinRole is a role and the state of the table it reads.
type joinRole struct {
	offline.Role
	table   *refreshed // nil: there is none, so nothing is found
	fields  []feature.Field
	staging string      // the name of the spine's table; "" before it is made
	windows *windowRole // nil: the newest row is looked for
	results *results
}

type joiner struct {
	s      *Store
	r      offline.JoinRequest
	roles  []*joinRole
	spine  *feature.Batch // the chunk
	at     *feature.Column
	size   int64
	perRow int64
	limit  int64
	done   int64
	yield  func(*offline.Joined, error) bool
}

func (s *Store) join(ctx context.Context, r offline.JoinRequest, yield func(*offline.Joined, error) bool) (err error) {
	if err := s.open(); err != nil {
		return err
	}
	if r.Memory <= 0 {
		r.Memory = offline.DefaultMemory
	}
	j := &joiner{s: s, r: r, yield: yield, limit: min(r.Memory/4*3, 3<<30)}
	for _, role := range r.Roles {
		jr, err := s.joinRole(ctx, role)
		if err != nil {
			return err
		}
		j.roles = append(j.roles, jr)
		j.perRow += rowOverhead
		for _, f := range jr.fields {
			switch k := f.Type.Kind; {
			case k == feature.Embedding:
				j.perRow += 33 + 4*int64(f.Type.Dim)
			case !k.Fixed():
				j.perRow += 73
			default:
				j.perRow += 9
			}
		}
	}
	defer func() { err = errors.Join(err, j.cleanUp(ctx)) }()
	for batch, err := range r.Spine {
		if err != nil {
			return fmt.Errorf("reading the spine: %w", err)
		}
		if err := j.add(ctx, batch); err != nil {
			return err
		}
	}
	if err := j.run(ctx); err != nil {
		return err
	}
	if r.Progress != nil {
		r.Progress(j.done, j.done)
	}
	return nil
}

func (s *Store) joinRole(ctx context.Context, role offline.Role) (*joinRole, error) {
	if keys := role.View.JoinKeys(); len(keys) != len(role.Keys) {
		return nil, fmt.Errorf("view %s has %d join keys, the role names %d spine columns", role.View, len(keys), len(role.Keys))
	}
	jr := &joinRole{Role: role}
	for _, f := range role.Features {
		if f < 0 || f >= len(role.View.View.Features) {
			return nil, fmt.Errorf("view %s has no feature number %d", role.View, f)
		}
		jr.fields = append(jr.fields, role.View.View.Features[f].Field)
	}
	if role.View.View.Windowed() {
		var err error
		if jr.windows, err = newWindowRole(role); err != nil {
			return nil, err
		}
	}
	if role.Snapshot == offline.NoRows {
		return jr, nil
	}
	r, err := s.refreshedAt(ctx, role.View, nil)
	if err != nil {
		return nil, err
	}
	if role.Snapshot != "" {
		if r, err = s.refreshedTo(ctx, role.View, r, role.Snapshot); err != nil {
			return nil, err
		}
	}
	jr.table = r
	return jr, nil
}

// add takes a batch of the spine, and runs a chunk whenever one is full.
func (j *joiner) add(ctx context.Context, batch *feature.Batch) error {
	if j.spine == nil {
		if err := j.check(batch); err != nil {
			return err
		}
		j.spine = feature.NewBatch(batch.Fields(), 0)
	}
	if !slices.Equal(j.spine.Fields(), batch.Fields()) {
		return errors.New("a batch of the spine has other columns than the first")
	}
	const step = 4096
	for from := 0; from < batch.Rows; from += step {
		to := min(from+step, batch.Rows)
		for i, c := range j.spine.Columns {
			for row := from; row < to; row++ {
				c.AppendRow(batch.Columns[i], row)
			}
			j.size += sizeOf(batch.Columns[i], from, to)
		}
		j.spine.Rows += to - from
		j.size += int64(to-from) * j.perRow
		if j.size >= j.limit || j.spine.Rows >= 1<<30 {
			if err := j.run(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// check looks at the spine's columns before any work is done.
func (j *joiner) check(b *feature.Batch) error {
	want := func(name string, t feature.Type, why string) error {
		c := b.Column(name)
		switch {
		case c == nil:
			return fmt.Errorf("the spine has no column %q, %s", name, why)
		case c.Type != t:
			return fmt.Errorf("the spine's column %q is %s; want %s, %s", name, c.Type, t, why)
		}
		return nil
	}
	if err := want(j.r.Timestamp, feature.TypeTimestamp, "the instant of each row"); err != nil {
		return err
	}
	for _, r := range j.roles {
		for i, k := range r.View.JoinKeys() {
			if err := want(r.Keys[i], k.Type, fmt.Sprintf("the join key %q of view %s", k.Name, r.View)); err != nil {
				return err
			}
		}
	}
	return nil
}

// run joins the chunk with each role's table and hands it out.
func (j *joiner) run(ctx context.Context) error {
	if j.spine == nil || j.spine.Rows == 0 {
		return nil
	}
	j.at = j.spine.Column(j.r.Timestamp)
	for _, r := range j.roles {
		r.results = newResults(r.fields, j.spine.Rows, !j.r.NoVersions)
		find := j.role
		if r.windows != nil {
			r.results.empty(r.windows.empty)
			find = j.windows
		}
		if r.table != nil && r.table.rows > 0 {
			if err := find(ctx, r); err != nil {
				return fmt.Errorf("view %s: %w", r.View, err)
			}
		}
	}
	if err := j.hand(); err != nil {
		return err
	}
	j.spine.Reset()
	j.size = 0
	return nil
}

// key names join key i in the staging table and in the query.
func key(i int) string { return fmt.Sprintf("k%d", i) }

// stage puts the keys and instants of the chunk into the role's table: rows without a whole
// key or an instant find nothing, and stay here. It returns how many went, and the last instant.
func (j *joiner) stage(ctx context.Context, r *joinRole) (staged int, last int64, err error) {
	keys := r.View.JoinKeys()
	cs := []tableColumn{{"row", "UInt32", ""}, {"t", "Int64", ""}}
	cols := make([]*feature.Column, len(keys))
	for i, k := range keys {
		cs = append(cs, columnOf(feature.Field{Name: key(i), Type: k.Type}, true))
		cols[i] = j.spine.Column(r.Keys[i])
	}
	if len(keys) == 0 {
		cs = append(cs, tableColumn{key(0), "UInt8", ""})
	}
	if r.staging == "" {
		r.staging = j.s.client.table(j.s.project + "/tmp/" + uuid.NewString())
		defs := make([]string, len(cs))
		for i, c := range cs {
			defs[i] = ident(c.name) + " " + c.kind
		}
		err = j.s.client.exec(ctx, "CREATE TABLE "+r.staging+" ("+strings.Join(defs, ", ")+") ENGINE = Memory")
	} else {
		err = j.s.client.exec(ctx, "TRUNCATE TABLE "+r.staging)
	}
	if err != nil {
		return 0, 0, err
	}
	rows, at := make([]uint32, 0, j.spine.Rows), make([]int64, 0, j.spine.Rows)
	whole := make([]*feature.Column, len(cols))
	for i, c := range cols {
		whole[i] = feature.NewColumn(c.Name, c.Type, 0)
	}
	last = math.MinInt64
next:
	for i := range j.spine.Rows {
		if j.at.IsNull(i) {
			continue
		}
		for _, c := range cols {
			if c.IsNull(i) {
				continue next
			}
		}
		rows, at = append(rows, uint32(i)), append(at, int64(j.at.Nums[i]))
		last = max(last, at[len(at)-1])
		for k, c := range cols {
			whole[k].AppendRow(c, i)
		}
	}
	for from := 0; from < len(rows); from += insertRows {
		to := min(from+insertRows, len(rows))
		err := j.s.client.insert(ctx, r.staging, cs, "", func(b driver.Batch) error {
			if err := errors.Join(b.Column(0).Append(rows[from:to]), b.Column(1).Append(at[from:to])); err != nil {
				return err
			}
			for i, c := range whole {
				if err := put(b.Column(2+i), c, from, to); err != nil {
					return err
				}
			}
			if len(whole) == 0 {
				return b.Column(2).Append(make([]uint8, to-from))
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
	}
	return len(rows), last, nil
}

// versionSQL is the order of versions as one number of 256 bits, signs flipped where that makes
// unsigned order of signed numbers.
const versionSQL = "bitOr(bitOr(bitShiftLeft(toInt256(%[1]s), 192), bitShiftLeft(toInt256(toUInt64(bitXor(%[2]s, toInt64('-9223372036854775808')))), 128)), " +
	"bitOr(bitShiftLeft(toInt256(toUInt64(bitXor(%[3]s, toInt64('-9223372036854775808')))), 64), toInt256(toUInt64(bitXor(%[4]s, toInt64('-9223372036854775808'))))))"

// query is the join of the staged rows with the role's table. ASOF takes one inequality: the event time where
// it alone tells the rows of a key apart, else the whole version, with the greatest there can be at the instant.
func (j *joiner) query(r *joinRole, row *rowReader, staged int, last int64) string {
	var right, on, keys, staging []string
	for i, k := range r.View.JoinKeys() {
		right = append(right, ident(k.Name)+" AS "+key(i))
		keys, staging = append(keys, ident(k.Name)), append(staging, key(i))
	}
	if len(keys) == 0 {
		right = append(right, "toUInt8(0) AS k0")
	}
	for i := range max(len(keys), 1) {
		on = append(on, "s."+key(i)+" = d."+key(i))
	}
	versions := []string{colEventTime} // of it the status depends
	if !j.r.NoVersions {
		versions = append(versions, colIngestedAt, colMajor, colMinor)
	}
	for _, c := range versions {
		right = append(right, ident(c))
	}
	bad := "''"
	if r.table.invalid > 0 { // a column that is carried through the join costs
		right = append(right, ident(colInvalid))
		bad = "ifNull(d." + ident(colInvalid) + ", '')"
	}
	for _, f := range r.fields {
		right = append(right, ident(f.Name))
	}
	left := "*"
	if r.table.ties {
		left = "*, bitOr(bitShiftLeft(toInt256(t), 192), bitShiftLeft(toInt256(1), 192) - 1) AS latest"
		right = append(right, fmt.Sprintf(versionSQL+" AS version", ident(colEventTime), ident(colIngestedAt), ident(colMajor), ident(colMinor)))
		on = append(on, "s.latest >= d.version")
	} else {
		on = append(on, "s.t >= d."+ident(colEventTime))
	}
	where := fmt.Sprintf("%s <= %d", ident(colLog), r.table.number)
	if last < r.table.newest {
		where += fmt.Sprintf(" AND %s <= %s", ident(colEventTime), int64Literal(last))
	}
	if j.r.KnownAt != nil {
		where += fmt.Sprintf(" AND %s <= %s", ident(colIngestedAt), int64Literal(*j.r.KnownAt))
	}
	if len(keys) > 0 && uint64(staged) < r.table.rows/sparse {
		where += fmt.Sprintf(" AND (%s) IN (SELECT %s FROM %s)", strings.Join(keys, ", "), strings.Join(staging, ", "), r.staging)
	}
	out := []string{"s.row", "isNotNull(d." + ident(colEventTime) + ")"}
	for _, c := range versions {
		out = append(out, "ifNull(d."+ident(c)+", toInt64(0))")
	}
	out = append(out, bad)
	out = append(out, row.columns("d.")...)
	return fmt.Sprintf("SELECT %s FROM (SELECT %s FROM %s) AS s ASOF LEFT JOIN (SELECT %s FROM %s WHERE %s) AS d ON %s SETTINGS join_use_nulls = 1",
		strings.Join(out, ", "), left, r.staging, strings.Join(right, ", "), j.s.viewTable(r.View), where, strings.Join(on, " AND "))
}

// role finds what one role has for the chunk.
func (j *joiner) role(ctx context.Context, r *joinRole) error {
	staged, last, err := j.stage(ctx, r)
	if err != nil || staged == 0 {
		return err
	}
	row := newRowReader(r.fields)
	var at uint32
	var found uint8
	var v feature.Version
	var bad string
	dests := []any{&at, &found, &v.EventTime}
	if !j.r.NoVersions {
		dests = append(dests, &v.IngestedAt, &v.Major, &v.Minor)
	}
	dests = append(append(dests, &bad), row.dests()...)
	read := 0
	err = j.s.client.each(ctx, j.query(r, row, staged, last), dests, func() error {
		read++
		if found == 0 {
			return nil
		}
		status := pit.StatusAt(v.EventTime, int64(j.at.Nums[at]), r.TTL)
		if r.results.found[at] = status; r.results.versions != nil {
			r.results.versions[at] = v
		}
		if status == feature.Present {
			for i, f := range r.Features {
				r.results.set(int(at), i, row, bad != "" && isBad(bad, f))
			}
		}
		return nil
	})
	if err == nil && read != staged {
		err = fmt.Errorf("%w: %s: the join gave %d rows of %d", offline.ErrUnavailable, j.s.client.addr, read, staged)
	}
	return err
}

// cleanUp drops the staging tables, even if the join was cancelled.
func (j *joiner) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var errs []error
	for _, r := range j.roles {
		if r.staging != "" {
			errs = append(errs, j.s.client.exec(ctx, "DROP TABLE IF EXISTS "+r.staging))
		}
	}
	return errors.Join(errs...)
}
