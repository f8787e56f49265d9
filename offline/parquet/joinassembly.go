package parquet

import (
	"context"
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

// keep puts what the roles of a group found for rows of a bucket into the spool.
func (j *joiner) keep(g *joinGroup, b int, found []*results, times []int64) error {
	rows := len(times)
	var buf []byte
	columns := make([][]*feature.Column, len(found))
	for i, res := range found {
		columns[i] = res.newColumns(g.emit)
	}
	for from := 0; from < rows; from += g.emit {
		to := min(from+g.emit, rows)
		buf = binary.LittleEndian.AppendUint32(buf[:0], uint32(to-from))
		for i, res := range found {
			for row := from; row < to; row++ {
				buf = append(buf, byte(res.statusAt(row, times[row], g.roles[i].TTL)))
			}
			if !j.r.NoVersions {
				buf = append(buf, versionBytes(res.found.Versions[from:to])...)
			}
			for k, c := range res.columns {
				columns[i][k].Reset()
				res.appendTo(columns[i][k], c, from, to)
				buf = spoolColumn(buf, columns[i][k])
			}
		}
		block, err := j.spool.put(buf)
		if err != nil {
			return err
		}
		g.parts[b].run = append(g.parts[b].run, block)
	}
	return nil
}

// statusAt is the status of a row whose instant is t.
func (r *results) statusAt(row int, t int64, ttl feature.Duration) feature.Status {
	if r.found != nil {
		return r.found.Status(row, t, ttl)
	}
	return r.status[row]
}

func versionBytes(vs []feature.Version) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(vs))), len(vs)*int(unsafe.Sizeof(feature.Version{})))
}

// foundRole is what a role found for some rows.
type foundRole struct {
	status   []feature.Status
	versions []feature.Version // none where nobody needs them
	columns  []*feature.Column
}

// run reads what was found for the rows of one bucket, in order.
type run struct {
	g      *joinGroup
	blocks []block
	roles  []foundRole // of the block at hand
	rows   int
	row    int // the next
}

func newRun(g *joinGroup, blocks []block) *run {
	r := &run{g: g, blocks: blocks}
	for _, role := range g.roles {
		r.roles = append(r.roles, foundRole{columns: (&results{columns: resultColumns(role.joinRole)}).newColumns(0)})
	}
	return r
}

// nothing is a run of one row that found nothing.
func nothing(g *joinGroup) *run {
	r := newRun(g, nil)
	r.rows = 1
	for i, role := range g.roles {
		res := newResults(role.joinRole, 1)
		if role.windows != nil {
			res.empty(role.windows.empty)
		}
		r.roles[i].status, r.roles[i].versions = []feature.Status{feature.NotFound}, make([]feature.Version, 1)
		for k, c := range res.columns {
			res.appendTo(r.roles[i].columns[k], c, 0, 1)
		}
	}
	return r
}

var errRunEnds = errors.New("fewer rows were joined than the spine has")

// next reads the next block.
func (r *run) next(j *joiner, buf *[]byte) error {
	if len(r.blocks) == 0 {
		return errRunEnds
	}
	src, err := j.spool.take(&r.blocks[0], buf)
	if err != nil {
		return err
	}
	r.blocks = r.blocks[1:]
	r.rows, r.row = int(binary.LittleEndian.Uint32(src)), 0
	src = src[4:]
	for i := range r.roles {
		role := &r.roles[i]
		role.status = sized(role.status, r.rows)
		src = unspool(role.status, src)
		if !j.r.NoVersions {
			role.versions = sized(role.versions, r.rows)
			src = src[copy(versionBytes(role.versions), src):]
		}
		for _, c := range role.columns {
			src = unspoolColumn(src, c)
		}
	}
	return nil
}

// assembly puts the runs of a group's buckets together in the order of the spine.
type assembly struct {
	g    *joinGroup
	runs []*run // by bucket; last that of rows without one
	of   []uint16
	row  []int32 // of the run's block, by row of the batch
	buf  []byte
	nums [][]uint64 // by run, of the column at hand
}

func newAssembly(g *joinGroup) *assembly {
	m := &assembly{g: g, nums: make([][]uint64, len(g.parts)+1)}
	for i := range g.parts {
		m.runs = append(m.runs, newRun(g, g.parts[i].run))
	}
	m.runs = append(m.runs, nothing(g))
	return m
}

// fill appends what was found for the next rows, whose buckets are m.of, to out.
func (m *assembly) fill(j *joiner, out []offline.JoinedRole) error {
	n, none := len(m.of), len(m.runs)-1
	m.row = sized(m.row, n)
	from := 0 // the first row that was not gathered yet: those after it are of the blocks at hand
	for i := range n {
		if m.of[i] == noBucket {
			m.of[i], m.row[i] = uint16(none), 0
			continue
		}
		r := m.runs[m.of[i]]
		if r.row == r.rows {
			m.gather(j, out, from, i)
			from = i
			if err := r.next(j, &m.buf); err != nil {
				return err
			}
		}
		m.row[i] = int32(r.row)
		r.row++
	}
	m.gather(j, out, from, n)
	return nil
}

// gather appends rows [from, to) of the batch.
func (m *assembly) gather(j *joiner, out []offline.JoinedRole, from, to int) {
	of, row := m.of[from:to], m.row[from:to]
	for i, role := range m.g.roles {
		o := &out[role.at]
		for k, b := range of {
			o.Found = append(o.Found, m.runs[b].roles[i].status[row[k]])
		}
		if !j.r.NoVersions {
			for k, b := range of {
				o.Versions = append(o.Versions, m.runs[b].roles[i].versions[row[k]])
			}
		}
		for k, c := range o.Features {
			m.column(c, i, k, of, row)
		}
	}
}

// column appends rows to feature k of role i.
func (m *assembly) column(dst *feature.Column, i, k int, of []uint16, row []int32) {
	if !dst.Type.Kind.Fixed() {
		for x, b := range of {
			dst.AppendRow(m.runs[b].roles[i].columns[k], int(row[x]))
		}
		return
	}
	nulls := false
	for b, r := range m.runs {
		c := r.roles[i].columns[k]
		m.nums[b] = c.Nums
		nulls = nulls || len(c.Nulls) > 0
	}
	to := extend(dst, len(of))
	for x, b := range of {
		to[x] = m.nums[b][row[x]]
	}
	if nulls {
		for x, b := range of {
			if src := m.runs[b].roles[i].columns[k]; src.Nulls.Get(int(row[x])) {
				markNull(dst, dst.Len+x, src, int(row[x]))
			}
		}
	}
	dst.Len += len(of)
}

// hand yields the spine, in order, with what was found.
func (j *joiner) hand(ctx context.Context) error {
	out := &offline.Joined{Spine: feature.NewBatch(j.fields, 0), Roles: make([]offline.JoinedRole, len(j.roles))}
	for i, r := range j.roles {
		out.Roles[i].Features = (&results{columns: resultColumns(r)}).newColumns(emitRows)
	}
	groups := make([]*assembly, len(j.groups))
	for i, g := range j.groups {
		groups[i] = newAssembly(g)
	}
	var buf []byte
	for i := range j.blocks {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		src, err := j.spool.take(&j.blocks[i], &buf)
		if err != nil {
			return err
		}
		out.Spine.Rows = int(binary.LittleEndian.Uint32(src))
		src = src[4:]
		for _, c := range out.Spine.Columns {
			src = unspoolColumn(src, c)
		}
		for k := range out.Roles {
			o := &out.Roles[k]
			o.Found, o.Versions = o.Found[:0], o.Versions[:0]
			for _, c := range o.Features {
				c.Reset()
			}
		}
		for _, m := range groups {
			m.of = sized(m.of, out.Spine.Rows)
			src = unspool(m.of, src)
			if err := m.fill(j, out.Roles); err != nil {
				return err
			}
		}
		if !j.yield(out, nil) {
			return errStopped
		}
		j.progress(0, int64(out.Spine.Rows))
	}
	return nil
}
