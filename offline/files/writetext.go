package files

import (
	"bufio"
	"bytes"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/registry/feature"
)

// csvWriter writes CSV as RFC 4180 has it, with a header; lines end in LF. A null is
// an empty field, an empty text an empty field in quotes.
type csvWriter struct {
	w      *bufio.Writer
	schema *arrow.Schema
	began  bool
	line   []byte
	text   []byte
}

func newCSVWriter(w io.Writer, schema *arrow.Schema) *csvWriter {
	return &csvWriter{w: bufio.NewWriterSize(w, 64<<10), schema: schema}
}

func (w *csvWriter) begin() error {
	if w.began {
		return nil
	}
	w.began = true
	for i, f := range w.schema.Fields() {
		if i > 0 {
			w.line = append(w.line, ',')
		}
		w.line = appendCSV(w.line, []byte(f.Name))
	}
	_, err := w.w.Write(append(w.line, '\n'))
	return err
}

func appendCSV(dst, text []byte) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, ",\"\r\n") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for {
		quote := bytes.IndexByte(text, '"')
		if quote < 0 {
			break
		}
		dst = append(append(dst, text[:quote+1]...), '"')
		text = text[quote+1:]
	}
	return append(append(dst, text...), '"')
}

func (w *csvWriter) Write(rec arrow.Record) error {
	if err := w.begin(); err != nil {
		return err
	}
	for i := range int(rec.NumRows()) {
		w.line = w.line[:0]
		for j, c := range rec.Columns() {
			if j > 0 {
				w.line = append(w.line, ',')
			}
			if !isNull(c, i) {
				w.text = appendText(w.text[:0], c, i)
				w.line = appendCSV(w.line, w.text)
			}
		}
		if len(w.line) == 0 { // one column, null: a line must not be empty
			w.line = append(w.line, `""`...)
		}
		if _, err := w.w.Write(append(w.line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (w *csvWriter) Close() error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.w.Flush()
}

// ndjsonWriter writes a JSON object a line.
type ndjsonWriter struct {
	w     *bufio.Writer
	names [][]byte // quoted, with a colon
	json  []bool   // columns that hold JSON
	line  []byte
}

func newNDJSONWriter(w io.Writer, schema *arrow.Schema) *ndjsonWriter {
	n := &ndjsonWriter{w: bufio.NewWriterSize(w, 64<<10)}
	for _, f := range schema.Fields() {
		n.names = append(n.names, append(feature.AppendStringJSON(nil, f.Name), ':'))
		n.json = append(n.json, annotationOf(f) == "JSON")
	}
	return n
}

// annotationOf is the Parquet annotation of a field that Arrow has no type for; "" for none.
func annotationOf(f arrow.Field) string {
	name, _ := f.Metadata.GetValue(annotation)
	return name
}

func (w *ndjsonWriter) Write(rec arrow.Record) error {
	for i := range int(rec.NumRows()) {
		line := append(w.line[:0], '{')
		for j, c := range rec.Columns() {
			if j > 0 {
				line = append(line, ',')
			}
			line = append(line, w.names[j]...)
			if text, ok := c.(*array.String); ok && w.json[j] && !c.IsNull(i) {
				line = append(line, bytes.ReplaceAll([]byte(text.Value(i)), []byte("\n"), []byte(" "))...) // a line break between tokens
			} else {
				line = appendJSON(line, c, i)
			}
		}
		w.line = append(line, '}', '\n')
		if _, err := w.w.Write(w.line); err != nil {
			return err
		}
	}
	return nil
}

func (w *ndjsonWriter) Close() error { return w.w.Flush() }
