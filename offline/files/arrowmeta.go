package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What Arrow IPC says of itself is in FlatBuffers, which the Arrow library believes: a damaged length
// makes it allocate whatever it says, and the process ends. So the messages of a file
// are checked first: that their vectors lie within them, and their bodies within the
// file. The tables and their slots are those of Schema.fbs, Message.fbs and File.fbs
// in apache/arrow/format.

var errMessage = errors.New("its messages are damaged")

// checkArrow checks the messages of an Arrow file or stream; only their metadata is
// read. What is out of range panics; the caller guards.
func checkArrow(in io.ReaderAt, size int64, format Format) error {
	if format == ArrowFile {
		return checkArrowFile(in, size)
	}
	for at := int64(0); at < size; {
		n, prefix, err := messageLength(in, at)
		if errors.Is(err, io.EOF) || n == 0 {
			return nil // the end; what is cut off is told where it is read
		}
		if err != nil {
			return err
		}
		body, err := checkBlock(in, size, at+prefix, n, -1)
		if err != nil {
			return err
		}
		at += prefix + n + body
	}
	return nil
}

// messageLength is the length of the metadata of the message at an offset, and of what
// stands before it.
func messageLength(in io.ReaderAt, at int64) (n, prefix int64, err error) {
	var b [8]byte
	got, err := in.ReadAt(b[:], at)
	word := binary.LittleEndian.Uint32(b[:])
	switch {
	case got < 4 || (got < 8 && word == 0xffffffff):
		return 0, 0, io.EOF
	case word == 0xffffffff:
		return int64(int32(binary.LittleEndian.Uint32(b[4:]))), 8, nil //nolint:gosec // as the format has it
	case got < 8:
		return int64(int32(word)), 4, nil //nolint:gosec // as the format had it before 0.15
	case err != nil && !errors.Is(err, io.EOF):
		return 0, 0, err
	}
	return int64(int32(word)), 4, nil //nolint:gosec // as above
}

func checkArrowFile(in io.ReaderAt, size int64) error {
	const end = 10 // the footer's length and ARROW1
	var b [end]byte
	if size < 8+end {
		return io.ErrUnexpectedEOF
	}
	if _, err := in.ReadAt(b[:], size-end); err != nil {
		return err
	}
	n := int64(int32(binary.LittleEndian.Uint32(b[:]))) //nolint:gosec // as the format has it
	if string(b[4:]) != "ARROW1" {
		return io.ErrUnexpectedEOF
	}
	if n <= 0 || n > size-end {
		return errMessage
	}
	footer := make(flat, n)
	if _, err := in.ReadAt(footer, size-end-n); err != nil {
		return err
	}
	root := footer.deref(0)
	if at := footer.slot(root, 1); at > 0 {
		footer.schema(footer.deref(at))
	}
	for _, slot := range []int{2, 3} { // dictionaries, record batches
		start, blocks := footer.vector(footer.slot(root, slot), 24)
		for i := range blocks {
			at, meta, body := footer.i64(start+24*i), int64(footer.i32(start+24*i+8)), footer.i64(start+24*i+16)
			if at < 0 || meta < 8 || body < 0 || at > size || meta > size-at || body > size-at-meta {
				return errMessage
			}
			n, prefix, err := messageLength(in, at)
			if err != nil {
				return err
			}
			if n <= 0 || prefix+n > meta {
				return errMessage
			}
			if _, err := checkBlock(in, size, at+prefix, n, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBlock checks one message whose metadata, of n bytes, is at an offset, and
// returns the length of its body, which must be that given unless it is -1.
func checkBlock(in io.ReaderAt, size, at, n, body int64) (int64, error) {
	if n < 0 || n > size-at {
		return 0, io.ErrUnexpectedEOF
	}
	meta := make(flat, n)
	if _, err := in.ReadAt(meta, at); err != nil {
		return 0, err
	}
	root := meta.deref(0)
	length := int64(0)
	if slot := meta.slot(root, 3); slot > 0 {
		length = meta.i64(slot)
	}
	switch {
	case length < 0 || (body >= 0 && length > body):
		return 0, errMessage
	case length > size-at-n:
		return 0, io.ErrUnexpectedEOF
	}
	kind, header := meta.slot(root, 1), meta.slot(root, 2)
	if kind == 0 || header == 0 {
		return 0, errMessage
	}
	table := meta.deref(header)
	switch meta[kind] {
	case 1:
		meta.schema(table)
	case 2: // a dictionary: a record batch in a table
		if slot := meta.slot(table, 1); slot > 0 {
			meta.batch(meta.deref(slot), length)
		}
	case 3:
		meta.batch(table, length)
	}
	return length, nil
}

// flat is a FlatBuffer. Its methods panic where something is out of its range.
type flat []byte

func (b flat) i32(at int) int32 { return int32(binary.LittleEndian.Uint32(b[at:])) } //nolint:gosec // as the format has it
func (b flat) i64(at int) int64 { return int64(binary.LittleEndian.Uint64(b[at:])) } //nolint:gosec // as the format has it

// deref follows the offset at a place.
func (b flat) deref(at int) int {
	to := at + int(binary.LittleEndian.Uint32(b[at:]))
	_ = b[to : to+4]
	return to
}

// slot is the place of a table's field; 0 if it is not there.
func (b flat) slot(table, field int) int {
	vtable := table - int(b.i32(table))
	at := 4 + 2*field
	if at+2 > int(binary.LittleEndian.Uint16(b[vtable:])) {
		return 0
	}
	offset := int(binary.LittleEndian.Uint16(b[vtable+at:]))
	if offset == 0 {
		return 0
	}
	_ = b[table+offset]
	return table + offset
}

// vector is where the elements of the vector at a place begin, and how many there are.
func (b flat) vector(at, size int) (start, n int) {
	if at == 0 {
		return 0, 0
	}
	start = b.deref(at)
	n = int(binary.LittleEndian.Uint32(b[start:]))
	start += 4
	if n > (len(b)-start)/size {
		panic(fmt.Sprintf("a vector of %d elements", n))
	}
	return start, n
}

// schema checks a Schema: its fields, and theirs. Offsets may lead to one field from
// many places, so the fields met are counted: there cannot be more than would fit.
func (b flat) schema(table int) {
	left := len(b)
	b.fields(b.slot(table, 1), &left, 0)
	b.metadata(b.slot(table, 2), &left)
}

func (b flat) fields(at int, left *int, depth int) {
	start, n := b.vector(at, 4)
	if *left -= 8 * n; *left < 0 || depth > 64 {
		panic("more fields than it has room for")
	}
	for i := range n {
		field := b.deref(start + 4*i)
		b.vector(b.slot(field, 0), 1)                            // the name
		if kind := b.slot(field, 2); kind > 0 && b[kind] == 14 { // a union: its type IDs
			b.vector(b.slot(b.deref(b.slot(field, 3)), 1), 4)
		}
		b.fields(b.slot(field, 5), left, depth+1)
		b.metadata(b.slot(field, 6), left)
	}
}

func (b flat) metadata(at int, left *int) {
	start, n := b.vector(at, 4)
	if *left -= 8 * n; *left < 0 {
		panic("more metadata than it has room for")
	}
	for i := range n {
		pair := b.deref(start + 4*i)
		b.vector(b.slot(pair, 0), 1)
		b.vector(b.slot(pair, 1), 1)
	}
}

// batch checks a RecordBatch with a body of so many bytes.
func (b flat) batch(table int, body int64) {
	b.vector(b.slot(table, 1), 16) // nodes
	start, n := b.vector(b.slot(table, 2), 16)
	for i := range n {
		offset, length := b.i64(start+16*i), b.i64(start+16*i+8)
		if offset < 0 || length < 0 || offset > body || length > body-offset {
			panic("a buffer outside of its message")
		}
	}
	counts, views := b.vector(b.slot(table, 4), 8)
	for i := range views {
		if c := b.i64(counts + 8*i); c < 0 || c > int64(n) {
			panic("a view of more buffers than there are")
		}
	}
}
