package files

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
)

// leafReader reads one leaf column of a row group, run by run: the levels of each
// entry, and the values of those entries that have one, densely.
type leafReader struct {
	column         *parquet.Column
	maxDef, maxRep byte
	width          int // bytes of a value of a fixed width; 0 for byte arrays

	pages parquet.Pages
	page  parquet.Page
	bools *rleBools // instead of pages, where they cannot be relied on

	// The page being read, and how far it is read.
	entries, entry int
	value          int
	def, rep       []byte
	data           encoding.Values
	indexes        []int32 // into dict, where the page has a dictionary
	dict           encoding.Values

	// The run. The buffers are made anew for each: the arrays keep them.
	n       int
	runDef  []byte // nil where maxDef is 0
	runRep  []byte // nil where maxRep is 0
	dense   int
	fixed   []byte  // dense values of a fixed width; a byte for each bool
	bytes   []byte  // dense byte arrays…
	offsets []int32 // …and their bounds, dense+1
}

func newLeafReader(c *parquet.Column) *leafReader {
	l := &leafReader{column: c, maxDef: byte(c.MaxDefinitionLevel()), maxRep: byte(c.MaxRepetitionLevel())} //nolint:gosec // levels are bytes
	switch c.Type().Kind() {
	case parquet.Boolean:
		l.width = 1
	case parquet.Int32, parquet.Float:
		l.width = 4
	case parquet.Int64, parquet.Double:
		l.width = 8
	case parquet.Int96:
		l.width = 12
	case parquet.FixedLenByteArray:
		l.width = c.Type().Length()
	}
	return l
}

func (l *leafReader) open(chunk parquet.ColumnChunk) {
	l.close()
	l.pages, l.entries, l.entry = chunk.Pages(), 0, 0
}

func (l *leafReader) close() {
	if l.page != nil {
		parquet.Release(l.page)
		l.page = nil
	}
	if l.pages != nil {
		_ = l.pages.Close() // it reads, and what it read was checked
		l.pages = nil
	}
	if l.bools != nil {
		l.bools, l.def, l.rep = nil, nil, nil
	}
}

// next makes the next page with entries the one being read; io.EOF after the last.
func (l *leafReader) next() error {
	if l.bools != nil {
		return l.nextBools()
	}
	for {
		if l.page != nil {
			parquet.Release(l.page)
			l.page = nil
		}
		page, err := l.pages.ReadPage()
		if err != nil {
			return err
		}
		l.page, l.entries, l.entry, l.value = page, int(page.NumValues()), 0, 0
		l.def, l.rep = page.DefinitionLevels(), page.RepetitionLevels()
		if l.maxDef > 0 && len(l.def) != l.entries && len(l.def) != 0 {
			return errors.New("a page whose levels and values do not agree")
		}
		l.data, l.indexes = page.Data(), nil
		if d := page.Dictionary(); d != nil {
			l.indexes, l.dict = l.data.Int32(), d.Page().Data()
		}
		if l.entries > 0 {
			return nil
		}
	}
}

// read reads the entries of the next n rows.
func (l *leafReader) read(n int) error {
	l.n, l.dense = 0, 0
	l.runDef, l.runRep, l.fixed, l.bytes, l.offsets = l.runDef[:0], l.runRep[:0], nil, nil, nil
	if l.width > 0 {
		l.fixed = make([]byte, 0, n*l.width)
	} else {
		l.offsets = append(make([]int32, 0, n+1), 0)
	}
	for rows := 0; ; {
		if l.entry == l.entries {
			if l.maxRep == 0 && rows == n {
				return nil
			}
			if err := l.next(); errors.Is(err, io.EOF) && rows == n {
				l.entries, l.entry = 0, 0
				return nil
			} else if errors.Is(err, io.EOF) {
				return fmt.Errorf("it has fewer rows than its row group: %w", io.ErrUnexpectedEOF)
			} else if err != nil {
				return err
			}
		}
		end := l.entry
		if l.maxRep == 0 {
			take := min(n-rows, l.entries-l.entry)
			end, rows = end+take, rows+take
		} else {
			for end < l.entries && (l.rep[end] != 0 || rows < n) {
				if l.rep[end] == 0 {
					rows++
				}
				end++
			}
		}
		if err := l.take(end); err != nil {
			return err
		}
		if rows == n && (l.maxRep == 0 || l.entry < l.entries) {
			return nil
		}
	}
}

// take takes the page's entries up to end into the run.
func (l *leafReader) take(end int) error {
	count := end - l.entry
	dense := count
	if l.maxDef > 0 {
		if len(l.def) > 0 {
			run := l.def[l.entry:end]
			dense = 0
			for _, d := range run {
				if d == l.maxDef {
					dense++
				}
			}
			l.runDef = append(l.runDef, run...)
		} else {
			for range count {
				l.runDef = append(l.runDef, l.maxDef)
			}
		}
	}
	if l.maxRep > 0 {
		l.runRep = append(l.runRep, l.rep[l.entry:end]...)
	}
	if dense > 0 {
		if err := l.values(l.value, l.value+dense); err != nil {
			return err
		}
	}
	l.entry, l.value, l.n, l.dense = end, l.value+dense, l.n+count, l.dense+dense
	return nil
}

// values appends the page's dense values from one to another to the run.
func (l *leafReader) values(from, to int) error {
	src := l.data
	if l.indexes != nil {
		src = l.dict
	}
	data, offsets := src.Data()
	if src.Kind() == encoding.Boolean {
		if to > 8*len(data) {
			return io.ErrUnexpectedEOF
		}
		for i := from; i < to; i++ {
			l.fixed = append(l.fixed, data[i>>3]>>(uint(i)&7)&1)
		}
		return nil
	}
	if l.width == 0 {
		return l.byteArrays(data, offsets, from, to)
	}
	if l.indexes == nil {
		if to*l.width > len(data) {
			return io.ErrUnexpectedEOF
		}
		l.fixed = append(l.fixed, data[from*l.width:to*l.width]...)
		return nil
	}
	if to > len(l.indexes) {
		return io.ErrUnexpectedEOF
	}
	for _, i := range l.indexes[from:to] {
		at := int(i) * l.width
		if i < 0 || at+l.width > len(data) {
			return fmt.Errorf("entry %d is not in its dictionary", i)
		}
		l.fixed = append(l.fixed, data[at:at+l.width]...)
	}
	return nil
}

func (l *leafReader) byteArrays(data []byte, offsets []uint32, from, to int) error {
	const limit = 1<<31 - 1 // of Arrow's 32-bit offsets
	if l.indexes == nil {
		if to >= len(offsets) {
			return io.ErrUnexpectedEOF
		}
		start, end := offsets[from], offsets[to]
		if len(l.bytes)+int(end-start) > limit {
			return errors.New("more than 2 GiB of text in one run of rows")
		}
		base := int64(len(l.bytes)) - int64(start)
		l.bytes = append(l.bytes, data[start:end]...)
		for _, o := range offsets[from+1 : to+1] {
			l.offsets = append(l.offsets, int32(int64(o)+base)) //nolint:gosec // within limit
		}
		return nil
	}
	if to > len(l.indexes) {
		return io.ErrUnexpectedEOF
	}
	for _, i := range l.indexes[from:to] {
		if i < 0 || int(i)+1 >= len(offsets) {
			return fmt.Errorf("entry %d is not in its dictionary", i)
		}
		l.bytes = append(l.bytes, data[offsets[i]:offsets[i+1]]...)
		if len(l.bytes) > limit {
			return errors.New("more than 2 GiB of text in one run of rows")
		}
		l.offsets = append(l.offsets, int32(len(l.bytes))) //nolint:gosec // within limit
	}
	return nil
}
