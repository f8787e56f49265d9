package parquet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"unsafe"
)

// spool keeps blocks of bytes for the time of a join: in memory as long as there is room, the others in a file
// that is gone when the join ends, also where the process is killed. It may be used concurrently.
type spool struct {
	create func() (spoolFile, error)

	mu   sync.Mutex
	room int64 // bytes that may still be kept in memory
	file spoolFile
	end  int64
}

// spoolFile is what a spool needs of a file.
type spoolFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// block is bytes in a spool.
type block struct {
	mem  []byte // nil: it is in the file
	at   int64
	size int
}

// put keeps a copy of b.
func (s *spool) put(b []byte) (block, error) {
	s.mu.Lock()
	if int64(len(b)) <= s.room {
		s.room -= int64(len(b))
		s.mu.Unlock()
		return block{mem: append(make([]byte, 0, len(b)), b...), size: len(b)}, nil
	}
	if s.file == nil {
		f, err := s.create()
		if err != nil {
			s.mu.Unlock()
			return block{}, err
		}
		s.file = f
	}
	f, at := s.file, s.end
	s.end += int64(len(b))
	s.mu.Unlock()
	if _, err := f.WriteAt(b, at); err != nil {
		return block{}, fmt.Errorf("writing %d bytes of the join's intermediate data: %w", len(b), err)
	}
	return block{at: at, size: len(b)}, nil
}

// take is a block's bytes, which are in the spool no more. They are valid until buf is used again.
func (s *spool) take(b *block, buf *[]byte) ([]byte, error) {
	if b.mem != nil {
		out := b.mem
		s.mu.Lock()
		s.room += int64(len(out))
		s.mu.Unlock()
		b.mem = nil
		return out, nil
	}
	if cap(*buf) < b.size {
		*buf = make([]byte, b.size)
	}
	out := (*buf)[:b.size]
	if _, err := s.file.ReadAt(out, b.at); err != nil {
		return nil, fmt.Errorf("reading %d bytes of the join's intermediate data: %w", b.size, err)
	}
	return out, nil
}

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // nobody needs it any more
	}
}

// unnamedFile is a file that nothing names; where that cannot be it is removed when it is closed.
type unnamedFile struct {
	*os.File
	named bool
}

func (f unnamedFile) Close() error {
	err := f.File.Close()
	if f.named {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// createSpill makes a file for a spool beside the sort runs.
func (s *Store) createSpill() (spoolFile, error) {
	dir := filepath.Join(s.root, "tmp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("a folder for the join's intermediate data: %w", err)
	}
	f, err := os.CreateTemp(dir, "join-*")
	if err != nil {
		return nil, fmt.Errorf("a file for the join's intermediate data: %w", err)
	}
	return unnamedFile{f, os.Remove(f.Name()) != nil}, nil
}

// word is what a slice may have to be taken for its bytes, in the machine's order: a spool is of one process.
type word interface {
	~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int64 | ~float32
}

// bytesOf is the memory of a slice.
func bytesOf[T word](w []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), len(w)*int(unsafe.Sizeof(one)))
}

// unspool fills words from the front of src, and returns the rest.
func unspool[T word](to []T, src []byte) []byte { return src[copy(bytesOf(to), src):] }
