package app

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/internal/pitscript"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/lookup"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// VerifyOptions says what to verify.
type VerifyOptions struct {
	Service string
	// Sample is how many entities of each view are looked up, chosen at random among those of the
	// offline store; 0 for DefaultSample.
	Sample int
	// Progress, if set, hears the views done.
	Progress func(done, total int64)
}

// DefaultSample is the number of entities that a Verify looks at, of each view.
const DefaultSample = 1000

// verifyBatch is how many entities are looked up at once.
const verifyBatch = 500

// Verified says whether what is served is what the offline store has.
type Verified struct {
	Service    string         `json:"service"`
	Revision   string         `json:"revision"`
	Instant    string         `json:"instant"`
	Views      []VerifiedView `json:"views"`
	Mismatches []Mismatch     `json:"mismatches"`
}

// VerifiedView counts what was compared of one view.
type VerifiedView struct {
	View       string `json:"view"` // with its generation
	Entities   int    `json:"entities"`
	Values     int    `json:"values"`
	Mismatched int    `json:"mismatched"` // entities
	// Ahead are entities whose record has events that are not in the log yet, which the stream writes
	// later than the record: they cannot be compared.
	Ahead int `json:"ahead"`
}

// Mismatch is an entity of a view whose values online are not those of the offline store.
type Mismatch struct {
	View     string         `json:"view"`
	Entity   string         `json:"entity"` // "origin=SFO destination=JFK"
	Instant  string         `json:"instant"`
	Reason   MismatchReason `json:"reason"`
	Message  string         `json:"message"`
	Features []Difference   `json:"features"`
}

// Difference is a feature that has two values.
type Difference struct {
	Feature string        `json:"feature"`
	Online  VerifiedValue `json:"online"`
	Offline VerifiedValue `json:"offline"`
}

// VerifiedValue is a value with its status.
type VerifiedValue struct {
	Value  dataset.Value  `json:"value"`
	Status feature.Status `json:"status"`
}

func (v VerifiedValue) String() string {
	if v.Status == feature.Present {
		return v.Value.String()
	}
	return v.Value.String() + " " + v.Status.String()
}

// Values is how many values were compared.
func (v *Verified) Values() (n int) {
	for _, view := range v.Views {
		n += view.Values
	}
	return n
}

// Verify takes values that are served now, of entities chosen at random, and recomputes them from the
// offline store as of the instant they were served for. Features on demand are left out: they are
// computed from these by one program, online as offline.
func (a *App) Verify(ctx context.Context, o VerifyOptions) (*Verified, error) {
	o.Sample = cmp.Or(o.Sample, DefaultSample)
	e, err := a.newEngine(ctx)
	if err != nil {
		return nil, err
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	serving := e.serving.Load()
	plan, err := e.Plan(ctx, selection.Request{Service: o.Service})
	if err != nil {
		return nil, err
	}
	now := a.clock().UnixMicro()
	done := &Verified{Service: o.Service, Revision: serving.head.ID, Instant: feature.FormatTimestamp(now), Views: []VerifiedView{}, Mismatches: []Mismatch{}}
	refs := readBy(plan.Selection())
	for i, of := range refs {
		if o.Progress != nil {
			o.Progress(int64(i), int64(len(refs)))
		}
		sel, err := selection.Resolve(ctx, serving.head.Project, selection.Request{Features: of}, serving.gens.find)
		if err != nil {
			return nil, err
		}
		v := &verifier{off: off, on: e.store, sel: sel, view: sel.Roles[0].View, now: now}
		if err := v.run(ctx, o.Sample); err != nil {
			return nil, fmt.Errorf("verify %s: %w", v.view, err)
		}
		done.Views = append(done.Views, v.counts)
		done.Mismatches = append(done.Mismatches, v.mismatches...)
	}
	return done, nil
}

// readBy are the features of views that a selection reads, also those that on-demand ones are computed from: for
// each generation of a view its references.
func readBy(sel *selection.Selection) [][]string {
	var views []registry.Ref
	var refs [][]string
	for _, role := range sel.Roles {
		id := registry.Ref{View: role.View.View.Name, Generation: role.View.Number}
		i := slices.Index(views, id)
		if i < 0 {
			i = len(views)
			views, refs = append(views, id), append(refs, nil)
		}
		for _, f := range role.Features {
			of := id
			of.Feature = role.View.View.Features[f].Name
			if ref := of.String(); !slices.Contains(refs[i], ref) {
				refs[i] = append(refs[i], ref)
			}
		}
	}
	return slices.DeleteFunc(refs, func(of []string) bool { return len(of) == 0 })
}

// verifier compares one generation of a view.
type verifier struct {
	off  offline.Store
	on   online.Store
	sel  *selection.Selection // of features of the view alone
	view registry.ViewGeneration
	now  int64

	table      offline.TableState
	log        offline.LogState
	resumes    map[string]string
	counts     VerifiedView
	mismatches []Mismatch
}

func (v *verifier) run(ctx context.Context, sample int) (err error) {
	v.counts.View = v.view.String()
	if err := v.readResumes(ctx); err != nil {
		return err
	}
	if v.log, err = v.off.Log(ctx, v.view.Source()); err != nil {
		return err
	}
	// Before the records too: the stream writes a row online before it is in the log.
	if v.table, err = v.off.Refresh(ctx, v.view); err != nil {
		return err
	}
	keys, err := v.sample(ctx, sample)
	if err != nil {
		return err
	}
	plan, err := lookup.NewPlan(v.sel)
	if err != nil {
		return err
	}
	suspects, err := v.compareAll(ctx, plan, keys)
	if err != nil {
		return err
	}
	v.counts.Entities, v.counts.Values = len(keys), len(keys)*len(v.sel.Outputs)
	if len(suspects) == 0 {
		return nil
	}
	// A stream that is running may have applied meanwhile what was in the table already: they are looked at once more.
	again := make([][]feature.Value, len(suspects))
	for i := range suspects {
		again[i] = suspects[i].keys
	}
	if err := v.readResumes(ctx); err != nil {
		return err
	}
	if suspects, err = v.compareAll(ctx, plan, again); err != nil {
		return err
	}
	return v.explain(ctx, suspects)
}

// readResumes reads how far the view is online: before its records, which hold at least as much.
func (v *verifier) readResumes(ctx context.Context) error {
	points, err := v.on.Resumes(ctx, v.view.View.Name, v.view.Number)
	v.resumes = map[string]string{}
	for _, p := range points {
		v.resumes[p.Input] = p.Position
	}
	return err
}

func (v *verifier) compareAll(ctx context.Context, plan *lookup.Plan, keys [][]feature.Value) ([]suspect, error) {
	var suspects []suspect
	for batch := range slices.Chunk(keys, verifyBatch) {
		found, err := v.compare(ctx, plan, batch)
		if err != nil {
			return nil, err
		}
		suspects = append(suspects, found...)
	}
	return suspects, nil
}

// sample chooses entity keys of the derived table at random, each with the same chance.
func (v *verifier) sample(ctx context.Context, n int) ([][]feature.Value, error) {
	var keys [][]feature.Value
	var last, key []byte
	nkeys, seen := len(v.view.JoinKeys()), 0
	for rows, err := range v.off.Scan(ctx, v.view, offline.ScanOptions{NewestOnly: !v.view.View.Windowed()}) {
		if err != nil {
			return nil, err
		}
		for i := range rows.Rows {
			key, _ = feature.AppendKeyRow(key[:0], rows.Columns[:nkeys], i)
			if seen > 0 && string(key) == string(last) {
				continue
			}
			last = append(last[:0], key...)
			seen++
			at := len(keys)
			if at < n {
				keys = append(keys, nil)
			} else if at = rand.IntN(seen); at >= n { //nolint:gosec // a sample
				continue
			}
			values := make([]feature.Value, nkeys)
			for c := range values {
				values[c] = rows.Columns[c].Value(i).Clone()
			}
			keys[at] = values
		}
	}
	return keys, nil
}

// held is an online store whose records were read before, so that what is looked up is what is explained.
type held struct {
	online.Store
	records map[string][]byte // by entity key
}

func (h *held) Get(_ context.Context, keys []online.Key, dst [][]byte) error {
	for i, k := range keys {
		dst[i] = slices.Clone(h.records[string(k.Entity)])
	}
	return nil
}

// suspect is an entity whose values differ.
type suspect struct {
	keys        []feature.Value
	entity      []byte
	record      []byte // nil: there is none
	instant     int64
	served      []VerifiedValue // of all outputs
	differences []Difference
	found       feature.Status  // by the join
	version     feature.Version // of the row that the join found
}

// compare looks entities up, joins them at the instants they were served for, and returns those that differ.
func (v *verifier) compare(ctx context.Context, plan *lookup.Plan, keys [][]feature.Value) ([]suspect, error) {
	columns := make([]*feature.Column, len(v.sel.Keys)) // in the order of the lookup
	own := make([]*feature.Column, len(columns))        // and of the entity key
	for k, c := range v.sel.Roles[0].Keys {
		f := v.sel.Keys[c]
		columns[c] = feature.NewColumn(f.Name, f.Type, len(keys))
		for _, values := range keys {
			columns[c].Append(values[k])
		}
		own[k] = columns[c]
	}
	names, entities := make([]online.Key, len(keys)), make([][]byte, len(keys))
	for i := range keys {
		entities[i], _ = feature.AppendKeyRow(nil, own, i)
		names[i] = online.Key{View: v.view.View.Name, Generation: v.view.Number, Entity: entities[i]}
	}
	records := make([][]byte, len(keys))
	if err := v.on.Get(ctx, names, records); err != nil {
		return nil, err
	}
	h := &held{Store: v.on, records: map[string][]byte{}}
	for i, r := range records {
		if r != nil {
			h.records[string(entities[i])] = r
		}
	}
	served, err := lookup.Lookup(ctx, h, plan, lookup.Request{Keys: columns, Rows: len(keys), Now: v.now})
	if err != nil {
		return nil, err
	}
	defer served.Release()
	instants := make([]int64, len(keys))
	for i := range instants {
		instants[i] = v.now
		for _, times := range served.EventTimes {
			if times[i] != httpapi.NoTime {
				instants[i] = max(instants[i], times[i])
			}
		}
	}
	points, err := pointsOf(v.sel, columns, nil, instants)
	if err != nil {
		return nil, err
	}
	found, err := dataset.Find(ctx, v.off, points)
	if err != nil {
		return nil, err
	}
	var suspects []suspect
	for row := range keys {
		s := suspect{keys: keys[row], entity: entities[row], record: records[row], instant: instants[row], found: found.Roles[0].Found[row]}
		if len(found.Roles[0].Versions) > 0 {
			s.version = found.Roles[0].Versions[row]
		}
		for i := range v.sel.Outputs {
			on := VerifiedValue{dataset.Value{Value: served.Columns[i].Value(row).Clone()}, served.Statuses[i][row]}
			off := VerifiedValue{dataset.Value{Value: found.Columns[i].Value(row).Clone()}, found.Statuses[i][row]}
			s.served = append(s.served, on)
			if !v.same(i, on, off) {
				s.differences = append(s.differences, Difference{v.sel.Outputs[i].Name, on, off})
			}
		}
		if len(s.differences) > 0 {
			suspects = append(suspects, s)
		}
	}
	return suspects, nil
}

// distinctError is how far two sketches of distinct values may be apart, of the value: a few times their error.
const distinctError = 0.1

// same reports whether two values of an output are the same: bit for bit, float sums within 1e-12, sketches within
// their error.
func (v *verifier) same(output int, on, off VerifiedValue) bool {
	if on.Status != off.Status {
		return false
	}
	switch v.function(output) {
	case "approx_percentile", "top_k": // in ranks and counts, which the values do not tell
		return on.Value.IsNull() == off.Value.IsNull()
	case "approx_distinct_count":
		a, b := float64(on.Value.Int64()), float64(off.Value.Int64())
		return math.Abs(a-b) <= distinctError*math.Max(a, b)
	}
	want := pitscript.Expected{Value: off.Value.Value, Status: off.Status}
	return want.Matches(on.Value.Value, on.Status, pitscript.Rounded(v.sel, v.sel.Outputs[output]))
}

// function is the aggregate function of an output; "" for a feature of the newest row.
func (v *verifier) function(output int) string {
	index := v.feature(output)
	for _, a := range v.view.View.Aggregations { // features are theirs, one for each of their windows
		if index < len(a.Windows) {
			return a.Function
		}
		index -= len(a.Windows)
	}
	return ""
}

// feature is the index of the view's feature that an output is.
func (v *verifier) feature(output int) int {
	return v.sel.Roles[0].Features[v.sel.Outputs[output].From.Feature]
}

// label names an entity: origin=SFO destination=JFK.
func (v *verifier) label(keys []feature.Value) string {
	parts := make([]string, len(keys))
	for i, f := range v.view.JoinKeys() {
		parts[i] = f.Name + "=" + keys[i].String()
	}
	return strings.Join(parts, " ")
}
