package app

import (
	"context"
	"strconv"
	"time"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
)

// Status describes an environment: what was applied, and how far its data is.
type Status struct {
	Project     string         `json:"project"`
	Environment string         `json:"environment"`
	At          time.Time      `json:"at"`
	Revision    RevisionStatus `json:"revision"`
	Sources     []SourceStatus `json:"sources"`
	Views       []ViewStatus   `json:"views"`
	// Owner is the process that holds the embedded stores, if one does for good.
	Owner *Owner `json:"owner,omitempty"`
}

// RevisionStatus is the newest revision.
type RevisionStatus struct {
	Number int       `json:"number"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Author string    `json:"author,omitempty"`
}

// SourceStatus describes a source's log.
type SourceStatus struct {
	Source string     `json:"source"`
	Rows   int64      `json:"rows"`
	Bytes  int64      `json:"bytes"`
	Files  int        `json:"files"`
	Newest *time.Time `json:"newest,omitempty"` // event time
	Topic  string     `json:"topic,omitempty"`
	// Lag is the number of events that the topic holds and the log does not; nil where it
	// is not known.
	Lag *int64 `json:"lag,omitempty"`
	// Stream says how far the topic is online; nil where it was never streamed.
	Stream *StreamStatus `json:"stream,omitempty"`
}

// ViewState says how far a view is online.
type ViewState string

// The states of a view.
const (
	NoRows          ViewState = "no rows"
	NotMaterialized ViewState = "not materialized"
	Behind          ViewState = "behind the log"
	UpToDate        ViewState = "up to date"
)

// ViewStatus describes a view: its derived table and its records online.
type ViewStatus struct {
	View          string     `json:"view"`
	Live          int        `json:"live"`    // generation that lookups read; 0 for none yet
	Current       int        `json:"current"` // generation of the newest revision
	OfflineRows   int64      `json:"offline_rows"`
	OfflineBytes  int64      `json:"offline_bytes"`
	BadRows       int64      `json:"bad_rows"` // without a whole entity key, left out
	Invalid       int64      `json:"invalid"`  // values that could not be computed
	OnlineRecords int64      `json:"online_records"`
	OnlineBytes   int64      `json:"online_bytes"`
	Newest        *time.Time `json:"newest,omitempty"` // event time
	State         ViewState  `json:"state"`
	// Of the live generation, since the stream started: rows that were not newer than what is online, and
	// of a windowed view events older than every window, and inputs that are NaN.
	Stale int64 `json:"stale"`
	Late  int64 `json:"late"`
	NaNs  int64 `json:"nans"`
	// Epoch is when the states of a windowed view were built anew.
	Epoch *time.Time `json:"epoch,omitempty"`
	// Watermark and LagSeconds are those of the view's source, where it is streamed.
	Watermark  *time.Time `json:"watermark,omitempty"`
	LagSeconds *float64   `json:"lag_seconds,omitempty"`
	// Generations are those of the view that are not live and have records, or are to get some.
	Generations []Generation `json:"generations,omitempty"`
	// Pinned: somebody chose the live generation, and no other one goes live by itself.
	Pinned bool `json:"pinned,omitempty"`
}

// Owner is the process that holds the embedded stores.
type Owner struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
}

// Status looks at every source and view.
func (a *App) Status(ctx context.Context) (*Status, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	on, err := a.onlineStore(ctx)
	if err != nil {
		return nil, err
	}
	s := &Status{
		Project: head.Project.Name, Environment: a.env.Name, At: time.Now().UTC(),
		Revision: RevisionStatus{head.Number, head.ID, head.Time, head.Author},
		Owner:    a.owner,
	}
	ends := a.topicEnds(ctx)
	streams := map[string]*StreamStatus{}
	logs := map[string]offline.LogState{}
	for i := range head.Project.Sources {
		src := &head.Project.Sources[i]
		state, err := off.Log(ctx, src)
		if err != nil {
			return nil, err
		}
		logs[src.Name] = state
		line := SourceStatus{Source: src.Name, Rows: state.Rows, Bytes: state.Bytes, Files: state.Files, Newest: newest(state.Rows, state.Newest)}
		if src.Kafka != nil {
			line.Topic = src.Kafka.Topic
			known := ends(src)
			if line.Stream, err = streamStatus(ctx, on, src, known, a.wall()); err != nil {
				return nil, err
			}
			streams[src.Name] = line.Stream
			if known != nil {
				lag := int64(0)
				for p, end := range known {
					lag += max(0, end-state.Offsets[p])
				}
				line.Lag = &lag
			}
		}
		s.Sources = append(s.Sources, line)
	}
	live, err := on.Live(ctx)
	if err != nil {
		return nil, err
	}
	list, err := views(head, nil)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		line, err := viewStatus(ctx, off, on, v, logs[v.View.Source])
		if err != nil {
			return nil, err
		}
		line.Live = live[v.View.Name]
		if stream := streams[v.View.Source]; stream != nil {
			at := line.Live
			if at == 0 {
				at = v.Number
			}
			sum := stream.view(v.View.Name, at)
			line.Stale, line.Late, line.NaNs = sum.Stale, sum.Late, sum.NaNs
			line.Watermark, line.LagSeconds = stream.Watermark, &stream.LagSeconds
		}
		gens, err := a.generationsOf(ctx, head, v, ends, false)
		if err != nil {
			return nil, err
		}
		for _, g := range gens {
			switch g.State {
			case GenerationLive:
				line.Pinned = g.Pinned
			case GenerationFilling, GenerationReady, GenerationOld:
				line.Generations = append(line.Generations, g)
			}
		}
		s.Views = append(s.Views, line)
	}
	return s, nil
}

func newest(rows, micros int64) *time.Time {
	if rows == 0 {
		return nil
	}
	t := time.UnixMicro(micros).UTC()
	return &t
}

func viewStatus(ctx context.Context, off offline.Store, on online.Store, v registry.ViewGeneration, log offline.LogState) (ViewStatus, error) {
	line := ViewStatus{View: v.View.Name, Current: v.Number}
	table, err := off.Table(ctx, v)
	if err != nil {
		return line, err
	}
	line.OfflineRows, line.OfflineBytes, line.Newest = table.Rows, table.Bytes, newest(table.Rows, table.Newest)
	line.BadRows, line.Invalid = table.BadRows, table.Invalid
	if line.OnlineRecords, line.OnlineBytes, err = on.Usage(ctx, v.View.Name, v.Number); err != nil {
		return line, err
	}
	points, err := (&onlineSink{store: on}).Resumes(ctx, v)
	if err != nil {
		return line, err
	}
	line.State = viewState(v, points, table, log)
	if epoch, err := strconv.ParseInt(points["epoch"], 10, 64); err == nil {
		t := time.UnixMicro(epoch).UTC()
		line.Epoch = &t
	}
	return line, nil
}

// viewState compares how far a view is online with its source's log.
func viewState(v registry.ViewGeneration, points map[string]string, table offline.TableState, log offline.LogState) ViewState {
	switch at, filled := points["offline"]; {
	case log.Rows == 0:
		return NoRows
	case len(points) == 0:
		return NotMaterialized
	case filled && at == table.Snapshot && table.LogSnapshot == log.Snapshot:
		return UpToDate
	case filled && streamedUpTo(v.Source(), points, log):
		return UpToDate
	}
	return Behind
}

// streamedUpTo reports whether the stream has applied all that it brought to the log.
func streamedUpTo(src *registry.Source, points map[string]string, log offline.LogState) bool {
	if src.Kafka == nil || len(log.Offsets) == 0 {
		return false
	}
	for partition, next := range log.Offsets {
		at, err := strconv.ParseInt(points[src.Kafka.Topic+"/"+strconv.Itoa(int(partition))], 10, 64)
		if err != nil || at < next {
			return false
		}
	}
	return true
}
