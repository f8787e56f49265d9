package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/plan"
	"github.com/forebay/forebay/registry/selection"
)

// DefaultTimestamp is the spine's column of the instant where a request names none.
const DefaultTimestamp = "event_timestamp"

// Builder builds training datasets. It is safe for concurrent use.
type Builder struct {
	Store offline.Store
	// Manifests is where manifests are kept; nil keeps none.
	Manifests *Manifests
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Request asks for a training dataset.
type Request struct {
	// Selection is what is asked for, resolved with the revision's generations.
	Selection *selection.Selection
	Asked     Asked // how Selection was asked for
	// Revision is the registry's, which Selection was resolved with.
	Revision *registry.Revision
	// Spine is the file of the rows to enrich.
	Spine     files.File
	Timestamp string // the spine's column of the instant; "" for DefaultTimestamp
	KnownAt   *int64 // hides rows that became known later, in microseconds; nil hides none
	Name      string // for people
	// Pin keeps the snapshots that are read from being expired; a dataset with a name is pinned without it.
	Pin    bool
	Memory int64 // budget of the join in bytes; 0 for offline.DefaultMemory
	// Progress, if set, is called from time to time with what is being done ("refresh": views,
	// "join": rows) and how much of it; total is 0 while unknown.
	Progress func(stage string, done, total int64)

	again *Manifest // the dataset to build again: its states are read, not the newest
}

// Errors of a build, to be tested with errors.Is; the schema of a spine that does not fit is a
// *files.SchemaError.
var (
	// ErrNameClash: an output has the name of a column of the spine.
	ErrNameClash = errors.New("name clash")
)

// Build builds a dataset into a file, in the format of its extension, and keeps its
// manifest. The file has its name only once everything is done.
func (b *Builder) Build(ctx context.Context, r Request, out string) (m Manifest, err error) {
	if _, err := files.FormatOf(out); err != nil {
		return m, err
	}
	run, err := b.Start(ctx, r)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	o, err := files.Create(out, run.Schema())
	if err != nil {
		return m, err
	}
	defer func() {
		if aerr := o.Abort(); err == nil {
			err = aerr
		}
	}()
	if err := run.writeTo(ctx, o); err != nil {
		return m, err
	}
	if m, err = run.Manifest(); err != nil {
		return m, err
	}
	// The manifest first: a file without one could not be explained, and a manifest
	// without the file can be built again.
	if m, err = run.Finish(ctx); err != nil {
		return m, err
	}
	return m, o.Commit()
}

// writeTo writes all records to o, while the next ones are made.
func (run *Run) writeTo(ctx context.Context, o files.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	records := make(chan arrow.Record, 2)
	written := make(chan error, 1)
	go func() {
		var err error
		for rec := range records {
			if err == nil {
				if err = o.Write(rec); err != nil {
					cancel(err) // what makes the records need not go on
				}
			}
		}
		written <- err
	}()
	var failed error
	for rec, err := range run.Records(ctx) {
		if err != nil {
			failed = err
			break
		}
		records <- rec
	}
	close(records)
	if err := <-written; err != nil {
		return err
	}
	return failed
}

// Run is a build under way, for callers that take its rows one by one. It is used
// by one goroutine.
type Run struct {
	b      *Builder
	r      Request
	spine  *files.Spine
	schema *arrow.Schema
	want   []files.Want
	tables []Table
	states []State
	hash   *rowHash
	done   bool

	definitions string // the hash of the revision's
}

// Start opens the spine and brings the tables up to date. Everything that is wrong
// with the request is told here. The caller closes the run.
func (b *Builder) Start(ctx context.Context, r Request) (*Run, error) {
	r.Timestamp = cmp.Or(r.Timestamp, DefaultTimestamp)
	want, err := wanted(r)
	if err != nil {
		return nil, err
	}
	spine, err := files.OpenSpine(ctx, r.Spine, want)
	if err != nil {
		return nil, err
	}
	run := &Run{b: b, r: r, spine: spine, want: want}
	if run.definitions, err = Definitions(r.Revision); err == nil {
		err = run.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, spine.Close())
	}
	return run, nil
}

func (run *Run) start(ctx context.Context) error {
	fields := slices.Clone(run.spine.Schema().Fields())
	var clashes []string
	for _, o := range run.r.Selection.Outputs {
		if len(run.spine.Schema().FieldIndices(o.Name)) > 0 {
			clashes = append(clashes, fmt.Sprintf("%q (of %s)", o.Name, o.View))
		}
		fields = append(fields, files.ArrowField(feature.Field{Name: o.Name, Type: o.Type}))
	}
	if len(clashes) > 0 {
		return fmt.Errorf("%w: %s would be called as a column of the spine %s: rename the column, ask for full names, or give the features a prefix in a service",
			ErrNameClash, strings.Join(clashes, ", "), run.r.Spine.Name)
	}
	// A schema of its own: what the spine's file had for metadata is about its own columns.
	run.schema = arrow.NewSchema(fields, nil)
	run.hash = newRowHash(fields)
	return run.refresh(ctx)
}

// refresh brings the table of each view that is read up to date, each once, and writes
// down in which state it is.
func (run *Run) refresh(ctx context.Context) error {
	views := run.views()
	for i, v := range views {
		run.progress("refresh", int64(i), int64(len(views)))
		if run.r.again != nil {
			if err := run.find(ctx, v); err != nil {
				return err
			}
			continue
		}
		st, err := run.b.Store.Refresh(ctx, v)
		if err != nil {
			return fmt.Errorf("bring %s up to date: %w", v, err)
		}
		t, err := tableOf(v, st, run.r.KnownAt)
		if err != nil {
			return err
		}
		run.tables = append(run.tables, t)
		run.states = append(run.states, State{Snapshot: cmp.Or(st.Snapshot, offline.NoRows), LogSnapshot: st.LogSnapshot})
	}
	run.progress("refresh", int64(len(views)), int64(len(views)))
	return nil
}

// tableOf says what a table held. When files were appended decides something only where known_at may hide
// rows by it: then it is part of the content, else the same files are the same whenever they were ingested.
func tableOf(v registry.ViewGeneration, st offline.TableState, knownAt *int64) (Table, error) {
	fingerprint, err := plan.Fingerprint(v.Project, v.View)
	if err != nil {
		return Table{}, fmt.Errorf("fingerprint of %s: %w", v, err)
	}
	content := st.Content
	if v.Source().Created == "" && knownAt != nil && st.Appended > *knownAt {
		content = st.ContentTimed
	}
	if content == "" && st.Snapshot != "" {
		content = "snapshot:" + st.Snapshot
	}
	return Table{View: v.View.Name, Generation: v.Number, Fingerprint: fingerprint, Content: content}, nil
}

// views are the generations that the roles read, each once, sorted.
func (run *Run) views() []registry.ViewGeneration {
	var vs []registry.ViewGeneration
	for _, role := range run.r.Selection.Roles {
		vs = append(vs, role.View)
	}
	slices.SortFunc(vs, func(a, b registry.ViewGeneration) int {
		return cmp.Or(cmp.Compare(a.View.Name, b.View.Name), cmp.Compare(a.Number, b.Number))
	})
	return slices.CompactFunc(vs, func(a, b registry.ViewGeneration) bool {
		return a.View.Name == b.View.Name && a.Number == b.Number
	})
}

func (run *Run) progress(stage string, done, total int64) {
	if run.r.Progress != nil {
		run.r.Progress(stage, done, total)
	}
}

// wanted are the columns that the selection needs of the spine, each once.
func wanted(r Request) ([]files.Want, error) {
	want := []files.Want{{Field: feature.Field{Name: r.Timestamp, Type: feature.TypeTimestamp}, Use: "instant"}}
	add := func(f feature.Field, use string) error {
		for _, w := range want {
			if w.Name != f.Name {
				continue
			}
			if w.Type != f.Type {
				return fmt.Errorf("the spine's column %q is wanted as %s (%s) and as %s (%s)", f.Name, w.Type, w.Use, f.Type, use)
			}
			return nil
		}
		want = append(want, files.Want{Field: f, Use: use})
		return nil
	}
	for _, k := range r.Selection.Keys {
		if err := add(k, "entity key"); err != nil {
			return nil, err
		}
	}
	for _, f := range r.Selection.Request {
		if err := add(f, "request field"); err != nil {
			return nil, err
		}
	}
	return want, nil
}

// Schema is that of Records: the spine's columns, then one per output.
func (run *Run) Schema() *arrow.Schema { return run.schema }

// Total is the number of rows; -1 if only reading tells.
func (run *Run) Total() int64 { return run.spine.Total() }

// Close releases what the run holds. It may be called more than once.
func (run *Run) Close() error {
	if run.spine == nil {
		return nil
	}
	err := run.spine.Close()
	run.spine = nil
	return err
}

// joined yields the spine's wanted columns with what the roles found for them.
func (run *Run) joined(ctx context.Context) iter.Seq2[*offline.Joined, error] {
	sel := run.r.Selection
	if len(sel.Roles) == 0 { // nothing to look up: on-demand features of the request alone
		return func(yield func(*offline.Joined, error) bool) {
			for b, err := range run.spine.Wanted(ctx) {
				if !yield(&offline.Joined{Spine: b}, err) || err != nil {
					return
				}
			}
		}
	}
	req := run.request(run.spine.Wanted(ctx))
	req.NoVersions = true
	return run.b.Store.Join(ctx, req)
}

// request is what is asked of the store, for rows of the spine.
func (run *Run) request(spine iter.Seq2[*feature.Batch, error]) offline.JoinRequest {
	sel := run.r.Selection
	req := offline.JoinRequest{
		Spine: spine, Timestamp: run.r.Timestamp, KnownAt: run.r.KnownAt, Memory: run.r.Memory,
		Progress: func(done, total int64) { run.progress("join", done, max(total, run.Total(), 0)) },
	}
	for _, role := range sel.Roles {
		keys := make([]string, len(role.Keys))
		for i, k := range role.Keys {
			keys[i] = sel.Keys[k].Name
		}
		req.Roles = append(req.Roles, offline.Role{View: role.View, Keys: keys, Features: role.Features, TTL: role.View.View.TTL, Snapshot: run.state(role.View).Snapshot})
	}
	return req
}

// state is the state of a view's table that is read.
func (run *Run) state(v registry.ViewGeneration) State {
	for i, t := range run.tables {
		if t.View == v.View.Name && t.Generation == v.Number {
			return run.states[i]
		}
	}
	return State{}
}

// Manifest is the manifest of what Records has yielded, once that is all; it is not kept.
func (run *Run) Manifest() (Manifest, error) {
	if !run.done {
		return Manifest{}, errors.New("the dataset has rows that were not read yet")
	}
	now := time.Now
	if run.b.Now != nil {
		now = run.b.Now
	}
	sel, columns := run.r.Selection, run.schema.Fields()
	outputs := len(sel.Outputs)
	in := Inputs{
		Format: FormatVersion, Definitions: run.definitions, Timestamp: run.r.Timestamp, Tables: run.tables,
		Spine: SpineHash{Hash: run.hash.sum(len(columns) - outputs), Rows: int64(run.hash.rows)}, //nolint:gosec // a count
	}
	if run.r.KnownAt != nil {
		in.KnownAt = feature.FormatTimestamp(*run.r.KnownAt)
	}
	for _, o := range sel.Outputs {
		in.Features = append(in.Features, run.feature(o))
	}
	id, err := in.id()
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{
		ID: id, Name: run.r.Name, Created: now().UTC().Truncate(time.Microsecond), Inputs: in,
		Rows: in.Spine.Rows, ContentHash: run.hash.sum(len(columns)),
		Revision: run.r.Revision.ID, Request: &run.r.Asked, States: run.states,
	}
	for i, f := range columns {
		m.Columns = append(m.Columns, Column{Name: f.Name, Type: typeName(f.Type), Hash: run.hash.columnSum(i)})
	}
	return m, nil
}

// feature says where an output comes from.
func (run *Run) feature(o selection.Output) Feature {
	sel, f := run.r.Selection, Feature{Name: o.Name}
	ref := registry.Ref{View: o.View, Feature: o.Feature}
	if o.From.Role >= 0 {
		role := sel.Roles[o.From.Role]
		ref.Generation = role.View.Number
		for _, k := range role.Keys {
			f.Keys = append(f.Keys, sel.Keys[k].Name)
		}
	}
	f.Ref = ref.String()
	if o.From.Step >= 0 {
		run.reads(o.From, &f.Reads)
	}
	return f
}

// reads lists the features of views that a column is computed from, each once, in the order of the expressions.
func (run *Run) reads(c selection.Column, list *[]Read) {
	sel := run.r.Selection
	switch {
	case c.Role >= 0:
		role := sel.Roles[c.Role]
		name := role.View.View.Features[role.Features[c.Feature]].Name
		r := Read{Ref: registry.Ref{View: role.View.View.Name, Generation: role.View.Number, Feature: name}.String(), Keys: []string{}}
		for _, k := range role.Keys {
			r.Keys = append(r.Keys, sel.Keys[k].Name)
		}
		if !slices.ContainsFunc(*list, func(have Read) bool { return have.Ref == r.Ref && slices.Equal(have.Keys, r.Keys) }) {
			*list = append(*list, r)
		}
	case c.Step >= 0:
		for _, in := range sel.Steps[c.Step].Inputs {
			run.reads(in, list)
		}
	}
}

// Finish keeps the manifest and the spine, after the last of Records, and pins what was read where that is
// asked for.
func (run *Run) Finish(ctx context.Context) (Manifest, error) {
	m, err := run.Manifest()
	if err != nil || run.b.Manifests == nil {
		return m, err
	}
	if m.Kept, err = run.b.Manifests.keepSpine(ctx, run.r.Spine); err != nil {
		return m, err
	}
	// A name asks for the dataset to last, where the store can; --pin insists. What is pinned stays so.
	_, archive := run.b.Store.(offline.Archive)
	old, err := run.b.Manifests.Get(ctx, m.ID)
	if run.r.Pin || archive && run.r.Name != "" || err == nil && len(old.Pins) > 0 {
		if err := run.b.pin(ctx, &m, run.views()); err != nil {
			return m, err
		}
	}
	return run.b.Manifests.Put(ctx, m)
}
