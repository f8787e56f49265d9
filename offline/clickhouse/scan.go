package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// scanRows is how many rows of a scan are handed out at once.
const scanRows = 8192

// errStopped: the one who iterates has seen enough.
var errStopped = errors.New("stopped")

// Scan implements offline.Store. ClickHouse keeps the rows in the order that is asked for.
func (s *Store) Scan(ctx context.Context, v registry.ViewGeneration, o offline.ScanOptions) iter.Seq2[*feature.Batch, error] {
	r, err := s.refreshedAt(ctx, v, nil)
	return func(yield func(*feature.Batch, error) bool) {
		if err == nil && r != nil {
			err = s.scan(ctx, v, r, o, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("scanning view %s: %w", v, err))
		}
	}
}

func (s *Store) scan(ctx context.Context, v registry.ViewGeneration, r *refreshed, o offline.ScanOptions, yield func(*feature.Batch, error) bool) error {
	fields, keys := v.Fields(), len(v.JoinKeys())
	row := newRowReader(fields)
	where := fmt.Sprintf("%s <= %d", ident(colLog), r.number)
	whole := o.From == nil && o.To == nil
	if n, ok := numberOf(r.log, o.Since); ok && n <= r.number {
		where += fmt.Sprintf(" AND %s > %d", ident(colLog), n)
		whole = false
	}
	if o.From != nil {
		where += fmt.Sprintf(" AND %s >= %s", ident(colEventTime), int64Literal(*o.From))
	}
	if o.To != nil {
		where += fmt.Sprintf(" AND %s <= %s", ident(colEventTime), int64Literal(*o.To))
	}
	var at, last feature.Version
	var bad string
	read := uint64(0)
	b := feature.NewBatch(fields, scanRows)
	hand := func() error {
		if !yield(b, nil) {
			return errStopped
		}
		b.Reset()
		return nil
	}
	query := fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s ORDER BY %s SETTINGS optimize_read_in_order = 1",
		names([]tableColumn{{name: colEventTime}, {name: colIngestedAt}, {name: colMajor}, {name: colMinor}, {name: colInvalid}}),
		strings.Join(row.columns(""), ", "), s.viewTable(v), where, strings.Join(orderBy(v), ", "))
	err := s.client.each(ctx, query, append([]any{&at.EventTime, &at.IngestedAt, &at.Major, &at.Minor, &bad}, row.dests()...), func() error {
		// A refresh that was tried again left a row twice. No two rows of a source have one version.
		if read > 0 && at == last {
			return nil
		}
		last = at
		read++
		for i, c := range b.Columns {
			row.appendTo(c, i, i >= keys && isBad(bad, i-keys))
		}
		b.Versions = append(b.Versions, at)
		if b.Rows++; b.Rows == scanRows {
			return hand()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if whole && read != r.rows {
		return fmt.Errorf("%w: %s: table %s gave %d rows of %d", offline.ErrUnavailable, s.client.addr, s.viewTable(v), read, r.rows)
	}
	if b.Rows > 0 {
		return hand()
	}
	return nil
}

// int64Literal is a number as SQL takes it: the least one is no literal of its own.
func int64Literal(n int64) string { return fmt.Sprintf("toInt64('%d')", n) }
