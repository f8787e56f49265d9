package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Errors of building a dataset again, to be tested with errors.Is.
var (
	// ErrOldManifest: the manifest is of a version that does not say enough.
	ErrOldManifest = errors.New("it was built by a Forebay that did not write down where its inputs are; build it anew")
	// ErrDiffers: what a file or a rebuild holds is not what the manifest says.
	ErrDiffers = errors.New("the content differs")
	// ErrCannotPin: the store keeps no earlier states of its tables.
	ErrCannotPin = errors.New("this offline store cannot pin")
)

// Rebuild builds a dataset again, into a file in the format of its extension or, with out "", nowhere: then
// it is only compared. r is the request as it was, resolved with the revision that the manifest names; its
// spine is Manifests.Spine. The rows are those of the tables' states then, whatever was
// ingested since. A state that is gone is replaced by the newest, where that holds the same; else
// the error wraps offline.ErrSnapshotGone. Other rows than then are ErrNotReproduced, and no file.
func (b *Builder) Rebuild(ctx context.Context, m Manifest, r Request, out string) (err error) {
	if m.Inputs.Format < 2 {
		return fmt.Errorf("dataset %s: %w", m.ID, ErrOldManifest)
	}
	r.again, r.Timestamp = &m, m.Inputs.Timestamp
	run, err := b.Start(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	var o *files.Output
	if out != "" {
		if o, err = files.Create(out, run.Schema()); err != nil {
			return err
		}
		defer func() {
			if aerr := o.Abort(); err == nil {
				err = aerr
			}
		}()
	}
	for rec, err := range run.Records(ctx) {
		if err == nil && o != nil {
			err = o.Write(rec)
		}
		if err != nil {
			return err
		}
	}
	got, err := run.Manifest()
	if err != nil {
		return err
	}
	if got.ID != m.ID {
		return fmt.Errorf("dataset %s: %w: what was read gives the ID %s (%s)", m.ID, ErrNotReproduced, got.ID, inputsDiffer(m.Inputs, got.Inputs))
	}
	if why := differs(m, got); why != "" {
		return fmt.Errorf("dataset %s: %w: %s", m.ID, ErrNotReproduced, why)
	}
	if o == nil {
		return nil
	}
	return o.Commit()
}

// inputsDiffer names what of the inputs is not as it was.
func inputsDiffer(was, is Inputs) string {
	var diff []string
	note := func(what string, same bool) {
		if !same {
			diff = append(diff, "another "+what)
		}
	}
	note("definition", was.Definitions == is.Definitions)
	note("list of features", slices.EqualFunc(was.Features, is.Features, func(a, b Feature) bool { return fmt.Sprint(a) == fmt.Sprint(b) }))
	note("timestamp", was.Timestamp == is.Timestamp)
	note("known_at", was.KnownAt == is.KnownAt)
	note("spine", was.Spine == is.Spine)
	note("table", slices.Equal(was.Tables, is.Tables))
	return strings.Join(diff, ", ")
}

// differs says in what the rows of two manifests differ; "" if in nothing.
func differs(want, got Manifest) string {
	if want.Rows != got.Rows {
		return fmt.Sprintf("it has %d rows, the manifest says %d", got.Rows, want.Rows)
	}
	for i, w := range want.Columns {
		if i >= len(got.Columns) {
			return fmt.Sprintf("it lacks column %q", w.Name)
		}
		switch g := got.Columns[i]; {
		case g.Name != w.Name:
			return fmt.Sprintf("column %d is %q, the manifest says %q", i+1, g.Name, w.Name)
		case g.Type != w.Type:
			return fmt.Sprintf("column %q is %s, the manifest says %s", g.Name, g.Type, w.Type)
		case g.Hash != w.Hash && w.Hash != "":
			return fmt.Sprintf("column %q has other values", g.Name)
		}
	}
	if len(got.Columns) > len(want.Columns) {
		return fmt.Sprintf("it has a column %q, which the manifest does not", got.Columns[len(want.Columns)].Name)
	}
	if want.ContentHash != got.ContentHash {
		return "its content hash is " + got.ContentHash
	}
	return ""
}

// find looks for the state of a table that the dataset was built from.
func (run *Run) find(ctx context.Context, v registry.ViewGeneration) error {
	m := run.r.again
	i := slices.IndexFunc(m.Inputs.Tables, func(t Table) bool { return t.View == v.View.Name && t.Generation == v.Number })
	if i < 0 || i >= len(m.States) {
		return fmt.Errorf("dataset %s: the manifest does not name a state of %s: %w", m.ID, v, ErrNotReproduced)
	}
	want, state := m.Inputs.Tables[i], m.States[i]
	st, gone := run.stateAt(ctx, v, state.Snapshot)
	if gone == nil {
		t, err := tableOf(v, st, run.r.KnownAt)
		if err != nil {
			return err
		}
		run.tables, run.states = append(run.tables, t), append(run.states, state)
		return nil
	}
	if !errors.Is(gone, offline.ErrSnapshotGone) {
		return fmt.Errorf("look at the table of %s: %w", v, gone)
	}
	now, err := run.b.Store.Refresh(ctx, v)
	if err != nil {
		return fmt.Errorf("bring %s up to date: %w", v, err)
	}
	t, err := tableOf(v, now, run.r.KnownAt)
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("dataset %s: %w; the table holds other rows now, so the dataset cannot be built again: "+
			"build with --pin or --name to keep the snapshots it needs", m.ID, gone)
	}
	run.tables = append(run.tables, t)
	run.states = append(run.states, State{Snapshot: cmp.Or(now.Snapshot, offline.NoRows), LogSnapshot: now.LogSnapshot})
	return nil
}

// StateOf is the snapshot in which a dataset's table of a view is found now, as Rebuild finds it.
func (b *Builder) StateOf(ctx context.Context, m Manifest, v registry.ViewGeneration, knownAt *int64) (string, error) {
	run := &Run{b: b, r: Request{KnownAt: knownAt, again: &m}}
	if err := run.find(ctx, v); err != nil {
		return "", err
	}
	return run.states[0].Snapshot, nil
}

// stateAt describes a table as it was.
func (run *Run) stateAt(ctx context.Context, v registry.ViewGeneration, snapshot string) (offline.TableState, error) {
	if a, ok := run.b.Store.(offline.Archive); ok {
		return a.TableAt(ctx, v, snapshot)
	}
	st, err := run.b.Store.Table(ctx, v)
	if err == nil && cmp.Or(st.Snapshot, offline.NoRows) != snapshot {
		err = fmt.Errorf("%w: %s of %s: this offline store keeps no earlier states", offline.ErrSnapshotGone, snapshot, v)
	}
	return st, err
}

// pinName is the name under which a dataset's snapshots are pinned.
func pinName(id string) string { return "forebay-dataset-" + strings.TrimPrefix(id, "sha256:")[:16] }

// pin pins the states that a manifest names.
func (b *Builder) pin(ctx context.Context, m *Manifest, views []registry.ViewGeneration) error {
	a, ok := b.Store.(offline.Archive)
	if !ok {
		return ErrCannotPin
	}
	name := pinName(m.ID)
	for i, v := range views {
		if err := a.Pin(ctx, v, m.States[i].Snapshot, name); err != nil {
			return fmt.Errorf("pin the table of %s for dataset %s: %w", v, m.ID, err)
		}
	}
	m.Pins = []string{name}
	return nil
}

// Compare reads a file and says with an error that wraps ErrDiffers in what it is not the dataset. Text has no
// types: it is read in those of the manifest.
func Compare(ctx context.Context, m Manifest, f files.File) (err error) {
	want, err := wantedOf(m, f.Format)
	if err != nil {
		return err
	}
	s, err := files.OpenSpine(ctx, f, want)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	fields := s.Schema().Fields()
	h := newRowHash(fields)
	for rec, err := range s.Records(ctx) {
		if err != nil {
			return err
		}
		h.add(rec)
	}
	got := Manifest{Rows: int64(h.rows), ContentHash: h.sum(len(fields))} //nolint:gosec // a count
	for i, c := range fields {
		got.Columns = append(got.Columns, Column{Name: c.Name, Type: typeName(c.Type), Hash: h.columnSum(i)})
	}
	if why := differs(m, got); why != "" {
		return fmt.Errorf("%s is not dataset %s: %w: %s", f.Name, m.ID, ErrDiffers, why)
	}
	return nil
}

// textTypes are the canonical types that a text file can be read in.
var textTypes = map[string]feature.Type{
	"bool": feature.TypeBool, "int64": feature.TypeInt64, "float64": feature.TypeFloat64, "string": feature.TypeString,
	"bytes": feature.TypeBytes, "timestamp[us,UTC]": feature.TypeTimestamp,
	"list<bool>": feature.ListOf(feature.Bool), "list<int64>": feature.ListOf(feature.Int64), "list<float64>": feature.ListOf(feature.Float64),
	"list<string>": feature.ListOf(feature.String), "list<bytes>": feature.ListOf(feature.Bytes), "list<timestamp[us,UTC]>": feature.ListOf(feature.Timestamp),
}

// wantedOf are the columns of a manifest as they are to be read in a text format; none for others.
func wantedOf(m Manifest, f files.Format) ([]files.Want, error) {
	if f != files.CSV && f != files.NDJSON {
		return nil, nil
	}
	want := make([]files.Want, len(m.Columns))
	for i, c := range m.Columns {
		t, ok := textTypes[c.Type]
		if !ok {
			return nil, fmt.Errorf("dataset %s: column %q is %s, which a %s file does not keep: compare a Parquet or an Arrow file", m.ID, c.Name, c.Type, f)
		}
		want[i] = files.Want{Field: feature.Field{Name: c.Name, Type: t}, Use: "column of the dataset"}
	}
	return want, nil
}
