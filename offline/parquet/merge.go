package parquet

import (
	"context"
	"errors"

	"github.com/forebay/forebay/registry/feature"
)

// mergeFilter says which rows of a merge are wanted.
type mergeFilter struct {
	from, to *int64 // event times, inclusive
	newest   bool   // rows that a later row of their key in the same batch replaces may be left out
}

func (m *mergeFilter) wants(eventTime int64) bool {
	return (m.from == nil || eventTime >= *m.from) && (m.to == nil || eventTime <= *m.to)
}

// pick is a row of the block that a source holds.
type pick struct {
	src int32
	row uint32
}

// merger merges sorted files into batches of the layout's fields, sorted.
type merger struct {
	files  []*sortedFile
	pos    []int // the next row of each file's block
	heap   []int // files with rows left, the one with the smallest first
	picks  []pick
	filter mergeFilter
	out    *feature.Batch
	rows   []uint32
	emit   func(*feature.Batch) error
	words  [][]uint64 // keys of each file's block, where they are words
	nums   [][]uint64 // of the column being collected, by file
	times  [][]int64  // event times of each file's block
}

// merge hands the rows of sorted files, which it closes, to emit, in order of
// (entity key, version). The batch is reused.
func merge(ctx context.Context, l *layout, files []*sortedFile, filter mergeFilter, emit func(*feature.Batch) error) (err error) {
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	m := &merger{files: files, pos: make([]int, len(files)), words: make([][]uint64, len(files)), times: make([][]int64, len(files)), filter: filter, emit: emit, out: feature.NewBatch(l.fields, 0)}
	for i := range files {
		ok, err := m.load(i)
		if err != nil {
			return err
		}
		if ok {
			m.heap = append(m.heap, i)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	for len(m.heap) > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := m.step(); err != nil {
			return err
		}
	}
	return m.flush()
}

// load reads the next block of file i whole.
func (m *merger) load(i int) (bool, error) {
	f := m.files[i]
	m.pos[i] = 0
	ok, err := f.advance()
	if !ok || err != nil {
		return false, err
	}
	if err := f.loadVersions(); err != nil {
		return false, err
	}
	m.times[i] = f.verCols[0].Int64s()
	if f.keys.Offsets == nil {
		m.words[i] = f.keys.Words
	}
	return true, f.loadFeatures()
}

// step takes rows from the first file of the heap for as long as it is the first.
func (m *merger) step() error {
	i := m.heap[0]
	f := m.files[i]
	for {
		row := m.pos[i]
		if m.filter.wants(m.times[i][row]) {
			m.pick(i, row)
		}
		m.pos[i]++
		if m.pos[i] == f.n {
			// The block's memory is used again: what was picked from it goes out first.
			if err := m.flush(); err != nil {
				return err
			}
			ok, err := m.load(i)
			if err != nil {
				return err
			}
			if !ok {
				m.heap[0] = m.heap[len(m.heap)-1]
				m.heap = m.heap[:len(m.heap)-1]
				m.down(0)
				return nil
			}
		} else if len(m.picks) == blockRows {
			if err := m.flush(); err != nil {
				return err
			}
		}
		if len(m.heap) > 1 && m.down(0) {
			return nil
		}
	}
}

func (m *merger) pick(i, row int) {
	p := pick{int32(i), uint32(row)}
	if n := len(m.picks); m.filter.newest && n > 0 {
		last := m.picks[n-1]
		if m.files[last.src].keys.Compare(int(last.row), m.files[i].keys, row) == 0 {
			m.picks[n-1] = p
			return
		}
	}
	m.picks = append(m.picks, p)
}

func (m *merger) less(a, b int) bool {
	i, j := m.pos[a], m.pos[b]
	fa, fb := m.files[a], m.files[b]
	if wa := m.words[a]; wa != nil {
		if ka, kb := wa[i], m.words[b][j]; ka != kb {
			return ka < kb
		}
	} else if c := fa.keys.Compare(i, fb.keys, j); c != 0 {
		return c < 0
	}
	if ta, tb := m.times[a][i], m.times[b][j]; ta != tb {
		return ta < tb
	}
	return fa.version(i).Compare(fb.version(j)) < 0
}

// down moves entry i of the heap to its place and reports whether it moved.
func (m *merger) down(i int) bool {
	moved := false
	for {
		c := 2*i + 1
		if c >= len(m.heap) {
			return moved
		}
		if c+1 < len(m.heap) && m.less(m.heap[c+1], m.heap[c]) {
			c++
		}
		if !m.less(m.heap[c], m.heap[i]) {
			return moved
		}
		m.heap[i], m.heap[c] = m.heap[c], m.heap[i]
		i, moved = c, true
	}
}

// flush hands out what was picked.
func (m *merger) flush() error {
	if len(m.picks) == 0 {
		return nil
	}
	m.out.Reset()
	for _, p := range m.picks {
		m.out.Versions = append(m.out.Versions, m.files[p.src].version(int(p.row)))
	}
	for j, c := range m.out.Columns {
		m.collect(c, j)
	}
	m.out.Rows = len(m.picks)
	m.picks = m.picks[:0]
	return m.emit(m.out)
}

// rowColumn is column j of the rows of a file.
func rowColumn(f *sortedFile, j int) *feature.Column {
	if j < len(f.keyCols) {
		return f.keyCols[j]
	}
	return f.featCols[j-len(f.keyCols)]
}

// collect appends column j of what was picked.
func (m *merger) collect(to *feature.Column, j int) {
	if to.Type.Kind.Fixed() {
		m.nums = m.nums[:0]
		nulls := false
		for _, f := range m.files {
			c := rowColumn(f, j)
			m.nums, nulls = append(m.nums, c.Nums), nulls || len(c.Nulls) > 0
		}
		if !nulls {
			out := extend(to, len(m.picks))
			for i, p := range m.picks {
				out[i] = m.nums[p.src][p.row]
			}
			to.Len += len(m.picks)
			return
		}
	}
	for start := 0; start < len(m.picks); { // runs of rows of one file
		end := start + 1
		for end < len(m.picks) && m.picks[end].src == m.picks[start].src {
			end++
		}
		m.rows = m.rows[:0]
		for _, p := range m.picks[start:end] {
			m.rows = append(m.rows, p.row)
		}
		gather(to, rowColumn(m.files[m.picks[start].src], j), m.rows)
		start = end
	}
}
