package sdk

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/offline/dataset/card"
)

// Split says how the rows of a dataset are parted. Which part a row is in follows from the row alone, so a split is
// the same whenever and wherever it is made.
type Split struct{ make func() (dataset.Split, error) }

// SplitByTime parts rows by an instant, such as the spine's event_timestamp: before the first cut, from it to before
// the second, and so on. A row without the instant is an error.
func SplitByTime(column string, cuts ...time.Time) Split {
	micros := make([]int64, len(cuts))
	for i, c := range cuts {
		micros[i] = c.UnixMicro()
	}
	return Split{func() (dataset.Split, error) { return dataset.SplitByTime(column, micros...) }}
}

// SplitByEntity parts rows by a hash of their key columns, so that all rows of an entity are in one part. The
// fractions, which add up to 1, say how much of the entities each part gets: 0.8, 0.1, 0.1.
func SplitByEntity(keys []string, fractions ...float64) Split {
	return Split{func() (dataset.Split, error) { return dataset.SplitByEntity(keys, fractions...) }}
}

// Split parts the dataset. Each part is a Dataset of its own, with the ID of the whole, which the caller closes;
// a part may have no rows. The order of rows is kept.
func (d *Dataset) Split(s Split) (parts []*Dataset, err error) {
	if s.make == nil {
		return nil, errors.New("sdk: an empty Split: use SplitByTime or SplitByEntity")
	}
	split, err := s.make()
	if err != nil {
		return nil, fmt.Errorf("sdk: %w", err)
	}
	var files []*os.File
	var writers []*ipc.Writer
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			for _, p := range parts {
				err = errors.Join(err, p.Close())
			}
			parts = nil
		}
	}()
	return parts, d.read(func(r *ipc.Reader) (bool, error) {
		for range split.Parts() {
			f, err := os.CreateTemp("", "forebay-dataset-*.arrow")
			if err != nil {
				return false, err
			}
			files = append(files, f)
			parts = append(parts, &Dataset{id: d.id, revision: d.revision, path: f.Name()})
			writers = append(writers, ipc.NewWriter(f, ipc.WithSchema(r.Schema())))
		}
		for r.Next() {
			recs, err := split.Apply(r.Record())
			if err != nil {
				return false, err
			}
			for p, rec := range recs {
				if rec == nil {
					continue
				}
				parts[p].rows += rec.NumRows()
				err := writers[p].Write(rec)
				rec.Release()
				if err != nil {
					return false, err
				}
			}
		}
		if err := r.Err(); err != nil {
			return false, err
		}
		for _, w := range writers {
			if err := w.Close(); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// Card describes a dataset: of each column rows, nulls, least, greatest and mean value and how values are spread,
// and how a label's classes are balanced.
type Card struct{ *card.Card }

// Card describes the dataset. label names the column of the classes; "" for none.
func (d *Dataset) Card(label string) (Card, error) {
	c, err := card.Make(d.Records, label)
	if err != nil {
		return Card{}, fmt.Errorf("sdk: %w", err)
	}
	c.Dataset, c.Name = d.id, d.name
	return Card{c}, nil
}

// WriteJSONFile writes the card as JSON. A file that is there is replaced, once the new one is whole.
func (c Card) WriteJSONFile(path string) error {
	return replace(path, c.WriteJSON)
}

// WriteHTMLFile writes the card as one page that needs nothing beside it, likewise.
func (c Card) WriteHTMLFile(path string) error {
	return replace(path, c.WriteHTML)
}
