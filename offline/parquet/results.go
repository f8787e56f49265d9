package parquet

import (
	"unsafe"

	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// results is what one role found for a slice of the spine. Numbers and states of a row lie together: rows
// come in the order of the table, which is any order of the spine, and
// each then costs a cache line or two and not two for every feature.
type results struct {
	found   *pit.Found       // nil where statuses are all that is kept
	status  []feature.Status // then
	columns []*resultColumn
	words   []uint64 // numbers, width a row
	width   int
	state   []uint8 // one a feature and row
}

// What a cell is.
const (
	cellNull    = iota
	cellValue   //
	cellInvalid // null because it could not be computed
)

type resultColumn struct {
	field feature.Field
	at    int // of the role's features
	word  int // of a row's words; -1 for others
	texts []string
	lists []feature.Value
}

func newResults(r *joinRole, n int) *results {
	res := &results{}
	if r.statusOnly {
		res.status = make([]feature.Status, n)
		for i := range res.status {
			res.status[i] = feature.NotFound
		}
	} else {
		res.found = pit.NewFound(n)
	}
	res.columns = resultColumns(r)
	for _, c := range res.columns {
		switch k := c.field.Type.Kind; {
		case k.Fixed():
			c.word = res.width
			res.width++
		case k == feature.String || k == feature.Bytes:
			c.texts = make([]string, n)
		default:
			c.lists = make([]feature.Value, n)
		}
	}
	res.words, res.state = make([]uint64, n*res.width), make([]uint8, n*len(res.columns))
	return res
}

func resultColumns(r *joinRole) (cs []*resultColumn) {
	for i, f := range r.Features {
		cs = append(cs, &resultColumn{field: r.View.View.Features[f].Field, at: i, word: -1})
	}
	return cs
}

// newColumns makes empty columns for the features.
func (r *results) newColumns(rows int) (cs []*feature.Column) {
	for _, c := range r.columns {
		cs = append(cs, feature.NewColumn(c.field.Name, c.field.Type, rows))
	}
	return cs
}

// scatter puts values of a block, a column for each feature, where they belong. Text is copied.
func (r *results) scatter(from []*feature.Column, take []taken) {
	words := make([][]uint64, 0, len(from))
	for _, c := range from {
		if c.Type.Kind.Fixed() && len(c.Nulls) == 0 {
			words = append(words, c.Nums)
		}
	}
	if n := len(r.columns); len(words) == n {
		for _, t := range take {
			to := r.words[int(t.row)*n:][:n]
			for i, w := range words {
				to[i] = w[t.from]
			}
			state := r.state[int(t.row)*n:][:n]
			for i := range state {
				state[i] = cellValue
			}
		}
		return
	}
	for i, c := range r.columns {
		r.scatterColumn(c, from[i], take)
	}
}

func (r *results) scatterColumn(c *resultColumn, from *feature.Column, take []taken) {
	var arena []byte
	if c.texts != nil {
		size := 0
		for _, t := range take {
			size += int(from.Offsets[t.from+1] - from.Offsets[t.from])
		}
		arena = make([]byte, 0, size)
	}
	for _, t := range take {
		state := &r.state[int(t.row)*len(r.columns)+c.at]
		if from.IsNull(int(t.from)) {
			*state = cellNull
			if from.Bad.Get(int(t.from)) {
				*state = cellInvalid
			}
			continue
		}
		*state = cellValue
		switch {
		case c.word >= 0:
			r.words[int(t.row)*r.width+c.word] = from.Nums[t.from]
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
	n := len(r.columns)
	clear(r.state[row*n : (row+1)*n])
}

func (r *results) copyRow(to, from int) {
	n := len(r.columns)
	copy(r.state[to*n:(to+1)*n], r.state[from*n:])
	copy(r.words[to*r.width:(to+1)*r.width], r.words[from*r.width:])
	for _, c := range r.columns {
		switch {
		case c.texts != nil:
			c.texts[to] = c.texts[from]
		case c.lists != nil:
			c.lists[to] = c.lists[from]
		}
	}
}

// put puts a value, which is kept, into a cell.
func (r *results) put(row int, c *resultColumn, v feature.Value) {
	state := &r.state[row*len(r.columns)+c.at]
	switch {
	case v.IsInvalid():
		*state = cellInvalid
		return
	case v.IsNull():
		*state = cellNull
		return
	}
	*state = cellValue
	switch {
	case c.word >= 0:
		r.words[row*r.width+c.word] = v.Bits()
	case c.texts != nil:
		c.texts[row] = v.Str()
	default:
		c.lists[row] = v
	}
}

// appendTo appends rows [from, to) of a feature to a column.
func (r *results) appendTo(dst *feature.Column, c *resultColumn, from, to int) {
	n := len(r.columns)
	if c.word >= 0 {
		out := extend(dst, to-from)
		state, words := r.state[from*n+c.at:], r.words[from*r.width+c.word:]
		for i := range out {
			switch state[i*n] {
			case cellValue:
				out[i] = words[i*r.width]
				continue
			case cellInvalid:
				dst.Bad.Set(dst.Len + i)
			}
			out[i] = 0
			dst.Nulls.Set(dst.Len + i)
		}
		dst.Len += to - from
		return
	}
	for i := from; i < to; i++ {
		switch {
		case r.state[i*n+c.at] == cellNull:
			dst.AppendNull()
		case r.state[i*n+c.at] == cellInvalid:
			dst.AppendInvalid()
		case c.texts != nil:
			dst.AppendBytes(unsafe.Slice(unsafe.StringData(c.texts[i]), len(c.texts[i])))
		default:
			dst.Append(c.lists[i])
		}
	}
}
