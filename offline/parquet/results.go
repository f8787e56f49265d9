package parquet

import (
	"unsafe"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// results is what one role found for a chunk of the spine. Different rows may
// be written concurrently, so nulls are kept in bytes, not bits, until they are handed out.
type results struct {
	found   *pit.Found
	columns []*resultColumn
}

// What a cell of a resultColumn is.
const (
	cellNull    = iota
	cellValue   //
	cellInvalid // null because it could not be computed
)

type resultColumn struct {
	field feature.Field
	state []uint8
	nums  []uint64
	texts []string
	lists []feature.Value
}

func newResults(r *joinRole, n int) *results {
	res := &results{found: pit.NewFound(n)}
	for _, f := range r.Features {
		c := &resultColumn{field: r.View.View.Features[f].Field, state: make([]uint8, n)}
		switch k := c.field.Type.Kind; {
		case k.Fixed():
			c.nums = make([]uint64, n)
		case k == feature.String || k == feature.Bytes:
			c.texts = make([]string, n)
		default:
			c.lists = make([]feature.Value, n)
		}
		res.columns = append(res.columns, c)
	}
	return res
}

// scatter puts values of a block where they belong. Text is copied.
func (c *resultColumn) scatter(from *feature.Column, take []taken) {
	hasNulls := len(from.Nulls) > 0
	var arena []byte
	if c.texts != nil {
		size := 0
		for _, t := range take {
			size += int(from.Offsets[t.from+1] - from.Offsets[t.from])
		}
		arena = make([]byte, 0, size)
	}
	for _, t := range take {
		if hasNulls && from.IsNull(int(t.from)) {
			c.state[t.row] = cellNull
			if from.Bad.Get(int(t.from)) {
				c.state[t.row] = cellInvalid
			}
			continue
		}
		c.state[t.row] = cellValue
		switch {
		case c.nums != nil:
			c.nums[t.row] = from.Nums[t.from]
		case c.texts != nil:
			start := len(arena)
			arena = append(arena, from.Bytes(int(t.from))...)
			c.texts[t.row] = unsafe.String(unsafe.SliceData(arena[start:]), len(arena)-start)
		default:
			c.lists[t.row] = from.Values[t.from]
		}
	}
}

func (r *results) clear(row int) {
	for _, c := range r.columns {
		c.state[row] = cellNull
	}
}

func (r *results) copyRow(to, from int) {
	for _, c := range r.columns {
		c.state[to] = c.state[from]
		switch {
		case c.nums != nil:
			c.nums[to] = c.nums[from]
		case c.texts != nil:
			c.texts[to] = c.texts[from]
		default:
			c.lists[to] = c.lists[from]
		}
	}
}

// appendTo appends rows [from, to) to a column.
func (c *resultColumn) appendTo(dst *feature.Column, from, to int) {
	for i := from; i < to; i++ {
		switch c.state[i] {
		case cellNull:
			dst.AppendNull()
		case cellInvalid:
			dst.AppendInvalid()
		default:
			switch {
			case c.nums != nil:
				dst.AppendBits(c.nums[i])
			case c.texts != nil:
				dst.AppendBytes(unsafe.Slice(unsafe.StringData(c.texts[i]), len(c.texts[i])))
			default:
				dst.Append(c.lists[i])
			}
		}
	}
}

// hand yields the chunk, in order, with what was found.
func (j *joiner) hand() error {
	out := &offline.Joined{Spine: feature.NewBatch(j.spine.Fields(), emitRows), Roles: make([]offline.JoinedRole, len(j.roles))}
	for i, r := range j.roles {
		for _, c := range r.results.columns {
			out.Roles[i].Features = append(out.Roles[i].Features, feature.NewColumn(c.field.Name, c.field.Type, emitRows))
		}
	}
	for from := 0; from < j.spine.Rows; from += emitRows {
		to := min(from+emitRows, j.spine.Rows)
		out.Spine.Reset()
		for i, c := range j.spine.Columns {
			appendRange(out.Spine.Columns[i], c, from, to)
		}
		out.Spine.Rows = to - from
		for i, r := range j.roles {
			o := &out.Roles[i]
			o.Found, o.Versions = o.Found[:0], r.results.found.Versions[from:to]
			for row := from; row < to; row++ {
				o.Found = append(o.Found, r.results.found.Status(row, int64(j.at.Nums[row]), r.TTL))
			}
			for k, c := range r.results.columns {
				o.Features[k].Reset()
				c.appendTo(o.Features[k], from, to)
			}
		}
		if !j.yield(out, nil) {
			return errStopped
		}
		j.done += int64(to - from)
		if j.r.Progress != nil {
			j.r.Progress(j.done, 0)
		}
	}
	for _, r := range j.roles {
		r.results = nil
	}
	return nil
}
