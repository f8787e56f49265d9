package dataset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// archive is a fake that keeps its states: each snapshot is a copy of the tables.
type archive struct {
	*fake
	states  map[string]map[string][]event
	content map[string]string // by snapshot; "" where the store cannot tell
	pins    map[string]string // by view and name: the snapshot
}

// save keeps the tables as a snapshot.
func (a *archive) save(snapshot, content string) {
	copied := map[string][]event{}
	for v, es := range a.tables {
		copied[v] = append([]event(nil), es...)
	}
	a.states[snapshot], a.content[snapshot], a.snapshot = copied, content, snapshot
}

func (a *archive) Refresh(context.Context, registry.ViewGeneration) (offline.TableState, error) {
	return offline.TableState{Snapshot: a.snapshot, Content: a.content[a.snapshot], ContentTimed: a.content[a.snapshot] + " timed", Appended: 60}, nil
}

func (a *archive) TableAt(_ context.Context, _ registry.ViewGeneration, snapshot string) (offline.TableState, error) {
	if a.states[snapshot] == nil {
		return offline.TableState{}, fmt.Errorf("%w: %s", offline.ErrSnapshotGone, snapshot)
	}
	return offline.TableState{Snapshot: snapshot, Content: a.content[snapshot], ContentTimed: a.content[snapshot] + " timed", Appended: 60}, nil
}

func (a *archive) Pin(_ context.Context, v registry.ViewGeneration, snapshot, name string) error {
	a.pins[v.String()+" "+name] = snapshot
	return nil
}

func (a *archive) Unpin(_ context.Context, v registry.ViewGeneration, name string) error {
	delete(a.pins, v.String()+" "+name)
	return nil
}

func (a *archive) Join(ctx context.Context, r offline.JoinRequest) iter.Seq2[*offline.Joined, error] {
	as := *a.fake
	as.tables, as.snapshot = a.states[r.Roles[0].Snapshot], r.Roles[0].Snapshot
	return as.Join(ctx, r)
}

// TestRebuild builds a dataset again after the tables have changed, after its states are gone, and from what is
// damaged.
func TestRebuild(t *testing.T) {
	w := newWorld(t, 400)
	bucket := memblob.OpenBucket(nil)
	defer func() { _ = bucket.Close() }()
	a := &archive{fake: w.store, states: map[string]map[string][]event{}, content: map[string]string{}, pins: map[string]string{}}
	a.save("s1", "c1")
	b := &Builder{Store: a, Manifests: NewManifests(bucket)}
	spine, dir := w.spine(t, ".csv"), t.TempDir()
	known := int64(70)
	req := Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: spine, KnownAt: &known, Pin: true}
	m := must(b.Build(t.Context(), req, filepath.Join(dir, "one.parquet")))
	name := pinName(m.ID)
	if len(m.Pins) != 1 || a.pins["latest@1 "+name] != "s1" || a.pins["route@1 "+name] != "s1" {
		t.Errorf("pinned %v as %v", a.pins, m.Pins)
	}
	again := func(change func(*Manifest, *Request)) (string, error) {
		t.Helper()
		m, r := m, req
		kept, remove, err := b.Manifests.Spine(t.Context(), m)
		if err != nil {
			return "", err
		}
		defer func() { _ = remove() }()
		r.Spine = kept
		if change != nil {
			change(&m, &r)
		}
		out := filepath.Join(t.TempDir(), "again.parquet")
		err = b.Rebuild(t.Context(), m, r, out)
		text, rerr := os.ReadFile(out)
		if (err == nil) != (rerr == nil) {
			t.Errorf("rebuilt with %v, and the file: %v", err, rerr)
		}
		if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 1 {
			t.Errorf("left %v", left)
		}
		return string(text), err
	}
	one := string(must(os.ReadFile(filepath.Join(dir, "one.parquet"))))
	if err := os.Remove(spine.Path); err != nil {
		t.Fatal(err)
	}

	// Late data.
	w.store.tables["latest"] = append(w.store.tables["latest"], event{key: []feature.Value{feature.OfString("A")},
		values: []feature.Value{feature.OfInt64(99), feature.OfString("late")}, version: feature.Version{EventTime: 60e6, IngestedAt: 1, Minor: 99}})
	a.save("s2", "c2")
	if got, err := again(nil); err != nil || got != one {
		t.Errorf("after late data: %v, the same bytes: %v", err, got == one)
	}
	// The snapshot is gone; nothing holds the same.
	s1 := a.states["s1"]
	delete(a.states, "s1")
	if _, err := again(nil); !errors.Is(err, offline.ErrSnapshotGone) || !strings.Contains(err.Error(), "--pin") {
		t.Errorf("got %v", err)
	}
	// A table that was derived again holds the same.
	a.states["s3"], a.content["s3"], a.snapshot = s1, "c1", "s3"
	if got, err := again(nil); err != nil || got != one {
		t.Errorf("from another snapshot of the same content: %v", err)
	}
	// It says that it holds the same, and does not.
	a.states["s3"] = map[string][]event{"route": s1["route"]}
	if _, err := again(nil); !errors.Is(err, ErrNotReproduced) || !strings.Contains(err.Error(), "has other values") {
		t.Errorf("got %v", err)
	}
	a.states["s3"] = s1
	// Other definitions, or another known_at, are not what was built.
	if _, err := again(func(_ *Manifest, r *Request) { r.KnownAt = nil }); !errors.Is(err, ErrNotReproduced) && !errors.Is(err, offline.ErrSnapshotGone) {
		t.Errorf("got %v", err)
	}
	if _, err := again(func(_ *Manifest, r *Request) { p := project(); p.Name = "x"; r.Revision = revision(p) }); !errors.Is(err, ErrNotReproduced) || !strings.Contains(err.Error(), "another definition") {
		t.Errorf("got %v", err)
	}
	if _, err := again(func(m *Manifest, _ *Request) { m.Inputs.Format = 1 }); !errors.Is(err, ErrOldManifest) {
		t.Errorf("got %v", err)
	}
	// The spine's copy is damaged, and gone.
	if err := bucket.WriteAll(t.Context(), m.Kept.Object, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := again(nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if err := bucket.Delete(t.Context(), m.Kept.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := again(nil); !errors.Is(err, ErrSpineGone) {
		t.Errorf("got %v", err)
	}
}

// TestContentDecides: the ID follows from what was appended, not from snapshots; instants count only where they can matter.
func TestContentDecides(t *testing.T) {
	v := registry.ViewGeneration{Project: project(), View: project().View("latest"), Number: 1}
	st := offline.TableState{Snapshot: "s1", Content: "c", ContentTimed: "t", Appended: 60}
	early, late := int64(50), int64(70)
	for _, tc := range []struct {
		known   *int64
		created string
		want    string
	}{{nil, "", "c"}, {&late, "", "c"}, {&early, "", "t"}, {&early, "date", "c"}} {
		v.Project.Sources[0].Created = tc.created
		if got := must(tableOf(v, st, tc.known)); got.Content != tc.want || len(got.Fingerprint) != 64 {
			t.Errorf("%+v: got %+v", tc, got)
		}
	}
	if got := must(tableOf(v, offline.TableState{}, nil)); got.Content != "" {
		t.Errorf("got %+v", got)
	}
}

// interrupted is a store whose join is interrupted in the middle.
type interrupted struct {
	*fake
	cancel func()
}

func (s interrupted) Join(ctx context.Context, r offline.JoinRequest) iter.Seq2[*offline.Joined, error] {
	return func(yield func(*offline.Joined, error) bool) {
		for j, err := range s.fake.Join(ctx, r) {
			if !yield(j, err) || err != nil {
				return
			}
			s.cancel()
		}
	}
}

// TestInterrupted: what is interrupted in the middle leaves no file, no manifest, no copy of the spine.
func TestInterrupted(t *testing.T) {
	w := newWorld(t, 100_000)
	bucket := memblob.OpenBucket(nil)
	defer func() { _ = bucket.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	b := &Builder{Store: interrupted{w.store, cancel}, Manifests: NewManifests(bucket)}
	dir := t.TempDir()
	_, err := b.Build(ctx, Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: w.spine(t, ".parquet")}, filepath.Join(dir, "out.parquet"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := must(os.ReadDir(dir)); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	for o, err := bucket.List(nil).Next(t.Context()); err == nil; {
		t.Fatalf("left %s", o.Key)
	}
}
