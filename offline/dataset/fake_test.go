package dataset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// event is a row of a view's table.
type event struct {
	key     []feature.Value
	values  []feature.Value // of all the view's features
	version feature.Version
}

// fake is a store of tables in memory, joined row by row with every event.
type fake struct {
	offline.Store
	tables    map[string][]event
	snapshot  string
	refreshed []string
	runs      *rand.Rand // what sizes the join returns its rows in
	moves     bool       // somebody else refreshes while the join starts
	short     bool       // the join loses a row
}

func (f *fake) Refresh(_ context.Context, v registry.ViewGeneration) (offline.TableState, error) {
	f.refreshed = append(f.refreshed, v.String())
	return offline.TableState{Snapshot: f.snapshot}, nil
}

func (f *fake) Table(context.Context, registry.ViewGeneration) (offline.TableState, error) {
	if f.moves {
		return offline.TableState{Snapshot: f.snapshot + "'"}, nil
	}
	return offline.TableState{Snapshot: f.snapshot}, nil
}

func (f *fake) Join(ctx context.Context, r offline.JoinRequest) iter.Seq2[*offline.Joined, error] {
	return func(yield func(*offline.Joined, error) bool) {
		var spine *feature.Batch
		for b, err := range r.Spine {
			if err != nil {
				yield(nil, err)
				return
			}
			if spine == nil {
				spine = feature.NewBatch(b.Fields(), 0)
			}
			for i := range b.Rows {
				spine.AppendRow(b, i)
			}
		}
		if spine == nil {
			return
		}
		for _, role := range r.Roles {
			if f.moves || role.Snapshot != f.snapshot {
				yield(nil, fmt.Errorf("%w: %s", offline.ErrSnapshotGone, role.Snapshot))
				return
			}
		}
		if f.short {
			spine.Rows--
		}
		for from := 0; from < spine.Rows; {
			to := min(spine.Rows, from+1+f.runs.IntN(40000))
			j := &offline.Joined{Spine: feature.NewBatch(spine.Fields(), to-from)}
			for i := from; i < to; i++ {
				j.Spine.AppendRow(spine, i)
			}
			for _, role := range r.Roles {
				j.Roles = append(j.Roles, f.join(j.Spine, r, role))
			}
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			if !yield(j, nil) {
				return
			}
			from = to
		}
	}
}

func (f *fake) join(spine *feature.Batch, r offline.JoinRequest, role offline.Role) offline.JoinedRole {
	var out offline.JoinedRole
	for _, i := range role.Features {
		out.Features = append(out.Features, feature.NewColumn("", role.View.View.Features[i].Type, spine.Rows))
	}
	for i := range spine.Rows {
		var key []feature.Value
		for _, k := range role.Keys {
			key = append(key, spine.Column(k).Value(i))
		}
		values, status := newest(f.tables[role.View.View.Name], key, spine.Column(r.Timestamp).Value(i), role.TTL, r.KnownAt)
		for j, at := range role.Features {
			if status == feature.Present {
				out.Features[j].Append(values[at])
			} else {
				out.Features[j].AppendNull()
			}
		}
		out.Found = append(out.Found, status)
	}
	return out
}

// newest is the definition of the join: the newest event of the key at an instant.
func newest(events []event, key []feature.Value, at feature.Value, ttl feature.Duration, knownAt *int64) ([]feature.Value, feature.Status) {
	var best *event
	for i := range events {
		e := &events[i]
		if at.IsNull() || e.version.EventTime > at.Int64() || (knownAt != nil && e.version.IngestedAt > *knownAt) {
			continue
		}
		same := true
		for j := range key {
			same = same && !key[j].IsNull() && key[j].Equal(e.key[j])
		}
		if same && (best == nil || e.version.Compare(best.version) > 0) {
			best = e
		}
	}
	switch {
	case best == nil:
		return nil, feature.NotFound
	case ttl > 0 && best.version.EventTime < at.Int64()-int64(ttl):
		return nil, feature.OutsideMaxAge
	}
	return best.values, feature.Present
}

var errStore = errors.New("the store is away")
