package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// buckets joins, bucket by bucket on all cores, what a group of roles has for the spine.
func (j *joiner) buckets(ctx context.Context, g *joinGroup) error {
	return parallel(ctx, j.s.workers, len(g.parts), func(ctx context.Context, b int) error {
		p := &g.parts[b]
		var slice spineSlice
		for len(p.blocks) > 0 {
			if err := p.load(j.spool, g, &slice, j.limit); err != nil {
				return err
			}
			if err := j.slice(ctx, g, b, &slice); err != nil {
				return err
			}
			j.progress(int64(slice.keys.Len()), 0)
		}
		return nil
	})
}

// slice sorts rows of the spine that lie in a bucket, walks them beside the bucket's files of each
// role, and keeps what is found, in the order in which the rows came.
func (j *joiner) slice(ctx context.Context, g *joinGroup, b int, in *spineSlice) error {
	n := in.keys.Len()
	part := make([]sortEntry, n)
	for i := range part {
		part[i] = sortEntry{in.keys.Prefix(i), uint32(i)}
	}
	part = sortEntries(part, func(x, y uint32) int {
		if in.keys.Offsets != nil {
			if c := in.keys.Compare(int(x), in.keys, int(y)); c != 0 {
				return c
			}
		}
		if c := cmp.Compare(in.times[x], in.times[y]); c != 0 {
			return c
		}
		return cmp.Compare(x, y)
	})
	rows := make([]int32, n)
	spine := pit.Spine{Keys: pit.NewKeys(g.types), Times: make([]int64, n)}
	if spine.Keys.Offsets == nil {
		spine.Keys.Words = make([]uint64, 0, n)
	}
	for i, e := range part {
		spine.Keys.AppendKey(in.keys, int(e.row))
		rows[i] = int32(e.row)
		spine.Times[i] = in.times[e.row]
	}
	found := make([]*results, len(g.roles))
	for i, r := range g.roles {
		found[i] = newResults(r.joinRole, n)
		m := &bucketJoin{r: r.joinRole, res: found[i], at: in.times, rows: rows}
		if err := m.files(ctx, j, r.files[b], spine); err != nil {
			return fmt.Errorf("view %s: %w", r.View, err)
		}
	}
	return j.keep(g, b, found, in.times)
}

// bucketJoin puts what one role's files of a bucket have where the slice's rows have their place.
type bucketJoin struct {
	r    *joinRole
	res  *results
	at   []int64
	rows []int32 // of the slice, by row of the sorted spine
	f    *sortedFile
	take []taken
	last int64 // event time of the last match
}

// taken is a row of a block whose values go to a row of the slice.
type taken struct{ row, from int32 }

func (m *bucketJoin) files(ctx context.Context, j *joiner, files []dataFile, spine pit.Spine) error {
	if m.r.windows != nil {
		m.res.empty(m.r.windows.empty)
		return m.windows(ctx, j, files, spine)
	}
	for _, f := range files {
		if err := m.file(ctx, j, f, spine); err != nil {
			return err
		}
	}
	return nil
}

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
	m.res.scatter(m.f.featCols, m.take)
	return nil
}

// offer offers what was found, with its version, where another file may have had something newer.
func (m *bucketJoin) offer(b *pit.Block, ms []pit.Match) error {
	res := m.res
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
	res := m.res
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
