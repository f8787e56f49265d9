package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/offline/ingest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// maxPushRows bounds a push: its rows are held in memory, as they are written
// twice. More than that is an ingest.
const maxPushRows = 1_000_000

// PushOptions says which file goes to which source.
type PushOptions struct {
	Source, File string
	DryRun       bool // read and check the rows, write nothing
	// Progress, if set, hears the rows read; total is 0 while unknown.
	Progress func(done, total int64)
}

// Pushed says what a push did.
type Pushed struct {
	Source string       `json:"source"`
	Rows   int64        `json:"rows"`
	DryRun bool         `json:"dry_run,omitempty"`
	Views  []PushedView `json:"views"`
}

// PushedView says what a push did to one view online.
type PushedView struct {
	View       string `json:"view"`
	Generation int    `json:"generation"`
	Applied    int    `json:"applied"` // rows; of a windowed view the entities
	Stale      int    `json:"stale"`
	// Later says of a windowed view that its windows have these rows only when materialize has
	// built them: there are none yet, or a topic feeds them, whose order pushed rows are not in.
	Later bool `json:"later,omitempty"`
}

// Push writes the rows of a file to a source's log and the features computed
// from them to the online store. A bad row refuses them all.
func (a *App) Push(ctx context.Context, o PushOptions) (*Pushed, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	src, err := source(head, o.Source)
	if err != nil {
		return nil, err
	}
	file, err := files.At(o.File)
	if err != nil {
		return nil, err
	}
	in, err := files.OpenSource(file, src)
	if err != nil {
		return nil, ingestError(err)
	}
	defer func() { _ = in.Close() }() // it was read only
	rows := feature.NewBatch(src.Fields(), 0)
	for run, err := range in.Rows(ctx) {
		if err != nil {
			return nil, err
		}
		if len(run.Bad) > 0 {
			return nil, &Error{
				Code: codeBadRows,
				Err:  fmt.Errorf("%s has bad rows, so nothing of it was pushed; the first is %s", o.File, run.Bad[0]),
				Hint: "Mend the rows, or `forebay ingest` the file, which leaves bad rows out.",
			}
		}
		for i := range run.Batch.Rows {
			rows.AppendRow(run.Batch, i)
		}
		if rows.Rows > maxPushRows {
			return nil, &Error{
				Err:  fmt.Errorf("%s has more than %d rows, too many for one push", o.File, maxPushRows),
				Hint: fmt.Sprintf("Run `forebay ingest %s %s` and `forebay materialize`.", o.Source, o.File),
			}
		}
		if o.Progress != nil {
			o.Progress(int64(rows.Rows), max(in.Total(), 0))
		}
	}
	if o.DryRun {
		all, err := views(head, nil)
		if err != nil {
			return nil, err
		}
		reading, err := compileOf(all, src)
		if err != nil {
			return nil, err
		}
		if err := checkRows(reading, src, rows, a.wall()); err != nil {
			return nil, &Error{Code: codeBadRows, Err: err}
		}
		return &Pushed{Source: src.Name, Rows: int64(rows.Rows), DryRun: true, Views: []PushedView{}}, nil
	}
	return a.push(ctx, head, src, rows)
}

// push appends rows to the log, and then writes what they mean online: first for
// every view of the revision, then for the generations that are live instead.
func (a *App) push(ctx context.Context, head *registry.Revision, src *registry.Source, rows *feature.Batch) (*Pushed, error) {
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	on, err := a.onlineStore(ctx)
	if err != nil {
		return nil, err
	}
	written, err := a.writtenViews(ctx, head, src)
	if err != nil {
		return nil, err
	}
	if err := checkRows(written, src, rows, a.wall()); err != nil {
		return nil, &Error{Code: codeBadRows, Err: err}
	}
	windows := make([]*windowPush, len(written))
	for i, v := range written {
		if v.View.Windowed() && src.Kafka == nil { // before the rows are in the log
			if windows[i], err = newWindowPush(ctx, on, v); err != nil {
				return nil, err
			}
		}
	}
	if err := ingest.Push(ctx, off, src, rows); err != nil {
		return nil, err
	}
	done := &Pushed{Source: src.Name, Rows: int64(rows.Rows), Views: []PushedView{}}
	sink := &onlineSink{store: on}
	for i, v := range written {
		out := feature.NewBatch(v.program.Fields(), rows.Rows)
		v.program.Apply(rows, out)
		view := PushedView{View: v.View.Name, Generation: v.Number}
		switch w := windows[i]; {
		case v.View.Windowed() && (w == nil || w.epoch == 0):
			view.Later = true
		case w == nil:
			view.Applied, view.Stale, err = sink.Write(ctx, v.ViewGeneration, out, false)
		default:
			view.Applied, err = w.run(ctx, out)
		}
		if err != nil {
			return nil, &Error{
				Err:  fmt.Errorf("the rows are in the log of %s, but not all of them are online: %w", src.Name, err),
				Hint: "Do not push them again: `forebay materialize` brings them online.",
			}
		}
		done.Views = append(done.Views, view)
	}
	return done, nil
}

// compiledView is a view generation with its compiled expressions.
type compiledView struct {
	registry.ViewGeneration
	program *expr.View
}

// writtenViews are the view generations that new rows of a source go to: those
// of the revision, and those before them that are kept.
func (a *App) writtenViews(ctx context.Context, head *registry.Revision, src *registry.Source) ([]compiledView, error) {
	list, err := a.currentAndLive(ctx, head)
	if err != nil {
		return nil, err
	}
	return compileOf(list, src)
}

// compileOf compiles those of some views that read a source.
func compileOf(list []registry.ViewGeneration, src *registry.Source) ([]compiledView, error) {
	var written []compiledView
	for _, v := range list {
		if v.View.Source != src.Name {
			continue
		}
		program, err := expr.CompileView(v.Project, v.View)
		if err != nil {
			return nil, fmt.Errorf("view %s: %w", v, err)
		}
		written = append(written, compiledView{v, program})
	}
	return written, nil
}

// pushJSON is Push for rows that are JSON objects, as they come over HTTP. Rows
// that are bad are in the answer, and then nothing is written.
func (a *App) pushJSON(ctx context.Context, head *registry.Revision, src *registry.Source, objects [][]byte) (api.PushAnswer, error) {
	answer := api.PushAnswer{Rejected: []api.RejectedRow{}}
	rows := feature.NewBatch(src.Fields(), len(objects))
	decoder := rowjson.NewDecoder(src)
	for i, object := range objects {
		var bad *rowjson.RowError
		if err := decoder.Append(object, rows); errors.As(err, &bad) {
			answer.Rejected = append(answer.Rejected, api.RejectedRow{Row: i, Field: bad.Field, Message: bad.Msg})
		} else if err != nil {
			return answer, err
		}
	}
	if len(answer.Rejected) > 0 {
		return answer, nil
	}
	done, err := a.push(ctx, head, src, rows)
	var refused *refusedRowsError
	if errors.As(err, &refused) {
		answer.Rejected = refused.rows
		return answer, nil
	}
	if err != nil {
		return answer, err
	}
	answer.Accepted = int(done.Rows)
	for _, v := range done.Views {
		if v.Later {
			answer.Later = append(answer.Later, v.View)
		}
	}
	slices.Sort(answer.Later)
	answer.Later = slices.Compact(answer.Later)
	return answer, nil
}

// refusedRowsError says which rows cannot be pushed.
type refusedRowsError struct{ rows []api.RejectedRow }

func (e *refusedRowsError) Error() string {
	r := e.rows[0]
	return fmt.Sprintf("%d of the rows cannot be pushed, so nothing was; the first is row %d, column %q: %s", len(e.rows), r.Row, r.Field, r.Message)
}

// checkRows refuses rows that cannot be pushed.
func checkRows(views []compiledView, src *registry.Source, rows *feature.Batch, now time.Time) error {
	if err := checkClock(src, rows, now); err != nil {
		return err
	}
	return checkKeys(views, src, rows)
}

// checkClock refuses rows of the future, which the stream would not take either: served, they would hide what
// really happens until then.
func checkClock(src *registry.Source, rows *feature.Batch, now time.Time) error {
	at := src.Column(src.Timestamp)
	refused := &refusedRowsError{}
	for i, t := range rows.Columns[at].Int64s() {
		if why := src.AheadOfClock(t, now.UnixMicro()); why != "" {
			refused.rows = append(refused.rows, api.RejectedRow{Row: i, Field: src.Columns[at].Outside(), Message: why})
		}
	}
	if len(refused.rows) == 0 {
		return nil
	}
	return refused
}

// checkKeys refuses rows that a view selects and that have no whole entity key for it.
func checkKeys(views []compiledView, src *registry.Source, rows *feature.Batch) error {
	unversioned := *rows
	unversioned.Versions = make([]feature.Version, rows.Rows)
	for _, v := range views {
		out := feature.NewBatch(v.program.Fields(), rows.Rows)
		if v.program.Apply(&unversioned, out).NullKeys == 0 {
			continue
		}
		refused := &refusedRowsError{}
		for i := range rows.Rows {
			for _, key := range v.JoinKeys() {
				if c := src.Column(key.Name); rows.Columns[c].IsNull(i) {
					refused.rows = append(refused.rows, api.RejectedRow{
						Row: i, Field: src.Columns[c].Outside(), Message: fmt.Sprintf("null join key of view %s", v.View.Name),
					})
					break
				}
			}
		}
		return refused
	}
	return nil
}
