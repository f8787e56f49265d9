package parquet

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// joinGroup is roles that look for the same keys in tables of as many buckets: the spine is parted, sorted
// and put together again once for all of them.
type joinGroup struct {
	keys   []string
	types  []feature.Type
	roles  []groupRole
	parts  []part // one a bucket; none where no role has a table
	perRow int64  // bytes of a row in a slice
	flush  int    // rows of a part that are held in memory
	emit   int    // rows of a run's block
	of     []uint16
	cols   []*feature.Column // the keys' in the batch at hand
}

// groupRole is a role and its place among the request's.
type groupRole struct {
	*joinRole
	at int
}

// noBucket is the bucket of a row without an instant or a whole key, which finds nothing.
const noBucket = math.MaxUint16

// part is the rows of the spine that lie in one bucket, in order.
type part struct {
	keys   *pit.Keys // those that are not in the spool yet
	times  []int64
	blocks []partBlock
	run    []block // what was found for them
}

type partBlock struct {
	block
	rows int
}

// Bounds of what is held in memory of a part, and of a run that is read.
const (
	maxFlushRows  = 4096
	maxFlushBytes = 64 << 10 // of the text of keys
	maxSpineBytes = 4 << 20  // of a block of the spine
	maxRunRows    = 2048
	minRows       = 16
)

// group parts the roles into groups.
func (j *joiner) group() {
	for i, r := range j.roles {
		buckets := 0
		if r.table != nil {
			buckets = r.table.buckets
		}
		k := slices.IndexFunc(j.groups, func(g *joinGroup) bool {
			return len(g.parts) == buckets && slices.Equal(g.keys, r.Keys) && slices.Equal(g.types, r.types)
		})
		if k < 0 {
			k = len(j.groups)
			j.groups = append(j.groups, &joinGroup{keys: r.Keys, types: r.types, parts: make([]part, buckets), perRow: rowOverhead})
		}
		g := j.groups[k]
		g.roles = append(g.roles, groupRole{r, i})
		g.perRow += r.perRow
	}
	for _, g := range j.groups {
		// An eighth of the budget for what is gathered of all parts, and another for the runs that are put together.
		each := j.memory / 8 / int64(len(j.groups)) / int64(max(1, len(g.parts)))
		rows := func(perRow int64, most int) int { return int(min(max(each/perRow, minRows), int64(most))) }
		g.flush, g.emit = rows(32, maxFlushRows), rows(g.perRow, maxRunRows)
		// A slice is of whole blocks.
		g.flush = max(1, min(g.flush, int(min(j.limit/g.perRow, maxFlushRows))))
		for i := range g.parts {
			g.parts[i].keys = pit.NewKeys(g.types)
		}
	}
}

// read reads the spine into the spool.
func (j *joiner) read(ctx context.Context) error {
	var b *feature.Batch
	var size int64
	for batch, err := range j.r.Spine {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("reading the spine: %w", err)
		}
		if b == nil {
			if err := j.check(batch); err != nil {
				return err
			}
			j.fields = batch.Fields()
			b = feature.NewBatch(j.fields, 0)
		}
		if !slices.Equal(j.fields, batch.Fields()) {
			return fmt.Errorf("a batch of the spine has other columns than the first")
		}
		for from := 0; from < batch.Rows; {
			to := min(from+emitRows-b.Rows, batch.Rows)
			for i, c := range b.Columns {
				before := c.Len
				appendRange(c, batch.Columns[i], from, to)
				size += memoryOf(c, before)
			}
			b.Rows += to - from
			if from = to; b.Rows == emitRows || size >= maxSpineBytes {
				if err := j.part(b); err != nil {
					return err
				}
				size = 0
			}
		}
	}
	if b != nil && b.Rows > 0 {
		if err := j.part(b); err != nil {
			return err
		}
	}
	for _, g := range j.groups {
		for i := range g.parts {
			p := &g.parts[i]
			if err := p.flush(j); err != nil {
				return err
			}
			p.keys, p.times = nil, nil
		}
	}
	return nil
}

// part puts rows of the spine into the parts of their buckets, and into the spool.
func (j *joiner) part(b *feature.Batch) error {
	at := b.Column(j.r.Timestamp)
	for _, g := range j.groups {
		g.of, g.cols = g.of[:0], g.cols[:0]
		for _, name := range g.keys {
			g.cols = append(g.cols, b.Column(name))
		}
		for i := range b.Rows {
			bucket := noBucket
			if len(g.parts) > 0 && !at.IsNull(i) {
				var err error
				if bucket, err = g.add(j, i, int64(at.Nums[i])); err != nil {
					return err
				}
			}
			g.of = append(g.of, uint16(bucket))
		}
	}
	buf := binary.LittleEndian.AppendUint32(j.buf[:0], uint32(b.Rows))
	for _, c := range b.Columns {
		buf = spoolColumn(buf, c)
	}
	for _, g := range j.groups {
		buf = append(buf, bytesOf(g.of)...)
	}
	j.rows += int64(b.Rows)
	b.Reset()
	j.buf = buf
	block, err := j.spool.put(buf)
	j.blocks = append(j.blocks, block)
	return err
}

// add puts the key of row i into the part of its bucket, and tells which that is.
func (g *joinGroup) add(j *joiner, i int, at int64) (int, error) {
	// The key is made at the end of some part, to see which it belongs to.
	first := g.parts[0].keys
	if !first.AppendRow(g.cols, i) {
		return noBucket, nil
	}
	last := first.Len() - 1
	b := bucketOf(first, last, len(g.parts))
	p := &g.parts[b]
	if b > 0 {
		p.keys.AppendKey(first, last)
		first.Cut(last)
	}
	if p.times = append(p.times, at); len(p.times) >= g.flush || len(p.keys.Data) >= maxFlushBytes {
		return b, p.flush(j)
	}
	return b, nil
}

// flush puts what is in memory of a part into the spool.
func (p *part) flush(j *joiner) error {
	n := len(p.times)
	if n == 0 {
		return nil
	}
	buf := append(j.buf[:0], bytesOf(p.times)...)
	if p.keys.Offsets == nil {
		buf = append(buf, bytesOf(p.keys.Words)...)
	} else {
		buf = append(buf, bytesOf(p.keys.Offsets)...)
		buf = append(buf, p.keys.Data...)
	}
	p.keys.Reset()
	p.times = p.times[:0]
	j.buf = buf
	b, err := j.spool.put(buf)
	p.blocks = append(p.blocks, partBlock{b, n})
	return err
}

// spineSlice is some rows of a part.
type spineSlice struct {
	keys  *pit.Keys
	times []int64
	buf   []byte
}

// load takes blocks out of the spool, at least one, as many as fit into limit with what is found for their rows.
func (p *part) load(s *spool, g *joinGroup, to *spineSlice, limit int64) error {
	if to.keys == nil {
		to.keys = pit.NewKeys(g.types)
	}
	to.keys.Reset()
	to.times = to.times[:0]
	size, rows := int64(0), 0
	count := 0
	for i, b := range p.blocks {
		size += int64(b.rows)*g.perRow + int64(b.size)
		if i > 0 && size > limit {
			break
		}
		count++
		rows += b.rows
	}
	to.times = slices.Grow(to.times, rows)
	to.keys.Words = slices.Grow(to.keys.Words, rows)
	for i := range p.blocks[:count] {
		b := &p.blocks[i]
		src, err := s.take(&b.block, &to.buf)
		if err != nil {
			return err
		}
		at := len(to.times)
		to.times = to.times[:at+b.rows]
		src = unspool(to.times[at:], src)
		if to.keys.Offsets == nil {
			at := len(to.keys.Words)
			to.keys.Words = to.keys.Words[:at+b.rows]
			unspool(to.keys.Words[at:], src)
			continue
		}
		base := uint32(len(to.keys.Data))
		at = len(to.keys.Offsets)
		to.keys.Offsets = append(to.keys.Offsets[:at-1], make([]uint32, b.rows+1)...)
		offsets := to.keys.Offsets[at-1:]
		src = src[copy(bytesOf(offsets), src):]
		for k := range offsets {
			offsets[k] += base
		}
		to.keys.Data = append(to.keys.Data, src...)
	}
	p.blocks = p.blocks[count:]
	return nil
}
