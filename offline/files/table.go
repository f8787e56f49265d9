package files

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// runRows is how many rows a run has at most.
const runRows = 16 << 10

// table is an opened file whose columns have types of their own.
type table interface {
	// names are the top-level columns, in order.
	names() []string
	// field finds a column by its path; false if there is none. The error says
	// why a column that is there cannot be read.
	field(path []string) (arrow.Field, bool, error)
	// rows is the number of rows; -1 while unknown.
	rows() int64
	// records yields the columns with these paths, run by run. A record and what it
	// is made of are the receiver's. It may be called again, from the start, also by
	// another goroutine while the first goes on.
	records(ctx context.Context, paths [][]string) iter.Seq2[arrow.Record, error]
	close() error
}

// find finds a column by its outside name: a column that is called so, or the field
// that the dotted path leads to.
func find(t table, outside string) (path []string, f arrow.Field, ok bool, err error) {
	path = []string{outside}
	if f, ok, err = t.field(path); ok || err != nil {
		return path, f, ok, err
	}
	if steps := strings.Split(outside, "."); len(steps) > 1 {
		f, ok, err = t.field(steps)
		return steps, f, ok, err
	}
	return nil, f, false, nil
}

// duplicate finds a name that is there twice.
func duplicate(f File, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if seen[n] {
			return &SchemaError{File: f.Name, Column: n, Msg: "there are two columns of this name"}
		}
		seen[n] = true
	}
	return nil
}

// openTable opens a file whose columns have types.
func openTable(f File) (table, error) {
	switch f.Format {
	case Parquet:
		return openParquet(f)
	case ArrowFile, ArrowStream:
		return openArrow(f)
	}
	return nil, fmt.Errorf("%s: %w", f.Name, ErrFormat)
}
