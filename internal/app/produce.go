package app

import (
	"context"
	"fmt"

	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// ProduceOptions says which file's rows to send as events.
type ProduceOptions struct {
	Source, File string
	// Progress, if set, hears the rows sent; total is 0 while unknown.
	Progress func(done, total int64)
}

// Produce sends the rows of a file as JSON events to a source's topic, as its
// producers would, and returns how many. It is for development and the demo.
func (a *App) Produce(ctx context.Context, o ProduceOptions) (int64, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return 0, err
	}
	src, err := source(head, o.Source)
	if err != nil {
		return 0, err
	}
	if src.Kafka == nil || src.Kafka.Format != "json" {
		return 0, fmt.Errorf("source %s has no kafka topic of json events", src.Name)
	}
	cluster, err := a.kafkaFor(ctx, []*registry.Source{src})
	if err != nil {
		return 0, err
	}
	file, err := files.At(o.File)
	if err != nil {
		return 0, err
	}
	in, err := files.OpenSource(file, src)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // it was read only
	var sent int64
	for run, err := range in.Rows(ctx) {
		if err != nil {
			return sent, err
		}
		if len(run.Bad) > 0 {
			return sent, fmt.Errorf("%s: %s", o.File, run.Bad[0])
		}
		if err := cluster.Produce(ctx, src.Kafka.Topic, events(src, run.Batch)); err != nil {
			return sent, a.kafkaError(err)
		}
		sent += int64(run.Batch.Rows)
		if o.Progress != nil {
			o.Progress(sent, max(in.Total(), 0))
		}
	}
	return sent, nil
}

// events are rows as JSON objects, keyed by the columns that the topic is keyed by.
func events(src *registry.Source, rows *feature.Batch) []kafka.Record {
	records := make([]kafka.Record, rows.Rows)
	for i := range records {
		value := []byte{'{'}
		for c, col := range rows.Columns {
			if c > 0 {
				value = append(value, ',')
			}
			value = feature.AppendStringJSON(value, src.Columns[c].Outside())
			value = append(value, ':')
			value = col.Value(i).AppendJSON(value)
		}
		records[i].Value = append(value, '}')
		for k, name := range src.Kafka.Key {
			if k > 0 {
				records[i].Key = append(records[i].Key, '/')
			}
			records[i].Key = append(records[i].Key, rows.Columns[src.Column(name)].Value(i).String()...)
		}
	}
	return records
}
