package clickhouse

import (
	"context"
	"fmt"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
)

var _ offline.Archive = (*Store)(nil)

// TableAt implements offline.Archive: every earlier state can be read, for rows are only
// added, and carry the number of their append.
func (s *Store) TableAt(ctx context.Context, v registry.ViewGeneration, snapshot string) (offline.TableState, error) {
	if snapshot == offline.NoRows {
		return offline.TableState{}, s.open()
	}
	newest, err := s.refreshedAt(ctx, v, nil)
	if err != nil {
		return offline.TableState{}, err
	}
	r, err := s.refreshedTo(ctx, v, newest, snapshot)
	if err != nil {
		return offline.TableState{}, err
	}
	return r.state(), nil
}

// Pin implements offline.Archive. No state is ever expired, so there is nothing to keep it from.
func (s *Store) Pin(ctx context.Context, v registry.ViewGeneration, snapshot, name string) error {
	if _, err := s.TableAt(ctx, v, snapshot); err != nil {
		return fmt.Errorf("pinning snapshot %s of view %s for %s: %w", snapshot, v, name, err)
	}
	return nil
}

// Unpin implements offline.Archive.
func (s *Store) Unpin(context.Context, registry.ViewGeneration, string) error { return s.open() }
