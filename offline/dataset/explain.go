package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Explanation says where the values of one row of a dataset come from.
type Explanation struct {
	Dataset string `json:"dataset"`
	Row     int64  `json:"row"` // from 0
	// Spine is what the row has in the columns that the features need.
	Spine    []Named     `json:"spine"`
	KnownAt  string      `json:"known_at,omitempty"`
	Features []Explained `json:"features"`
	// Reads are the views that were read, each for one entity.
	Reads []ViewRead `json:"reads"`
}

// Named is a column and its value.
type Named struct {
	Name  string `json:"name"`
	Value Value  `json:"value"`
}

// Value is a value as JSON.
type Value struct{ feature.Value }

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// Explained is a feature, or what one is computed from, and why it has its value.
type Explained struct {
	Name   string `json:"name"`
	Value  Value  `json:"value"`
	Status string `json:"status,omitempty"`
	// Read is the index of the Explanation's Reads that the value is from; -1 for none.
	Read int `json:"read"`
	// Expr and Inputs are those of an on-demand feature.
	Expr   string      `json:"expr,omitempty"`
	Inputs []Explained `json:"inputs,omitempty"`
}

// ViewRead is the newest row of one entity in a view, at the row's instant.
type ViewRead struct {
	View   string  `json:"view"` // with its generation
	Entity []Named `json:"entity"`
	TTL    string  `json:"ttl,omitempty"`
	Status string  `json:"status"`
	// Source is the row that was found; nil where Status is NOT_FOUND.
	Source *SourceRow `json:"source,omitempty"`
	// Unused are newer rows of the entity, or all of them where none was found: those next to
	// the row that was found, up to maxUnused of them, oldest first.
	Unused []Unused `json:"unused,omitempty"`
	// Newer counts all of them.
	Newer int64 `json:"newer"`
	// Window says what was counted, for a view of windows.
	Windows []WindowRead `json:"windows,omitempty"`
}

// SourceRow is where a row of a source's log came from. Times are RFC 3339.
type SourceRow struct {
	File       string `json:"file,omitempty"`
	Row        *int64 `json:"row,omitempty"`         // in the file, from 0
	AppendedAt string `json:"appended_at,omitempty"` // the instant of the ingest
	Topic      string `json:"topic,omitempty"`
	Partition  *int64 `json:"partition,omitempty"`
	Offset     *int64 `json:"offset,omitempty"`
	EventTime  string `json:"event_timestamp"`
	IngestedAt string `json:"ingested_at"`
}

// Unused is a row that was not used, and why.
type Unused struct {
	SourceRow
	Reasons []string `json:"reasons"`
	version feature.Version
}

// The reasons why a newer row is not used.
const (
	AfterInstant  = "after_instant"  // its event time is later than the row's instant
	NotKnownYet   = "not_known_yet"  // it was ingested after known_at
	Filtered      = "filtered"       // the view's filter does not select it
	AppendedLater = "appended_later" // it was appended after the dataset was built
	Unexplained   = "unexplained"    // none of these: please report this
)

// maxUnused is how many rows that were not used are named.
const maxUnused = 20

// ErrNoRow means: the dataset has no row of that number.
var ErrNoRow = errors.New("the dataset has no such row")

// Explain says where the values of a row of a dataset come from, by reading the logs of its sources.
// r is as for Rebuild.
func (b *Builder) Explain(ctx context.Context, m Manifest, r Request, row int64) (e *Explanation, err error) {
	if m.Inputs.Format < 2 {
		return nil, fmt.Errorf("dataset %s: %w", m.ID, ErrOldManifest)
	}
	if row < 0 || row >= m.Rows {
		return nil, fmt.Errorf("row %d of dataset %s: %w: its rows are 0 to %d", row, m.ID, ErrNoRow, m.Rows-1)
	}
	r.again, r.Timestamp = &m, m.Inputs.Timestamp
	run, err := b.Start(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	one, err := run.spineRow(ctx, row)
	if err != nil {
		return nil, err
	}
	j := &offline.Joined{Spine: one}
	if len(r.Selection.Roles) > 0 {
		for got, err := range b.Store.Join(ctx, run.request(func(yield func(*feature.Batch, error) bool) { yield(one, nil) })) {
			if err != nil {
				return nil, err
			}
			j = got
			break // there is one row, and what is yielded is valid until the next is asked for
		}
	}
	e = &Explanation{Dataset: m.ID, Row: row, KnownAt: m.Inputs.KnownAt}
	for _, c := range one.Columns {
		e.Spine = append(e.Spine, Named{c.Name, Value{c.Value(0).Clone()}})
	}
	steps := run.steps(j)
	for _, o := range r.Selection.Outputs {
		e.Features = append(e.Features, run.explained(j, steps, o.Name, o.From, o.Type))
	}
	// The values of the join are copied: the logs are read now.
	reads := make([]ViewRead, len(r.Selection.Roles))
	versions := make([]feature.Version, len(reads))
	for i, role := range r.Selection.Roles {
		reads[i] = ViewRead{View: role.View.String(), Status: j.Roles[i].Found[0].String(), Entity: []Named{}}
		if ttl := role.View.View.TTL; ttl > 0 {
			reads[i].TTL = ttl.String()
		}
		for k, f := range role.View.JoinKeys() {
			reads[i].Entity = append(reads[i].Entity, Named{f.Name, Value{one.Column(r.Selection.Keys[role.Keys[k]].Name).Value(0).Clone()}})
		}
		if len(j.Roles[i].Versions) > 0 {
			versions[i] = j.Roles[i].Versions[0]
		}
	}
	at := one.Column(r.Timestamp).Value(0)
	for i := range reads {
		if err := run.searchLog(ctx, &reads[i], i, at, versions[i]); err != nil {
			return nil, err
		}
	}
	e.Reads = reads
	return e, nil
}

// spineRow is a batch of one row of the spine.
func (run *Run) spineRow(ctx context.Context, row int64) (*feature.Batch, error) {
	for b, err := range run.spine.Wanted(ctx) {
		if err != nil {
			return nil, err
		}
		if row < int64(b.Rows) {
			one := feature.NewBatch(b.Fields(), 1)
			one.AppendRow(b, int(row))
			return one, nil
		}
		row -= int64(b.Rows)
	}
	return nil, ErrNoRow
}

// explained says what a column of the selection holds for the one row.
func (run *Run) explained(j *offline.Joined, steps []*feature.Column, name string, from selection.Column, t feature.Type) Explained {
	sel := run.r.Selection
	v := run.column(j, steps, from, t).Value(0).Clone()
	e := Explained{Name: name, Value: Value{v}, Read: from.Role}
	switch {
	case from.Absent():
		e.Status = feature.NotFound.String()
	case from.Role >= 0:
		e.Status = status(j, from, run.column(j, steps, from, t), 0).String()
	case from.Step >= 0:
		s := sel.Steps[from.Step]
		e.Status, e.Expr = feature.StatusOf(v).String(), s.View.Features[s.Feature].Expr
		for i, in := range s.Program.Inputs() {
			name := in.Name
			if in.View != "" {
				name = in.View + "." + name
			}
			e.Inputs = append(e.Inputs, run.explained(j, steps, name, s.Inputs[i], in.Type))
		}
	}
	return e
}

// search is what is looked for in a log.
type search struct {
	read    *ViewRead
	run     *Run
	role    selection.Role
	view    *expr.View
	keys    []int // of the source's columns
	entity  []feature.Value
	at      int64
	found   bool // a row was found by the join, of this version
	version feature.Version
	out     *feature.Batch // what the view makes of a run of the log
}

// searchLog finds in the log of a role's source the row that was used, and newer rows of its entity.
func (run *Run) searchLog(ctx context.Context, read *ViewRead, i int, at feature.Value, used feature.Version) error {
	role := run.r.Selection.Roles[i]
	src := role.View.Source()
	s := &search{read: read, run: run, role: role, at: at.Int64(), found: read.Status != feature.NotFound.String(), version: used}
	for _, n := range read.Entity {
		if n.Value.IsNull() {
			return nil // no row has a null key
		}
		s.keys, s.entity = append(s.keys, src.Column(n.Name)), append(s.entity, n.Value.Value)
	}
	if at.IsNull() {
		return nil
	}
	log, ok := run.b.Store.(offline.LogReader)
	if !ok {
		if s.found && !role.View.View.Windowed() {
			read.Source = s.origin("", used)
			read.Source.File, read.Source.Topic = "", ""
		}
		return nil
	}
	var err error
	if s.view, err = expr.CompileView(role.View.Project, role.View.View); err != nil {
		return err
	}
	s.out = feature.NewBatch(s.view.Fields(), 0)
	o := offline.LogOptions{Columns: s.view.Columns(), AsOf: run.state(role.View).LogSnapshot}
	if role.View.View.Windowed() {
		return s.windows(ctx, log, o)
	}
	if s.found {
		o.From = &used.EventTime
	}
	for rows, err := range log.ReadLog(ctx, src, o) {
		if err != nil {
			return err
		}
		s.rows(rows)
	}
	if s.found && read.Source == nil {
		read.Source = &SourceRow{EventTime: feature.FormatTimestamp(used.EventTime), IngestedAt: feature.FormatTimestamp(used.IngestedAt)}
	}
	return nil
}

// mine reports whether a row of the log is the entity's.
func (s *search) mine(rows *offline.LogRows, i int) bool {
	for k, c := range s.keys {
		if v := rows.Columns[c].Value(i); v.IsNull() || !v.Equal(s.entity[k]) {
			return false
		}
	}
	return true
}

// rows looks at a run of the log.
func (s *search) rows(rows *offline.LogRows) {
	var mine []int
	for i := range rows.Rows {
		if s.mine(rows, i) && (!s.found || rows.Versions[i].Compare(s.version) >= 0) {
			mine = append(mine, i)
		}
	}
	if len(mine) == 0 {
		return
	}
	passes := make(map[feature.Version]bool, len(mine))
	s.out.Reset()
	s.view.Apply(rows.Batch, s.out)
	for _, v := range s.out.Versions {
		passes[v] = true
	}
	for _, i := range mine {
		v := rows.Versions[i]
		if s.found && v == s.version && !rows.Later {
			s.read.Source = s.origin(rows.Files[i], v)
			continue
		}
		s.read.Newer++
		u := Unused{SourceRow: *s.origin(rows.Files[i], v), version: v, Reasons: s.reasons(v, passes[v], rows.Later)}
		at, _ := slices.BinarySearchFunc(s.read.Unused, v, func(u Unused, v feature.Version) int { return u.version.Compare(v) })
		s.read.Unused = slices.Insert(s.read.Unused, at, u)
		if len(s.read.Unused) > maxUnused {
			s.read.Unused = s.read.Unused[:maxUnused]
		}
	}
}

// reasons are why a row of the log does not count.
func (s *search) reasons(v feature.Version, selected, later bool) []string {
	var why []string
	if v.EventTime > s.at {
		why = append(why, AfterInstant)
	}
	if known := s.run.r.KnownAt; known != nil && v.IngestedAt > *known {
		why = append(why, NotKnownYet)
	}
	if !selected {
		why = append(why, Filtered)
	}
	if later {
		why = append(why, AppendedLater)
	}
	if why == nil {
		why = append(why, Unexplained)
	}
	return why
}

// origin is where a row of the log came from; its file is "" for one of the topic.
func (s *search) origin(file string, v feature.Version) *SourceRow {
	r := &SourceRow{EventTime: feature.FormatTimestamp(v.EventTime), IngestedAt: feature.FormatTimestamp(v.IngestedAt)}
	major, minor := v.Major, v.Minor
	if file != "" {
		r.File, r.Row, r.AppendedAt = file, &major, feature.FormatTimestamp(minor)
		return r
	}
	if k := s.role.View.Source().Kafka; k != nil {
		r.Topic = k.Topic
	}
	r.Partition, r.Offset = &major, &minor
	return r
}

var _ json.Marshaler = Value{}

// WindowRead says what one feature of windows was computed from.
type WindowRead struct {
	Feature string `json:"feature"`
	// After and Through bound the window: events later than After, "" for none, up to and with Through.
	After   string `json:"after,omitempty"`
	Through string `json:"through"`
	Events  int64  `json:"events"` // of the entity in the window that the view's filter selects
	// Counted are those of them that the aggregation takes: its condition holds, and its column is neither null nor NaN.
	Counted int64 `json:"counted"`
	// Unused counts, by reason, events of the entity in the window that do not count.
	Unused map[string]int64 `json:"unused,omitempty"`
}
