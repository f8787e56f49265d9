package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// rowOverhead is what a row of the spine costs for each role besides its
// columns and features: key, order and sorted copy, version, status.
const rowOverhead = 160

// statusOverhead is that of a role which needs no versions.
const statusOverhead = 100

// emitRows is how many rows of the spine are handed out at once.
const emitRows = 16384

// Join implements offline.Store. The spine is taken in chunks of what fits into
// three quarters of the budget, with its keys and all that is found for it; the
// rest is for the pages being read. Each chunk costs one pass over the buckets it has keys in.
func (s *Store) Join(ctx context.Context, r offline.JoinRequest) iter.Seq2[*offline.Joined, error] {
	return func(yield func(*offline.Joined, error) bool) {
		err := s.join(ctx, r, yield)
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("point-in-time join: %w", err))
		}
	}
}

// joinRole is a role and the table it reads, as it was when the join began.
type joinRole struct {
	offline.Role
	table   *derived // nil: there is none, so nothing is found
	files   [][]dataFile
	types   []feature.Type
	perRow  int64       // bytes of a spine row's keys and outputs
	windows *windowRole // nil: the newest row is looked for
	results *results
	// statusOnly: nobody needs versions, neither the caller nor to choose among files of a bucket.
	statusOnly bool
}

type joiner struct {
	s       *Store
	r       offline.JoinRequest
	roles   []*joinRole
	knownAt int64
	spine   *feature.Batch // the chunk
	at      *feature.Column
	size    int64
	perRow  int64
	limit   int64
	done    int64
	yield   func(*offline.Joined, error) bool
}

func (s *Store) join(ctx context.Context, r offline.JoinRequest, yield func(*offline.Joined, error) bool) error {
	if err := s.open(); err != nil {
		return err
	}
	j := &joiner{s: s, r: r, knownAt: pit.NoKnownAt, yield: yield}
	if r.KnownAt != nil {
		j.knownAt = *r.KnownAt
	}
	if r.Memory <= 0 {
		r.Memory = offline.DefaultMemory
	}
	j.limit = min(r.Memory/4*3, maxBatch)
	for _, role := range r.Roles {
		jr, err := s.joinRole(ctx, role)
		if err != nil {
			return err
		}
		if r.NoVersions && jr.windows == nil && !slices.ContainsFunc(jr.files, func(fs []dataFile) bool { return len(fs) > 1 }) {
			jr.statusOnly = true
			jr.perRow -= rowOverhead - statusOverhead
		}
		j.roles = append(j.roles, jr)
		j.perRow += jr.perRow
	}
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
	keys := role.View.JoinKeys()
	if len(keys) != len(role.Keys) {
		return nil, fmt.Errorf("view %s has %d join keys, the role names %d spine columns", role.View, len(keys), len(role.Keys))
	}
	jr := &joinRole{Role: role, perRow: rowOverhead}
	for _, k := range keys {
		jr.types = append(jr.types, k.Type)
	}
	for _, f := range role.Features {
		if f < 0 || f >= len(role.View.View.Features) {
			return nil, fmt.Errorf("view %s has no feature number %d", role.View, f)
		}
		jr.perRow += 9
		switch k := role.View.View.Features[f].Type; {
		case k.Kind == feature.Embedding:
			jr.perRow += 24 + 4*int64(k.Dim)
		case !k.Kind.Fixed():
			jr.perRow += 64
		}
	}
	if role.View.View.Windowed() {
		var err error
		if jr.windows, err = newWindowRole(role); err != nil {
			return nil, err
		}
		jr.TTL = 0 // windows have none
		jr.perRow += jr.windows.perRow
	}
	d, err := s.loadDerivedAt(ctx, role.View, role.Snapshot)
	if err != nil || d == nil {
		return jr, err
	}
	files, err := s.files(d.tableState, d.head, -1)
	if err != nil {
		return nil, err
	}
	jr.table, jr.files = d, make([][]dataFile, d.buckets)
	for _, f := range slices.Backward(files) { // newest first: later ones have less to offer
		if f.bucket < 0 || f.bucket >= d.buckets {
			return nil, fmt.Errorf("table %s: data file %s has bucket %d of %d", d.name, f.FilePath(), f.bucket, d.buckets)
		}
		jr.files[f.bucket] = append(jr.files[f.bucket], f)
	}
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
		return fmt.Errorf("a batch of the spine has other columns than the first")
	}
	const step = 4096
	for from := 0; from < batch.Rows; from += step {
		to := min(from+step, batch.Rows)
		for i, c := range j.spine.Columns {
			before := c.Len
			appendRange(c, batch.Columns[i], from, to)
			j.size += memoryOf(c, before)
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
		r.results = newResults(r, j.spine.Rows)
		if r.windows != nil {
			r.results.empty(r.windows.empty)
		}
		if r.table != nil {
			if err := j.role(ctx, r); err != nil {
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

// role finds, bucket by bucket on all cores, what one role has for the chunk.
func (j *joiner) role(ctx context.Context, r *joinRole) error {
	keys, rows := pit.NewKeys(r.types), make([]int32, 0, j.spine.Rows)
	cols := make([]*feature.Column, len(r.Keys))
	for i, name := range r.Keys {
		cols[i] = j.spine.Column(name)
	}
	for i := range j.spine.Rows {
		// A row without an instant or a whole key finds nothing.
		if !j.at.IsNull(i) && keys.AppendRow(cols, i) {
			rows = append(rows, int32(i))
		}
	}
	entries, ends := byBucket(keys, r.table.buckets)
	return parallel(ctx, j.s.workers, r.table.buckets, func(ctx context.Context, b int) error {
		part := entries[ends[b]:ends[b+1]]
		if len(part) == 0 || len(r.files[b]) == 0 {
			return nil
		}
		return j.bucket(ctx, r, b, keys, rows, part)
	})
}

// bucket sorts the part of the chunk that lies in a bucket, and walks it beside each of its files.
func (j *joiner) bucket(ctx context.Context, r *joinRole, b int, keys *pit.Keys, rows []int32, part []sortEntry) error {
	at := j.at.Int64s()
	part = sortEntries(part, func(x, y uint32) int {
		if keys.Offsets != nil {
			if c := keys.Compare(int(x), keys, int(y)); c != 0 {
				return c
			}
		}
		if c := cmp.Compare(at[rows[x]], at[rows[y]]); c != 0 {
			return c
		}
		return cmp.Compare(x, y)
	})
	m := &bucketJoin{r: r, at: at, rows: make([]int32, len(part))}
	spine := pit.Spine{Keys: pit.NewKeys(r.types), Times: make([]int64, len(part))}
	for i, e := range part {
		spine.Keys.AppendKey(keys, int(e.row))
		m.rows[i] = rows[e.row]
		spine.Times[i] = at[m.rows[i]]
	}
	if r.windows != nil {
		return m.windows(ctx, j, r.files[b], spine)
	}
	for _, f := range r.files[b] {
		if err := m.file(ctx, j, f, spine); err != nil {
			return err
		}
	}
	return nil
}

// bucketJoin puts what is found in one bucket where the chunk's rows have their place.
type bucketJoin struct {
	r    *joinRole
	at   []int64
	rows []int32 // of the chunk, by row of the sorted part
	f    *sortedFile
	take []taken
	last int64 // event time of the last match
}

// taken is a row of a block whose values go to a row of the chunk.
type taken struct{ row, from int32 }

func (m *bucketJoin) file(ctx context.Context, j *joiner, df dataFile, spine pit.Spine) (err error) {
	m.f, err = j.s.openSorted(ctx, m.r.table.l, m.r.Features, df.FilePath(), df.FileSizeBytes(), df.Count(), j.knownAt != pit.NoKnownAt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.f.Close()) }()
	return pit.Find(spine, m.f, j.knownAt, m.emit)
}

func (m *bucketJoin) emit(b *pit.Block, ms []pit.Match) error {
	m.take = m.take[:0]
	if m.r.statusOnly {
		m.statuses(b, ms)
	} else if err := m.offer(b, ms); err != nil {
		return err
	}
	if len(m.take) == 0 || len(m.r.Features) == 0 {
		return nil
	}
	if err := m.f.loadFeatures(); err != nil {
		return err
	}
	m.r.results.scatter(m.f.featCols, m.take)
	return nil
}

// offer offers what was found, with its version, where another file may have had something newer.
func (m *bucketJoin) offer(b *pit.Block, ms []pit.Match) error {
	res := m.r.results
	if b != nil {
		if err := m.f.loadVersions(); err != nil {
			return err
		}
	}
	for _, x := range ms {
		row := m.rows[x.Spine]
		if x.Row == pit.Same {
			// What the row before has is this run's row or, where another run had a
			// newer one, that: this row was offered it as well.
			prev := m.rows[x.Spine-1]
			if res.found.Has(int(prev)) && res.found.Offer(int(row), res.found.Versions[prev]) {
				if res.found.Status(int(row), m.at[row], m.r.TTL) == feature.Present {
					res.copyRow(int(row), int(prev))
				} else {
					res.clear(int(row))
				}
			}
			continue
		}
		v := m.f.version(int(x.Row))
		if !res.found.Offer(int(row), v) {
			continue
		}
		if pit.StatusAt(v.EventTime, m.at[row], m.r.TTL) == feature.Present {
			m.take = append(m.take, taken{row, x.Row})
		} else {
			res.clear(int(row))
		}
	}
	return nil
}

// statuses notes what was found in a bucket of one file: each match is newer than the one before.
func (m *bucketJoin) statuses(b *pit.Block, ms []pit.Match) {
	res := m.r.results
	for _, x := range ms {
		row := m.rows[x.Spine]
		same := x.Row == pit.Same
		if !same {
			m.last = b.Times[x.Row]
		}
		res.status[row] = pit.StatusAt(m.last, m.at[row], m.r.TTL)
		switch {
		case res.status[row] != feature.Present:
			res.clear(int(row))
		case !same:
			m.take = append(m.take, taken{row, x.Row})
		default: // the row before is earlier, so it has it as well
			res.copyRow(int(row), int(m.rows[x.Spine-1]))
		}
	}
}
