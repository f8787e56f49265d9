package parquet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// What a row of the spine costs in a slice besides its key's text and its features: key, instant, order and
// sorted copy; and for each role version and status, or the status alone.
const (
	rowOverhead    = 72
	roleOverhead   = 48
	statusOverhead = 16
)

// emitRows is how many rows of the spine are handed out at once.
const emitRows = 16384

// spoolMemory is how much of the spine and of what is found stays in memory: a larger one goes through a file.
const spoolMemory = 32 << 20

// Join implements offline.Store. The spine is read once and parted by the buckets of its keys; each bucket is
// sorted and walked beside the bucket's files, which are read once, too, unless so many rows fall into one bucket
// that they go in slices; and what was found is put together again in the spine's order:
//
//	spine -> rows, in order, each with its bucket            -> \
//	      -> keys and instants, by bucket -> found, by bucket -> rows with what was found, in order
//
// Between these steps everything lies in a spool, in memory as long as it is small. A bucket keeps the
// order of the spine, so that the last step takes of each bucket what comes next. Roles with the
// same key columns, and tables of as many buckets, share all but the walk.
func (s *Store) Join(ctx context.Context, r offline.JoinRequest) iter.Seq2[*offline.Joined, error] {
	return func(yield func(*offline.Joined, error) bool) {
		err := s.join(ctx, r, yield)
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("point-in-time join: %w", err))
		}
	}
}

// joinRole is a role and the table it reads, as it was when the join began.
type joinRole struct {
	offline.Role
	table   *derived // nil: there is none, so nothing is found
	files   [][]dataFile
	types   []feature.Type
	perRow  int64       // bytes of what is found for a row of the spine
	windows *windowRole // nil: the newest row is looked for
	// statusOnly: nobody needs versions, neither the caller nor to choose among files of a bucket.
	statusOnly bool
}

type joiner struct {
	s       *Store
	r       offline.JoinRequest
	roles   []*joinRole
	groups  []*joinGroup
	knownAt int64
	limit   int64 // bytes of a slice
	memory  int64
	spool   *spool
	fields  []feature.Field // of the spine; nil before its first batch
	blocks  []block         // of the spine
	rows    int64           // of the spine
	buf     []byte
	yield   func(*offline.Joined, error) bool

	mu             sync.Mutex
	joined, handed int64 // rows: joined of each group
}

// progress tells how far it is: half of the work is finding values, the other putting them in order.
func (j *joiner) progress(joined, handed int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.joined += joined
	j.handed += handed
	if j.r.Progress != nil && len(j.groups) > 0 {
		j.r.Progress((j.joined/int64(len(j.groups))+j.handed)/2, 0)
	}
}

func (s *Store) join(ctx context.Context, r offline.JoinRequest, yield func(*offline.Joined, error) bool) error {
	if err := s.open(); err != nil {
		return err
	}
	j := &joiner{s: s, r: r, knownAt: pit.NoKnownAt, yield: yield, memory: r.Memory}
	if r.KnownAt != nil {
		j.knownAt = *r.KnownAt
	}
	if j.memory <= 0 {
		j.memory = offline.DefaultMemory
	}
	// Half is for the slices; the other for the spool, for parts and runs under way, and for pages.
	j.limit = min(j.memory/2/int64(s.workers), maxBatch)
	j.spool = &spool{create: s.spill, room: min(j.memory/8, spoolMemory)}
	defer j.spool.close()
	for _, role := range r.Roles {
		jr, err := s.joinRole(ctx, role)
		if err != nil {
			return err
		}
		if r.NoVersions && jr.windows == nil && !slices.ContainsFunc(jr.files, func(fs []dataFile) bool { return len(fs) > 1 }) {
			jr.statusOnly = true
			jr.perRow -= roleOverhead - statusOverhead
		}
		j.roles = append(j.roles, jr)
	}
	j.group()
	if err := j.read(ctx); err != nil {
		return err
	}
	for _, g := range j.groups {
		if err := j.buckets(ctx, g); err != nil {
			return err
		}
	}
	if err := j.hand(ctx); err != nil {
		return err
	}
	if r.Progress != nil {
		r.Progress(j.rows, j.rows)
	}
	return nil
}

func (s *Store) joinRole(ctx context.Context, role offline.Role) (*joinRole, error) {
	keys := role.View.JoinKeys()
	if len(keys) != len(role.Keys) {
		return nil, fmt.Errorf("view %s has %d join keys, the role names %d spine columns", role.View, len(keys), len(role.Keys))
	}
	jr := &joinRole{Role: role, perRow: roleOverhead}
	for _, k := range keys {
		jr.types = append(jr.types, k.Type)
	}
	for _, f := range role.Features {
		if f < 0 || f >= len(role.View.View.Features) {
			return nil, fmt.Errorf("view %s has no feature number %d", role.View, f)
		}
		jr.perRow += 9
		switch k := role.View.View.Features[f].Type; {
		case k.Kind == feature.Embedding:
			jr.perRow += 24 + 4*int64(k.Dim)
		case !k.Kind.Fixed():
			jr.perRow += 64
		}
	}
	if role.View.View.Windowed() {
		var err error
		if jr.windows, err = newWindowRole(role); err != nil {
			return nil, err
		}
		jr.TTL = 0 // windows have none
		jr.perRow += jr.windows.perRow
	}
	d, err := s.loadDerivedAt(ctx, role.View, role.Snapshot)
	if err != nil || d == nil {
		return jr, err
	}
	files, err := s.files(d.tableState, d.head, -1)
	if err != nil {
		return nil, err
	}
	if d.buckets >= noBucket {
		return nil, fmt.Errorf("table %s has %d buckets; at most %d can be joined", d.name, d.buckets, noBucket-1)
	}
	jr.table, jr.files = d, make([][]dataFile, d.buckets)
	for _, f := range slices.Backward(files) { // newest first: later ones have less to offer
		if f.bucket < 0 || f.bucket >= d.buckets {
			return nil, fmt.Errorf("table %s: data file %s has bucket %d of %d", d.name, f.FilePath(), f.bucket, d.buckets)
		}
		jr.files[f.bucket] = append(jr.files[f.bucket], f)
	}
	return jr, nil
}

// check looks at the spine's columns before any work is done.
func (j *joiner) check(b *feature.Batch) error {
	want := func(name string, t feature.Type, why string) error {
		c := b.Column(name)
		switch {
		case c == nil:
			return fmt.Errorf("the spine has no column %q, %s", name, why)
		case c.Type != t:
			return fmt.Errorf("the spine's column %q is %s; want %s, %s", name, c.Type, t, why)
		}
		return nil
	}
	if err := want(j.r.Timestamp, feature.TypeTimestamp, "the instant of each row"); err != nil {
		return err
	}
	for _, r := range j.roles {
		for i, k := range r.View.JoinKeys() {
			if err := want(r.Keys[i], k.Type, fmt.Sprintf("the join key %q of view %s", k.Name, r.View)); err != nil {
				return err
			}
		}
	}
	return nil
}
