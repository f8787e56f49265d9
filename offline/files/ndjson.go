package files

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// lines reads the lines of an NDJSON file that are not blank.
type lines struct {
	r    *bufio.Reader
	long []byte
}

func newLines(r io.Reader) *lines {
	l := &lines{r: bufio.NewReaderSize(r, 256<<10)}
	if head, _ := l.r.Peek(len(bom)); bytes.Equal(head, bom) {
		_, _ = l.r.Discard(len(bom))
	}
	return l
}

// next reads a line, valid until the next; the errors are those of readLine.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := readLine(l.r, &l.long)
		if err != nil {
			return nil, err
		}
		if line = chop(line); len(bytes.TrimLeft(line, " \t")) > 0 {
			return line, nil
		}
	}
}

// ndjsonSource reads rows of a source from NDJSON.
type ndjsonSource struct {
	lines *lines
	dec   *rowjson.Decoder
	line  []byte
}

func openNDJSONSource(in io.Reader, src *registry.Source) *ndjsonSource {
	return &ndjsonSource{lines: newLines(in), dec: rowjson.NewDecoder(src)}
}

func (r *ndjsonSource) next(_ context.Context, b *feature.Batch) (*BadRow, error) {
	line, err := r.lines.next()
	var m malformed
	if errors.As(err, &m) {
		return &BadRow{Reason: m.Error(), JSON: []byte("null")}, nil
	}
	if err != nil {
		return nil, err
	}
	r.line = line
	err = r.dec.Append(line, b)
	var bad *rowjson.RowError
	if errors.As(err, &bad) {
		return &BadRow{Field: bad.Field, Reason: bad.Msg, JSON: r.row()}, nil
	}
	return nil, err
}

// row is the line, as a JSON string where it is not JSON.
func (r *ndjsonSource) row() []byte {
	if v := jsontext.Value(bytes.Clone(r.line)); v.IsValid() {
		return v
	}
	return feature.AppendStringJSON(nil, string(r.line))
}
