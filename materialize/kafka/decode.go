package kafka

import (
	"errors"
	"fmt"

	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// decoder appends the row in a record's value to b, which has the source's
// columns. It refuses bad ones, and leaves b as it was; an error is not the
// record's fault. It is used by one goroutine.
type decoder func(value []byte, b *feature.Batch) (*refusal, error)

// refusal says why a record is not a row.
type refusal struct {
	reason  materialize.Reason
	message string
}

func (c *Cluster) decoder(src *registry.Source) (decoder, error) {
	switch src.Kafka.Format {
	case "json":
		return jsonDecoder(src), nil
	case "avro":
		return c.cfg.SchemaRegistry.decoder(src, c.cfg.Timeout), nil
	}
	return nil, fmt.Errorf("source %s: format %q cannot be decoded", src.Name, src.Kafka.Format)
}

func jsonDecoder(src *registry.Source) decoder {
	d := rowjson.NewDecoder(src)
	timestamp := src.Columns[src.Column(src.Timestamp)].Outside()
	return func(value []byte, b *feature.Batch) (*refusal, error) {
		err := d.Append(value, b)
		if err == nil {
			return nil, nil
		}
		var bad *rowjson.RowError
		if !errors.As(err, &bad) {
			return nil, err
		}
		reason := materialize.ReasonBadField
		switch bad.Field {
		case "":
			reason = materialize.ReasonMalformed
		case timestamp:
			reason = materialize.ReasonBadTimestamp
		}
		return &refusal{reason, bad.Error()}, nil
	}
}

// dropLast takes the last row off a batch again.
func dropLast(b *feature.Batch) {
	b.Rows--
	truncate(b, b.Rows)
}

// truncate leaves n rows in each column of a batch; some may have fewer already.
func truncate(b *feature.Batch, n int) {
	for _, c := range b.Columns {
		if c.Len <= n {
			continue
		}
		for i := n; i < c.Len; i++ {
			for _, bits := range []feature.Bitmap{c.Nulls, c.Bad} {
				if bits.Get(i) {
					bits[i>>6] &^= 1 << (uint(i) & 63)
				}
			}
		}
		switch {
		case c.Type.Kind.Fixed():
			c.Nums = c.Nums[:n]
		case c.Type.Kind == feature.String || c.Type.Kind == feature.Bytes:
			c.Offsets = c.Offsets[:n+1]
			c.Data = c.Data[:c.Offsets[n]]
		default:
			clear(c.Values[n:])
			c.Values = c.Values[:n]
		}
		c.Len = n
	}
}
