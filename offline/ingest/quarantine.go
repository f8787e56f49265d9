package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
)

// quarantine writes the bad rows of one file, as docs/format/quarantine.md has it: a
// JSON object a line,
//
//	{"v":1,"file":"…","row":7,"field":"delay","reason":"…","data":{…}}
//
// under a temporary name until it is kept. Nothing is made without a bad row.
type quarantine struct {
	dir, source, file, hash string
	dry                     bool
	first                   files.BadRow
	out                     *os.File
	buf                     *bufio.Writer
	line                    []byte
	count                   int64
}

func (q *quarantine) add(b files.BadRow) error {
	if q.count++; q.count == 1 {
		q.first = b
	}
	if q.dry {
		return nil
	}
	if q.out == nil {
		dir := filepath.Join(q.dir, q.source)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("quarantine bad rows of %s: %w", q.file, err)
		}
		out, err := os.CreateTemp(dir, q.hash+".*.tmp")
		if err != nil {
			return fmt.Errorf("quarantine bad rows of %s: %w", q.file, err)
		}
		q.out, q.buf = out, bufio.NewWriter(out)
	}
	l := append(q.line[:0], `{"v":1,"file":`...)
	l = append(feature.AppendStringJSON(l, q.file), `,"row":`...)
	l = strconv.AppendInt(l, b.Row, 10)
	if b.Field != "" {
		l = append(l, `,"field":`...)
		l = feature.AppendStringJSON(l, b.Field)
	}
	l = append(l, `,"reason":`...)
	l = append(feature.AppendStringJSON(l, b.Reason), `,"data":`...)
	l = append(append(l, b.JSON...), '}', '\n')
	q.line = l
	if _, err := q.buf.Write(l); err != nil {
		return fmt.Errorf("quarantine bad rows of %s: %w", q.file, err)
	}
	return nil
}

// keep gives the file its name, and returns it; "" without bad rows.
func (q *quarantine) keep() (string, error) {
	if q.out == nil {
		return "", nil
	}
	out := q.out
	err := q.buf.Flush()
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	path := filepath.Join(q.dir, q.source, q.hash+".ndjson")
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("quarantine bad rows of %s: %w", q.file, errors.Join(err, os.Remove(out.Name())))
	}
	q.out = nil
	return path, nil
}

// discard drops what was not kept.
func (q *quarantine) discard() {
	if q.out != nil {
		_ = q.out.Close()
		_ = os.Remove(q.out.Name()) // it stays under its temporary name at worst
		q.out = nil
	}
}
