package kafka

import (
	"context"
	"time"

	"github.com/forebay/forebay/registry"
)

type SchemaRegistry struct{}

func (r *SchemaRegistry) ping(ctx context.Context, d time.Duration) error { return nil }
func (r *SchemaRegistry) decoder(src *registry.Source, d time.Duration) decoder {
	panic("not yet")
}
